"""From stored tensors to linear maps: the one place where weights are oriented, split, folded, composed."""

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

from audit.linear_map import Dense, LinearMap, ov_composite
from registry import Heads, LayerLayout, NormSlot, Projection, Slot


def stored_needs(layer: LayerLayout, projection: Projection, fold_norm: bool) -> tuple[str, ...]:
    """The tensors one projection of a layer is made from; empty where the layer lacks it."""
    if projection is Projection.OV:
        parts = [stored_needs(layer, part, fold_norm) for part in (Projection.V, Projection.O)]
        return tuple(dict.fromkeys(parts[0] + parts[1])) if all(parts) else ()
    if projection not in layer.slots:
        return ()
    norm = layer.norms.get(projection.norm_site) if fold_norm and projection.norm_site else None
    return (layer.slots[projection].tensor, *((norm.weight,) if norm else ()))


def ov_obstacle(layer: LayerLayout, heads: Heads | None) -> str | None:
    """Why O and V of this layer cannot be composed; None where they can."""
    if Projection.O not in layer.slots or Projection.V not in layer.slots:
        return "the layer lacks O or V"
    inner = layer.slots[Projection.O].shape[1]
    rows = layer.slots[Projection.V].shape[0]
    if heads is None:
        return None if inner == rows else "without config.json the grouping of its heads is unknown"
    if rows != heads.kv * heads.dim or inner != heads.count * heads.dim:
        return (
            f"config.json gives {heads.count} heads over {heads.kv} of width {heads.dim}, "
            f"but V has {rows} rows and O reads {inner}"
        )
    return None


class LayerMaps:
    """The linear maps of one layer, made from tensors read on demand and dropped after their last use.

    `read` gives a stored tensor; `wanted` are the projections that will be asked for, each once.
    """

    def __init__(
        self,
        layer: LayerLayout,
        wanted: tuple[Projection, ...],
        heads: Heads | None,
        fold_norm: bool,
        read: Callable[[str], Tensor],
    ) -> None:
        """Nothing is read yet."""
        self._layer = layer
        self._heads = heads
        self._fold_norm = fold_norm
        self._read = read
        self._uses = Counter(name for part in wanted for name in stored_needs(layer, part, fold_norm))
        self._held: dict[str, Tensor] = {}

    def take(self, projection: Projection) -> LinearMap:
        """The map of a projection the layer has, in float32 or better."""
        names = stored_needs(self._layer, projection, self._fold_norm)
        try:
            if projection is Projection.OV:
                return self._compose()
            return self._dense(projection)
        finally:
            self._drop(names)

    def _compose(self) -> LinearMap:
        output, value = self._dense(Projection.O), self._dense(Projection.V)
        if self._heads is None:
            return ov_composite(output, value, 1, value.shape[0])
        return ov_composite(output, value, self._heads.kv, self._heads.dim)

    def _dense(self, projection: Projection) -> Dense:
        weight = part_of(self._tensor(self._layer.slots[projection].tensor), self._layer.slots[projection])
        site = projection.norm_site
        if self._fold_norm and site is not None and site in self._layer.norms:
            norm = self._layer.norms[site]
            weight = fold(weight, self._tensor(norm.weight), norm)
        return Dense(weight)

    def _tensor(self, name: str) -> Tensor:
        if name not in self._held:
            self._held[name] = self._read(name)
        return self._held[name]

    def _drop(self, names: tuple[str, ...]) -> None:
        for name in names:
            self._uses[name] -= 1
            if self._uses[name] <= 0:
                self._held.pop(name, None)


def part_of(tensor: Tensor, slot: Slot) -> Tensor:
    """A slot's matrix [out, in] from its stored tensor: a view where the storage order allows it."""
    weight_OI = tensor if slot.stored == "out_in" else tensor.T
    if slot.rows is None:
        return weight_OI
    rows = slot.rows
    grouped_GRI = weight_OI.reshape(rows.count, rows.step, -1)
    return grouped_GRI[:, rows.start : rows.start + rows.length].reshape(slot.shape)


def fold(weight_OI: Tensor, stored_gain_I: Tensor, norm: NormSlot) -> Tensor:
    """W diag(g), what a reader does to the normed residual stream before its gain.

    For LayerNorm, which subtracts the mean first, W diag(g) (I - 11^T / d).
    """
    gain_I = stored_gain_I.to(weight_OI) + 1 if norm.plus_one else stored_gain_I.to(weight_OI)
    folded_OI = weight_OI * gain_I
    if norm.kind == "layer":
        folded_OI -= folded_OI.mean(dim=1, keepdim=True)
    return folded_OI


def compute_dtype(stored_dtypes: set[str]) -> torch.dtype:
    """float64 where any weight is stored so, float32 for the rest."""
    return torch.float64 if "F64" in stored_dtypes else torch.float32
