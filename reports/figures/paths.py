"""Trajectories in three principal components, a panel a projection (Figures 4, 5 of arXiv:2605.04971)."""

from math import ceil

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Line3DCollection
from mpl_toolkits.mplot3d.axes3d import Axes3D

from reports.figures.style import (
    DEPTH,
    GREY,
    INK,
    Margins,
    depth_bar,
    lay_out,
    layers_of,
    marker_size,
    of_stack,
    title,
)
from reports.model import SPACES, ProjectionReport, Report, Space, Trajectory
from reports.view import number

COLUMNS = 4
PANEL = 2.75
"""A panel's side in inches."""

SHADOW = "#C8C8C8"


def trajectories(figure: Figure, report: Report, space: Space) -> None:
    """The paths of v1 or u1 of every projection that has one, all to the same scale."""
    shown = {
        name: (found, path)
        for name, found in report.projections.items()
        if (path := getattr(found.trajectory, space)) is not None
    }
    rows, columns = ceil(len(shown) / COLUMNS), min(COLUMNS, len(shown))
    lay_out(figure, max(PANEL * columns, 6.0), PANEL * rows + 1.3, Margins(0, 0, bottom=0.8, top=0.5))
    words = f"the path of {space}1 through depth, {SPACES[space]} space"
    title(figure, report.model, of_stack(report, None, words))
    reach = max(_reach(path) for _, path in shown.values())
    layers = layers_of(report.projections)
    for place, (name, (found, path)) in enumerate(shown.items(), start=1):
        axes = figure.add_subplot(rows, columns, place, projection="3d")
        _heading(axes, name, found, space)
        _frame(axes, reach)
        _path(axes, found, path, layers, reach)
    depth_bar(figure, layers)


def _reach(path: Trajectory) -> float:
    return max(abs(coordinate) for point in path.points if point for coordinate in point) or 1.0


def _heading(axes: Axes3D, name: str, found: ProjectionReport, space: Space) -> None:
    facing = space in found.faced
    evr, chance = number(getattr(found.evr3, space), 2), number(getattr(found.evr3_null, space), 2)
    axes.text2D(
        0.5, 1.0, name, transform=axes.transAxes, ha="center", va="top", fontsize=13,
        fontweight="bold" if facing else "normal", color=INK if facing else GREY,
    )  # fmt: skip
    axes.text2D(
        0.5, 0.92, f"EVR {evr}, chance {chance}", transform=axes.transAxes, ha="center", va="top",
        fontsize=10.5, color=INK if facing else GREY,
    )  # fmt: skip


def _frame(axes: Axes3D, reach: float) -> None:
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), zlim=(-reach, reach))
    axes.set_box_aspect((1, 1, 0.85), zoom=1.05)
    axes.view_init(elev=22, azim=-60)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_ticks([])
        axis.set_pane_color("#F7F7F7")
        axis.line.set_color("#BBBBBB")
    axes.grid(False)


def _path(axes: Axes3D, found: ProjectionReport, path: Trajectory, layers: Normalize, reach: float) -> None:
    points = np.array([point or (np.nan,) * 3 for point in path.points])  # [layer, 3]; NaN breaks the line
    colours = colormaps[DEPTH](layers(found.layers))
    floor = points * (1, 1, 0) - (0, 0, reach)
    axes.plot(*floor.T, color=SHADOW, lw=1.2)
    axes.add_collection3d(
        Line3DCollection(np.stack([points[:-1], points[1:]], axis=1), colors=colours[:-1], linewidths=2)
    )
    known = np.flatnonzero(~np.isnan(points[:, 0]))
    if size := marker_size(len(points)):
        axes.scatter(*points[known].T, c=colours[known], s=size, depthshade=False)
    for place, side in ((known[0], "right"), (known[-1], "left")):
        axes.text(
            *points[place], f"  {found.layers[place]}  ", fontsize=10.5, ha=side, va="center", color=INK
        )
