"""Formation and retention: continuity and accuracy over epochs, without an activation and with one."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reports.figures.style import GREEN, Margins, heading, lay_out, shortened
from reports.training.drawings.axes import LOOK, legend, means, of_cosines, only
from reports.training.model import Experiment
from reports.training.pictures import PHASES, Row, column
from reports.training.pictures.phases import LOST, NAMES, rows
from reports.view import printable

TITLES = dict(zip(NAMES, ("no activation", "ReLU"), strict=True))

FEW_POINTS = 3
"""A line of so many points has markers too: one alone would not be seen."""

CURVES = {
    "acc": ("accuracy", GREEN, (0, (4, 2)), 1.8),
    "G_v1": (*LOOK["G_v1"], 1.8),
    "W_v1": (*LOOK["W_v1"], 3.0),
}
"""In the order they are drawn, with their width."""


def phases(figure: Figure, experiment: Experiment) -> None:
    """A panel an ablation."""
    lay_out(figure, 11, 4.6, Margins(0.8, 0.3, bottom=1.25, top=0.8, across=0.1))
    dataset = shortened(printable(experiment.dataset), 28)
    heading(figure, f"{PHASES.illustration.title}: {dataset}")
    shown = rows(experiment)
    for place, name in enumerate(NAMES):
        axes = figure.add_subplot(1, 2, place + 1)
        mine = only(shown, ablation=name)
        axes.set_title(f"{name}: {TITLES[name]}", fontsize=11, fontweight="bold", pad=10)
        of_cosines(axes, experiment, "mean |cos|, accuracy" if place == 0 else "")
        for metric in CURVES:
            _curve(axes, mine, metric)
        axes.set(xlim=(0, max(column(mine, "epoch"))), xlabel="epoch")
        axes.tick_params(labelleft=place == 0)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    legend(figure, figure.axes[0], columns=4)


def _curve(axes: Axes, rows: list[Row], metric: str) -> None:
    """The mean over seeds, each seed thinly, and the epoch in which the mean has fallen to half."""
    label, colour, dashes, width = CURVES[metric]
    for seed in dict.fromkeys(row["seed"] for row in rows):
        axes.plot(*means(only(rows, seed=seed), "epoch", metric), color=colour, lw=0.7, alpha=0.45, zorder=2)
    at, mean = means(rows, "epoch", metric)
    marker = "o" if len(at) <= FEW_POINTS else ""
    axes.plot(at, mean, color=colour, ls=dashes, lw=width, label=label, zorder=3, marker=marker)
    peak = mean.index(max(mean))
    lost = next((place for place in range(peak, len(mean)) if mean[place] < LOST * mean[peak]), None)
    if lost is not None and metric != "acc":
        axes.plot(at[lost], mean[lost], marker="v", ms=9, color=colour, mec="white", zorder=4)
        axes.annotate(
            f"epoch {at[lost]:.0f}", (at[lost], mean[lost]), xytext=(8, 6),
            textcoords="offset points", fontsize=10, color=colour, zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8},
        )  # fmt: skip
