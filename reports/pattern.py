"""The pattern in words: which projections are continuous, in which space, and whether that is expected.

The expectation is that of arXiv:2605.04971: what reads the residual stream is continuous in its input space,
what writes to it in its output space, and V in neither.
"""

from collections.abc import Iterator, Mapping
from enum import IntEnum
from math import sqrt

from reports.model import ProjectionReport, Report

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

_SPACE_NAMES = {"v": "input space (v1)", "u": "output space (u1)"}


def strength(found: ProjectionReport, space: str) -> Strength | None:
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
    d = found.shape[1] if space == "v" else found.shape[0]
    error = sqrt(max(1 / d - null**2, 0.0) / pairs)
    return Strength.WEAK if value > null + CHANCE_SIGMAS * error else Strength.NONE


def sentences(report: Report) -> tuple[str, ...]:
    """The pattern, a few sentences long."""
    return tuple(_sentences(report))


def _sentences(report: Report) -> Iterator[str]:
    if all(strength(found, space) is None for found in report.projections.values() for space in ("v", "u")):
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
        judged = len(expected) + len({surprise.split()[0] for surprise in unusual})
        yield (
            f"{len(expected)} of {judged} projections are as the paper expects (arXiv:2605.04971): "
            f"{', '.join(expected)}."
        )
    for surprise in unusual:
        yield f"Unusual: {surprise}."
    degenerate = sum(pair.degenerate for found in report.projections.values() for pair in found.pairs)
    if degenerate:
        yield (
            f"Degenerate pairs, where sigma2 is within 2% of sigma1 in a layer and v1 is not well defined "
            f"(marked *): {degenerate}. audit.json compares their leading planes."
        )


def _judge(projections: Mapping[str, ProjectionReport]) -> tuple[list[str], list[str]]:
    expected: list[str] = []
    unusual: list[str] = []
    for name, found in projections.items():
        in_v, in_u = strength(found, "v"), strength(found, "u")
        if in_v is None or in_u is None or name == "OV":
            continue
        value = {"v": f"{found.continuity.v1:.2f}", "u": f"{found.continuity.u1:.2f}"}
        facing, other = ("u", "v") if found.facing == "u" else ("v", "u")
        faced, away = (in_u, in_v) if facing == "u" else (in_v, in_u)
        surprises = []
        if name == "V":
            if max(in_v, in_u) >= Strength.MODERATE:
                space = "v" if in_v >= in_u else "u"
                surprises.append(
                    f"V is {WORDS[max(in_v, in_u)]} in {_SPACE_NAMES[space]} at {value[space]}, expected low"
                )
        else:
            if faced < Strength.MODERATE:
                surprises.append(
                    f"{name} is only {WORDS[faced]} in {_SPACE_NAMES[facing]} at {value[facing]}"
                )
            if away >= Strength.MODERATE:
                surprises.append(f"{name} is {WORDS[away]} in {_SPACE_NAMES[other]} too, at {value[other]}")
        unusual += surprises
        if not surprises:
            expected.append(f"{name} low" if name == "V" else f"{name} in {facing}1")
    return expected, unusual
