"""What the audit takes from a checkpoint, written out as matrices, and how that differs from the expected."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from forward_pass import Computed, Key, Matrices
from torch import Tensor

from audit.checkpoint import TensorReader, open_checkpoint
from audit.experts import ExpertStack
from audit.linear_map import LinearMap
from audit.options import AuditOptions
from audit.plan import AuditPlan, StackPlan, make_plan, planned_reads
from audit.projections import LayerMaps
from registry import LowRankSlot, Projection

STORED_ERROR = 1e-9
"""Far below the float32 spacing of a typical weight (7e-9): what is stored is taken over to the bit."""

COMPUTED_ERROR = 1e-5
"""Gains multiplied in and heads summed in float32, a norm's epsilon left out; weights are around 0.1."""


def plan_of(folder: Path, *, fold_norm: bool = False, family_file: Path | None = None) -> AuditPlan:
    """The plan to audit all of a saved model."""
    return make_plan(open_checkpoint(str(folder)), AuditOptions(fold_norm=fold_norm, family_file=family_file))


def extracted(plan: AuditPlan, stack: StackPlan | None = None) -> Matrices:
    """What the audit would measure in a stack, by default the main one, written out as matrices."""
    return dict(_take(plan, stack or plan.main))


def _take(plan: AuditPlan, stack: StackPlan) -> Iterator[tuple[Key, Tensor]]:
    fold_norm = plan.options.fold_norm
    with TensorReader(plan.checkpoint, planned_reads(plan.visits, plan.options)) as reader:
        for visit in plan.visits:
            maps = LayerMaps(visit.layer, visit.projections, fold_norm, reader.read)
            for projection in visit.projections:
                found = maps.take(projection)
                if not any(visit.layer is layer for layer in stack.layers):
                    continue
                if isinstance(found, ExpertStack):
                    yield from _experts(found, projection, visit.layer.index)
                else:
                    yield (projection, visit.layer.index), _matrix(found)


def _experts(stack: ExpertStack, projection: Projection, layer: int) -> Iterator[tuple[Key, Tensor]]:
    matrices = [_matrix(expert) for expert in stack]
    assert stack.shape == torch.cat(matrices, dim=0 if stack.facing == "v" else 1).shape
    for number, matrix in enumerate(matrices):
        yield (projection, layer, number), matrix


def _matrix(found: LinearMap) -> Tensor:
    return found.matmul(torch.eye(found.shape[1], dtype=found.dtype)).T


def differing(expected: Matrices, found: Matrices, tolerance: float | None = None) -> set[Projection]:
    """The projections of which a layer is missing, or too many, or has another shape or other values."""
    return {
        key[0]
        for key in expected.keys() | found.keys()
        if not (key in expected and key in found and _same(key[0], expected[key], found[key], tolerance))
    }


def _same(projection: Projection, one: Tensor, other: Tensor, tolerance: float | None) -> bool:
    if tolerance is None:
        tolerance = COMPUTED_ERROR if projection is Projection.OV else STORED_ERROR
    return one.shape == other.shape and bool((one.double() - other.double()).abs().max() <= tolerance)


def mismatches(
    computed: Computed | Mapping[str, Computed], plan: AuditPlan, *, partly: bool = False
) -> set[tuple[str, Projection]]:
    """What differs between a model's matrices and what the audit takes, by stack and projection.

    One stack's, or those of several by their name; `partly` leaves out the stacks that are not given.
    Products of stored tensors are compared less strictly.
    """
    if isinstance(computed, Computed):
        computed = {plan.main.layout.name: computed}
    stacks = {stack.layout.name: stack for stack in plan.stacks}
    wrong = {(name, key[0]) for name in computed.keys() - stacks.keys() for key in computed[name].stored}
    for name, stack in stacks.items():
        if name not in computed:
            wrong |= set() if partly else {(name, projection) for projection in stack.projections}
            continue
        expected = computed[name].folded if plan.options.fold_norm else computed[name].stored
        found = extracted(plan, stack)
        products = _products(stack, plan.options.fold_norm)
        for tolerance, chosen in ((COMPUTED_ERROR, products), (None, set(Projection) - products)):
            wrong |= {
                (name, projection)
                for projection in differing(_of(chosen, expected), _of(chosen, found), tolerance)
            }
    return wrong


def _products(stack: StackPlan, fold_norm: bool) -> set[Projection]:
    """The projections that are multiplied together from stored tensors in some layer."""
    return {
        name
        for layer in stack.layers
        for name, place in layer.slots.items()
        if isinstance(place, LowRankSlot) or fold_norm
    }


def _of(projections: set[Projection], matrices: Matrices) -> Matrices:
    return {key: matrix for key, matrix in matrices.items() if key[0] in projections}
