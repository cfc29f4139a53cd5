"""The two conditions of continuity: a line an ablation, in the groups that fulfil both, one or none."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.figures.style import GREY, INK, Margins, heading, lay_out, shortened
from reports.training.drawings.axes import CHANCE, LOOK, only
from reports.training.model import Experiment
from reports.training.pictures import SUMMARY, Row, column
from reports.training.pictures.summary import GROUPS, METRICS, rows
from reports.view import printable

LINE, GAP = 0.3, 0.55
"""Inches: an ablation, and what a group's heading takes above it."""

NAME_LETTERS = 22

BACKGROUND = {"facecolor": "white", "edgecolor": "none", "pad": 1}
"""Of a heading, so that no line runs through it."""

SIZES = {"G_v1": 6.0, "Gcum_v1": 6.5, "W_v1": 11.0}
"""Of the markers: what the figure is about is large."""


def summary(figure: Figure, experiment: Experiment) -> None:
    """Dots for the means, bars from the lowest seed to the highest, rings for what is published."""
    shown = rows(experiment)
    places, headings = _places(shown)
    height = max(places.values()) + 0.9 * LINE
    lay_out(figure, 8.2, height + 1.85, Margins(2.1, 0.3, bottom=1.2, top=0.65))
    heading(figure, f"{SUMMARY.illustration.title}: {shortened(printable(experiment.dataset), 28)}")
    axes = figure.add_subplot()
    axes.axvline(experiment.null, color=GREY, lw=1, ls=":", label=CHANCE)
    for metric in METRICS:
        _metric(axes, only(shown, metric=metric), metric, places)
    for text, place in headings.items():
        axes.text(0, place, text, fontsize=11, fontweight="bold", va="center", color=INK, bbox=BACKGROUND)
    axes.set(xlim=(-0.015, 1.03), ylim=(height, -0.3 * LINE), xlabel="mean |cos| between adjacent layers")
    axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
    names = [shortened(printable(name), NAME_LETTERS) for name in places]
    axes.set_yticks([*places.values()], names)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=3, fontsize=10, columnspacing=1.6)


def _places(rows: Sequence[Row]) -> tuple[dict[str, float], dict[str, float]]:
    """How far down each ablation stands, in inches, and each group's heading."""
    places: dict[str, float] = {}
    headings: dict[str, float] = {}
    down = 0.0
    for condition, text in GROUPS.items():
        mine = only(rows, residual=condition.residual, breaks_symmetry=condition.breaks)
        names = dict.fromkeys(str(row["ablation"]) for row in mine)
        if names:
            headings[text] = down + 0.45 * GAP
            down += GAP
        for name in names:
            places[name] = down + LINE / 2
            down += LINE
    return places, headings


def _metric(axes: Axes, rows: list[Row], metric: str, places: dict[str, float]) -> None:
    label, colour, _ = LOOK[metric]
    known = [row for row in rows if row["mean"] is not None]
    at = [places[str(row["ablation"])] for row in known]
    axes.hlines(
        at, column(known, "lowest"), column(known, "highest"), color=colour, lw=SIZES[metric] / 3,
        alpha=0.45, zorder=2,
    )  # fmt: skip
    axes.plot(
        column(known, "mean"), at, marker="o", lw=0, ms=SIZES[metric], color=colour, label=label, zorder=3
    )  # fmt: skip
    if metric != "W_v1":
        return
    told = [row for row in known if row["published"] is not None]
    if told:
        axes.plot(
            column(told, "published"), [places[str(row["ablation"])] for row in told], marker="o", lw=0,
            ms=15, mfc="none", color=INK, mew=1.2, label="the weights', as published", zorder=4,
        )  # fmt: skip
