"""Where the projections of one checkpoint lie: what matching a checkpoint to a family yields.

Shapes and names only. Every matrix is described as [out, in] after orientation.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from registry.projection import NormSite, Projection


@dataclass(frozen=True)
class Rows:
    """Rows of one part of a fused tensor: `count` runs of `length`, the first at `start`, every `step`."""

    count: int
    length: int
    start: int
    step: int


@dataclass(frozen=True)
class Slab:
    """One expert's share of a tensor that holds all: the `index`-th of `count` equal parts of its first
    axis."""

    index: int
    count: int


@dataclass(frozen=True)
class Read:
    """One read of a tensor, or of a slab of it."""

    tensor: str
    slab: Slab | None = None


@dataclass(frozen=True)
class Slot:
    """A matrix in a tensor: how it is stored, its rows of [out, in], its slab where experts share a
    tensor."""

    tensor: str
    shape: tuple[int, int]
    stored: Literal["out_in", "in_out"]
    rows: Rows | None = None
    slab: Slab | None = None

    @property
    def read(self) -> Read:
        """What is read for it."""
        return Read(self.tensor, self.slab)

    @property
    def reads(self) -> tuple[Read, ...]:
        """All that is read for it."""
        return (self.read,)

    @property
    def tensors(self) -> tuple[str, ...]:
        """The tensor that holds it."""
        return (self.tensor,)


@dataclass(frozen=True)
class LowRankSlot:
    """A product up . diag(gain) . down, [out, in].

    With `shared_key` down's last rows stand below each of `heads` heads of up as they are.
    """

    shape: tuple[int, int]
    down: Slot
    up: Slot
    gain: str | None = None
    shared_key: Slot | None = None
    heads: int = 1

    @property
    def reads(self) -> tuple[Read, ...]:
        """All that is read for it."""
        gain = (Read(self.gain),) if self.gain else ()
        return (self.down.read, self.up.read, *gain)

    @property
    def tensors(self) -> tuple[str, ...]:
        """The tensors it is made from."""
        return tuple(read.tensor for read in self.reads)


@dataclass(frozen=True)
class ExpertSlots:
    """The routed experts of one projection, in expert order.

    `shape` is that of all stacked: readers one below the other, Down side by side.
    """

    shape: tuple[int, int]
    experts: tuple[Slot, ...]

    @property
    def reads(self) -> tuple[Read, ...]:
        """All that one pass over the experts reads."""
        return tuple(slot.read for slot in self.experts)

    @property
    def tensors(self) -> tuple[str, ...]:
        """The tensors that hold them."""
        return tuple(dict.fromkeys(slot.tensor for slot in self.experts))


Place = Slot | LowRankSlot | ExpertSlots
"""Where one projection of one layer lies."""


@dataclass(frozen=True)
class NormSlot:
    """The norm in front of a reader: its weight tensor, its kind, and whether the gain is 1 + w."""

    weight: str
    kind: Literal["rms", "layer"]
    plus_one: bool


@dataclass(frozen=True)
class Heads:
    """Attention heads: `count` query heads of width `dim` read `kv` key-value heads.

    A head of V is `value_dim` wide.
    """

    count: int
    kv: int
    dim: int
    value_dim: int


@dataclass(frozen=True)
class LayerLayout:
    """What one layer of a stack holds; `heads` is None where neither config nor shapes tell them.

    `cross`: K and V read another stack, which no norm of this layer is in front of. `normless` are the
    sites of norms that should be here and are not.
    """

    index: int
    slots: Mapping[Projection, Place]
    norms: Mapping[NormSite | Literal["experts"], NormSlot]
    heads: Heads | None = None
    cross: bool = False
    normless: tuple[NormSite | Literal["experts"], ...] = ()

    def norm_of(self, projection: Projection) -> NormSlot | None:
        """The norm whose output a projection of this layer reads."""
        if self.cross and projection in (Projection.K, Projection.V):
            return None
        site = projection.norm_site
        if isinstance(self.slots.get(projection), ExpertSlots) and "experts" in self.norms:
            return self.norms["experts"] if site else None
        return self.norms.get(site) if site else None


@dataclass(frozen=True)
class Lack:
    """A declared projection that a layer lacks, and why; None where nothing explains it."""

    projection: Projection
    layer: int
    reason: str | None


@dataclass(frozen=True)
class StackLayout:
    """One stack of a checkpoint: the family it was read by, and where each layer's projections lie.

    `name` is empty for the main stack of a family without parts; `title` is what it is called beside others.
    `dropped` are layers past the config's count that look like those it counts.
    """

    name: str
    family: str
    hidden_size: int | None
    declared: tuple[Projection, ...]
    layers: tuple[LayerLayout, ...]
    lacks: tuple[Lack, ...]
    title: str = ""
    dropped: tuple[int, ...] = ()


@dataclass(frozen=True)
class Claim:
    """The rule that a tensor fell to, and what it is by that rule; `inside`: it lies in a stack's layer."""

    kind: Literal["projection", "norm", "ignored", "unknown"]
    rule: str
    inside: bool = False


@dataclass(frozen=True)
class Layout:
    """A checkpoint understood: its family, its stacks (the main one first), and every tensor accounted for.

    `unread` names the sub-models that no family is known for, each with the reason.
    """

    family: str
    model_type: str | None
    stacks: tuple[StackLayout, ...]
    claims: Mapping[str, Claim]
    unread: Mapping[str, str]

    @property
    def main(self) -> StackLayout:
        """The decoder or text model."""
        return self.stacks[0]

    @property
    def unknown(self) -> tuple[str, ...]:
        """The tensors of two axes or more that no rule claims."""
        return tuple(name for name, claim in self.claims.items() if claim.kind == "unknown")

    def ignored(self) -> Iterator[tuple[str, str]]:
        """Each tensor that was left out, with the rule that did it; norms count among them."""
        for name, claim in self.claims.items():
            if claim.kind in ("ignored", "norm"):
                yield name, claim.rule


@dataclass(frozen=True)
class Miss:
    """No family fits: why, and which come nearest, each with what did not match."""

    reason: str
    nearest: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contradiction:
    """The family is known, but the config and the tensors contradict each other."""

    reason: str
