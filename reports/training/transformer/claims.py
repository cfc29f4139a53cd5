"""What the paper says about small transformers, and what it leaves open, each judged by an experiment."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from reports.training.measured import measured
from reports.training.model import Experiment
from reports.training.notation import decimal, heading
from reports.training.transformer.projections import FACING

CHANCE = 2
"""A projection stands above chance from so many times the null on."""

STEP = 0.03
"""Two ablations differ from here on: the width within which a published number and ours agree."""

BASELINE = "tf-silu"
PATTERN = tuple(metric for projection, metric in FACING.items() if projection != "V")
READERS = tuple(FACING[projection] for projection in ("Q", "K", "Gate", "Up", "V"))


class Outcome(StrEnum):
    """What came of a claim."""

    HOLDS = "holds"
    FAILS = "fails"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Finding:
    """What came of a claim, and the numbers that it rests on or what they lack."""

    outcome: Outcome
    numbers: str


Numbers = Mapping[tuple[str, str], float]
"""Means over the seeds, by ablation and metric."""


@dataclass(frozen=True)
class Claim:
    """A claim about numbers: which it needs, and whether it holds of them beside the null."""

    sentence: str
    needs: tuple[tuple[str, str], ...]
    holds: Callable[[Numbers, float], bool]

    def judged(self, experiment: Experiment) -> Finding:
        """What came of it; nothing where an ablation is missing, diverged, or has no such number."""
        found: dict[tuple[str, str], float] = {}
        for name, metric in self.needs:
            value = _value(experiment, name, metric)
            if isinstance(value, str):
                return Finding(Outcome.NOT_MEASURED, value)
            found[name, metric] = value
        outcome = Outcome.HOLDS if self.holds(found, experiment.null) else Outcome.FAILS
        return Finding(outcome, "; ".join(_told(found)))


@dataclass(frozen=True)
class Divergence:
    """The claim that an ablation cannot be trained."""

    sentence: str
    ablation: str

    def judged(self, experiment: Experiment) -> Finding:
        """Whether every run of it diverged."""
        if (runs := experiment.ablation(self.ablation)) is None:
            return Finding(Outcome.NOT_MEASURED, f"{self.ablation} was not trained")
        lost = [
            f"seed {run.seed} in {experiment.axis} {run.diverged}"
            for run in runs.runs
            if run.diverged is not None
        ]
        if not runs.whole:
            return Finding(Outcome.HOLDS, f"{self.ablation} diverged: {', '.join(lost)}")
        reached = decimal(measured(runs, "ppl").mean)
        told = f"{self.ablation} came to its end with PPL {reached}"
        return Finding(Outcome.FAILS, f"{told}; diverged: {', '.join(lost)}" if lost else told)


def _value(experiment: Experiment, name: str, metric: str) -> float | str:
    """The mean of a metric, or why there is none."""
    if (runs := experiment.ablation(name)) is None:
        return f"{name} was not trained"
    if not runs.whole:
        return f"{name} diverged"
    value = measured(runs, metric).mean
    return f"{name} has no {heading(metric)}" if value is None else value


def _told(found: Numbers) -> Iterator[str]:
    """`tf-silu: Q v1 .405, K v1 .627`, an ablation each."""
    for name in dict.fromkeys(name for name, _ in found):
        values = (f"{heading(metric)} {decimal(one)}" for (of, metric), one in found.items() if of == name)
        yield f"{name}: {', '.join(values)}"


def _above(numbers: Numbers, null: float) -> bool:
    return all(value > CHANCE * null for value in numbers.values())


def _near_chance(numbers: Numbers, null: float) -> bool:
    return all(value < CHANCE * null for value in numbers.values())


def _v_lowest(numbers: Numbers, null: float) -> bool:
    v = numbers[BASELINE, FACING["V"]]
    return all(v < value for (_, metric), value in numbers.items() if metric != FACING["V"])


def _lower(numbers: Numbers, null: float) -> bool:
    """Every number of the ablation is lower than the baseline's of the same name."""
    return all(
        numbers[BASELINE, metric] - value > STEP
        for (name, metric), value in numbers.items()
        if name != BASELINE
    )


def _higher(numbers: Numbers, null: float) -> bool:
    return all(
        value - numbers[BASELINE, metric] > STEP
        for (name, metric), value in numbers.items()
        if name != BASELINE
    )


def _pattern(name: str, sentence: str) -> Claim:
    return Claim(sentence, tuple((name, metric) for metric in PATTERN), _above)


def _against(name: str, *projections: str) -> tuple[tuple[str, str], ...]:
    return tuple((of, FACING[one]) for of in (BASELINE, name) for one in projections)


PUBLISHED: tuple[Claim | Divergence, ...] = (
    _pattern(
        BASELINE, "Q, K, Gate, Up, O and Down each stand above chance where they face the residual stream."
    ),
    Claim(
        "V stands lowest among those that read the residual stream.",
        tuple((BASELINE, metric) for metric in READERS),
        _v_lowest,
    ),
    _pattern("tf-relu", "The six stand above chance with ReLU in the gate, too."),
    _pattern("tf-gelu", "The six stand above chance with GELU in the gate, too."),
    _pattern(
        "tf-none", "The six stand above chance without an activation, too: Gate times Up and RMSNorm remain."
    ),
    Claim(
        f"Without the activation Gate loses continuity (by more than {decimal(STEP)}).",
        _against("tf-none", "Gate"),
        _lower,
    ),
    Claim(
        "Without residual connections every projection is near chance.",
        tuple(("tf-nores-silu", metric) for metric in FACING.values()),
        _near_chance,
    ),
    Divergence("Without RMSNorm training diverges.", "tf-nonorm"),
)
"""What the paper says of its Table 2."""

PREDICTED: tuple[Claim | Divergence, ...] = (
    Claim(
        f"Without softmax Q and K lose continuity (each by more than {decimal(STEP)}).",
        _against("tf-linear", "Q", "K"),
        _lower,
    ),
    Claim(
        f"An activation on V raises its continuity (by more than {decimal(STEP)}).",
        _against("tf-vgate", "V"),
        _higher,
    ),
    _pattern("tf-gqa", "The six stand above chance with keys and values that query heads share."),
    _pattern("tf-tied", "The six stand above chance with tied embeddings."),
    _pattern("tf-qknorm", "The six stand above chance with queries and keys normalised."),
)
"""What follows from the paper's account, and what it leaves to future work."""
