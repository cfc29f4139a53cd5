"""Every tensor accounted for, and what a reader should know of what is not measured."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from audit.projections import ov_obstacle
from registry import LayerLayout, Layout, LowRankSlot, Projection, StackLayout
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
    shapes: Mapping[str, Sequence[int]],
    layout: Layout,
    chosen: Layers,
    wanted: Collection[Projection],
    fold_norm: bool,
) -> Iterator[Finding]:
    """Unknown tensors, unread sub-models and layers, and what is missing or odd without a reason."""
    for name in layout.unknown:
        where = "in a layer " if layout.claims[name].inside else ""
        message = f"{name} {list(shapes[name])} {where}matches no rule of {layout.family}"
        yield Finding("unknown-tensor", "warning", None, None, message)
    for name, reason in layout.unread.items():
        yield Finding("unread-stack", "warning", None, None, f"{name} is not read: {reason}", stack=name)
    for stack in layout.stacks:
        if stack.name in chosen:
            own = label(layout, stack)
            yield from _missing(stack, chosen[stack.name], wanted, own)
            yield from _dropped(stack, own)
            yield from _odd_heads(stack, chosen[stack.name], own)
            if fold_norm:
                yield from _without_norm(stack, chosen[stack.name], own)


def index_findings(surplus: Sequence[str]) -> Iterator[Finding]:
    """Tensors of the shards that the index does not name: other readers may leave them out."""
    if surplus:
        named = ", ".join(surplus[:3]) + (f" and {len(surplus) - 3} more" if surplus[3:] else "")
        message = f"the index does not name all that is in its shards: {named}"
        yield Finding("surplus-tensor", "warning", None, None, message)


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
        message = f"{projection} is missing in {_in_layers(indices)}{_of(name)}: {reason}"
        yield Finding("missing-projection", "warning", projection, indices[0], message, stack=name)


def _dropped(stack: StackLayout, name: str | None) -> Iterator[Finding]:
    """Layers like the others that config.json does not count."""
    if stack.dropped:
        message = f"{_in_layers(stack.dropped)}{_of(name)}: past config.json's count, and left out"
        yield Finding("extra-layer", "warning", None, stack.dropped[0], message, stack=name)


def _odd_heads(stack: StackLayout, chosen: Collection[int], name: str | None) -> Iterator[Finding]:
    """Q or K higher or lower than config.json's heads make them: they may hold something else besides."""
    odd: dict[tuple[Projection, int, int], list[int]] = {}
    for layer in stack.layers:
        heads = layer.heads
        if heads is None or layer.index not in chosen or _is_latent(layer):
            continue
        for projection, count in ((Projection.Q, heads.count), (Projection.K, heads.kv)):
            place = layer.slots.get(projection)
            if place is not None and place.shape[0] != count * heads.dim:
                odd.setdefault((projection, place.shape[0], count * heads.dim), []).append(layer.index)
    for (projection, rows, wanted), layers in odd.items():
        message = (
            f"{projection} has {rows} rows in {_in_layers(layers)}{_of(name)}, "
            f"where config.json's heads make {wanted}"
        )
        yield Finding("odd-heads", "warning", projection, layers[0], message, stack=name)


def _is_latent(layer: LayerLayout) -> bool:
    """Whether K is made of parts whose widths config.json gives apart."""
    return isinstance(layer.slots.get(Projection.K), LowRankSlot)


def _without_norm(stack: StackLayout, chosen: Collection[int], name: str | None) -> Iterator[Finding]:
    """Layers whose readers are measured raw, where others have the norm in front folded in."""
    for site in ("attention", "ffn", "experts"):
        bare = [
            layer.index
            for layer in stack.layers
            if site in layer.normless and layer.index in chosen and _reads(layer, site)
        ]
        if bare and any(site in layer.norms for layer in stack.layers):
            message = f"the norm in front of {site} is missing in {_in_layers(bare)}{_of(name)}: not folded"
            yield Finding("missing-norm", "warning", None, bare[0], message, stack=name)


def _reads(layer: LayerLayout, site: str) -> bool:
    """Whether a layer has projections that the norm of a site is for."""
    wanted = "ffn" if site == "experts" else site
    return any(projection.norm_site == wanted for projection in layer.slots)


def _of(stack: str | None) -> str:
    return f" of {stack}" if stack else ""


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
