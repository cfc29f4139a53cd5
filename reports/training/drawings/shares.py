"""Continuity against the share of the symmetry that is broken."""

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from reports.figures.style import Margins, heading, lay_out, shortened
from reports.training.drawings.axes import LOOK, legend, means, of_cosines, paired
from reports.training.model import Experiment
from reports.training.pictures import SHARES
from reports.training.pictures.shares import rows
from reports.view import printable

CURVES = {"Gcum_v1": "s", "W_u1": "D", "W_v1": "o"}
"""With their markers, in the order they are drawn: what the figure is about comes last, on top."""


def shares(figure: Figure, experiment: Experiment) -> None:
    """Means over seeds as lines, and each seed as a point."""
    lay_out(figure, 6.5, 4.3, Margins(0.8, 0.3, bottom=1.3, top=0.65))
    heading(figure, f"{SHARES.illustration.title}: {shortened(printable(experiment.dataset), 14)}")
    axes = figure.add_subplot()
    shown = rows(experiment)
    for metric, marker in CURVES.items():
        label, colour, dashes = LOOK[metric]
        axes.plot(*means(shown, "share", metric), color=colour, ls=dashes, lw=2.2, label=label)
        points = paired(shown, "share", metric)
        axes.plot(*points, color=colour, marker=marker, ms=4.5, alpha=0.7, lw=0, zorder=3)
    of_cosines(axes, experiment)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("coordinates on which the activation acts")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    legend(figure, axes, columns=2)
