"""What must agree between a layer's matrices, its norms and config.json, if they are told apart rightly."""

from collections.abc import Mapping, Sequence
from typing import Literal

from registry.config import HeadNumbers
from registry.layout import ExpertSlots, LowRankSlot, NormSlot, Place, Slot
from registry.projection import EXPERT_PARTS, SHARED, NormSite, Projection
from registry.split import MismatchError, OtherLayoutError, Shapes

Slots = Mapping[Projection, Place]
Matrix = Slot | LowRankSlot
Site = NormSite | Literal["experts"]


def residual(slots: Slots, hidden: int | None, cross: bool) -> None:
    """Readers read, and writers write, as many channels as the config says the residual stream has."""
    foreign = (Projection.K, Projection.V) if cross else ()
    for projection, place in slots.items():
        width = place.shape[0] if projection.facing == "u" else place.shape[1]
        if hidden is not None and width != hidden and projection not in foreign:
            verb = "writes" if projection.facing == "u" else "reads"
            raise MismatchError(
                f"{place.tensors[0]} {verb} {width} channels as {projection}, where config.json has {hidden}"
            )


def inner(slots: Slots, layer: int, family: str) -> None:
    """Gate and Up make as many channels as Down reads; more, and they hold what is not declared."""
    for parts in (EXPERT_PARTS, SHARED):
        down = slots.get(parts[-1])
        for name in parts[:-1]:
            place = slots.get(name)
            if down and place:
                _pairs(name, layer, _matrices(place), _matrices(down), family)


def _pairs(
    name: Projection, layer: int, makers: Sequence[Matrix], readers: Sequence[Matrix], family: str
) -> None:
    if len(makers) != len(readers):
        less = name if len(makers) < len(readers) else Projection.DOWN
        expert = min(len(makers), len(readers))
        raise MismatchError(f"expert {expert} of layer {layer} has no {less}, and has other parts")
    wrong = [pair for pair in zip(makers, readers, strict=True) if pair[0].shape[0] != pair[1].shape[1]]
    if wrong:
        maker, reader = wrong[0]
        said = (
            f"{maker.tensors[0]} makes {maker.shape[0]} channels as {name}, "
            f"where {reader.tensors[0]} reads {reader.shape[1]}"
        )
        if len(wrong) < len(makers):
            raise MismatchError(said)
        raise OtherLayoutError(f"{said}: a layout other than {family}'s")


def _matrices(place: Place) -> Sequence[Matrix]:
    """Each expert's; of anything else, itself."""
    return place.experts if isinstance(place, ExpertSlots) else (place,)


def split(slots: Slots, heads: HeadNumbers) -> None:
    """Where the config's heads told V from others in its tensor, O reads as many channels as they make."""
    output, value = slots.get(Projection.O), slots.get(Projection.V)
    width = heads.value_dim or heads.head_dim
    if output is None or not _was_split(value) or heads.heads is None or width is None:
        return
    if output.shape[1] != heads.heads * width:
        assert value is not None
        raise MismatchError(
            f"{output.tensors[0]} reads {output.shape[1]} channels, where config.json gives "
            f"{heads.heads} heads of width {width}: {value.tensors[0]} cannot be split by them"
        )


def _was_split(place: Place | None) -> bool:
    match place:
        case Slot(rows=rows):
            return rows is not None
        case LowRankSlot(up=up):
            return up.rows is not None
        case _:
            return False


def norms(found: Mapping[Site, NormSlot], slots: Slots, cross: bool, shapes: Shapes) -> None:
    """A norm in front has a gain for each channel that its readers read."""
    foreign = (Projection.K, Projection.V) if cross else ()
    for site, norm in found.items():
        for projection, place in slots.items():
            is_read = projection.norm_site == ("ffn" if site == "experts" else site)
            if is_read and projection not in foreign and shapes[norm.weight] != (place.shape[1],):
                raise MismatchError(
                    f"{norm.weight} has shape {list(shapes[norm.weight])}, "
                    f"where {place.tensors[0]} reads {place.shape[1]} channels"
                )
