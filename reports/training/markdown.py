"""An experiment as Markdown: each published table beside ours, then all that was measured."""

from collections.abc import Iterator, Sequence

from reports.markdown import escape, table
from reports.training import sentences
from reports.training.comparison import Comparison, Verdict, compare, differing, scores
from reports.training.figures import CONTINUITY
from reports.training.measured import FIRST, measured
from reports.training.model import AblationRuns, Experiment, PublishedTable
from reports.training.notation import decimal, geometry, heading, in_order, signed, spread
from reports.view import MISSING

MARKS = {Verdict.AGREES: "✓", Verdict.DIFFERS: "✗"}


def to_markdown(experiment: Experiment) -> str:
    """The whole report; the same experiment always gives the same text."""
    return "\n".join(_lines(experiment)) + "\n"


def _lines(experiment: Experiment) -> Iterator[str]:
    comparisons = compare(experiment)
    yield f"# Training experiment: {escape(sentences.trained(experiment))}"
    yield ""
    for sentence in sentences.standing(experiment):
        yield f"- {escape(sentence)}"
    yield f"- Settings: {escape(sentences.settings(experiment))}."
    yield f"- Random directions give {decimal(experiment.null)}: what |cos| is by chance in this width."
    yield from _score_lines(comparisons)
    yield from _diverged_lines(experiment)
    yield from _trained_lines(experiment)
    yield from _figure_lines()
    if comparisons:
        yield from ("", "## Beside the published tables", "", APART)
    for published in experiment.tables:
        yield from _published_lines(experiment, published, comparisons)
    yield from _differing_lines(comparisons)
    yield from _measured_lines(experiment)
    yield from _reading_lines(experiment)
    yield from _provenance_lines(experiment)


def _score_lines(comparisons: Sequence[Comparison]) -> Iterator[str]:
    if found := scores(comparisons):
        yield from ("", "## The score", "")
        yield from (f"- {sentence}" for sentence in sentences.score(found))


def _diverged_lines(experiment: Experiment) -> Iterator[str]:
    if runs := list(sentences.diverged(experiment)):
        yield from ("", "## Runs that diverged", "", "These are left out of every mean.", "")
        yield from (f"- {escape(run)}" for run in runs)


def _trained_lines(experiment: Experiment) -> Iterator[str]:
    yield from ("", "## What was trained", "")
    yield from table(
        ("", "", "seeds"),
        (
            (_bold(one.name), escape(one.isolates), ", ".join(str(run.seed) for run in one.runs) or MISSING)
            for one in experiment.ablations
        ),
    )


def _figure_lines() -> Iterator[str]:
    yield from ("", f"## {CONTINUITY.title}", "")
    yield f"![{CONTINUITY.title}]({CONTINUITY.file})"
    yield from ("", CONTINUITY.caption)


def _published_lines(
    experiment: Experiment, published: PublishedTable, comparisons: Sequence[Comparison]
) -> Iterator[str]:
    """A published table: what it says of each ablation that has runs, ours, and how far apart they are."""
    cells = {(one.ablation, one.metric): one for one in comparisons if one.table == published.number}
    names = [name for name in published.rows if experiment.ablation(name) is not None]
    if not names:
        return
    where = f"{published.source}, Table {published.number}"
    yield from ("", f"### {escape(where)}: {escape(published.title)}", "")
    rows = (row for name in names for row in _triple(name, published.columns, cells))
    yield from table(("", "", *map(heading, published.columns)), rows)


APART = (
    "Ours: mean ± sample standard deviation over the seeds that did not diverge. Apart: ours minus "
    "published and, in brackets, how many published standard deviations that is, where the table prints "
    f"them; ✓ is {sentences.TOLERANCE}, ✗ is not. A table without deviations is judged by those that another "
    "table prints for the same number."
)


def _triple(
    name: str, columns: Sequence[str], cells: dict[tuple[str, str], Comparison]
) -> Iterator[tuple[str, ...]]:
    row = [cells.get((name, metric)) for metric in columns]
    yield _bold(name), "published", *(MISSING if one is None else spread(one.published) for one in row)
    yield "", "ours", *(MISSING if one is None else spread(one.ours) for one in row)
    yield "", "apart", *(MISSING if one is None else _apart(one) for one in row)


def _apart(one: Comparison) -> str:
    """`+.003 (1.2) ✓`; in bold where the two differ."""
    if one.difference is None:
        return MISSING
    stds = f" ({one.stds:+.1f})".replace("-", "−") if one.stds is not None else ""
    mark = f" {MARKS[one.verdict]}" if one.verdict is not None else ""
    text = f"{signed(one.difference)}{stds}{mark}"
    return f"**{text}**" if one.verdict is Verdict.DIFFERS else text


def _differing_lines(comparisons: Sequence[Comparison]) -> Iterator[str]:
    if not any(one.verdict for one in comparisons):
        return
    yield from ("", "## Cells that differ", "")
    cells = list(differing(comparisons))
    if not cells:
        yield "None."
        return
    yield from table(
        ("", "", "table", "published", "ours", "apart", "seeds", ""),
        (
            (
                _bold(one.ablation), heading(one.metric), str(one.table), spread(one.published),
                spread(one.ours), _apart(one), ", ".join(map(decimal, one.ours.seeds)),
                str(one.group),
            )
            for one in cells
        ),
    )  # fmt: skip


def _measured_lines(experiment: Experiment) -> Iterator[str]:
    """Our own tables, whatever is published."""
    shown = [one for one in experiment.ablations if one.whole]
    known = in_order(metric for one in shown for run in one.whole for metric in run.last)
    averages = tuple(metric for metric in known if metric.startswith("ema_"))
    placed = {"acc", *geometry("W"), *geometry("G"), *geometry("Gcum"), "delta", *averages}
    yield from ("", "## All that was measured", "")
    yield "After the last epoch, mean ± sample standard deviation over the seeds that did not diverge."
    tables = (
        ("Weights", ("acc", *geometry("W"))),
        ("Gradient of a single minibatch", geometry("G")),
        ("Sum of all gradients", (*geometry("Gcum"), "delta")),
        ("Leading directions of the weights beside those of averaged gradients", averages),
        ("Losses and movement", tuple(metric for metric in known if metric not in placed)),
    )
    for title, metrics in tables:
        columns = [metric for metric in metrics if metric in known]
        if columns:
            yield from ("", f"### {title}", "")
            yield from _own_table(shown, columns)
    if shown:
        yield from ("", "### Before the first update", "")
        yield from _own_table(shown, ("W_v1", "W_u1", "G_v1", "G_wa_v", "G_u1"), FIRST)


def _own_table(shown: Sequence[AblationRuns], columns: Sequence[str], *when: int) -> Iterator[str]:
    yield from table(
        ("", *map(heading, columns)),
        ((_bold(one.name), *(spread(measured(one, metric, *when)) for metric in columns)) for one in shown),
    )


def _reading_lines(experiment: Experiment) -> Iterator[str]:
    null = decimal(experiment.null)
    yield from ("", "## How to read this", "")
    yield (
        "- **v1, u1**: continuity, the mean |cos| between the leading right (v, input) or left (u, output) "
        "singular vectors of adjacent layers; v2, u2 likewise of the second ones. **WA** weighs all singular "
        f"vectors by their share of energy. Random directions give {null}; near that there is no continuity."
    )
    yield (
        "- **W** is the weight, **G** the gradient of the epoch's last minibatch alone, which is noisy, "
        "**Gcum** the sum of all gradients since the start. **erank** is the effective rank."
    )
    yield (
        "- **Δ** = Gcum v1 − W v1: continuity that the gradients built up and the weights have not kept. "
        "Near 0 all of it was transferred; well above 0 it was lost on the way."
    )
    yield (
        "- **β**: |cos| between a layer's leading direction in the weight and in a moving average of its "
        "gradients, of that decay; β 0 is a single gradient, β 1 the sum of all."
    )


def _provenance_lines(experiment: Experiment) -> Iterator[str]:
    if experiment.provenance:
        yield from ("", "## Provenance", "")
        yield from table(("", ""), ((escape(what), escape(value)) for what, value in experiment.provenance))


def _bold(name: str) -> str:
    return f"**{escape(name)}**"
