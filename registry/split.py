"""Matrices out of tensors: the slots of fused, packed and low-rank tensors, by shape and declared order."""

from collections.abc import Mapping, Sequence
from typing import Literal

from registry.config import HeadNumbers
from registry.layout import ExpertSlots, LowRankSlot, Place, Rows, Slab, Slot
from registry.projection import Projection
from registry.stack import Fused, LowRank, Packed, Part, Repeat, Stored

Shapes = Mapping[str, tuple[int, ...]]
Oriented = Literal["out_in", "in_out"]

MAX_EXPERTS = 10_000
"""More experts than this in one layer no model has; each is described apart, so that a claim costs memory."""


class MismatchError(Exception):
    """A tensor whose shape disagrees with the declaration and the config."""


class OtherLayoutError(Exception):
    """Tensors that fit the declaration one by one, and together do not."""


class UnknowableError(Exception):
    """A tensor that cannot be split without a config that is not there."""


class Splitter:
    """Makes slots from the tensors of one layer: their shapes, the residual stream's width, its heads."""

    def __init__(self, shapes: Shapes, hidden: int | None, heads: HeadNumbers) -> None:
        """Shapes are by full name."""
        self.shapes = shapes
        self._hidden = hidden
        self._heads = heads

    def plain(self, projection: Projection, tensor: str, stored: Stored) -> Slot:
        """A tensor that holds one matrix."""
        return self._whole(Slot(tensor, (0, 0), "out_in"), self.shapes[tensor], projection, stored)

    def fused(self, fused: Fused, tensor: str, stored: Stored) -> dict[Projection, Place]:
        """The parts of a fused tensor."""
        whole = self._whole(Slot(tensor, (0, 0), "out_in"), self.shapes[tensor], Projection.Q, stored)
        return dict(self._parts(whole, fused.order, fused.repeat, fused.equal))

    def low_rank(self, declared: LowRank, tensors: Mapping[str, str]) -> dict[Projection, Place]:
        """The products whose last factor is a share of `up`; `tensors` maps layer-local to full names."""
        down, up = (
            self.plain(Projection.Q, tensors[name], "out_in") for name in (declared.down, declared.up)
        )
        gain = tensors.get(declared.gain) if declared.gain else None
        if declared.gain and gain is None:
            raise OtherLayoutError(f"{down.tensor} is there, and the norm {declared.gain} behind it is not")
        rank, width = up.shape[1], down.shape[1]
        shared = down.shape[0] - rank
        if shared < 0 or (gain is not None and self.shapes[gain] != (rank,)):
            raise MismatchError(
                f"{up.tensor} reads {rank} channels, where {down.tensor} makes {down.shape[0]}"
            )
        latent = self._rows(down, Rows(1, rank, 0, down.shape[0])) if shared else down
        key = self._rows(down, Rows(1, shared, rank, down.shape[0])) if shared else None
        places: dict[Projection, Place] = {}
        for part, slot in self._low_rank_parts(declared, up, shared).items():
            if part is Projection.K and key is not None:
                heads = self._needed(self._heads.heads, "heads", down.tensor)
                shape = (slot.shape[0] + heads * shared, width)
                places[part] = LowRankSlot(shape, latent, slot, gain, key, heads)
            else:
                places[part] = LowRankSlot((slot.shape[0], width), latent, slot, gain)
        return places

    def packed(
        self, packed: Packed, tensor: str, stored: Stored, count: int | None
    ) -> dict[Projection, ExpertSlots]:
        """The experts that share a tensor; `count` is what the config says of their number."""
        shape = self.shapes[tensor]
        if packed.flat:
            count = self._needed(count, "experts", tensor)
            if len(shape) != 2 or shape[0] % count:
                raise MismatchError(
                    f"{tensor} has shape {list(shape)}, where {count} experts lie in its rows"
                )
            inner: tuple[int, ...] = (shape[0] // count, shape[1])
        else:
            if len(shape) != 3 or 0 in shape:
                raise MismatchError(f"{tensor} has shape {list(shape)}, where experts have three axes")
            count, inner = shape[0], shape[1:]
        if count > MAX_EXPERTS:
            raise MismatchError(f"{tensor} has shape {list(shape)}, and no model has {count} experts")
        facing = Projection.DOWN if packed.order == (Projection.DOWN,) else Projection.UP
        experts: dict[Projection, list[Slot]] = {}
        for index in range(count):
            slab = Slot(tensor, (0, 0), "out_in", slab=Slab(index, count))
            whole = self._whole(slab, inner, facing, stored)
            for part, slot in self._parts(whole, packed.order, packed.repeat, equal=False):
                experts.setdefault(part, []).append(slot)
        return {part: stacked(part, slots) for part, slots in experts.items()}

    def _low_rank_parts(self, declared: LowRank, up: Slot, shared: int) -> dict[Projection, Slot]:
        if len(declared.order) == 1 and declared.order[0] != "-":
            return {declared.order[0]: up}
        heads = self._needed(self._heads.heads, "heads", up.tensor)
        value = heads * self._needed(self._heads.value_dim, "the width of a head of V", up.tensor)
        heights = [value if part is Projection.V else up.shape[0] - value for part in declared.order]
        return dict(
            self._runs(up, declared.order, heights, self._groups(declared.repeat, up, declared.order))
        )

    def _whole(self, slot: Slot, shape: tuple[int, ...], projection: Projection, stored: Stored) -> Slot:
        if len(shape) != 2 or 0 in shape:
            raise MismatchError(f"{slot.tensor} has shape {list(shape)}, where a projection is a matrix")
        rows, columns = shape
        order = self._order(slot.tensor, (rows, columns), projection, stored)
        oriented = (rows, columns) if order == "out_in" else (columns, rows)
        return Slot(slot.tensor, oriented, order, slab=slot.slab)

    def _order(self, tensor: str, shape: tuple[int, int], projection: Projection, stored: Stored) -> Oriented:
        if stored != "hidden_in":
            return stored
        hidden = self._needed(self._hidden, "the residual stream's width", tensor)
        if (shape[0] == hidden) == (shape[1] == hidden):
            raise MismatchError(
                f"{tensor} has shape {list(shape)}, and only one side that is {hidden} wide would tell "
                "how it is stored"
            )
        return "out_in" if (shape[0] == hidden) == (projection.facing == "u") else "in_out"

    def _parts(
        self, whole: Slot, order: Sequence[Part], repeat: Repeat, equal: bool
    ) -> "list[tuple[Projection, Slot]]":
        """The slots of `repeat` groups, in each a share of every part, in the declared order."""
        if len(order) == 1 and order[0] != "-":
            return [(order[0], whole)]
        heights = self._heights(order, whole, equal)
        return self._runs(whole, order, heights, self._groups(repeat, whole, order))

    def _runs(
        self, whole: Slot, order: Sequence[Part], heights: Sequence[int], groups: int
    ) -> "list[tuple[Projection, Slot]]":
        rows = whole.shape[0]
        if sum(heights) != rows or any(height % groups or height < 1 for height in heights):
            said = " + ".join(f"{part} {height}" for part, height in zip(order, heights, strict=True))
            raise MismatchError(
                f"{whole.tensor} has {rows} rows, where config.json gives {said} in {groups} groups"
            )
        slots, start = [], 0
        for part, height in zip(order, heights, strict=True):
            if part != "-":
                run = Rows(groups, height // groups, start, rows // groups)
                slots.append((part, self._rows(whole, run)))
            start += height // groups
        return slots

    def _rows(self, whole: Slot, rows: Rows) -> Slot:
        return Slot(whole.tensor, (rows.count * rows.length, whole.shape[1]), whole.stored, rows, whole.slab)

    def _groups(self, repeat: Repeat, whole: Slot, order: Sequence[Part]) -> int:
        match repeat:
            case "once":
                return 1
            case "heads":
                return self._needed(self._heads.heads, "heads", whole.tensor)
            case "kv_heads":
                return self._needed(self._heads.kv_heads, "key-value heads", whole.tensor)
            case "rows":
                return whole.shape[0] // len(order)
            case int(count):
                return count

    def _heights(self, order: Sequence[Part], whole: Slot, equal: bool) -> list[int]:
        """Rows of each part: heads times their width for attention, equal shares for a feed-forward pair."""
        if equal or not {Projection.Q, Projection.K, Projection.V} & set(order):
            return [whole.shape[0] // len(order)] * len(order)
        numbers, tensor = self._heads, whole.tensor
        width = self._needed(numbers.head_dim, "the head width", tensor)
        query = self._needed(numbers.heads, "heads", tensor) * width
        groups = self._needed(numbers.kv_heads, "key-value heads", tensor)
        key, value = groups * width, groups * (numbers.value_dim or width)
        known = {Projection.Q: query, "-": query, Projection.K: key, Projection.V: value}
        return [known[part] for part in order]

    def _needed(self, value: int | None, what: str, name: str) -> int:
        if value is None:
            raise UnknowableError(f"{name} is fused, and without config.json the number of {what} is unknown")
        return value


def stacked(projection: Projection, experts: Sequence[Slot]) -> ExpertSlots:
    """Experts in one place, readers one below the other, Down side by side; raises MismatchError."""
    facing, verb = (0, "writes") if projection.facing == "u" else (1, "reads")
    for slot in experts:
        if slot.shape[facing] != experts[0].shape[facing]:
            raise MismatchError(
                f"{slot.tensor} {verb} {slot.shape[facing]} channels as {projection}, "
                f"where {experts[0].tensor} {verb} {experts[0].shape[facing]}"
            )
    if projection.facing == "u":
        return ExpertSlots((experts[0].shape[0], sum(slot.shape[1] for slot in experts)), tuple(experts))
    return ExpertSlots((sum(slot.shape[0] for slot in experts), experts[0].shape[1]), tuple(experts))
