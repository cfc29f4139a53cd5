"""Lay out one stack: find its layers by prefix, and in each layer where every projection lies."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from typing import Literal

from registry import checks
from registry.config import MAX_LAYERS, Config, HeadNumbers, Numbers
from registry.layout import (
    Claim,
    ExpertSlots,
    Heads,
    Lack,
    LayerLayout,
    LowRankSlot,
    NormSlot,
    Place,
    Slot,
    StackLayout,
)
from registry.projection import EXPERT_PARTS, SHARED, NormSite, Projection
from registry.split import MismatchError, OtherLayoutError, Shapes, Splitter, stacked
from registry.stack import Norm, Stack, Unused, as_names

Locals = Mapping[str, str]
"""Layer-local to full names of one layer's tensors."""

Matrix = Slot | LowRankSlot

NORMS = "norms and scales"
PAST_END = "layers past the config's count"
DENSE = "the layer has no experts"


def layers_among(stack: Stack, tensors: Mapping[str, str]) -> dict[int, dict[str, str]]:
    """Layer index to {layer-local name: full name}, under the prefix that shows most projections."""
    best: dict[int, dict[str, str]] = {}
    most = 0
    for template in stack.layers:
        before, after = template.split("{layer}")
        pattern = re.compile(re.escape(before) + r"([0-9]{1,9})" + re.escape(after) + "(.+)", re.DOTALL)
        layers: dict[int, dict[str, str]] = {}
        for bare, name in tensors.items():
            if hit := pattern.fullmatch(bare):
                layers.setdefault(int(hit[1]), {})[hit[2]] = name
        count = sum(len(holding(stack, layer)) for layer in layers.values())
        if count > most:
            best, most = layers, count
    return best


def holding(stack: Stack, layer: Locals) -> set[str]:
    """The layer-local names that hold projections."""
    experts = [_expert_pattern(name) for name in stack.expert_tensors]
    plain = set(stack.tensors)
    return {name for name in layer if name in plain or any(one.fullmatch(name) for one in experts)}


@cache
def _expert_pattern(name: str) -> re.Pattern[str]:
    return re.compile(r"([0-9]{1,9})".join(re.escape(part) for part in name.split("{expert}")))


@dataclass
class LaidOut:
    """One stack laid out, and what its layers' tensors are claimed as, by full name."""

    layout: StackLayout
    claims: dict[str, Claim] = field(default_factory=dict)


def lay_out_stack(
    stack: Stack,
    names: tuple[str, str],
    layers: Mapping[int, Locals],
    shapes: Shapes,
    config: Config | None,
) -> LaidOut:
    """The layout of a stack with these layers; `names` are its own and its family's.

    Raises MismatchError, OtherLayoutError, UnknowableError and config.ConfigError.
    """
    numbers = Numbers(config, stack.config)
    expected = _expected_layers(numbers.layers, layers)
    kept = {index: layer for index, layer in sorted(layers.items()) if index < expected}
    visits = {index: _Layer(stack, index, layer, shapes, numbers, expected) for index, layer in kept.items()}
    laid_out = {index: visit.lay_out(names[1]) for index, visit in visits.items()}
    present = {(name, index) for index, layer in laid_out.items() for name in layer.slots}
    declared = tuple(
        name
        for name in stack.declared
        if name not in stack.optional or any(name == found for found, _ in present)
    )
    lacks = tuple(
        Lack(name, index, visits[index].reason_to_lack(name) if index in visits else None)
        for name in declared
        for index in range(expected)
        if (name, index) not in present
    )
    hidden = numbers.hidden or next((width for layer in laid_out.values() if (width := _width(layer))), None)
    claims = {
        full: Claim("ignored", PAST_END, inside=True)
        for index in layers.keys() - kept.keys()
        for full in layers[index].values()
    }
    for visit in visits.values():
        claims |= visit.claims
    known = {name for layer in kept.values() for name in layer}
    dropped = tuple(sorted(index for index in layers.keys() - kept.keys() if layers[index].keys() <= known))
    layout = StackLayout(
        names[0], names[1], hidden, declared, tuple(laid_out.values()), lacks, dropped=dropped
    )
    return LaidOut(layout, claims)


def _expected_layers(said: int | None, layers: Mapping[int, Locals]) -> int:
    if said is None and max(layers) >= MAX_LAYERS:
        raise MismatchError(f"there are tensors of layer {max(layers)}, more than any model has")
    if said is not None and min(layers) >= said:
        raise MismatchError(f"config.json gives {said} layers, and the first with tensors is {min(layers)}")
    return max(layers) + 1 if said is None else said


def _shared_layers(rule: Unused, numbers: Numbers, expected: int) -> int:
    """How many of the last layers a rule of what is not used speaks of; not all of them."""
    count = numbers.count(rule.last_layers)
    if count >= expected:
        raise MismatchError(f"config.json has {count} of {expected} layers share {rule.projections[0]}")
    return count


def _width(layer: LayerLayout) -> int | None:
    """The residual stream's, by the first projection."""
    for projection, place in layer.slots.items():
        return place.shape[0] if projection.facing == "u" else place.shape[1]
    return None


class _Layer:
    """One layer on its way from names to slots; it keeps what each tensor is claimed as."""

    def __init__(
        self, stack: Stack, index: int, local: Locals, shapes: Shapes, numbers: Numbers, expected: int
    ) -> None:
        self._stack = stack
        self._index = index
        self._local = local
        self._numbers = numbers
        self._heads = numbers.heads(index)
        self._split = Splitter(shapes, numbers.hidden, self._heads)
        self._slots: dict[Projection, Place] = {}
        self._normless: list[NormSite | Literal["experts"]] = []
        self.claims: dict[str, Claim] = {}
        self._instead = [rule for rule in stack.instead if rule.is_in(local)]
        self._free = dict(self._not_taken(local))
        self._unused = {
            projection: rule.reason
            for rule in stack.unused
            for projection in rule.projections
            if index >= expected - _shared_layers(rule, numbers, expected)
        }

    def lay_out(self, family: str) -> LayerLayout:
        """The layer's slots and norms; `family` is named in errors."""
        experts = dict(self._experts())
        for projection, place in (*experts.items(), *self._others(bool(experts))):
            if projection in self._unused:
                self._claim(place.tensors, Claim("ignored", self._unused[projection], inside=True))
            elif projection in self._slots:
                first, second = self._slots[projection].tensors[0], place.tensors[0]
                raise OtherLayoutError(
                    f"both {first} and {second} hold {projection}: no layout of {family}'s"
                )
            else:
                self._slots[projection] = place
        for projection, place in self._slots.items():
            self._claim(
                place.tensors, Claim("projection", f"{projection} of layer {self._index}", inside=True)
            )
        checks.residual(self._slots, self._numbers.hidden, self._stack.cross)
        checks.inner(self._slots, self._index, family)
        checks.split(self._slots, self._heads)
        norms = dict(self._norms())
        checks.norms(norms, self._slots, self._stack.cross, self._split.shapes)
        self._claim([norm.weight for norm in norms.values()], Claim("norm", NORMS, inside=True))
        slots = {name: self._slots[name] for name in Projection if name in self._slots}
        heads = _heads(self._heads, slots.get(Projection.V))
        return LayerLayout(self._index, slots, norms, heads, self._stack.cross, tuple(self._normless))

    def reason_to_lack(self, projection: Projection) -> str | None:
        """Why the layer may lack a projection."""
        instead = next((rule.reason for rule in self._instead if rule.excuses(projection)), None)
        if projection in SHARED and not any(isinstance(place, ExpertSlots) for place in self._slots.values()):
            return instead or DENSE
        return self._unused.get(projection, instead)

    def _not_taken(self, local: Locals) -> Iterator[tuple[str, str]]:
        for name, full in local.items():
            rule = next((rule for rule in self._instead if rule.takes(name)), None)
            if rule is None:
                yield name, full
            else:
                self.claims[full] = Claim("ignored", rule.reason, inside=True)

    def _claim(self, tensors: Sequence[str], claim: Claim) -> None:
        for tensor in tensors:
            before = self.claims.get(tensor)
            if before is None or before.kind != "projection":
                self.claims[tensor] = claim
            elif claim.kind == "projection":
                self.claims[tensor] = _joined(before, claim)

    def _experts(self) -> Iterator[tuple[Projection, Place]]:
        experts = self._stack.experts
        if experts is None:
            return
        for projection, names in experts.projections.items():
            for name in as_names(names):
                if found := self._numbered(name):
                    yield projection, stacked(projection, self._slots_of(projection, found))
                    break
        for packed in experts.packed:
            if packed.tensor in self._free:
                stored = packed.stored or self._stack.stored
                full = self._free[packed.tensor]
                said = self._numbers.experts(self._index)
                for projection, place in self._split.packed(packed, full, stored, said).items():
                    self._check_count(projection, len(place.experts))
                    yield projection, place

    def _numbered(self, name: str) -> dict[int, str]:
        pattern = _expert_pattern(name)
        return {int(hit[1]): full for local, full in self._free.items() if (hit := pattern.fullmatch(local))}

    def _slots_of(self, projection: Projection, found: Mapping[int, str]) -> list[Slot]:
        for expert in range(len(found)):
            if expert not in found:
                raise MismatchError(
                    f"expert {expert} of layer {self._index} has no {projection}, and expert {max(found)} has"
                )
        self._check_count(projection, len(found))
        return [
            self._split.plain(projection, found[expert], self._stack.stored) for expert in range(len(found))
        ]

    def _check_count(self, projection: Projection, found: int) -> None:
        said = self._numbers.experts(self._index)
        if said is not None and found < said:
            raise MismatchError(
                f"layer {self._index} has {found} experts with {projection}, where config.json gives {said}"
            )

    def _others(self, has_experts: bool) -> Iterator[tuple[Projection, Place]]:
        stack, free = self._stack, self._free
        dense = {name for part in EXPERT_PARTS for name in as_names(stack.projections.get(part, ()))}
        dense |= {fused.tensor for fused in stack.fused if set(EXPERT_PARTS) & set(fused.order)}

        def is_another(projection: Projection, tensor: str) -> bool:
            """Whether experts, or the want of them, make this tensor another projection than this one."""
            return projection in EXPERT_PARTS if has_experts else projection in SHARED and tensor in dense

        for projection, names in stack.projections.items():
            tensor = next((name for name in as_names(names) if name in free), None)
            if tensor is not None and not is_another(projection, tensor):
                yield projection, self._split.plain(projection, free[tensor], stack.stored)
        for fused in stack.fused:
            if fused.tensor in free:
                stored = fused.stored or stack.stored
                for projection, place in self._split.fused(fused, free[fused.tensor], stored).items():
                    if not is_another(projection, fused.tensor):
                        yield projection, place
        for low_rank in stack.low_rank:
            if low_rank.down in free and low_rank.up in free:
                yield from self._split.low_rank(low_rank, free).items()

    def _norms(self) -> Iterator[tuple[NormSite | Literal["experts"], NormSlot]]:
        norms = self._stack.norms
        sites: tuple[tuple[NormSite | Literal["experts"], Norm | None], ...] = (
            ("attention", norms.attention), ("ffn", norms.ffn), ("experts", norms.experts)
        )  # fmt: skip
        for site, norm in sites:
            if norm is None or not self._is_in_front(norm):
                continue
            weight = next((name for name in norm.weight if name in self._free), None)
            if weight is None:
                self._normless += [] if norm.optional else [site]
            else:
                yield site, NormSlot(self._free[weight], self._kind(norm, weight), norm.gain == "1+w")

    def _kind(self, norm: Norm, weight: str) -> Literal["rms", "layer"]:
        if norm.kind == "by_bias":
            return "layer" if weight.removesuffix("weight") + "bias" in self._local else "rms"
        return norm.kind

    def _is_in_front(self, norm: Norm) -> bool:
        if norm.when is not None and not self._numbers.says(norm.when):
            return False
        return norm.where is None or any(fnmatchcase(name, norm.where) for name in self._local)


def _joined(before: Claim, claim: Claim) -> Claim:
    """`Q, K of layer 3` for a tensor that holds both."""
    first, _, place = before.rule.partition(" of ")
    more = claim.rule.partition(" of ")[0]
    return (
        before
        if more in first.split(", ")
        else Claim("projection", f"{first}, {more} of {place}", inside=True)
    )


def _heads(numbers: HeadNumbers, value: Place | None) -> Heads | None:
    """The layer's; where no rule gives the key-value heads, the rows of V do."""
    if numbers.heads is None or numbers.head_dim is None:
        return None
    value_dim = numbers.value_dim or numbers.head_dim
    kv_heads = numbers.kv_heads or (value.shape[0] // value_dim if value else 0)
    if not kv_heads or numbers.heads % kv_heads:
        return None
    return Heads(numbers.heads, kv_heads, numbers.head_dim, value_dim)
