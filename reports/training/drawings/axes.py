"""What the toy MLP's figures have in common: the scale of |cos|, the level of chance, a mean in its band."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.figures.style import BLUE, GREY, ORANGE, SKY, VERMILLION
from reports.training.model import Experiment
from reports.training.pictures import Row, column

LOOK: Mapping[str, tuple[str, str, str]] = {
    "G_v1": ("v1 of one minibatch's gradient", ORANGE, "-"),
    "Gcum_v1": ("v1 of the summed gradient", VERMILLION, "--"),
    "W_u1": ("u1 of the weights", SKY, "-."),
    "W_v1": ("v1 of the weights", BLUE, "-"),
}
"""The words, the colour and the dashes of a metric, the same in every figure."""

CHANCE = "random directions"


def of_cosines(axes: Axes, experiment: Experiment, label: str = "mean |cos|") -> None:
    """A scale from 0 to 1 upwards, and the level of chance."""
    axes.axhline(experiment.null, color=GREY, lw=1, ls=":", zorder=1, label=CHANCE)
    axes.set(ylim=(-0.015, 1.03), ylabel=label)
    axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"])


def only(rows: Sequence[Row], **wanted: object) -> list[Row]:
    """The rows with these values."""
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def paired(rows: Sequence[Row], across: str, upwards: str) -> tuple[list[float], list[float]]:
    """Two columns of the rows that have both."""
    known = [row for row in rows if row[across] is not None and row[upwards] is not None]
    return column(known, across), column(known, upwards)


def means(rows: Sequence[Row], across: str, upwards: str) -> tuple[list[float], list[float]]:
    """The mean of one column at each value of another, in its order."""
    known = [
        (float(x), float(y))
        for row in rows
        if (x := row[across]) is not None and (y := row[upwards]) is not None
    ]
    at = sorted({x for x, _ in known})
    return at, [fmean(y for x, y in known if x == here) for here in at]


def legend(figure: Figure, axes: Axes, columns: int) -> None:
    """The key to a panel's lines, below all panels."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=columns, fontsize=10, columnspacing=1.6)
