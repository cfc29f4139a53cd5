"""A report for the terminal, laid out for 80 columns and readable without colour."""

from collections.abc import Iterable, Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reports import experts
from reports.model import Report, Stack
from reports.pattern import sentences
from reports.reading import character
from reports.stacks import described, not_measured, notes
from reports.view import (
    LEGEND,
    MISSING,
    ProjectionRow,
    SpaceRow,
    details,
    findings,
    name_of,
    number,
    printable,
    provenance,
    rows,
    spectra,
)

BAR = 7
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def to_terminal(report: Report) -> RenderableType:
    """The whole report as one renderable."""
    return Group(*_parts(report))


def _parts(report: Report) -> Iterator[RenderableType]:
    model, main = report.model, report.main
    names = ", ".join(name_of(report, stack) for stack in report.every_stack)
    yield Text()
    about = f"{printable(model.family)}: {names}" if report.stacks else described(main)
    yield Text.assemble((printable(model.id), "bold"), f"  {about}")
    yield Text()
    if report.stacks:
        yield _heading(report, None)
    yield _main_table(main)
    degenerate = any(row.note for stack in report.every_stack.values() for row in rows(stack))
    marked = " A * marks degenerate pairs." if degenerate else ""
    yield Padding(Text(LEGEND + marked, style="dim"), (0, 1, 1, 1))
    yield from _told(notes(main), style="dim")
    yield from _told(sentences(main))
    if report.findings:
        yield _findings(report)
    yield from _details(report, main)
    if report.published is not None:
        yield _published_table(report)
    for name, stack in report.stacks.items():
        yield _heading(report, name)
        yield _main_table(stack)
        yield from _told(notes(stack), style="dim")
        yield from _told(sentences(stack))
        yield from _details(report, stack)
    if lacking := list(not_measured(report)):
        yield Text("What is not measured", style="bold")
        yield Text()
        yield from _told(lacking)
    yield _provenance(report)


def _heading(report: Report, stack: str | None) -> Text:
    what = described(report.every_stack[stack])
    return Text.assemble((f" {name_of(report, stack)}", "bold"), f"  {what}")


def _told(sentences: Iterable[str], style: str = "") -> Iterator[RenderableType]:
    """Sentences, a line or more each, and an empty line after the last."""
    told = False
    for sentence in sentences:
        yield Padding(Text(printable(sentence), style=style), (0, 1))
        told = True
    if told:
        yield Text()


def _details(report: Report, stack: Stack) -> Iterator[RenderableType]:
    yield _detail_table(stack)
    yield from _told(character(stack))
    if experts.with_experts(stack):
        yield _expert_table(stack)
        yield from _told(experts.sentences(stack))
    if report.settings.full:
        yield _spectrum_table(stack)


def bar(share: float | None, facing: bool) -> str:
    """A bar of fixed width: solid in the facing space, shaded in the other."""
    if share is None:
        return " " * BAR
    if not facing:
        return ("▒" * round(share * BAR)).ljust(BAR)
    eighths = round(share * BAR * 8)
    whole, part = divmod(eighths, 8)
    return ("█" * whole + (_EIGHTHS[part] if part else "")).ljust(BAR)


def _main_table(stack: Stack) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=0)
    table.add_column("", no_wrap=True)
    for heading in ("v1 (input)", "u1 (output)"):
        table.add_column(heading, no_wrap=True)
        table.add_column("null", justify="right", no_wrap=True)
        table.add_column("EVR", justify="right", no_wrap=True)
        table.add_column("chance ", justify="right", no_wrap=True)
    for row in rows(stack):
        table.add_row(_name(row), *_cells(row.v), *_cells(row.u))
    return table


def _name(row: ProjectionRow) -> Text:
    return Text(printable(row.name) + ("*" if row.note else ""), style="bold")


def _cells(row: SpaceRow) -> tuple[Text, Text, Text, Text]:
    strong, weak = ("bold cyan", "") if row.facing else ("", "dim")
    return (
        Text(f"{row.continuity:>6} {bar(row.share, row.facing)}", style=strong),
        Text(row.null, style="dim"),
        Text(row.evr, style=weak),
        Text(f"{row.chance}  ", style="dim"),
    )


def _detail_table(stack: Stack) -> Table:
    headings = (
        "stable\nrank",
        "spread\nof v1",
        "spread\nof u1",
        "top\nchannel v1",
        "lag 1\nto last",
        "error\nbound",
    )
    table = _titled("What the leading directions are like (medians over layers)", headings)
    for row in details(stack):
        cells = (row.stable_rank, row.participation_v, row.participation_u, row.top_v, row.lag, row.bound)
        table.add_row(Text(printable(row.name), style="bold"), *cells)
    return table


def _expert_table(stack: Stack) -> Table:
    headings = ("layers", "experts", "with the\nstack", "over\nlayers", "between\ntwo", "null")
    table = _titled("The routed experts: |cos| of their leading directions (medians)", headings)
    for row in experts.rows(stack):
        cells = (row.layers, row.experts, row.with_stack, row.over_layers, row.between, row.null)
        table.add_row(Text(printable(row.name), style="bold"), *cells)
    return table


def _spectrum_table(stack: Stack) -> Table:
    headings = ("WA v", "null", "WA u", "null", "effective rank", "of at most")
    table = _titled("The whole spectrum (effective rank: median over layers)", headings)
    for row in spectra(stack):
        cells = (row.wa_v, row.null_v, row.wa_u, row.null_u, row.effective_rank, row.largest_rank)
        table.add_row(Text(printable(row.name), style="bold"), *cells)
    return table


def _titled(title: str, headings: tuple[str, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left", title_style="bold")
    table.title = title
    table.add_column("", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _published_table(report: Report) -> Table:
    assert report.published is not None
    title = f"Beside what is published: {printable(report.published.source)}"
    table = _titled(title, ("measure", "published", "ours", "difference"))
    for value in report.published.values:
        what = f"{'continuity' if value.metric == 'continuity' else 'EVR'} {value.space}1"
        difference = MISSING if value.difference is None else f"{value.difference:+.3f}"
        table.add_row(
            printable(value.projection), what, f"{value.published:.2f}", number(value.ours, 3), difference
        )
    return table


def _findings(report: Report) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    for row in findings(report):
        style = "bold red" if row.severity == "error" else "bold"
        table.add_row(Text(f" {row.severity}", style=style), Text(row.code), Text(row.message))
    return Padding(table, (0, 0, 1, 0))


def _provenance(report: Report) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    for what, value in provenance(report):
        table.add_row(Text(f" {what}"), Text(value))
    return table
