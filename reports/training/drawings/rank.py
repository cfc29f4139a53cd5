"""The rank of the gradients against continuity: within an architecture, and across three."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from reports.figures.style import (
    BLUE,
    GREY,
    MARKERS,
    ORANGE,
    VERMILLION,
    Margins,
    heading,
    lay_out,
    shortened,
)
from reports.training.drawings.axes import CHANCE, of_cosines, only
from reports.training.model import Experiment
from reports.training.notation import decimal
from reports.training.pictures import RANK, Row, column
from reports.training.pictures.rank import NAMES, rows
from reports.view import printable

COLOURS = dict(zip(NAMES, (BLUE, VERMILLION, ORANGE), strict=True))
WORDS = {
    "res-relu": "residual, ReLU", "res-none": "residual, no activation",
    "nores-relu": "no residual, ReLU",
}  # fmt: skip

DATASET_LETTERS = 18


def rank(figure: Figure, experiment: Experiment) -> None:
    """On the left the baseline alone, upwards at its own scale; on the right all."""
    lay_out(figure, 11, 4.8, Margins(0.9, 0.3, bottom=1.45, top=0.8, across=0.18))
    heading(figure, RANK.illustration.title)
    shown = rows(experiment)
    datasets = dict.fromkeys(str(row["dataset"]) for row in shown)
    markers = {name: MARKERS[place % len(MARKERS)] for place, name in enumerate(datasets)}
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    baseline = only(shown, ablation=NAMES[0])
    left.set_title(f"{NAMES[0]} alone", fontsize=11, fontweight="bold")
    right.set_title("every architecture", fontsize=11, fontweight="bold")
    _points(left, baseline, markers)
    _points(right, list(shown), markers)
    of_cosines(right, experiment, "")
    left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: decimal(value)))
    left.set_ylabel("v1 of the weights, mean |cos|")
    for axes in (left, right):
        axes.set_xlabel("effective rank of the gradient")
    handles = [
        *(Line2D([], [], marker="o", lw=0, ms=7, color=COLOURS[name], label=WORDS[name]) for name in NAMES),
        *(
            Line2D(
                [], [], marker=marker, lw=0, ms=7, color="#555555",
                label=shortened(printable(name), DATASET_LETTERS),
            )
            for name, marker in markers.items()
        ),
        Line2D([], [], color=GREY, ls=":", lw=1, label=CHANCE),
    ]  # fmt: skip
    figure.legend(handles=handles, loc="lower center", ncols=4, fontsize=10, columnspacing=1.6)


def _points(axes: Axes, rows: list[Row], markers: dict[str, str]) -> None:
    for name in NAMES:
        for dataset, marker in markers.items():
            mine = only(rows, ablation=name, dataset=dataset)
            axes.plot(
                column(mine, "G_erank"), column(mine, "W_v1"), marker=marker, lw=0, ms=8, mec="white",
                mew=0.8, color=COLOURS[name], zorder=3,
            )  # fmt: skip
