"""Where the projections of one checkpoint lie: what matching a checkpoint to a family yields.

Shapes and names only. Every matrix is described as [out, in] after orientation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from registry.family import Stored
from registry.projection import Projection


@dataclass(frozen=True)
class Rows:
    """Rows of one part of a fused tensor: `count` runs of `length`, the first at `start`, every `step`."""

    count: int
    length: int
    start: int
    step: int


@dataclass(frozen=True)
class Slot:
    """One projection of one layer: the tensor that holds it, how it is stored, its rows of [out, in]."""

    tensor: str
    shape: tuple[int, int]
    stored: Stored
    rows: Rows | None = None


@dataclass(frozen=True)
class NormSlot:
    """The norm in front of a reader: its weight tensor, its kind, and whether the gain is 1 + w."""

    weight: str
    kind: Literal["rms", "layer"]
    plus_one: bool


@dataclass(frozen=True)
class Heads:
    """Attention heads: `count` query heads of width `dim` read `kv` key-value heads."""

    count: int
    kv: int
    dim: int


@dataclass(frozen=True)
class LayerLayout:
    """What one layer holds."""

    index: int
    slots: Mapping[Projection, Slot]
    norms: Mapping[Literal["attention", "ffn"], NormSlot]


@dataclass(frozen=True)
class Layout:
    """A checkpoint understood: its family, and every tensor accounted for.

    `heads` is None where neither config nor shapes tell them. `missing` lists the declared projections
    that a layer lacks; `ignored` maps each rule to the tensors it left out.
    """

    family: str
    model_type: str | None
    hidden_size: int | None
    heads: Heads | None
    declared: tuple[Projection, ...]
    layers: tuple[LayerLayout, ...]
    missing: tuple[tuple[Projection, int], ...]
    ignored: Mapping[str, tuple[str, ...]]
    unknown: tuple[str, ...]


@dataclass(frozen=True)
class Miss:
    """No family fits: why, and which come nearest, each with what did not match."""

    reason: str
    nearest: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contradiction:
    """The family is known, but the config and the tensors contradict each other."""

    reason: str
