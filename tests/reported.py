"""A whole report against float64 LAPACK, run on the matrices that a model's forward pass computes with."""

from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np
from forward_pass import Computed, Matrices
from torch import Tensor

from audit.audit import run
from audit.plan import AuditPlan
from registry import Projection
from reports.model import Pair, ProjectionReport, Report

ROUNDING = 2e-5
"""Products of stored tensors and gains are made in float32; a cosine moves by that over the gap."""

Truth = tuple[np.ndarray, float, np.ndarray]
"""The leading u, sigma and v of one matrix."""


def report_errors(computed: Computed | Mapping[str, Computed], plan: AuditPlan) -> list[str]:
    """Where the report of a plan departs from the truth, in words; of the stacks that are given."""
    report = run(plan, "a test").report
    if isinstance(computed, Computed):
        computed = {plan.main.layout.name: computed}
    labels = {stack.layout.name: stack.label for stack in plan.stacks}
    return [
        f"{name} {error}"
        for name, matrices in computed.items()
        for error in _errors(matrices.stored, _of_stack(report, labels[name]))
    ]


def _of_stack(report: Report, label: str | None) -> Mapping[str, ProjectionReport]:
    return report.projections if label is None else report.stacks[label].projections


def _errors(matrices: Matrices, found: Mapping[str, ProjectionReport]) -> Iterator[str]:
    wanted: dict[Projection, dict[int, list[Tensor]]] = {}
    for key, matrix in matrices.items():
        wanted.setdefault(key[0], {}).setdefault(key[1], []).append(matrix)
    if {name.value for name in wanted} != found.keys():
        yield f"has {sorted(found)}, not {sorted(wanted)}"
        return
    for projection, layers in wanted.items():
        for error in _of_projection(projection, layers, found[projection.value]):
            yield f"{projection}: {error}"


def _of_projection(
    projection: Projection, layers: Mapping[int, list[Tensor]], found: ProjectionReport
) -> Iterator[str]:
    if list(found.layers) != sorted(layers):
        yield f"layers {found.layers}, not {sorted(layers)}"
        return
    truths = [_leading(projection, layers[layer]) for layer in found.layers]
    stacked = [len(layers[layer]) > 1 for layer in found.layers]
    for layer, (_, sigma, _), sigmas in zip(found.layers, truths, found.sigma, strict=True):
        if sigmas is None or abs(sigmas[0] / sigma - 1) > ROUNDING:
            yield f"sigma1 of layer {layer} is {sigmas and sigmas[0]}, not {sigma}"
    for pair, ends, experts in zip(found.pairs, pairwise(truths), pairwise(stacked), strict=True):
        yield from _of_pair(projection, pair, ends, any(experts))


def _leading(projection: Projection, parts: list[Tensor]) -> Truth:
    axis = 1 if projection.facing == "u" else 0
    matrix = np.concatenate([part.double().numpy() for part in parts], axis=axis)
    u, sigma, vt = np.linalg.svd(matrix, full_matrices=False)
    return u[:, 0], float(sigma[0]), vt[0]


def _of_pair(projection: Projection, pair: Pair, ends: tuple[Truth, Truth], experts: bool) -> Iterator[str]:
    for space, place in (("v", 2), ("u", 0)):
        first, second = ends[0][place], ends[1][place]
        value, bound = getattr(pair, f"{space}1"), getattr(pair, f"bound_{space}1")
        if (experts and projection.facing != space) or first.shape != second.shape:
            if value is not None:
                yield f"{space}1 of layers {pair.layers} is {value}, and not defined"
        elif value is None or abs(value - abs(float(first @ second))) > bound + ROUNDING:
            yield f"{space}1 of layers {pair.layers} is {value}, not {abs(float(first @ second))}"
