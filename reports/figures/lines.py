"""Lines over depth: continuity layer by layer, and the lag profile."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isnan, nan

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reports.figures.style import (
    GREY,
    Margins,
    band,
    dashes_of,
    key,
    lay_out,
    layers_of,
    look_of,
    marker_size,
    of_stack,
    room_for,
    title,
)
from reports.model import SPACES, ProjectionReport, Report, Space, Stack

PANEL_GAP = 0.65
"""Inches between two panels beside the names at the lines' ends."""

LEADER = 0.15
"""Inches from a panel to those names."""

LABEL_GAP = 0.055
"""Share of the axis's height that two labels need between them."""


@dataclass(frozen=True)
class Line:
    """One projection in one space: its points, y NaN where it is unknown, and which to draw hollow."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    hollow: tuple[bool, ...]


def continuity(figure: Figure, report: Report, stack: str | None = None) -> None:
    """|cos| of adjacent layers of a stack in the facing spaces, with the band of random directions."""
    shown = report.every_stack[stack]
    panels = {space: list(_continuity_lines(shown, space)) for space in SPACES}
    layers = layers_of(shown.projections)
    for axes, (space, lines) in _panels(figure, panels, shown):
        axes.set_xlim(layers.vmin, layers.vmax)
        _draw(axes, lines, shown)
        axes.set_xlabel("layer")
        axes.set_ylabel(f"|cos| of {space}1, adjacent layers")
    words = "what each layer keeps of the one before" if stack is None else "layer by layer"
    title(figure, report.model, of_stack(report, stack, words))


def lag(figure: Figure, report: Report) -> None:
    """Mean |cos| over the distance between two layers, in the facing spaces."""
    panels = {space: list(_lag_lines(report.main, space)) for space in SPACES}
    for axes, (space, lines) in _panels(figure, panels, report.main):
        axes.set_xlim(1, max(2, *(line.x[-1] for line in lines)))
        _draw(axes, lines, report.main)
        axes.set_xlabel("layers apart")
        axes.set_ylabel(f"mean |cos| of {space}1")
    title(figure, report.model, of_stack(report, None, "does the direction turn, or stay?"))


def _continuity_lines(stack: Stack, space: Space) -> Iterator[Line]:
    for name, found in _facing(stack, space):
        values = [getattr(pair, f"{space}1") for pair in found.pairs]
        if any(value is not None for value in values):
            yield Line(
                name,
                tuple(sum(pair.layers) / 2 for pair in found.pairs),
                tuple(nan if value is None else value for value in values),
                tuple(pair.degenerate for pair in found.pairs),
            )


def _lag_lines(stack: Stack, space: Space) -> Iterator[Line]:
    for name, found in _facing(stack, space):
        profile = getattr(found.lag, space)
        if any(value is not None for value in profile):
            yield Line(
                name,
                tuple(range(1, len(profile) + 1)),
                tuple(nan if value is None else value for value in profile),
                (False,) * len(profile),
            )


def _facing(stack: Stack, space: Space) -> Iterator[tuple[str, ProjectionReport]]:
    return ((name, found) for name, found in stack.projections.items() if space in found.faced)


def _panels(
    figure: Figure, panels: dict[Space, list[Line]], stack: Stack
) -> Iterator[tuple[Axes, tuple[Space, list[Line]]]]:
    shown = {space: lines for space, lines in panels.items() if lines}
    room = LEADER + room_for(line.name for lines in shown.values() for line in lines)
    wide, gap = (11.0, PANEL_GAP + room) if len(shown) == 2 else (6.5, 0.0)
    side = (wide - 0.7 - room - gap) / len(shown)
    margins = Margins(0.7, room, bottom=0.6, top=0.8, across=gap / side)
    lay_out(figure, wide, 4.6, margins)
    key(figure, " grey: random directions ")
    grid = figure.subplots(1, len(shown), squeeze=False, sharey=True)
    for axes, (space, lines) in zip(grid[0], shown.items(), strict=True):
        axes.set_title(f"{_role(stack, space)}: {SPACES[space]} space")
        axes.set_ylim(-0.015, 1.03)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.tick_params(labelleft=True)
        band(axes, [stack.projections[line.name] for line in lines], space)
        yield axes, (space, lines)


def _role(stack: Stack, space: Space) -> str:
    """Whom a panel shows; of cross-attention, K and V read another stack."""
    if stack.cross and space == "v":
        return "Readers"
    return "Readers of the residual stream" if space == "v" else "Writers to the residual stream"


def _draw(axes: Axes, lines: Sequence[Line], stack: Stack) -> None:
    looks = look_of(tuple(stack.projections))
    for line in lines:
        colour, marker = looks[line.name]
        dashes = dashes_of(line.name, stack.projections[line.name])
        axes.plot(line.x, line.y, color=colour, ls=dashes, zorder=3)
        if size := marker_size(len(line.x)):
            faces = ["white" if hollow else colour for hollow in line.hollow]
            axes.scatter(
                line.x, line.y, s=size, c=faces, marker=marker, edgecolors=colour, zorder=4, clip_on=False
            )
    _label(axes, lines, [looks[line.name][0] for line in lines])


def _label(axes: Axes, lines: Sequence[Line], colours: Sequence[str]) -> None:
    """Each line's name at its right end, moved apart where they would touch."""
    left, right = axes.get_xlim()
    edge = right + 0.035 * (right - left)
    ends = [[(x, y) for x, y in zip(line.x, line.y, strict=True) if not isnan(y)][-1] for line in lines]
    heights = spread([y for _, y in ends], LABEL_GAP)
    for line, (x, y), height, colour in zip(lines, ends, heights, colours, strict=True):
        axes.plot((x, edge), (y, height), color=GREY, lw=0.6, clip_on=False, zorder=2)
        axes.text(edge, height, f" {line.name}", color=colour, fontweight="bold", va="center")


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Heights as near as may be to those wanted, at least `gap` apart, and within [0, 1] if they fit."""
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    placed = [wanted[i] for i in order]
    for _ in range(100):
        for low, high in pairwise(range(len(placed))):
            overlap = gap - (placed[high] - placed[low])
            if overlap > 0:
                placed[low] -= overlap / 2
                placed[high] += overlap / 2
        shift = max(0.0, -placed[0]) - max(0.0, placed[-1] - 1)
        placed = [height + shift for height in placed]
    heights = [0.0] * len(wanted)
    for i, height in zip(order, placed, strict=True):
        heights[i] = height
    return heights
