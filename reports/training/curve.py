"""One curve: a metric of ablations that differ by a number alone, seed by seed."""

from statistics import fmean

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from reports.figures.style import BLUE, GREY, SKY, VERMILLION, Margins, heading, lay_out, shortened
from reports.training.measured import measured
from reports.training.model import Experiment
from reports.training.shares import by_share
from reports.view import printable

CURVES = (
    ("Gcum_v1", "v1 of the summed gradient", VERMILLION, "--", "s"),
    ("W_u1", "u1 of the weights", SKY, "-.", "D"),
    ("W_v1", "v1 of the weights", BLUE, "-", "o"),
)
"""In the order they are drawn: what the figure is about comes last, on top."""


def shares(figure: Figure, experiment: Experiment) -> None:
    """Means over seeds as lines, and each seed as a point, against the share that is broken."""
    lay_out(figure, 6.5, 4.3, Margins(0.8, 0.3, bottom=1.3, top=0.65))
    heading(figure, f"What part of the symmetry must go, on {shortened(printable(experiment.dataset), 20)}")
    axes = figure.add_subplot()
    shown = by_share(experiment)
    for metric, label, colour, dashes, marker in CURVES:
        points = [
            (one.share or 0.0, value)
            for one in shown
            for value in measured(one, metric).seeds
            if value is not None
        ]
        at = sorted({share for share, _ in points})
        means = [fmean(value for share, value in points if share == here) for here in at]
        axes.plot(at, means, color=colour, ls=dashes, lw=2.2, label=label)
        x, y = [share for share, _ in points], [value for _, value in points]
        axes.plot(x, y, color=colour, marker=marker, ms=4.5, alpha=0.7, lw=0, zorder=3)
    axes.axhline(experiment.null, color=GREY, lw=1, ls=":", label="random directions")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.015, 1.03), ylabel="mean |cos|")
    axes.set_xlabel("coordinates on which the activation acts")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"])
    figure.legend(loc="lower center", ncols=2, fontsize=10, columnspacing=1.6)
