"""The page and the table over all models of a batch."""

from collections.abc import Iterator, Sequence
from urllib.parse import quote

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reports.comparison import (
    Audited,
    Column,
    Entry,
    Failed,
    cell,
    columns,
    findings_by_severity,
    null,
    settings,
    verdict,
)
from reports.markdown import escape, table
from reports.view import MISSING, printable, short_name

MARK = "<!-- gcont-audit batch -->"
"""The first line of every index page: one without it is somebody else's file."""

ON_TERMINALS = ("Q", "K", "V", "O", "Gate", "Up", "Down")
"""The projections that a terminal has room for."""

PAGE, PICTURE = "index.md", "index.png"


def to_markdown(entries: Sequence[Entry]) -> str:
    """The index page; the folder of each entry is taken as relative to it."""
    return "\n".join(_lines(entries)) + "\n"


def _lines(entries: Sequence[Entry]) -> Iterator[str]:
    shown = columns(entries)
    count = sum(isinstance(entry, Audited) for entry in entries)
    yield from (MARK, "", f"# Geometric continuity of {count} model{'s' * (count != 1)}", "")
    if shown:
        yield from (f"![Continuity over depth, model by model]({PICTURE})", "")
        yield (
            "*Each panel is a projection in a space that faces the residual stream, each line a model: |cos| "
            "between adjacent layers over relative depth. Dotted: what random directions give.*"
        )
        yield ""
    yield from table(
        (
            "model",
            "layers",
            "width",
            *(escape(column.heading) for column in shown),
            "null",
            "as expected",
            "findings",
            "settings",
        ),
        (_row(entry, shown) for entry in entries),
    )
    yield ""
    yield (
        "Mean |cos| between the leading singular vectors of adjacent layers; bold where it is moderate or "
        "strong. null: what random directions of that width give. As expected: of the projections, how many "
        "are continuous as arXiv:2605.04971 has it. Findings: errors / warnings / notes, told in each report."
    )


def _row(entry: Entry, shown: Sequence[Column]) -> tuple[str, ...]:
    match entry:
        case Failed(name, message, _):
            return (escape(name), *[MISSING] * (len(shown) + 5), f"**failed**: {escape(message)}")
        case Audited(_, folder, report, _):
            cells = [cell(report, column) for column in shown]
            return (
                f"[{escape(short_name(report.model))}]({quote(folder, errors='surrogateescape')}/report.md)",
                str(report.model.layers),
                str(report.model.hidden_size or MISSING),
                *(f"**{one.text}**" if one.strong else one.text for one in cells),
                null(report),
                verdict(report),
                findings_by_severity(report),
                escape(settings(report)),
            )


def to_terminal(entries: Sequence[Entry]) -> RenderableType:
    """The comparison for a terminal of 80 columns; OV and shared experts are left to the page."""
    shown = [column for column in columns(entries) if column.projection in ON_TERMINALS]
    drawn = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    drawn.add_column("", overflow="fold", min_width=8)
    for heading in ("layers", *(printable(column.heading).replace(" ", "\n") for column in shown), "null"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    failures = []
    for entry in entries:
        match entry:
            case Audited(_, _, report, _):
                cells = [cell(report, column) for column in shown]
                drawn.add_row(
                    Text(printable(short_name(report.model)), style="bold"),
                    str(report.model.layers),
                    *(Text(one.text, "bold cyan" if one.strong else "") for one in cells),
                    Text(null(report), style="dim"),
                )
            case Failed(name, message, _):
                failures.append(Padding(Text(f"failed  {printable(name)}: {printable(message)}"), (0, 1)))
    return Group(drawn, *failures) if drawn.row_count else Group(*failures)
