"""Small multiples: how metrics went on over epochs or steps, a panel an ablation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from reports.figures.style import (
    GREY,
    Margins,
    heading,
    lay_out,
    shortened,
)
from reports.training.drawings.axes import LOOK
from reports.training.measured import course, measured
from reports.training.model import AblationRuns, Experiment
from reports.training.notation import decimal
from reports.training.notation import heading as name_of
from reports.view import printable

COLUMNS = 4
WIDE, NARROW = 11.0, 6.5
"""Inches: a page of several panels, and of one or two."""

BETWEEN = 0.62
"""Inches between two rows: a panel's name, and what it reached."""

FEW_POINTS = 3
"""A line of so many points has markers too: one alone would not be seen."""

MANY = 1000
"""From here on the numbers below a panel are long, and there is room for few."""

TITLE_LETTERS = 24
"""Of an ablation's name that there is room for."""


@dataclass(frozen=True)
class Curve:
    """A metric and how it is drawn."""

    metric: str
    label: str
    colour: str
    dashes: str | tuple[int, tuple[float, ...]]
    width: float


@dataclass(frozen=True)
class Multiples:
    """What is drawn in every panel, in that order, and the metric that tells how well an ablation did.

    `legend` is its number of columns on a wide page, and on a narrow one.
    """

    title: str
    curves: tuple[Curve, ...]
    reached: str
    legend: tuple[int, int]


CURVES = (
    Curve("G_v1", *LOOK["G_v1"], 1.3),
    Curve("Gcum_v1", *LOOK["Gcum_v1"], 1.8),
    Curve("W_u1", *LOOK["W_u1"], 1.8),
    Curve("W_v1", *LOOK["W_v1"], 3.0),
)
"""In the order they are drawn: what the figure is about comes last, on top."""


TOYS = Multiples("Continuity over epochs", CURVES, "acc", (5, 2))


def continuity(figure: Figure, experiment: Experiment) -> None:
    """The toy MLP's weights, gradients and their sums."""
    draw(figure, experiment, TOYS)


def draw(figure: Figure, experiment: Experiment, what: Multiples) -> None:
    """A panel for each ablation; a diverged run is in none, an ablation without others says so."""
    shown = experiment.ablations
    columns, rows = _grid(figure, max(len(shown), 1))
    heading(figure, f"{what.title} on {shortened(printable(experiment.dataset), 28)}")
    last = max(_ends(experiment), default=0)
    for place, ablation in enumerate(shown):
        axes = figure.add_subplot(rows, columns, place + 1)
        _frame(axes, ablation, what.reached, max(last, 1))
        first, lowest = place % columns == 0, place + columns >= len(shown)
        axes.tick_params(labelleft=first, labelbottom=lowest)
        axes.set_ylabel("mean |cos|" if first else "")
        axes.set_xlabel(experiment.axis if lowest else "")
        axes.axhline(experiment.null, color=GREY, lw=1, ls=":", zorder=1)
        _lines(axes, experiment, ablation, what.curves)
    _legend(figure, what.curves, what.legend[0 if columns > 2 else 1])


def _ends(experiment: Experiment) -> Iterator[int]:
    """The epoch or step of every run's last entry."""
    for ablation in experiment.ablations:
        for run in ablation.runs:
            if run.entries:
                yield experiment.reached(len(run.entries) - 1, run.last)


def _grid(figure: Figure, panels: int) -> tuple[int, int]:
    """Set the figure's size and margins for so many panels; how many columns and rows they stand in."""
    columns = 3 if panels in (5, 6, 9) else min(panels, COLUMNS)
    rows = ceil(panels / columns)
    width, panel, foot = (WIDE, 1.75, 1.05) if columns > 2 else (NARROW, 2.6, 1.5)
    margins = Margins(0.7, 0.2, bottom=foot, top=0.95, across=0.12, down=BETWEEN / panel)
    lay_out(figure, width, 0.95 + rows * panel + (rows - 1) * BETWEEN + foot, margins)
    return columns, rows


def _frame(axes: Axes, ablation: AblationRuns, metric: str, last: int) -> None:
    reached = measured(ablation, metric).mean
    name = shortened(printable(ablation.name), TITLE_LETTERS)
    axes.set_title(name, fontsize=11, fontweight="bold", pad=19)
    told = "not trained" if reached is None else f"{name_of(metric)} {decimal(reached)}"
    if ablation.runs and not ablation.whole:
        told = "every run diverged"
    axes.annotate(
        told, (0, 1), xycoords="axes fraction", xytext=(0, 5), textcoords="offset points",
        fontsize=10, color="#444444",
    )  # fmt: skip
    axes.set(xlim=(0, last), ylim=(-0.015, 1.03))
    axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"])
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5 if last < MANY else 3, integer=True))


def _lines(axes: Axes, experiment: Experiment, ablation: AblationRuns, curves: Sequence[Curve]) -> None:
    for curve in curves:
        points = course(experiment, ablation, curve.metric)
        at = [point.at for point in points]
        if len(ablation.whole) > 1 and points:
            low, high = [point.lowest for point in points], [point.highest for point in points]
            axes.fill_between(at, low, high, color=curve.colour, alpha=0.2, lw=0, zorder=2)
        if points:
            axes.plot(
                at,
                [point.mean for point in points],
                color=curve.colour,
                ls=curve.dashes,
                lw=curve.width,
                marker="o" if len(points) <= FEW_POINTS else "",
                clip_on=False,
                zorder=3,
            )


def _legend(figure: Figure, curves: Sequence[Curve], columns: int) -> None:
    handles = [
        Line2D([], [], color=one.colour, ls=one.dashes, lw=one.width, label=one.label)
        for one in reversed(curves)
    ]
    handles.append(Line2D([], [], color=GREY, ls=":", lw=1, label="random directions"))
    figure.legend(handles=handles, loc="lower center", ncols=columns, fontsize=10, columnspacing=1.6)
