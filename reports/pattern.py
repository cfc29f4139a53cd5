"""The pattern in words: which projections are continuous, in which space, and whether that is expected.

The expectation is that of arXiv:2605.04971: what reads the residual stream is continuous in its input space,
what writes to it in its output space, and V in neither.
"""

from collections.abc import Iterator
from enum import IntEnum
from math import sqrt

from reports.model import SPACES, ProjectionReport, Space, Stack
from reports.view import null_deviation, number

CHANCE_SIGMAS = 4.0
"""A mean this many standard errors above the null of random directions is no chance."""


class Strength(IntEnum):
    """How continuous: by the share of the way from the null to 1."""

    NONE = 0
    WEAK = 1
    MODERATE = 2
    STRONG = 3


WORDS = {
    Strength.NONE: "at chance",
    Strength.WEAK: "weak",
    Strength.MODERATE: "moderate",
    Strength.STRONG: "strong",
}

_SPACE_NAMES: dict[Space, str] = {space: f"{side} space ({space}1)" for space, side in SPACES.items()}


def strength(found: ProjectionReport, space: Space) -> Strength | None:
    """How continuous a projection is in a space; None where it was not measured.

    Strong from half the way between null and 1, moderate from a fifth, weak when only above chance.
    """
    value, null = getattr(found.continuity, f"{space}1"), getattr(found.null, space)
    pairs = sum(getattr(pair, f"{space}1") is not None for pair in found.pairs)
    if value is None or null is None or null >= 1:
        return None
    excess = (value - null) / (1 - null)
    if excess >= 0.5:
        return Strength.STRONG
    if excess >= 0.2:
        return Strength.MODERATE
    d = found.dimension(space)
    error = null_deviation(null, d) / sqrt(pairs)
    return Strength.WEAK if value > null + CHANCE_SIGMAS * error else Strength.NONE


def sentences(stack: Stack) -> tuple[str, ...]:
    """The pattern of one stack, a few sentences long."""
    return tuple(_sentences(stack))


def _sentences(stack: Stack) -> Iterator[str]:
    known = {
        space: {
            name: how
            for name, found in stack.projections.items()
            if (how := strength(found, space)) is not None
        }
        for space in SPACES
    }
    if not any(known.values()):
        yield "No projection has two layers to compare, so there is no continuity to speak of."
        return
    for space, words in _SPACE_NAMES.items():
        names = [
            f"{name} {getattr(stack.projections[name].continuity, space + '1'):.2f}"
            for name, how in known[space].items()
            if how >= Strength.MODERATE
        ]
        if names:
            yield f"Continuous in {words}: {', '.join(names)}."
        elif known[space]:
            yield f"Nothing is continuous in {words}."
    surprises = _judge(stack)
    expected = [_as_expected(name, stack.projections[name]) for name, found in surprises.items() if not found]
    if expected:
        yield (
            f"{len(expected)} of {len(surprises)} projections are as the paper expects (arXiv:2605.04971): "
            f"{', '.join(expected)}."
        )
    for found in surprises.values():
        yield from (f"Unusual: {surprise}." for surprise in found)
    degenerate = sum(pair.degenerate for found in stack.projections.values() for pair in found.pairs)
    if degenerate:
        yield (
            f"Degenerate pairs, where sigma2 is within 2% of sigma1 in a layer and v1 is not well defined: "
            f"{degenerate}. report.md compares their leading planes."
        )


def judged(stack: Stack) -> tuple[int, int]:
    """How many projections are as the paper expects, and how many could be judged."""
    surprises = _judge(stack)
    return sum(not found for found in surprises.values()), len(surprises)


def _judge(stack: Stack) -> dict[str, list[str]]:
    """What is not as the paper expects, of each projection that it has an expectation of.

    It has none of OV, nor of what reads another stack. Where the space that does not face the residual stream
    was not measured, the other decides alone.
    """
    skipped = {"OV", "K", "V"} if stack.cross else {"OV"}
    return {
        name: list(_surprises(name, found))
        for name, found in stack.projections.items()
        if name not in skipped and strength(found, found.faced[0]) is not None
    }


def _as_expected(name: str, found: ProjectionReport) -> str:
    return f"{name} low" if name == "V" else f"{name} in {found.faced[0]}1"


def _surprises(name: str, found: ProjectionReport) -> Iterator[str]:
    """Where a projection is not as the paper expects."""
    facing = found.faced[0]
    other: Space = "u" if facing == "v" else "v"
    strengths = {space: strength(found, space) or Strength.NONE for space in SPACES}
    value = {space: number(getattr(found.continuity, f"{space}1"), 2) for space in SPACES}
    if name == "V":
        space: Space = "v" if strengths["v"] >= strengths["u"] else "u"
        if strengths[space] >= Strength.MODERATE:
            yield f"V is {WORDS[strengths[space]]} in {_SPACE_NAMES[space]} at {value[space]}, expected low"
        return
    if strengths[facing] < Strength.MODERATE:
        yield f"{name} is only {WORDS[strengths[facing]]} in {_SPACE_NAMES[facing]} at {value[facing]}"
    if strengths[other] >= Strength.MODERATE:
        yield f"{name} is {WORDS[strengths[other]]} in {_SPACE_NAMES[other]} too, at {value[other]}"
