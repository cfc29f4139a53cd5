"""The routed experts layer by layer: how near each one's leading direction is to that of all, stacked."""

from collections.abc import Sequence
from math import nan

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reports.experts import measured, space_of, with_experts
from reports.figures.style import (
    GREY,
    INK,
    Margins,
    band,
    key,
    lay_out,
    look_of,
    of_stack,
    title,
)
from reports.model import ExpertSummary, ProjectionReport, Report

FEW = 10
"""Experts up to which each is a dot; more are a bar from the lowest to the highest, thick in the middle
half."""

BAR = 0.62
"""The share of a layer's width that its bar takes."""


def experts(figure: Figure, report: Report, stack: str | None = None) -> None:
    """A panel for each projection with routed experts; for each layer how its experts are spread."""
    shown = with_experts(report.every_stack[stack])
    looks = look_of(tuple(shown))
    lay_out(figure, 11 if len(shown) > 1 else 6.5, 4.6, Margins(0.75, 0.25, bottom=0.95, top=0.8, across=0.1))
    key(figure, " grey: random directions ")
    grid = figure.subplots(1, len(shown), squeeze=False, sharey=True)
    for axes, (name, found) in zip(grid[0], shown.items(), strict=True):
        space = space_of(found)
        axes.set_title(f"{name}, {space}1", fontweight="bold")
        axes.set_ylim(-0.015, 1.03)
        axes.set_xlabel("layer")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
        band(axes, [found], space)
        _layers(axes, found, looks[name][0])
    grid[0][0].set_ylabel("|cos|")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="lower left", ncols=3, fontsize=10, handlelength=1.2, borderaxespad=0.3
    )
    title(figure, report.model, of_stack(report, stack, "do the experts share a direction?"))


def _layers(axes: Axes, found: ProjectionReport, colour: str) -> None:
    layers = [
        (layer, one) for layer, one in zip(found.layers, found.experts or (), strict=True) if one is not None
    ]
    numbers = [layer for layer, _ in layers]
    axes.set_xlim(min(numbers) - 0.6, max(numbers) + 0.6)
    _experts(axes, layers, colour)
    between = [nan if one.between is None else one.between for _, one in layers]
    axes.scatter(
        numbers, between, s=_dot(len(layers)), facecolors="white", edgecolors=INK, zorder=5,
        label="mean between two experts",
    )  # fmt: skip


def _experts(axes: Axes, layers: Sequence[tuple[int, ExpertSummary]], colour: str) -> None:
    known = [(layer, values) for layer, one in layers if (values := measured(one))]
    if not known:
        return
    if max(len(values) for _, values in known) <= FEW:
        across = [layer for layer, values in known for _ in values]
        dots = [value for _, values in known for value in values]
        axes.scatter(across, dots, s=26, color=colour, zorder=4, lw=0, label="an expert with the stack")
        return
    x = [layer for layer, _ in known]
    low, first, middle, third, high = np.array([np.quantile(v, (0, 0.25, 0.5, 0.75, 1)) for _, v in known]).T
    axes.bar(x, high - low, BAR * 0.3, low, color=GREY, zorder=3)
    axes.bar(x, third - first, BAR, first, color=colour, zorder=4, label="experts with the stack")
    axes.hlines(middle, np.subtract(x, BAR / 2), np.add(x, BAR / 2), color="white", lw=1.4, zorder=4.5)


def _dot(layers: int) -> float:
    return 22 if layers <= 40 else 10
