"""The update against its random start: what the weights show of it, beside what theory predicts."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from reports.figures.style import HUES, INK, MARKERS, Margins, heading, lay_out, shortened
from reports.training.drawings.axes import of_cosines, only
from reports.training.model import Experiment
from reports.training.pictures import THRESHOLD, column
from reports.training.pictures.threshold import predicted, rows
from reports.view import printable

NAME_LETTERS = 24

MANY = 100
"""From this range on there is room for the powers of ten alone."""

WIDEST = 0.5, 2.0
"""The range of strengths that is shown at least."""


def threshold(figure: Figure, experiment: Experiment) -> None:
    """On the left against the update's strength, on a logarithmic scale; on the right against prediction."""
    shown = rows(experiment)
    names = dict.fromkeys(str(row["ablation"]) for row in shown)
    lines = -(-(len(names) + 3) // 4)
    foot = 0.85 + 0.24 * lines
    lay_out(figure, 11, 3.9 + foot, Margins(0.9, 0.3, bottom=foot, top=0.8, across=0.2))
    heading(figure, f"{THRESHOLD.illustration.title}: {shortened(printable(experiment.dataset), 28)}")
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    left.set_title("is the weights' v1 that of the update?", fontsize=11, fontweight="bold")
    right.set_title("have the weights the continuity predicted?", fontsize=11, fontweight="bold")
    for place, name in enumerate(names):
        mine = only(shown, ablation=name)
        look: dict[str, Any] = {
            "color": HUES[place % len(HUES)],
            "marker": MARKERS[(place + place // len(HUES)) % len(MARKERS)],
            "label": shortened(printable(name), NAME_LETTERS),
            "ms": 4.5, "lw": 0, "alpha": 0.6, "zorder": 2,
        }  # fmt: skip
        left.plot(column(mine, "spike"), column(mine, "kept_v1"), **look)
        right.plot(column(mine, "predicted_W_v1"), column(mine, "W_v1"), **look)
    spikes = column(shown, "spike")
    low, high = min(0.9 * min(spikes), WIDEST[0]), max(1.1 * max(spikes), WIDEST[1])
    strengths = np.geomspace(low, high, 400)
    left.plot(
        strengths,
        [predicted(float(one)) for one in strengths],
        color=INK,
        lw=1.8,
        zorder=3,
        label="predicted",
    )
    right.plot([0, 1], [0, 1], color=INK, lw=1.8, zorder=1)
    left.axvline(1, color=INK, lw=0.8, ls="--", zorder=1, label="the threshold")
    of_cosines(left, experiment, "|cos| of v1 in W and in W − W₀")
    of_cosines(right, experiment, "v1 of the weights, mean |cos|")
    _strengths(left, low, high)
    right.set(xlim=(-0.015, 1.03), xlabel="predicted from the update's")
    right.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, fontsize=10, columnspacing=1.6)


def _strengths(axes: Axes, low: float, high: float) -> None:
    axes.set_xscale("log")
    axes.set(xlim=(low, high), xlabel="σ₁ of the update over s √d")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < MANY * low else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
