"""The pattern in words: which projections are continuous, in which space, and whether that is expected.

The expectation is that of arXiv:2605.04971: what reads the residual stream is continuous in its input space,
what writes to it in its output space, and V in neither.
"""

from collections.abc import Iterator, Mapping
from enum import IntEnum
from math import sqrt

from reports.model import SPACES, ProjectionReport, Report, Space
from reports.view import null_deviation

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


def sentences(report: Report) -> tuple[str, ...]:
    """The pattern, a few sentences long."""
    return tuple(_sentences(report))


def _sentences(report: Report) -> Iterator[str]:
    if all(strength(found, space) is None for found in report.projections.values() for space in SPACES):
        yield "No projection has two layers to compare, so there is no continuity to speak of."
        return
    for space, words in _SPACE_NAMES.items():
        names = [
            f"{name} {getattr(found.continuity, space + '1'):.2f}"
            for name, found in report.projections.items()
            if (strength(found, space) or 0) >= Strength.MODERATE
        ]
        if names:
            yield f"Continuous in {words}: {', '.join(names)}."
        else:
            yield f"Nothing is continuous in {words}."
    expected, unusual = _judge(report.projections)
    if expected:
        of = judged(report)[1]
        yield (
            f"{len(expected)} of {of} projections are as the paper expects (arXiv:2605.04971): "
            f"{', '.join(expected)}."
        )
    for surprise in unusual:
        yield f"Unusual: {surprise}."
    degenerate = sum(pair.degenerate for found in report.projections.values() for pair in found.pairs)
    if degenerate:
        yield (
            f"Degenerate pairs, where sigma2 is within 2% of sigma1 in a layer and v1 is not well defined: "
            f"{degenerate}. audit.json compares their leading planes."
        )


def judged(report: Report) -> tuple[int, int]:
    """How many projections are as the paper expects, and how many could be judged."""
    expected, unusual = _judge(report.projections)
    return len(expected), len(expected) + len({surprise.split()[0] for surprise in unusual})


def _judge(projections: Mapping[str, ProjectionReport]) -> tuple[list[str], list[str]]:
    expected: list[str] = []
    unusual: list[str] = []
    for name, found in projections.items():
        in_v, in_u = strength(found, "v"), strength(found, "u")
        if in_v is None or in_u is None or name == "OV":
            continue
        surprises = list(_surprises(name, found, {"v": in_v, "u": in_u}))
        unusual += surprises
        if not surprises:
            expected.append(f"{name} low" if name == "V" else f"{name} in {found.faced[0]}1")
    return expected, unusual


def _surprises(name: str, found: ProjectionReport, strengths: Mapping[Space, Strength]) -> Iterator[str]:
    """Where a projection is not as the paper expects."""
    facing = found.faced[0]
    other: Space = "u" if facing == "v" else "v"
    value = {space: f"{getattr(found.continuity, f'{space}1'):.2f}" for space in SPACES}
    if name == "V":
        space: Space = "v" if strengths["v"] >= strengths["u"] else "u"
        if strengths[space] >= Strength.MODERATE:
            yield f"V is {WORDS[strengths[space]]} in {_SPACE_NAMES[space]} at {value[space]}, expected low"
        return
    if strengths[facing] < Strength.MODERATE:
        yield f"{name} is only {WORDS[strengths[facing]]} in {_SPACE_NAMES[facing]} at {value[facing]}"
    if strengths[other] >= Strength.MODERATE:
        yield f"{name} is {WORDS[strengths[other]]} in {_SPACE_NAMES[other]} too, at {value[other]}"
