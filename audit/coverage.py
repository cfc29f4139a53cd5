"""Every tensor accounted for, and what a reader should know of what is not measured."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from audit.projections import ov_obstacle
from registry import Layout, Projection, StackLayout
from reports.model import Coverage, Finding
from reports.view import spans

Layers = Mapping[str, Collection[int]]
"""The chosen layers by stack."""


def account(layout: Layout, reads: Collection[str]) -> Coverage:
    """Each tensor once: audited if it is read, else left out by a named rule, or unknown."""
    ignored = Counter(rule for name, rule in layout.ignored() if name not in reads)
    unselected = sum(
        claim.kind == "projection" and name not in reads for name, claim in layout.claims.items()
    )
    if unselected:
        ignored["not selected"] = unselected
    inside = tuple(name for name in layout.unknown if layout.claims[name].inside)
    return Coverage(len(reads), dict(ignored), layout.unknown, inside)


def layout_findings(
    shapes: Mapping[str, Sequence[int]], layout: Layout, chosen: Layers, wanted: Collection[Projection]
) -> Iterator[Finding]:
    """Unknown tensors, unread sub-models, and projections that are missing without a reason."""
    for name in layout.unknown:
        where = "in a layer " if layout.claims[name].inside else ""
        message = f"{name} {list(shapes[name])} {where}matches no rule of {layout.family}"
        yield Finding("unknown-tensor", "warning", None, None, message)
    for name, reason in layout.unread.items():
        yield Finding("unread-stack", "warning", None, None, f"{name} is not read: {reason}", stack=name)
    for stack in layout.stacks:
        if stack.name in chosen:
            yield from _missing(stack, chosen[stack.name], wanted, label(layout, stack))


def label(layout: Layout, stack: StackLayout) -> str | None:
    """The name a stack goes by in a report; None for the main one."""
    return None if stack is layout.main else stack.name


def _missing(
    stack: StackLayout, chosen: Collection[int], wanted: Collection[Projection], name: str | None
) -> Iterator[Finding]:
    lacking: dict[tuple[Projection, str], list[int]] = {}
    for lack in stack.lacks:
        if lack.reason is None and lack.projection in wanted and lack.layer in chosen:
            lacking.setdefault((lack.projection, "the checkpoint has no such tensor"), []).append(lack.layer)
    if Projection.OV in wanted:
        for layer in stack.layers:
            if (
                layer.index in chosen
                and {Projection.O, Projection.V} <= layer.slots.keys()
                and (reason := ov_obstacle(layer))
            ):
                lacking.setdefault((Projection.OV, reason), []).append(layer.index)
    for (projection, reason), indices in lacking.items():
        where = f" of {name}" if name else ""
        message = f"{projection} is missing in {_in_layers(indices)}{where}: {reason}"
        yield Finding("missing-projection", "warning", projection, indices[0], message, stack=name)


def unmeasured(stack: StackLayout, projection: Projection, chosen: Collection[int]) -> dict[str, str]:
    """Why chosen layers lack a projection, where the family knows: `layers 0-2, 4-6` to the reason."""
    parts = (Projection.V, Projection.O) if projection is Projection.OV else (projection,)
    by_reason: dict[str, set[int]] = {}
    for lack in stack.lacks:
        if lack.projection in parts and lack.layer in chosen and lack.reason is not None:
            by_reason.setdefault(lack.reason, set()).add(lack.layer)
    return {_in_layers(sorted(layers)): reason for reason, layers in by_reason.items()}


def _in_layers(indices: Sequence[int]) -> str:
    return f"layer {indices[0]}" if len(indices) == 1 else f"layers {spans(indices)}"
