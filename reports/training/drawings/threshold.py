"""The update against its random start: what the weights show of it, beside what theory predicts."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from reports.figures.style import HUES, INK, MARKERS, Margins, heading, lay_out, shortened
from reports.training.drawings.axes import of_cosines, only
from reports.training.model import Experiment
from reports.training.pictures import Row, column
from reports.training.pictures.threshold import predicted, rows
from reports.view import printable

NAME_LETTERS = 24

LEAST = 0.2
"""The smallest strength shown."""


def threshold(figure: Figure, experiment: Experiment) -> None:
    """Two panels over the update's strength, on a logarithmic scale."""
    shown = rows(experiment)
    names = dict.fromkeys(str(row["ablation"]) for row in shown)
    lines = -(-(len(names) + 2) // 4)
    foot = 0.85 + 0.24 * lines
    lay_out(figure, 11, 3.9 + foot, Margins(0.9, 0.3, bottom=foot, top=0.8, across=0.2))
    heading(
        figure, f"When the update outgrows its random start: {shortened(printable(experiment.dataset), 28)}"
    )
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    left.set_title("is the weights' v1 that of the update?", fontsize=11, fontweight="bold")
    right.set_title("do weights keep the update's continuity?", fontsize=11, fontweight="bold")
    for place, name in enumerate(names):
        colour, marker = HUES[place % len(HUES)], MARKERS[place % len(MARKERS)]
        label = shortened(printable(name), NAME_LETTERS)
        for axes, points in (
            (left, _kept(only(shown, ablation=name))),
            (right, _carried(only(shown, ablation=name))),
        ):
            axes.plot(*points, color=colour, marker=marker, ms=4.5, lw=0, alpha=0.6, label=label, zorder=2)
    highest = max(column(shown, "spike"))
    strengths = np.geomspace(LEAST, max(highest, 2.0), 400)
    for axes, power, words in ((left, 1, "|cos| of v1 in W and in W − W₀"), (right, 2, "W v1 over ΔW v1")):
        curve = [predicted(float(one)) ** power for one in strengths]
        axes.plot(strengths, curve, color=INK, lw=1.8, zorder=3, label="predicted")
        of_cosines(axes, experiment, words)
        _strengths(axes, max(highest, 2.0))
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, fontsize=10, columnspacing=1.6)


def _strengths(axes: Axes, highest: float) -> None:
    axes.set_xscale("log")
    axes.set(xlim=(LEAST, highest * 1.1), xlabel="σ₁ of the update over s √d")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.axvline(1, color=INK, lw=0.8, ls="--", zorder=1)


def _kept(rows: list[Row]) -> tuple[list[float], list[float]]:
    return _strengths_of(rows), column(rows, "kept_v1")


def _carried(rows: list[Row]) -> tuple[list[float], list[float]]:
    """The continuity of the weights over that of the updates."""
    kept, moved = column(rows, "W_v1"), column(rows, "dW_v1")
    return _strengths_of(rows), [one / other for one, other in zip(kept, moved, strict=True)]


def _strengths_of(rows: list[Row]) -> list[float]:
    return [max(strength, LEAST) for strength in column(rows, "spike")]
