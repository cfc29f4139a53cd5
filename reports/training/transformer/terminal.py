"""An experiment with small transformers for the terminal, in 80 columns and readable without colour."""

from collections.abc import Iterator, Mapping

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reports.training import sentences
from reports.training.comparison import Comparison, Verdict, compare, once, scores
from reports.training.measured import measured
from reports.training.model import AblationRuns, Experiment
from reports.training.notation import decimal
from reports.training.terminal import lines_of, short
from reports.training.transformer import words
from reports.training.transformer.claims import Outcome
from reports.training.transformer.projections import FACING
from reports.view import printable

NAME_WIDTH = len("tf-nores-silu")

MARKS = {Outcome.HOLDS: "✓", Outcome.FAILS: "✗"}


def to_terminal(experiment: Experiment) -> RenderableType:
    """The whole report as one renderable."""
    return Group(*_parts(experiment))


def _parts(experiment: Experiment) -> Iterator[RenderableType]:
    comparisons = compare(experiment)
    yield Text()
    yield _line(sentences.trained(experiment), "bold")
    yield _line(sentences.settings(experiment), "dim")
    yield Text()
    yield Padding(_table(experiment, {(one.ablation, one.metric): one for one in once(comparisons)}), (0, 1))
    yield Text()
    beside = " Below ours the published values" if comparisons else ""
    if any(one.verdict is Verdict.DIFFERS for one in comparisons):
        beside += ", ✗ where they differ"
    yield _line(
        f"v1 of Q, K, Gate, Up and V, u1 of O and Down. Random directions give {decimal(experiment.null)}."
        + (f"{beside}." if beside else ""),
        "dim",
    )
    yield Text()
    told = (*sentences.standing(experiment), *sentences.score(scores(comparisons), words.SCORED))
    for sentence in (*told, *sentences.diverged(experiment)):
        yield _line(sentence)
    yield from _claims(experiment)


def _claims(experiment: Experiment) -> Iterator[RenderableType]:
    unmeasured = 0
    for title, claims in words.GROUPS.items():
        findings = {claim.sentence: claim.judged(experiment) for claim in claims}
        told = {one: found for one, found in findings.items() if found.outcome in MARKS}
        unmeasured += len(findings) - len(told)
        if not told:
            continue
        yield Text()
        yield _line(title, "bold")
        grid = Table.grid(padding=(0, 1))
        for sentence, found in told.items():
            numbers = f" {found.numbers}." if found.outcome is Outcome.FAILS else ""
            grid.add_row(Text(MARKS[found.outcome]), Text(printable(sentence + numbers)))
        yield Padding(grid, (0, 1))
    yield Text()
    yield _line(f"✓ holds, ✗ fails. {words.bar(experiment)}", "dim")
    if unmeasured:
        yield _line(words.unmeasured(unmeasured), "dim")
    for sentence in words.limits(experiment):
        yield _line(sentence, "dim")


def _line(text: str, style: str = "") -> RenderableType:
    return Padding(Text(printable(text), style=style), (0, 1))


def _table(experiment: Experiment, cells: Mapping[tuple[str, str], Comparison]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("", no_wrap=True)
    for label in ("PPL", *FACING):
        table.add_column(f" {label}", justify="left", no_wrap=True)
    for ablation in experiment.ablations:
        table.add_row(lines_of(ablation.name, NAME_WIDTH), *_row(ablation, cells))
        if any((ablation.name, metric) in cells for metric in FACING.values()):
            table.add_row(Text("  published", style="dim"), *_beside(ablation.name, cells))
    return table


def _row(ablation: AblationRuns, cells: Mapping[tuple[str, str], Comparison]) -> Iterator[Text]:
    for metric in ("ppl", *FACING.values()):
        cell = cells.get((ablation.name, metric))
        differs = cell is not None and cell.verdict is Verdict.DIFFERS
        yield Text(f" {short(measured(ablation, metric).mean)}{'✗' if differs else ''}")


def _beside(name: str, cells: Mapping[tuple[str, str], Comparison]) -> Iterator[Text]:
    for metric in ("ppl", *FACING.values()):
        cell = cells.get((name, metric))
        yield Text("" if cell is None else f" {decimal(cell.published.mean)}", style="dim")
