"""Small multiples over epochs: weights, gradients and their sums, a panel an ablation."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from reports.figures.style import (
    BLUE,
    GREY,
    ORANGE,
    SKY,
    VERMILLION,
    Margins,
    heading,
    lay_out,
    shortened,
)
from reports.training.measured import measured
from reports.training.model import AblationRuns, Experiment
from reports.training.notation import decimal
from reports.view import printable

COLUMNS = 4
WIDE, NARROW = 11.0, 6.5
"""Inches: a page of several panels, and of one or two."""

BETWEEN = 0.62
"""Inches between two rows: a panel's name and its accuracy."""

FEW_POINTS = 3
"""A line of so many points has markers too: one alone would not be seen."""

TITLE_LETTERS = 24
"""Of an ablation's name that there is room for."""


@dataclass(frozen=True)
class Curve:
    """A metric and how it is drawn."""

    metric: str
    label: str
    colour: str
    dashes: str
    width: float


CURVES = (
    Curve("G_v1", "v1 of one minibatch's gradient", ORANGE, "-", 1.3),
    Curve("Gcum_v1", "v1 of the summed gradient", VERMILLION, "--", 1.8),
    Curve("W_u1", "u1 of the weights", SKY, "-.", 1.8),
    Curve("W_v1", "v1 of the weights", BLUE, "-", 3.0),
)
"""In the order they are drawn: what the figure is about comes last, on top."""


def continuity(figure: Figure, experiment: Experiment) -> None:
    """A panel for each ablation; a diverged run is in none, an ablation without others says so."""
    shown = experiment.ablations
    columns, rows = _grid(figure, len(shown))
    heading(figure, f"Continuity over epochs on {shortened(printable(experiment.dataset), 28)}")
    last = max((len(run.epochs) - 1 for one in shown for run in one.runs), default=0)
    for place, ablation in enumerate(shown):
        axes = figure.add_subplot(rows, columns, place + 1)
        _frame(axes, ablation, max(last, 1))
        first, lowest = place % columns == 0, place + columns >= len(shown)
        axes.tick_params(labelleft=first, labelbottom=lowest)
        axes.set_ylabel("mean |cos|" if first else "")
        axes.set_xlabel("epoch" if lowest else "")
        axes.axhline(experiment.null, color=GREY, lw=1, ls=":", zorder=1)
        _draw(axes, ablation)
    _legend(figure, columns=5 if columns > 2 else 2)


def _grid(figure: Figure, panels: int) -> tuple[int, int]:
    """Set the figure's size and margins for so many panels; how many columns and rows they stand in."""
    columns = 3 if panels in (5, 6, 9) else min(panels, COLUMNS)
    rows = ceil(panels / columns)
    width, panel, foot = (WIDE, 1.75, 1.05) if columns > 2 else (NARROW, 2.6, 1.5)
    margins = Margins(0.7, 0.2, bottom=foot, top=0.95, across=0.12, down=BETWEEN / panel)
    lay_out(figure, width, 0.95 + rows * panel + (rows - 1) * BETWEEN + foot, margins)
    return columns, rows


def _frame(axes: Axes, ablation: AblationRuns, last: int) -> None:
    accuracy = measured(ablation, "acc").mean
    name = shortened(printable(ablation.name), TITLE_LETTERS)
    axes.set_title(name, fontsize=11, fontweight="bold", pad=19)
    told = "not trained" if accuracy is None else f"accuracy {decimal(accuracy)}"
    if ablation.runs and not ablation.whole:
        told = "every run diverged"
    axes.annotate(
        told, (0, 1), xycoords="axes fraction", xytext=(0, 5), textcoords="offset points",
        fontsize=10, color="#444444",
    )  # fmt: skip
    axes.set(xlim=(0, last), ylim=(-0.015, 1.03))
    axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"])
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))


def _draw(axes: Axes, ablation: AblationRuns) -> None:
    for curve in CURVES:
        points = list(_points(ablation, curve.metric))
        if not points:
            continue
        x, mean, low, high = zip(*points, strict=True)
        marker = "o" if len(points) <= FEW_POINTS else ""
        if len(ablation.whole) > 1:
            axes.fill_between(x, low, high, color=curve.colour, alpha=0.2, lw=0, zorder=2)
        axes.plot(
            x,
            mean,
            color=curve.colour,
            ls=curve.dashes,
            lw=curve.width,
            marker=marker,
            clip_on=False,
            zorder=3,
        )


def _points(ablation: AblationRuns, metric: str) -> Iterator[tuple[int, float, float, float]]:
    """(epoch, mean, lowest, highest) over the seeds, where any of them has the metric."""
    for epoch in range(max((len(run.epochs) for run in ablation.whole), default=0)):
        entries = [run.epochs[epoch] for run in ablation.whole if epoch < len(run.epochs)]
        values = [value for one in entries if (value := one.get(metric)) is not None]
        if values:
            yield epoch, fmean(values), min(values), max(values)


def _legend(figure: Figure, *, columns: int) -> None:
    handles = [
        Line2D([], [], color=one.colour, ls=one.dashes, lw=one.width, label=one.label)
        for one in reversed(CURVES)
    ]
    handles.append(Line2D([], [], color=GREY, ls=":", lw=1, label="random directions"))
    figure.legend(handles=handles, loc="lower center", ncols=columns, fontsize=10, columnspacing=1.6)
