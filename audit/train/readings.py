"""What the paper leaves open about the toy MLP, each question with its answers: the first fits best.

docs/reproduction.md has the fit of every answer. The others can be asked for: `train --reading radial=tanh`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

from audit.errors import UsageError
from audit.train.ablations import NON_ADAPTIVE, Ablation


@dataclass(frozen=True)
class Answer:
    """One way to read what is not printed: in words, and as what it changes of an ablation."""

    says: str
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """What is open, which ablations it is about, and its answers by name, the default first."""

    asks: str
    is_about: Callable[[Ablation], bool]
    answers: Mapping[str, Answer]

    @property
    def usual(self) -> str:
        """The name of the answer that fits best."""
        return next(iter(self.answers))


QUESTIONS: Mapping[str, Question] = {
    "radial": Question(
        "which function of its length a radial activation multiplies its input by",
        lambda ablation: ablation.activation == "radial",
        {
            "soft": Answer("|x| / (1 + |x|)"),
            "sigmoid": Answer("sigmoid(|x|)", {"activation": "radial-sigmoid"}),
            "tanh": Answer("tanh(|x|)", {"activation": "radial-tanh"}),
            "unit": Answer("tanh(|x|) / |x|", {"activation": "radial-unit"}),
        },
    ),
    "layernorm": Question(
        "where LayerNorm stands",
        lambda ablation: ablation.norm,
        {
            "sum": Answer("h = LN(h + act(W h)), with gain and bias"),
            "plain": Answer("h = LN(h + act(W h)), without them", {"norm_place": "plain"}),
            "input": Answer("h = h + act(W LN(h))", {"norm_place": "input"}),
            "inner": Answer("h = h + act(LN(W h))", {"norm_place": "inner"}),
            "branch": Answer("h = h + LN(act(W h))", {"norm_place": "branch"}),
            "head": Answer("before the head alone", {"norm_place": "head"}),
        },
    ),
    "adam": Question(
        "how the first optimiser row differs from res-relu",
        lambda ablation: ablation.name == "adam",
        {
            "beta1-0": Answer("no momentum, beta1 = 0"),
            "beta1-0.5": Answer("beta1 = .5", {"beta1": 0.5}),
            "beta2-0.9": Answer("beta2 = .9", {"beta1": 0.9, "beta2": 0.9}),
            "baseline": Answer("not at all", {"beta1": 0.9}),
        },
    ),
    "nonadaptive": Question(
        "the eps of Adam at which its step no longer adapts",
        lambda ablation: ablation.eps == NON_ADAPTIVE,
        {
            "1": Answer("eps = 1"),
            "0.1": Answer("eps = .1", {"eps": 0.1}),
            "0.01": Answer("eps = .01", {"eps": 0.01}),
        },
    ),
    "momentum": Question(
        "whether Adam keeps its momentum where its step does not adapt",
        lambda ablation: ablation.eps == NON_ADAPTIVE,
        {"0.9": Answer("beta1 = .9"), "0": Answer("beta1 = 0", {"beta1": 0.0})},
    ),
    "init": Question(
        "which weights an initial deviation is for",
        lambda ablation: ablation.init_std is not None,
        {
            "all": Answer("all matrices, the embedding and the head too"),
            "hidden": Answer("the hidden layers' matrices alone", {"init_of": "hidden"}),
        },
    ),
}
"""By the name that --reading takes."""


def parsed(told: Iterable[str]) -> dict[str, str]:
    """`radial=tanh` and the like, without those that are usual; raises UsageError for what there is not."""
    readings: dict[str, str] = {}
    for one in told:
        name, _, answer = one.partition("=")
        question = QUESTIONS.get(name)
        if question is None or answer not in question.answers:
            raise UsageError(f"--reading {one!r}", _hint(name, answer))
        if readings.setdefault(name, answer) != answer:
            raise UsageError(f"--reading {name} is given twice", "keep one of them")
    return {name: answer for name, answer in readings.items() if answer != QUESTIONS[name].usual}


def _hint(name: str, answer: str) -> str:
    question = QUESTIONS.get(name)
    if question is None:
        near = get_close_matches(name, QUESTIONS, n=1)
        known = ", ".join(QUESTIONS)
        return f"did you mean {near[0]}=...?" if near else f"choose one of {known}, as radial=tanh"
    return f"choose {name}= one of {', '.join(question.answers)}"


def read(ablation: Ablation, readings: Mapping[str, str]) -> Ablation:
    """The ablation as these readings have it; one that no question is about stays as it is."""
    changes: dict[str, Any] = {}
    for name, answer in readings.items():
        if QUESTIONS[name].is_about(ablation):
            changes |= QUESTIONS[name].answers[answer].changes
    return replace(ablation, **changes)
