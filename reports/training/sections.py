"""The parts of the Markdown report that experiments of every kind have."""

from collections.abc import Iterator, Sequence

from reports.markdown import escape, table
from reports.training import sentences
from reports.training.comparison import Comparison, Verdict, differing
from reports.training.measured import measured
from reports.training.model import AblationRuns, Experiment, PublishedTable
from reports.training.notation import decimal, heading, signed, spread
from reports.view import MISSING

MARKS = {Verdict.AGREES: "✓", Verdict.DIFFERS: "✗"}


def diverged_lines(experiment: Experiment) -> Iterator[str]:
    """The runs that no mean is over; no section where there are none."""
    if runs := list(sentences.diverged(experiment)):
        yield from ("", "## Runs that diverged", "", "These are left out of every mean.", "")
        yield from (f"- {escape(run)}" for run in runs)


def trained_lines(experiment: Experiment) -> Iterator[str]:
    """Each ablation, what it isolates, and its seeds."""
    yield from ("", "## What was trained", "")
    yield from table(
        ("", "", "seeds"),
        (
            (bold(one.name), escape(one.isolates), ", ".join(str(run.seed) for run in one.runs) or MISSING)
            for one in experiment.ablations
        ),
    )


def published_lines(
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
    yield bold(name), "published", *(MISSING if one is None else spread(one.published) for one in row)
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


def differing_lines(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """The cells that differ from what is published; no section where no verdict was given."""
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
                bold(one.ablation), heading(one.metric), str(one.table), spread(one.published),
                spread(one.ours), _apart(one), ", ".join(map(decimal, one.ours.seeds)),
                str(one.group),
            )
            for one in cells
        ),
    )  # fmt: skip


def own_table(shown: Sequence[AblationRuns], columns: Sequence[str], *when: int) -> Iterator[str]:
    """A row an ablation, a column a metric."""
    yield from table(
        ("", *map(heading, columns)),
        ((bold(one.name), *(spread(measured(one, metric, *when)) for metric in columns)) for one in shown),
    )


def provenance_lines(experiment: Experiment) -> Iterator[str]:
    """Where the numbers came from."""
    if experiment.provenance:
        yield from ("", "## Provenance", "")
        yield from table(("", ""), ((escape(what), escape(value)) for what, value in experiment.provenance))


def bold(name: str) -> str:
    """A name from outside, made harmless, in bold."""
    return f"**{escape(name)}**"
