"""An experiment for the terminal, laid out for 80 columns and readable without colour."""

import re
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
from reports.view import printable

COLUMNS = {
    "acc": "acc", "W_v1": "W v1", "W_u1": "W u1", "W_wa_v": "W WA(v)", "G_v1": "G v1",
    "Gcum_v1": "Gcum v1", "delta": "Δ",
}  # fmt: skip
"""The metrics shown, and their headings."""

NAME_WIDTH = 12
"""A longer name goes on in the next line, broken at a hyphen where it has one."""


def to_terminal(experiment: Experiment) -> RenderableType:
    """The whole report as one renderable."""
    return Group(*_parts(experiment))


def _parts(experiment: Experiment) -> Iterator[RenderableType]:
    comparisons = compare(experiment)
    yield Text()
    yield Padding(Text(printable(sentences.trained(experiment)), style="bold"), (0, 1))
    yield Padding(Text(printable(sentences.settings(experiment)), style="dim"), (0, 1))
    yield Text()
    yield Padding(_table(experiment, {(one.ablation, one.metric): one for one in once(comparisons)}), (0, 1))
    yield Text()
    beside = "; behind ours the published value" if comparisons else ""
    if any(one.verdict is Verdict.DIFFERS for one in comparisons):
        beside += ", ✗ where they differ"
    yield Padding(
        Text(f"Random directions give {decimal(experiment.null)}{beside}. Δ = Gcum v1 − W v1.", style="dim"),
        (0, 1, 1, 1),
    )
    told = (*sentences.standing(experiment), *sentences.score(scores(comparisons)))
    for sentence in (*told, *sentences.diverged(experiment)):
        yield Padding(Text(printable(sentence)), (0, 1))


def _table(experiment: Experiment, cells: Mapping[tuple[str, str], Comparison]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("", no_wrap=True)
    for label in COLUMNS.values():
        table.add_column(label, justify="left", no_wrap=True)
    for ablation in experiment.ablations:
        table.add_row(lines_of(ablation.name), *_row(ablation, cells))
    return table


def _row(ablation: AblationRuns, cells: Mapping[tuple[str, str], Comparison]) -> Iterator[Text]:
    for metric in COLUMNS:
        text = Text(short(measured(ablation, metric).mean))
        if (cell := cells.get((ablation.name, metric))) is not None:
            mark = "✗" if cell.verdict is Verdict.DIFFERS else " "
            text.append(f"{mark}{short(cell.published.mean)}", style="dim")
        yield text


def short(value: float | None) -> str:
    """As elsewhere, but what is all but 1 in as many letters as the rest: `1.00`."""
    return decimal(value).replace("1.000", "1.00")


def lines_of(name: str, width: int = NAME_WIDTH) -> Text:
    """A name in lines that fit: `nonadaptive-`, `init-0.0001`."""
    lines = [""]
    for piece in re.findall("[^-]*-|[^-]+", printable(name)):
        if len(lines[-1] + piece) <= width:
            lines[-1] += piece
        else:
            lines.append(piece)
    return Text("\n".join(lines).lstrip("\n"), style="bold")
