"""A heat map of the small transformers: a row an ablation, a column a projection, the number in each cell."""

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from reports.figures.style import INK, VERMILLION, Margins, heading, lay_out, shortened
from reports.training.measured import measured
from reports.training.model import AblationRuns, Experiment
from reports.training.notation import decimal
from reports.training.notation import heading as name_of
from reports.training.transformer.projections import FACING, OV
from reports.view import MISSING, printable

SHADES = "Blues"
COLUMNS = (*FACING.values(), *OV)
DARK = 0.68
"""From here on a cell's number is white: dark letters stand out less on such a blue."""

BESIDE = len(FACING)
"""A gap before this column: OV is a product, not a projection of its own."""

GAP = 0.25
WIDE, ROW, FOOT, HEAD = 9.6, 0.42, 0.95, 0.85
"""Inches: the page, a row, below the rows, above them."""

NAMES, REACHED = -0.195, -0.012
"""Where names and perplexities end, left of the map, in shares of its width."""

NAME_LETTERS = 16
"""Of an ablation's name that there is room for."""


def projections(figure: Figure, experiment: Experiment) -> None:
    """Each projection's continuity in the last entry, the mean over seeds."""
    shown = experiment.ablations
    height = HEAD + FOOT + ROW * max(len(shown), 1)
    lay_out(figure, WIDE, height, Margins(2.85, 0.25, bottom=FOOT, top=HEAD))
    heading(
        figure, f"Continuity, projection by projection, on {shortened(printable(experiment.dataset), 28)}"
    )
    axes = figure.add_subplot()
    for row, ablation in enumerate(shown):
        _row(axes, row, ablation, experiment)
    axes.set(xlim=(-0.5, _at(len(COLUMNS) - 1) + 0.5), ylim=(max(len(shown), 1) - 0.5, -0.5))
    axes.set_xticks([_at(place) for place in range(len(COLUMNS))], [*map(name_of, COLUMNS)])
    axes.set_yticks([])
    axes.tick_params(length=0, labeltop=True, labelbottom=False, labelsize=11)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    _bar(figure, experiment.null, height)


def _at(column: int) -> float:
    return column + (GAP if column >= BESIDE else 0)


def _row(axes: Axes, row: int, ablation: AblationRuns, experiment: Experiment) -> None:
    reached = measured(ablation, "ppl").mean
    told = "" if reached is None else f"PPL {decimal(reached)}"
    _beside(axes, row, NAMES, shortened(printable(ablation.name), NAME_LETTERS), "bold")
    _beside(axes, row, REACHED, told, "normal")
    if not ablation.whole:
        first = min((run.diverged for run in ablation.runs if run.diverged is not None), default=None)
        lost = "not trained" if first is None else f"diverged in {experiment.axis} {first}"
        width = _at(len(COLUMNS) - 1) + 1
        axes.add_patch(Rectangle((-0.5, row - 0.46), width, 0.92, facecolor="#E4E4E4"))
        axes.text(width / 2 - 0.5, row, lost, ha="center", va="center", fontsize=10.5, color=INK)
        return
    for column, metric in enumerate(COLUMNS):
        _cell(axes, row, _at(column), measured(ablation, metric).mean)


def _beside(axes: Axes, row: int, x: float, text: str, weight: str) -> None:
    """Words left of the row; `x` is a share of the map's width."""
    axes.text(
        x, row, text, transform=axes.get_yaxis_transform(), ha="right", va="center", fontsize=11,
        fontweight=weight, color=INK,
    )  # fmt: skip


def _cell(axes: Axes, row: int, x: float, value: float | None) -> None:
    colour = "#E4E4E4" if value is None else colormaps[SHADES](value)
    axes.add_patch(Rectangle((x - 0.48, row - 0.46), 0.96, 0.92, facecolor=colour))
    axes.text(
        x, row, written(value), ha="center", va="center", fontsize=10.5,
        color="white" if value is not None and value > DARK else INK,
    )  # fmt: skip


def written(value: float | None) -> str:
    """A number in two decimals without the zero in front: `.71`."""
    return MISSING if value is None else f"{value:.2f}".removeprefix("0")


def _bar(figure: Figure, null: float, height: float) -> None:
    """The key to the colours, below the rows, with a line where chance is."""
    axes = figure.add_axes((2.85 / WIDE, 0.52 / height, 3.6 / WIDE, 0.14 / height))
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), SHADES), cax=axes, orientation="horizontal")
    bar.set_ticks([0, 0.25, 0.5, 0.75, 1], labels=["0", ".25", ".5", ".75", "1"])
    bar.ax.tick_params(labelsize=10)
    bar.outline.set_visible(False)
    axes.axvline(null, color=VERMILLION, lw=2)
    figure.text(
        (2.85 + 3.6 + 0.3) / WIDE, 0.59 / height, f"mean |cos|; line: chance, {decimal(null)}", fontsize=10,
        color=INK, va="center",
    )  # fmt: skip
