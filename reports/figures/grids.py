"""Grids: projections by layers in both spaces, and the spectra, one panel a projection."""

from math import ceil

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from reports.figures.style import (
    DEPTH,
    GREY,
    INK,
    Margins,
    depth_bar,
    lay_out,
    layers_of,
    of_stack,
    room_for,
    title,
)
from reports.model import SPACES, ProjectionReport, Report, Space

COLUMNS = 4
SHADES = "Blues"
WRITTEN_OUT = 12
"""Pairs up to which each cell shows its number."""

LOWEST = 1e-3
"""The smallest sigma / sigma1 drawn."""


def heatmap(figure: Figure, report: Report) -> None:
    """|cos| of every adjacent pair: projections down, layers across, one panel a space."""
    names, layers = list(report.projections), layers_of(report.projections)
    height, room = 0.4 * len(names) + 1.5, room_for(names)
    side = (11 - 0.9 - 2 * room) / 2
    lay_out(figure, 11, height, Margins(room, 0.9, bottom=0.6, top=0.8, across=room / side))
    title(figure, report.model, of_stack(report, None, "|cos| of adjacent layers in both spaces"))
    for axes, space in zip(figure.subplots(1, 2, sharey=True), SPACES, strict=True):
        axes.set_title(f"{space}1, {SPACES[space]} space")
        for row, name in enumerate(names):
            _cells(axes, row, report.projections[name], space)
        axes.set(ylim=(len(names) - 0.5, -0.5), xlim=(layers.vmin, layers.vmax), xlabel="layer")
        axes.set_facecolor("#E4E4E4")
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(length=0, labelleft=True)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(False)
        axes.spines[:].set_visible(False)
        for label, name in zip(axes.get_yticklabels(), names, strict=True):
            faced = space in report.projections[name].faced
            label.set(fontweight="bold" if faced else "normal", color=INK if faced else GREY)
    place = figure.add_axes((1 - 0.75 / 11, 0.6 / height, 0.15 / 11, 1 - 1.4 / height))
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), SHADES), cax=place)
    bar.set_label("|cos|")
    bar.outline.set_visible(False)


def _cells(axes: Axes, row: int, found: ProjectionReport, space: Space) -> None:
    known = [(pair, value) for pair in found.pairs if (value := getattr(pair, f"{space}1")) is not None]
    axes.broken_barh(
        [(pair.layers[0], pair.gap) for pair, _ in known],
        (row - 0.46, 0.92),
        facecolors=colormaps[SHADES]([value for _, value in known]),
    )
    for pair, value in known if len(found.pairs) <= WRITTEN_OUT else ():
        axes.text(
            sum(pair.layers) / 2, row, f"{value:.2f}", ha="center", va="center", fontsize=9.5,
            color="white" if value > 0.55 else INK,
        )  # fmt: skip


def spectra(figure: Figure, report: Report) -> None:
    """Singular values over the largest, by rank, one line a layer."""
    shown = {name: found for name, found in report.projections.items() if any(found.spectrum or ())}
    rows, columns = ceil(len(shown) / COLUMNS), min(COLUMNS, len(shown))
    margins = Margins(0.9, 0.2, bottom=1.35, top=0.8, across=0.12, down=0.4)
    lay_out(figure, max(2.75 * columns, 6.0), 2.3 * rows + 1.6, margins)
    title(figure, report.model, of_stack(report, None, "singular values over the largest"))
    layers = layers_of(report.projections)
    for place, (name, found) in enumerate(shown.items()):
        axes = figure.add_subplot(rows, columns, place + 1)
        axes.set_title(name, fontweight="bold")
        _spectrum(axes, found, layers)
        if place % columns == 0:
            axes.set_ylabel("σ / σ1")
        else:
            axes.tick_params(labelleft=False)
        if place + columns >= len(shown):
            axes.set_xlabel("rank", labelpad=0)
    depth_bar(figure, layers)


def _spectrum(axes: Axes, found: ProjectionReport, layers: Normalize) -> None:
    for layer, points in zip(found.layers, found.spectrum or (), strict=True):
        if points:
            ranks, sigma = np.array(points).T
            axes.loglog(ranks, sigma / sigma[0], color=colormaps[DEPTH](layers(layer)), lw=1.3)
    axes.set_ylim(LOWEST, 1.4)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(10, numticks=5))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_locator(NullLocator())
