"""An experiment with small transformers as Markdown: Table 2 and its claims, then all that was measured."""

from collections.abc import Iterator, Sequence
from urllib.parse import quote

from reports.figures import Illustration
from reports.markdown import escape, table
from reports.training import sections, sentences
from reports.training.comparison import UNJUDGED, Comparison, compare, scores
from reports.training.measured import course
from reports.training.model import AblationRuns, Experiment
from reports.training.notation import decimal, heading
from reports.training.transformer import words
from reports.training.transformer.claims import Claim, Divergence, Outcome
from reports.training.transformer.figures import GROWTH, PROJECTIONS
from reports.training.transformer.projections import ALL, DIRECTIONS, FACING, OV
from reports.view import MISSING

MARKS = {Outcome.HOLDS: "✓ holds", Outcome.FAILS: "**✗ fails**", Outcome.NOT_MEASURED: "not measured"}

TOLD_STEPS = 8
"""Rows of the tables that say how continuity grew, at most."""


def to_markdown(experiment: Experiment) -> str:
    """The whole report; the same experiment always gives the same text."""
    return "\n".join(_lines(experiment)) + "\n"


def _lines(experiment: Experiment) -> Iterator[str]:
    comparisons = compare(experiment)
    yield f"# Small transformers: {escape(sentences.trained(experiment))}"
    yield ""
    yield from (f"- {escape(sentence)}" for sentence in sentences.standing(experiment))
    yield f"- Settings: {escape(sentences.settings(experiment))}."
    yield f"- Random directions give {decimal(experiment.null)}: what |cos| is by chance in this width."
    yield from (f"- {sentence}" for sentence in sentences.score(scores(comparisons), words.SCORED))
    yield from sections.diverged_lines(experiment)
    yield from sections.trained_lines(experiment)
    yield from _figure_lines(PROJECTIONS)
    yield from _figure_lines(GROWTH)
    yield from _published_lines(experiment, comparisons)
    yield from _claim_lines(experiment)
    yield from _measured_lines(experiment)
    yield from _growth_lines(experiment)
    yield from _reading_lines(experiment)
    yield from _audit_lines(experiment)
    yield from sections.provenance_lines(experiment)


def _figure_lines(figure: Illustration) -> Iterator[str]:
    yield from ("", f"## {figure.title}", "", f"![{figure.title}]({figure.file})", "", figure.caption)


def _published_lines(experiment: Experiment, comparisons: Sequence[Comparison]) -> Iterator[str]:
    if not experiment.tables:
        return
    yield from ("", "## Beside the published table", "")
    if comparisons:
        yield sections.APART
        if any(one.metric in UNJUDGED for one in comparisons):
            yield from ("", words.WITHOUT_VERDICT)
    else:
        yield "None of its rows has numbers beside these ablations."
    for published in experiment.tables:
        yield from sections.published_lines(experiment, published, comparisons)
        for told in (words.without_norm(published), words.orientation(published)):
            if told is not None:
                yield from ("", told)
    yield from sections.differing_lines(comparisons)


def _claim_lines(experiment: Experiment) -> Iterator[str]:
    yield from ("", "## The claims, one by one", "", words.bar(experiment))
    for title, claims in words.GROUPS.items():
        yield from ("", f"### {title}", "")
        yield from table(("", "", ""), _claims(experiment, claims))
    yield from ("", "### What these runs cannot show", "")
    yield from (f"- {sentence}" for sentence in words.limits(experiment))


def _claims(experiment: Experiment, claims: Sequence[Claim | Divergence]) -> Iterator[tuple[str, str, str]]:
    for claim in claims:
        found = claim.judged(experiment)
        yield claim.sentence, MARKS[found.outcome], escape(found.numbers)


def _measured_lines(experiment: Experiment) -> Iterator[str]:
    shown = [one for one in experiment.ablations if one.whole]
    yield from ("", "## All that was measured", "")
    if not shown:
        yield "Nothing: no run came to its end."
        return
    yield "After the last step, mean ± sample standard deviation over the seeds that did not diverge."
    yield from ("", "### Where each projection faces the residual stream", "")
    yield from sections.own_table(shown, ("ppl", "valid_loss", "loss", *FACING.values(), *OV))
    for direction, what in DIRECTIONS.items():
        yield from ("", f"### {direction}: {what}", "")
        yield from sections.own_table(shown, [f"{projection}_{direction}" for projection in ALL])


def _growth_lines(experiment: Experiment) -> Iterator[str]:
    shown = [one for one in experiment.ablations if one.whole]
    if not shown:
        return
    yield from ("", "## How each projection grew", "")
    yield (
        f"Up to {TOLD_STEPS} of the steps that were measured; all of them, and those of diverged runs, are "
        "in histories.csv."
    )
    for ablation in shown:
        yield from ("", f"### {escape(ablation.name)}", "")
        yield from table(
            (experiment.axis, *(heading(metric) for metric in ("ppl", *FACING.values()))),
            _grown(experiment, ablation),
        )


def _grown(experiment: Experiment, ablation: AblationRuns) -> Iterator[tuple[str, ...]]:
    means = {
        metric: {point.at: point.mean for point in course(experiment, ablation, metric)}
        for metric in ("ppl", *FACING.values())
    }
    for step in chosen(sorted({at for of in means.values() for at in of})):
        yield str(step), *(decimal(of.get(step)) for of in means.values())


def chosen(steps: Sequence[int]) -> tuple[int, ...]:
    """The first, the last, and evenly between them, `TOLD_STEPS` at most."""
    if len(steps) <= TOLD_STEPS:
        return tuple(steps)
    last = len(steps) - 1
    return tuple(steps[round(place * last / (TOLD_STEPS - 1))] for place in range(TOLD_STEPS))


def _reading_lines(experiment: Experiment) -> Iterator[str]:
    yield from ("", "## How to read this", "")
    yield (
        "- **v1, u1**: continuity, the mean |cos| between the leading right (v, input) or left (u, output) "
        "singular vectors of adjacent layers; v2, u2 likewise of the second ones. Random directions give "
        f"{decimal(experiment.null)}; near that there is no continuity."
    )
    yield (
        "- Q, K, V, Gate and Up read the residual stream, so that v1 faces it; O and Down write it, so that "
        "u1 does. **OV** is the product of O and V and faces it on both sides."
    )
    yield (
        "- **PPL**, perplexity, is e to the validation loss; **loss** is the mean over the training steps "
        f"since the entry before. {MISSING} stands for what is not defined or not finite."
    )
    yield (
        "- The second directions are only as well defined as the second singular value stands apart from the "
        "third; a low v2 or u2 may mean that the two change places."
    )


def _audit_lines(experiment: Experiment) -> Iterator[str]:
    if experiment.audits:
        yield from ("", "## The audits of the final weights", "")
        for name, link in experiment.audits.items():
            yield f"- [{escape(name)}]({quote(link)})"
