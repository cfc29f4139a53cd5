"""Gradients before weights: continuity over epochs, and the weights' leading direction beside averages."""

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reports.figures.style import Margins, heading, lay_out, shortened
from reports.training.drawings.axes import LOOK, of_cosines, only
from reports.training.model import Experiment
from reports.training.pictures import PRECEDENCE, Row, column
from reports.training.pictures.precedence import METRICS, NAME, decay, rows
from reports.view import printable

SHADES = "viridis_r"
"""The colours of averages: light is a single gradient, dark the sum of all."""


def precedence(figure: Figure, experiment: Experiment) -> None:
    """Two panels over the same epochs."""
    lay_out(figure, 11, 4.7, Margins(0.8, 0.3, bottom=1.5, top=0.8, across=0.2))
    dataset = shortened(printable(experiment.dataset), 28)
    heading(figure, f"{PRECEDENCE.illustration.title}: {NAME} on {dataset}")
    shown = rows(experiment)
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    for metric in METRICS:
        label, colour, dashes = LOOK[metric]
        _line(left, only(shown, metric=metric), label, colour, dashes)
    averages = dict.fromkeys(str(row["metric"]) for row in shown if str(row["metric"]).startswith("ema_"))
    shades = colormaps[SHADES]
    for place, metric in enumerate(averages):
        shade = to_hex(shades(place / max(len(averages) - 1, 1)))
        _line(right, only(shown, metric=metric), _words(metric), shade, "-")
    left.set_title("from layer to layer", fontsize=11, fontweight="bold")
    right.set_title("from the weights to averages of their gradients", fontsize=11, fontweight="bold")
    for axes, words in ((left, "mean |cos| of adjacent layers"), (right, "mean |cos| within a layer")):
        of_cosines(axes, experiment, words)
        axes.set(xlim=(0, max(column(shown, "epoch"))), xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        handles, labels = axes.get_legend_handles_labels()
        box = axes.get_position()
        figure.legend(
            handles, labels, loc="lower center", bbox_to_anchor=((box.x0 + box.x1) / 2, 0.0), ncols=2,
            fontsize=10, columnspacing=1.6,
        )  # fmt: skip


def _line(axes: Axes, rows: list[Row], label: str, colour: str, dashes: str) -> None:
    at = column(rows, "epoch")
    axes.fill_between(at, column(rows, "lowest"), column(rows, "highest"), color=colour, alpha=0.2, lw=0)
    axes.plot(at, column(rows, "mean"), color=colour, ls=dashes, lw=2.2, label=label, zorder=3)


def _words(metric: str) -> str:
    beta = decay(metric)
    if beta == 0:
        return "a single gradient"
    return "the sum of all" if beta == 1 else f"about {1 / (1 - beta):.0f} steps (β {beta:g})"
