"""Several models in one figure: a panel a projection, a line a model, over relative depth."""

from collections.abc import Sequence
from itertools import cycle, product
from math import ceil, nan

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.comparison import Audited, Column, columns
from reports.figures.style import HUES, MARKERS, Margins, heading, lay_out, shortened
from reports.view import printable, short_name

COLUMNS = 3
LEGEND_COLUMNS = 3


def models(figure: Figure, audited: Sequence[Audited]) -> None:
    """A panel for each projection in a facing space, a line for each model."""
    shown = columns(audited)
    rows, legend = ceil(len(shown) / COLUMNS), ceil(len(audited) / LEGEND_COLUMNS)
    foot = 0.75 + 0.27 * legend
    lay_out(
        figure, 11, 2.3 * rows + 0.8 + foot, Margins(0.85, 0.35, bottom=foot, top=0.8, across=0.1, down=0.3)
    )
    heading(figure, f"Continuity over depth of {len(audited)} model{'s' if len(audited) != 1 else ''}")
    looks = [
        (hue, mark, line) for line, (hue, mark) in product(("-", "--", ":"), zip(HUES, MARKERS, strict=True))
    ]
    for place, column in enumerate(shown):
        axes = figure.add_subplot(rows, COLUMNS, place + 1)
        _frame(axes, column, first=place % COLUMNS == 0, last=place + COLUMNS >= len(shown))
        for entry, look in zip(audited, cycle(looks), strict=False):
            _line(axes, entry, column, look)
    handles = [
        axes.plot(
            [],
            [],
            color=hue,
            marker=mark,
            ls=line,
            label=shortened(printable(short_name(one.report.model)), 34),
        )[0]
        for one, (hue, mark, line) in zip(audited, cycle(looks), strict=False)
    ]
    figure.legend(handles=handles, loc="lower center", ncols=LEGEND_COLUMNS, fontsize=11)


def _frame(axes: Axes, column: Column, *, first: bool, last: bool) -> None:
    axes.set_title(column.heading, fontweight="bold")
    axes.set(xlim=(0, 1), ylim=(-0.015, 1.03))
    axes.set_xticks([0, 0.5, 1], ["first layer", "", "last"])
    first_label, _, last_label = axes.get_xticklabels()
    first_label.set_horizontalalignment("left")
    last_label.set_horizontalalignment("right")
    axes.tick_params(labelleft=first, labelbottom=last)
    if first:
        axes.set_ylabel("|cos|")


def _line(axes: Axes, entry: Audited, column: Column, look: tuple[str, str, str]) -> None:
    found = entry.report.projections.get(column.projection)
    if found is None:
        return
    hue, mark, line = look
    depth = max(entry.report.model.layers - 1, 1)
    x = [sum(pair.layers) / 2 / depth for pair in found.pairs]
    values = [getattr(pair, f"{column.space}1") for pair in found.pairs]
    y = [nan if value is None else value for value in values]
    axes.plot(
        x, y, color=hue, marker=mark if len(x) <= 120 else "", ls=line, lw=1.6, ms=4.5 if len(x) <= 40 else 2
    )
    null = getattr(found.null, column.space)
    if null is not None:
        axes.axhline(null, color=hue, lw=0.8, ls=":", zorder=1)
