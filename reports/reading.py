"""What the leading directions are like in this model, in words: a channel or a blend, a path or a constant.

And what the numbers are: a short guide for someone who has not read the paper.
"""

from collections.abc import Iterator, Sequence
from enum import Enum
from statistics import mean, median

from reports.model import SPACES, ProjectionReport, Space, Stack
from reports.pattern import Strength, strength
from reports.view import top_channel

ALONE = 3.0
"""Participation ratio up to which a direction is a channel or two."""

SPREAD = 4.0
"""A direction whose participation ratio is within this factor of a random one's (d / 3) counts as spread."""

STAYS, TURNS = 0.8, 0.4
"""Shares of the adjacent layers' excess over the null that are left half the depth away: constant from the
first, a path below the second."""

BREAK = 0.5
"""A step breaks a direction if it keeps less than this share of the median step's excess over the null."""

MIN_LAGS = 4
"""With fewer lags there is no half of the depth to speak of."""

INTRODUCTION = (
    "A transformer's layers share one list of numbers per token, the residual stream: each layer reads it "
    "and adds to it. A weight matrix W has an input direction that it amplifies most, v1, and an output "
    "direction that this becomes, u1: W v1 = σ1 u1. This report asks whether those directions are kept from "
    "layer to layer. arXiv:2605.04971 found that what reads the stream (Q, K, Gate, Up) keeps its input "
    "direction, what writes to it (O, Down) its output direction, and V neither; and that residual "
    "connections, together with nonlinearities that break rotational symmetry, bring this about."
)

TERMS = {
    "Continuity": "the mean |cos| between v1 (or u1) of adjacent layers: 1 is one direction, at any sign",
    "null": "what two random directions in that space give; continuity means something only above it",
    "EVR": "the share of the path through depth that its first three principal components hold; chance is "
    "the same for as many random directions",
    "OV": "the product W_O · W_V, each key-value head repeated over its query heads: all that attention can "
    "write of what it reads",
    "error bound": "how far a |cos| may be from the true one, rounding allowed for. That follows from what "
    "was measured, but for one thing: that the iteration's random start did not hide a direction from it, "
    "which for each matrix is wrong with a probability of at most one in a million (`--full` needs no such "
    "luck)",
}

LIMITS = (
    "They are no score of quality, and none for pruning: what a layer matters for is decided by the "
    "activations that reach it, and none are computed here.",
    "Only the leading direction is followed. A low value says that this one is not kept, not that nothing "
    "is: where the spectrum is flat, it carries little of the matrix.",
    "A high value can be trivial: one outlier channel, or one constant direction, is continuous too. The "
    "spread and the lag profile tell.",
)


def character(stack: Stack) -> tuple[str, ...]:
    """What v1 and u1 are in the spaces that face the residual stream, a few sentences long."""
    return tuple(_character(stack))


def _character(stack: Stack) -> Iterator[str]:
    facing = [(name, found, space) for name, found in stack.projections.items() for space in found.faced]
    alone = [(name, found, space) for name, found, space in facing if _is_alone(found, space)]
    common = [
        f"{space}1 of {name} (channel {top_channel(getattr(found.top, space))})"
        for name, found, space in alone
        if _has_common_channel(found, space)
    ]
    if common:
        yield f"A channel or two hold {', '.join(common)}: outlier channels, not blends."
    own = [(name, space) for name, found, space in alone if not _has_common_channel(found, space)]
    if own:
        yield f"A channel or two of each layer's own hold {_named(own)}."
    spread = [(name, space) for name, found, space in facing if _is_spread(found, space)]
    if spread:
        yield f"Spread over many channels: {_named(spread)}."
    for words, wanted in _COURSES.items():
        alike = [(name, space) for name, found, space in facing if course(found, space) is wanted]
        if alike:
            yield f"{words}: {_named(alike)}."


def _is_alone(found: ProjectionReport, space: Space) -> bool:
    ratio = _participation(found, space)
    return ratio is not None and ratio <= ALONE


def _has_common_channel(found: ProjectionReport, space: Space) -> bool:
    """Whether one channel is the largest in half of the layers or more."""
    firsts = [top[0][0] for top in getattr(found.top, space) if top]
    return bool(firsts) and 2 * max(map(firsts.count, firsts)) >= len(firsts)


def _participation(found: ProjectionReport, space: Space) -> float | None:
    known = [value for value in getattr(found.participation, space) if value is not None]
    return median(known) if known else None


def _is_spread(found: ProjectionReport, space: Space) -> bool:
    ratio = _participation(found, space)
    return ratio is not None and ratio > max(ALONE, found.dimension(space) / 3 / SPREAD)


class Course(Enum):
    """How a continuous direction runs through depth."""

    BROKEN = 0
    CONSTANT = 1
    COMMON = 2
    SLOW = 3
    PATH = 4


_COURSES = {
    "One direction kept throughout": Course.CONSTANT,
    "Kept in part, by far layers as much as by near ones": Course.COMMON,
    "Turning slowly, step by step": Course.SLOW,
    "Turning step by step, to another direction within half the depth": Course.PATH,
    "Kept in stretches, with a break between some layers": Course.BROKEN,
}


def course(found: ProjectionReport, space: Space) -> Course | None:
    """How a direction runs: whether any step breaks it, and what is left half the depth away and beyond.

    It is constant if each lag there keeps enough; otherwise their mean decides. None where adjacent layers
    are not continuous to begin with, or too few lags are known.
    """
    null, profile = getattr(found.null, space), getattr(found.lag, space)
    strong = strength(found, space)
    if strong is None or strong < Strength.MODERATE or len(profile) < MIN_LAGS or profile[0] is None:
        return None
    steps = [value for pair in found.pairs if (value := getattr(pair, f"{space}1")) is not None]
    if min(steps) - null < BREAK * (median(steps) - null):
        return Course.BROKEN
    far = [value for value in profile[len(profile) // 2 :] if value is not None]
    if not far:
        return None
    left, least = ((value - null) / (profile[0] - null) for value in (mean(far), min(far)))
    if least >= STAYS and strong is Strength.STRONG:
        return Course.CONSTANT
    if left >= STAYS:
        return Course.COMMON
    return Course.SLOW if left >= TURNS else Course.PATH


def _named(places: Sequence[tuple[str, Space]]) -> str:
    """`v1 of Q, K; u1 of O` for Q and K in v, O in u."""
    names = {space: [name for name, where in places if where == space] for space in SPACES}
    return "; ".join(f"{space}1 of {', '.join(found)}" for space, found in names.items() if found)
