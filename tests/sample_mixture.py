"""A second report typed by hand: a mixture of experts with an encoder and cross-attention beside it."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from sample_report import pair, projection, sample_report

from reports.model import (
    Continuity,
    Coverage,
    ExpertSummary,
    Finding,
    LayerSpaces,
    ModelInfo,
    Pair,
    ProjectionReport,
    Report,
    Settings,
    Spaces,
    Stack,
    TopCoordinates,
)


def dense(
    facing: str, v1: float | None, u1: float | None, layers: Sequence[int] = (0, 1, 2, 3)
) -> ProjectionReport:
    """The same |cos| between all neighbours among these layers, of a 100 x 100 matrix."""
    count = len(layers)
    pairs = tuple(between(first, second, v1, u1) for first, second in pairwise(layers))
    base = projection(facing, (pairs[0], pairs[0]), v1, u1)
    return replace(
        base,
        layers=tuple(layers),
        pairs=pairs,
        continuity=Continuity(v1, u1, None, None),
        evr3=Spaces(None, None),
        evr3_null=Spaces(None, None),
        wa=None,
        effective_rank=None,
        stable_rank=(2.0,) * count,
        participation=LayerSpaces(
            ((30.0 if v1 is not None else None),) * count, ((40.0 if u1 is not None else None),) * count
        ),
        top=TopCoordinates(
            (((7, 0.5),) if v1 is not None else (),) * count, (((8, 0.5),) if u1 is not None else (),) * count
        ),
        lag=LayerSpaces((v1,) * (count - 1), (u1,) * (count - 1)),
        sigma=((6.0, 3.0),) * count,
        residual=((1e-7, 1e-7),) * count,
        angle_bound=((1e-6, 1e-6),) * count,
        spectrum=None,
        unmeasured={"evr3": "4 layers", "wa": "needs the whole spectrum: run with --full"},
    )


def between(first: int, second: int, v1: float | None, u1: float | None) -> Pair:
    """A pair of layers that need not be next to one another."""
    return replace(pair(first, v1, u1), layers=(first, second), gap=second - first, wa=None)


def routed(facing: str, value: float, experts: ExpertSummary) -> ProjectionReport:
    """Stacked experts in layers 1 to 3 behind a dense layer 0: one space only."""
    v1, u1 = (value, None) if facing == "v" else (None, value)
    found = dense(facing, v1, u1)
    null = Spaces(0.08, None) if facing == "v" else Spaces(None, 0.08)
    other = {"u" if facing == "v" else "v": "of stacked experts, this space depends on the experts' order"}
    shape = (400, 100) if facing == "v" else (100, 400)
    return replace(
        found,
        shape=shape,
        null=null,
        experts=(None, experts, replace(experts, with_stack=(0.5, 0.5, None, 0.5)), experts),
        unmeasured=found.unmeasured | other,
    )


def narrow(found: ProjectionReport) -> ProjectionReport:
    """With inputs of width 64, as the encoder's outputs are."""
    return replace(found, shape=(100, 64), null=Spaces(0.1, 0.08))


def lacking(found: ProjectionReport) -> ProjectionReport:
    """With two layers that have linear attention in its place."""
    return replace(found, unmeasured=found.unmeasured | {"layers 0, 2": "linear attention"})


ALIKE = ExpertSummary((4.0, 3.0, 2.0, 1.0), (0.9, 0.8, 0.7, 0.95), 0.75)
IN_PART = ExpertSummary((4.0, 3.0, None, 1.0), (0.75, 0.75, None, 0.5), 0.375)
LED = ExpertSummary((9.0, 3.0, 2.0, 1.0), (0.99, 0.1, 0.2, 0.1), 0.1)


def sample_mixture() -> Report:
    """A decoder of four layers, two with attention; an encoder of two; cross-attention in all four."""
    base = sample_report()
    pair_of_layers = (1, 3)
    return replace(
        base,
        model=ModelInfo("org/mixture", "hub", "abc123", "mixed", "mixed", 4, 100, ("BF16",), "decoder"),
        settings=Settings(False, False, None, None, 2, "cpu", "float32"),
        projections={
            "Q": lacking(dense("v", 0.75, 0.0625, pair_of_layers)),
            "V": lacking(dense("v", 0.0625, 0.0625, pair_of_layers)),
            "O": lacking(dense("u", 0.0625, 0.75, pair_of_layers)),
            "Gate": routed("v", 0.875, ALIKE),
            "Up": routed("v", 0.5, IN_PART),
            "Down": routed("u", 0.0625, LED),
            "SharedGate": dense("v", 0.75, 0.0625, (1, 2, 3)),
            "SharedDown": dense("u", 0.0625, 0.75, (1, 2, 3)),
        },
        stacks={
            "encoder": Stack({"Q": narrow(dense("v", 0.5, 0.5, (0, 1)))}, "mixed", 2, 64),
            "cross-attention": Stack(
                {
                    "Q": dense("v", 0.75, 0.0625),
                    "K": replace(
                        dense("v", 0.875, 0.0625),
                        shape=(100, 64),
                        null=Spaces(0.1, 0.08),
                        unmeasured={"layer 2": "NaN", "layer 3": "NaN", "layer 0": "NaN"},
                    ),
                    "V": replace(dense("v", 0.875, 0.0625), shape=(100, 64), null=Spaces(0.1, 0.08)),
                    "O": dense("u", 0.0625, 0.75),
                },
                "mixed",
                4,
                100,
                cross=True,
            ),
        },
        findings=(
            Finding("nan", "error", "K", 0, "cross-attention: K of layer 0 holds NaN", "cross-attention"),
            Finding("nan", "error", "K", 2, "cross-attention: K of layer 2 holds NaN", "cross-attention"),
            Finding("nan", "error", "K", 0, "K of layer 0 holds NaN"),
        ),
        coverage=Coverage(
            90, {"router": 3, "biases": 4, "norms and scales": 6}, ("odd.one", "odd.two"), ("odd.one",)
        ),
        published=None,
    )
