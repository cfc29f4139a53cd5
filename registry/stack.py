"""What a declaration may say of one stack of layers: its prefixes, where its projections lie, what it lacks.

A stack is a list of layers that are numbered through: a decoder, an encoder, a vision tower, the
cross-attention of a decoder. Names of tensors are layer-local: what follows the layer's prefix.
"""

from collections.abc import Collection
from dataclasses import field
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from registry.projection import EXPERT_PARTS, Projection

strict = ConfigDict(extra="forbid")

LARGEST = 2**40
"""A dimension beyond this is no model's; products of a few such numbers still have digits one can print."""

Stored = Literal["out_in", "in_out", "hidden_in"]
"""The order of a tensor's axes; "hidden_in": the side as long as the residual stream is wide is the input of
a reader and the output of a writer, whichever it is (for layouts that only the shape tells apart)."""

Flag = Annotated[bool, Field(strict=True)]
Whole = Annotated[int, Field(ge=1, le=LARGEST, strict=True)]
Repeat = Literal["once", "heads", "kv_heads", "rows"] | Whole
Part = Projection | Literal["-"]


@dataclass(frozen=True, config=strict)
class KeyRule:
    """One way to find a number: a config key or a fixed value, perhaps only when another key is truthy.

    What the key holds is taken `times` as often.
    """

    key: str | None = None
    value: Whole | None = None
    when: str | None = None
    times: Whole = 1

    def __post_init__(self) -> None:
        """Exactly one of key and value must be given."""
        if (self.key is None) == (self.value is None):
            raise ValueError("a rule needs either `key` or `value`")


Rules = tuple[str | KeyRule, ...]


@dataclass(frozen=True, config=strict)
class ConfigKeys:
    """Where config.json keeps each dimension: candidates in order, the first that is there and not null.

    `nested` names the sub-configs that hold this stack's keys; they are asked first. A key may hold a list of
    one number a layer. `by_layer_type` overrides rules in layers of that type, as config.json's `layer_types`
    names it; before all rules of heads goes what the table `by_layer` gives a layer, by its number, under the
    same keys. With no rule for `kv_heads` the rows of V tell their number. `value_dim` is the width
    of a head of V where it is not `head_dim`; `experts` their number in a layer.
    """

    layers: Rules = ("num_hidden_layers",)
    hidden: Rules = ("hidden_size",)
    heads: Rules = ("num_attention_heads",)
    kv_heads: Rules = ("num_key_value_heads",)
    head_dim: Rules = ("head_dim",)
    value_dim: Rules = ()
    experts: Rules = ("num_local_experts", "num_experts", "n_routed_experts")
    nested: tuple[str, ...] = ("text_config",)
    by_layer_type: dict[str, "HeadKeys"] = field(default_factory=dict)
    by_layer: str = "per_layer_config"


@dataclass(frozen=True, config=strict)
class HeadKeys:
    """The rules of ConfigKeys that layers of one type override; empty ones are left as they are."""

    heads: Rules = ()
    kv_heads: Rules = ()
    head_dim: Rules = ()
    value_dim: Rules = ()


@dataclass(frozen=True, config=strict)
class Fused:
    """Several projections in one tensor.

    After orientation to [out, in] the rows are `repeat` equal groups, each holding a share of every part
    in `order`; with "rows" the parts alternate row by row. A part that is no projection is written "-" and is
    as high as Q. Q, K and V are as high as config.json's heads make them, unless `equal` says that all parts
    are equally high; others always are.
    """

    tensor: str
    order: tuple[Part, ...]
    repeat: Repeat = "once"
    equal: Flag = False
    stored: Stored | None = None

    def __post_init__(self) -> None:
        """There is a part, and none stands twice."""
        _check_order(self.order)


@dataclass(frozen=True, config=strict)
class LowRank:
    """Projections made in two steps: `up` . diag(gain) . `down`, kept as a product of factors.

    The rows of `up` are as those of a fused tensor: `repeat` groups of `order`. Where `down` makes more rows
    than `up` reads, the rest are a key that all heads share: below each head of K stand these rows as they
    are. `gain` is the weight of the norm in between; what it divides by depends on the token, and is left
    out.
    """

    down: str
    up: str
    order: tuple[Part, ...]
    gain: str | None = None
    repeat: Repeat = "once"

    def __post_init__(self) -> None:
        """There is a part, and none stands twice."""
        _check_order(self.order)

    @property
    def tensors(self) -> tuple[str, ...]:
        """The layer-local names of all its parts."""
        return (self.down, self.up, *((self.gain,) if self.gain else ()))


@dataclass(frozen=True, config=strict)
class Packed:
    """All experts in one tensor: [expert, rows, columns], or with `flat` one below the other in two axes.

    Each expert's slab is oriented and split as a fused tensor is.
    """

    tensor: str
    order: tuple[Part, ...]
    repeat: Repeat = "once"
    flat: Flag = False
    stored: Stored | None = None

    def __post_init__(self) -> None:
        """There is a part, none stands twice, and only feed-forward parts are here."""
        _check_order(self.order)
        _refuse_other_than_experts("order", self.order)


@dataclass(frozen=True, config=strict)
class Experts:
    """The routed experts of a layer: Gate, Up and Down by tensors with {expert}, or packed in one tensor."""

    projections: dict[Projection, "Names"] = field(default_factory=dict)
    packed: tuple[Packed, ...] = ()

    def __post_init__(self) -> None:
        """Every name has its {expert}."""
        for projection, names in self.projections.items():
            for name in as_names(names):
                if name.count("{expert}") != 1:
                    raise ValueError(f"projections.{projection}: {name!r} needs exactly one {{expert}}")
        _refuse_other_than_experts("projections", self.projections)


@dataclass(frozen=True, config=strict)
class Norm:
    """The norm whose output a projection reads: candidates in order, the first the layer has.

    `kind` "by_bias": a LayerNorm if a bias lies beside its weight, and else an RMSNorm. `gain` tells how the
    stored weight w scales its input: by w, or by 1 + w. With `when` the norm is in front only if that key of
    config.json is truthy, with `where` only in layers that have such a tensor (a glob). `optional`: single
    layers may do without.
    """

    weight: tuple[str, ...]
    kind: Literal["rms", "layer", "by_bias"]
    gain: Literal["w", "1+w"] = "w"
    when: str | None = None
    where: str | None = None
    optional: bool = False


@dataclass(frozen=True, config=strict)
class Norms:
    """The norms in front of attention (Q, K, V) and of the feed-forward block (Gate, Up).

    None where a block reads the residual stream unnormed. `experts` is the routed experts' where it is
    another.
    """

    attention: Norm | None = None
    ffn: Norm | None = None
    experts: Norm | None = None

    @property
    def weights(self) -> tuple[str, ...]:
        """The layer-local names of every norm's weight."""
        norms = (self.attention, self.ffn, self.experts)
        return tuple(name for norm in norms if norm for name in norm.weight)


@dataclass(frozen=True, config=strict)
class Instead:
    """Something that some layers have in place of projections: why they lack them.

    A layer that has a tensor named as one of `where` (globs), or none named as one of `without`, may lack
    `projections`; any, where none are named. Tensors named as one of `claims`, by default those of `where`,
    are ignored by this rule there, whatever else would take them.
    """

    reason: str
    where: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    projections: tuple[Projection, ...] = ()
    claims: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Something tells which layers have it."""
        if not (self.where or self.without):
            raise ValueError("instead: `where` or `without` must tell which layers have it")

    def is_in(self, layer: Collection[str]) -> bool:
        """Whether a layer with these layer-local names has it."""
        if any(fnmatchcase(name, pattern) for name in layer for pattern in self.where):
            return True
        return bool(self.without) and not any(
            fnmatchcase(name, pattern) for name in layer for pattern in self.without
        )

    def excuses(self, projection: Projection) -> bool:
        """Whether such a layer may lack a projection."""
        return not self.projections or projection in self.projections

    def takes(self, tensor: str) -> bool:
        """Whether it claims a tensor of such a layer."""
        patterns = self.where if self.claims is None else self.claims
        return any(fnmatchcase(tensor, pattern) for pattern in patterns)


@dataclass(frozen=True, config=strict)
class Unused:
    """Projections that the last layers do not use, even if the checkpoint holds them.

    `last_layers` are config keys for how many layers these are.
    """

    reason: str
    projections: tuple[Projection, ...]
    last_layers: Rules


Names = str | tuple[str, ...]


def as_names(names: Names) -> tuple[str, ...]:
    """Candidates in order, be they one or several."""
    return (names,) if isinstance(names, str) else names


@dataclass(frozen=True, kw_only=True, config=strict)
class Stack:
    """One stack of layers.

    `layers` are prefix templates with {layer}. A projection's tensor may have several names: the first that
    the layer has. `optional` are projections that the whole stack may lack. `cross`: K and V read another
    stack.
    """

    layers: tuple[str, ...] = ()
    projections: dict[Projection, Names] = field(default_factory=dict)
    fused: tuple[Fused, ...] = ()
    low_rank: tuple[LowRank, ...] = ()
    experts: Experts | None = None
    stored: Stored = "out_in"
    optional: tuple[Projection, ...] = ()
    cross: Flag = False
    instead: tuple[Instead, ...] = ()
    unused: tuple[Unused, ...] = ()
    norms: Norms = field(default_factory=Norms)
    config: ConfigKeys = field(default_factory=ConfigKeys)

    def __post_init__(self) -> None:
        """Every prefix has its {layer}, and there is something to measure."""
        for template in self.layers:
            if template.count("{layer}") != 1:
                raise ValueError(f"layers: {template!r} needs exactly one {{layer}}")
        if not self.layers:
            raise ValueError("layers: at least one prefix is needed")
        if Projection.OV in self.projections:
            raise ValueError("projections.OV: OV is composed of V and O, never declared")
        for projection, names in self.projections.items():
            if not as_names(names):
                raise ValueError(f"projections.{projection}: a tensor's name is needed")
        if not self.declared:
            raise ValueError("projections: at least one projection must be declared")

    @property
    def declared(self) -> tuple[Projection, ...]:
        """The projections this stack may hold, in reading order."""
        found = {*self.projections, *(self.experts.projections if self.experts else ())}
        orders = [one.order for one in self.fused] + [one.order for one in self.low_rank]
        orders += [one.order for one in self.experts.packed] if self.experts else []
        found |= {part for order in orders for part in order if part != "-"}
        return tuple(name for name in Projection if name in found)

    @property
    def tensors(self) -> tuple[str, ...]:
        """The layer-local names of the tensors that hold projections, experts' apart."""
        plain = (name for names in self.projections.values() for name in as_names(names))
        low_rank = (name for one in self.low_rank for name in one.tensors)
        return tuple(dict.fromkeys((*plain, *(fused.tensor for fused in self.fused), *low_rank)))

    @property
    def expert_tensors(self) -> tuple[str, ...]:
        """The layer-local names of the tensors that hold experts, with {expert} where there is one each."""
        if self.experts is None:
            return ()
        plain = (name for names in self.experts.projections.values() for name in as_names(names))
        return (*plain, *(packed.tensor for packed in self.experts.packed))


def _check_order(order: tuple[Part, ...]) -> None:
    parts = [part for part in order if part != "-"]
    if not parts:
        raise ValueError("order: at least one projection is needed")
    for i, part in enumerate(parts):
        if part in parts[:i]:
            raise ValueError(f"order: {part} is declared twice")
        if part is Projection.OV:
            raise ValueError("order: OV is composed of V and O, never declared")


def _refuse_other_than_experts(key: str, parts: "tuple[Part, ...] | dict[Projection, Names]") -> None:
    for part in parts:
        if part != "-" and part not in EXPERT_PARTS:
            raise ValueError(f"{key}: {part} is no part of an expert: {', '.join(EXPERT_PARTS)} are")
