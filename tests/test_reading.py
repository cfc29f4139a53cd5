"""The words about what the leading directions are like, against directions made for the purpose."""

from dataclasses import replace
from math import cos

import pytest
from sample_report import pair, projection, sample_report

from reports.model import LayerSpaces, ProjectionReport, Spaces, Stack, TopCoordinates
from reports.reading import INTRODUCTION, LIMITS, TERMS, Course, character, course

LAYERS = 9


def found(
    value: float = 0.9, lag: tuple[float | None, ...] | None = None, spread: float = 50.0, facing: str = "v"
) -> ProjectionReport:
    """Nine layers of a 100 x 100 matrix, alike in both spaces; the null is .08."""
    profile = lag if lag is not None else (value,) * (LAYERS - 1)
    tops = tuple(((7, 0.9),) if layer else ((3, 0.9),) for layer in range(LAYERS))
    return replace(
        projection(facing, tuple(pair(i, value, value) for i in range(LAYERS - 1)), value, value),  # type: ignore[arg-type]
        layers=tuple(range(LAYERS)),
        null=Spaces(0.08, 0.08),
        lag=LayerSpaces(profile, profile),
        participation=LayerSpaces((spread,) * LAYERS, (spread,) * LAYERS),
        top=TopCoordinates(tops, tops),
    )


def report(**projections: ProjectionReport) -> Stack:
    return replace(sample_report(), projections=projections).main


FALLING = tuple(cos(0.15 * k) for k in range(1, LAYERS))
BREAKING = tuple(pair(i, 0.3 if i == 4 else 0.9, 0.9) for i in range(LAYERS - 1))
GONE = (0.9, 0.5, 0.2, 0.1, 0.08, 0.08, 0.08, 0.08)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (found(0.9), Course.CONSTANT),
        (found(0.3), Course.COMMON),
        (found(0.9, (0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.5)), Course.COMMON),
        (replace(found(0.9, FALLING), pairs=BREAKING), Course.BROKEN),
        (found(0.9, FALLING), Course.SLOW),
        (found(0.9, GONE), Course.PATH),
        (found(0.1), None),
        (found(0.9, (0.9, 0.9, 0.9)), None),
        (found(0.9, (None,) * 8), None),
        (found(0.9, (0.9, 0.9, 0.9, 0.9, None, None, None, None)), None),
        (replace(found(0.9), null=Spaces(None, None)), None),
    ],
)
def test_the_course_is_read_from_what_is_left_half_the_depth_away(given, expected) -> None:
    assert course(given, "v") is expected


def test_every_course_has_its_words_and_spaces_are_told_apart() -> None:
    words = character(
        report(
            Q=found(0.9),
            K=found(0.9, GONE),
            Gate=found(0.9, GONE),
            Up=found(0.3),
            O=found(0.9, GONE, facing="u"),
            OV=found(0.9, FALLING, facing="both"),
            Down=replace(found(0.9), pairs=BREAKING),
        )
    )
    assert words[1:] == (
        "One direction kept throughout: v1 of Q.",
        "Kept in part, by far layers as much as by near ones: v1 of Up.",
        "Turning slowly, step by step: v1 of OV; u1 of OV.",
        "Turning step by step, to another direction within half the depth: v1 of K, Gate; u1 of O.",
        "Kept in stretches, with a break between some layers: v1 of Down.",
    )


def test_a_channel_is_told_from_a_blend() -> None:
    words = character(report(Q=found(0.1, spread=1.2), K=found(0.1, spread=30.0), V=found(0.1, spread=6.0)))
    assert words == (
        "A channel or two hold v1 of Q (channel 7 in 8/9): outlier channels, not blends.",
        "Spread over many channels: v1 of K.",
    )


def test_a_channel_of_each_layers_own_is_no_outlier_channel() -> None:
    tops = tuple(((layer, 0.9),) for layer in range(LAYERS))
    scattered = replace(found(0.1, spread=1.2), top=TopCoordinates(tops, tops))
    assert character(report(Q=scattered)) == ("A channel or two of each layer's own hold v1 of Q.",)


def test_nothing_is_said_of_what_was_not_measured() -> None:
    nothing = replace(
        found(0.9),
        participation=LayerSpaces((None,) * LAYERS, (None,) * LAYERS),
        pairs=(),
        lag=LayerSpaces((), ()),
    )
    assert character(report(Q=nothing)) == ()


def test_the_guide_explains_each_heading_of_the_main_table() -> None:
    """What a stranger meets there: v1, u1, null, EVR, chance, OV, and what the numbers do not mean."""
    guide = " ".join((INTRODUCTION, *(f"{term} {meaning}" for term, meaning in TERMS.items())))
    for word in ("v1", "u1", "null", "EVR", "chance", "OV", "error bound", "Continuity", "σ1"):
        assert word in guide
    assert any("pruning" in limit for limit in LIMITS)
