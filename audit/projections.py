"""From stored tensors to linear maps: the one place where weights are oriented, split, folded, composed."""

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

from audit.experts import FULL_PASSES, PASSES, ExpertStack
from audit.linear_map import Dense, LinearMap
from audit.product import Product, ov_composite
from registry import ExpertSlots, LayerLayout, LowRankSlot, NormSlot, Place, Projection, Read, Slot

Map = LinearMap | ExpertStack


def reads_of(layer: LayerLayout, projection: Projection, fold_norm: bool) -> tuple[Read, ...]:
    """What one projection of a layer is made from, each tensor once; empty where the layer lacks it."""
    if projection is Projection.OV:
        parts = [reads_of(layer, part, fold_norm) for part in (Projection.V, Projection.O)]
        return tuple(dict.fromkeys(parts[0] + parts[1])) if all(parts) else ()
    if projection not in layer.slots:
        return ()
    norm = layer.norm_of(projection) if fold_norm else None
    return (*layer.slots[projection].reads, *((Read(norm.weight),) if norm else ()))


def passes(layer: LayerLayout, projection: Projection, *, full: bool) -> int:
    """How often a projection's tensors are read."""
    if not isinstance(layer.slots.get(projection), ExpertSlots):
        return 1
    return FULL_PASSES if full else PASSES


def slots_of(place: Place) -> tuple[Slot, ...]:
    """Every stored matrix that a projection is made from, vectors of gains apart."""
    match place:
        case Slot():
            return (place,)
        case LowRankSlot():
            return (place.down, place.up, *((place.shared_key,) if place.shared_key else ()))
        case ExpertSlots():
            return place.experts


def ov_obstacle(layer: LayerLayout) -> str | None:
    """Why O and V of this layer cannot be composed; None where they can."""
    if Projection.O not in layer.slots or Projection.V not in layer.slots:
        return "the layer lacks O or V"
    heads, inner = layer.heads, layer.slots[Projection.O].shape[1]
    rows = layer.slots[Projection.V].shape[0]
    if heads is None:
        return None if inner == rows else "no config.json gives its heads, so their grouping is unknown"
    if rows != heads.kv * heads.value_dim or inner != heads.count * heads.value_dim:
        return (
            f"config.json gives {heads.count} heads over {heads.kv} of width {heads.value_dim}, "
            f"but V has {rows} rows and O reads {inner}"
        )
    return None


class LayerMaps:
    """The linear maps of one layer, made from tensors read on demand and dropped after their last use.

    `read` gives a stored tensor, or a slab of one; `wanted` are the projections that will be asked for, each
    once.
    """

    def __init__(
        self,
        layer: LayerLayout,
        wanted: tuple[Projection, ...],
        fold_norm: bool,
        read: Callable[[Read], Tensor],
    ) -> None:
        """Nothing is read yet."""
        self._layer = layer
        self._fold_norm = fold_norm
        self._read = read
        self._uses = Counter(name for part in wanted for name in reads_of(layer, part, fold_norm))
        self._held: dict[Read, Tensor] = {}

    def take(self, projection: Projection) -> Map:
        """The map of a projection the layer has, weights as stored; experts stay where they are."""
        try:
            if projection is Projection.OV:
                return self._compose()
            place = self._layer.slots[projection]
            return (
                self._experts(projection, place) if isinstance(place, ExpertSlots) else self._map(projection)
            )
        finally:
            self._drop(reads_of(self._layer, projection, self._fold_norm))

    def _compose(self) -> LinearMap:
        output, value = self._map(Projection.O), self._map(Projection.V)
        assert isinstance(output, Dense)
        heads = self._layer.heads
        if heads is None:
            return ov_composite(output, value, 1, value.shape[0])
        return ov_composite(output, value, heads.kv, heads.value_dim)

    def _map(self, projection: Projection) -> Dense | Product:
        match self._layer.slots[projection]:
            case Slot() as slot:
                return Dense(self._folded(projection, self._matrix(slot)))
            case LowRankSlot() as slot:
                return self._product(projection, slot)
            case ExpertSlots():
                raise TypeError("experts are no single matrix")

    def _product(self, projection: Projection, slot: LowRankSlot) -> Product:
        """up . diag(gain) . down; with a key that all heads share, [up diag(gain), 0; 0, I] . [down; key]."""
        up_OR = self._matrix(slot.up)
        if slot.gain is not None:
            up_OR = in_arithmetic(up_OR) * self._tensor(Read(slot.gain)).to(up_OR.device)
        down_RI = self._matrix(slot.down)
        if slot.shared_key is not None:
            key_SI = part_of(self._tensor(slot.shared_key.read), slot.shared_key)
            up_OR = with_shared_key(up_OR, slot.heads, len(key_SI))
            down_RI = torch.cat([down_RI, key_SI])
        return Product(Dense(up_OR), Dense(self._folded(projection, down_RI)))

    def _experts(self, projection: Projection, place: ExpertSlots) -> ExpertStack:
        norm = self._layer.norm_of(projection) if self._fold_norm else None
        gain = self._tensor(Read(norm.weight)) if norm else None

        def make(slot: Slot) -> Dense:
            weight = part_of(self._read(slot.read), slot)
            return Dense(fold(weight, gain, norm) if norm and gain is not None else weight)

        return ExpertStack(place.shape, "u" if projection.facing == "u" else "v", place.experts, make)

    def _folded(self, projection: Projection, weight: Tensor) -> Tensor:
        norm = self._layer.norm_of(projection) if self._fold_norm else None
        return fold(weight, self._tensor(Read(norm.weight)), norm) if norm else weight

    def _matrix(self, slot: Slot) -> Tensor:
        return part_of(self._tensor(slot.read), slot)

    def _tensor(self, read: Read) -> Tensor:
        if read not in self._held:
            self._held[read] = self._read(read)
        return self._held[read]

    def _drop(self, reads: tuple[Read, ...]) -> None:
        for read in reads:
            self._uses[read] -= 1
            if self._uses[read] <= 0:
                self._held.pop(read, None)


def part_of(tensor: Tensor, slot: Slot) -> Tensor:
    """A slot's matrix [out, in] from its stored tensor or slab: a view where the storage order allows it."""
    weight_OI = tensor if slot.stored == "out_in" else tensor.T
    if slot.rows is None:
        return weight_OI
    rows = slot.rows
    grouped_GRI = weight_OI.reshape(rows.count, rows.step, -1)
    return grouped_GRI[:, rows.start : rows.start + rows.length].reshape(slot.shape)


def with_shared_key(up_OR: Tensor, heads: int, shared: int) -> Tensor:
    """The left factor of K where each head ends in the same `shared` rows of the right one.

    [heads * d, r] to [heads * (d + shared), r + shared]: per head its own rows, then the identity.
    """
    own_HDR = up_OR.reshape(heads, -1, up_OR.shape[1])
    left = torch.nn.functional.pad(own_HDR, (0, shared, 0, shared))
    left[:, own_HDR.shape[1] :, own_HDR.shape[2] :] = torch.eye(shared).to(left)
    return left.reshape(-1, left.shape[2])


def fold(weight_OI: Tensor, stored_gain_I: Tensor, norm: NormSlot) -> Tensor:
    """W diag(g), what a reader does to the normed residual stream before its gain.

    For LayerNorm, which subtracts the mean first, W diag(g) (I - 11^T / d).
    """
    weight_OI = in_arithmetic(weight_OI)
    gain_I = stored_gain_I.to(weight_OI) + 1 if norm.plus_one else stored_gain_I.to(weight_OI)
    folded_OI = weight_OI * gain_I
    if norm.kind == "layer":
        folded_OI -= folded_OI.mean(dim=1, keepdim=True)
    return folded_OI


def in_arithmetic(weight: Tensor) -> Tensor:
    """The weights in float32, or in float64 where they are stored so."""
    return weight.to(torch.promote_types(weight.dtype, torch.float32))


def compute_dtype(stored_dtypes: set[str]) -> torch.dtype:
    """float64 where any weight is stored so, float32 for the rest."""
    return torch.float64 if "F64" in stored_dtypes else torch.float32
