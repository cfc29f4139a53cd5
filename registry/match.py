"""Match a checkpoint, given as tensor names and shapes, to a family: where is each projection?

Orientation and split order come from the declaration, never from guessing by shape; shapes only have to
agree with it. Every tensor ends up as a projection, ignored by a named rule, or unknown.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from registry.config import MAX_LAYERS, ConfigError, Dimensions, architecture, dimensions, model_types
from registry.family import Family, Fused, Norms
from registry.layout import Contradiction, Heads, LayerLayout, Layout, Miss, NormSlot, Rows, Slot
from registry.projection import Projection

Shapes = Mapping[str, tuple[int, ...]]

_WRAPPERS = re.compile(r"^(?:_orig_mod\.|module\.|base_model\.model\.)+")
"""Prefixes that torch.compile, DataParallel and PEFT put before every name."""


class _MismatchError(Exception):
    """A tensor whose shape disagrees with the declaration and the config."""


class _OtherLayoutError(Exception):
    """Tensors that fit the declaration one by one, and together do not."""


class _UnknowableError(Exception):
    """A tensor that cannot be split without a config that is not there."""


def match(
    shapes: Shapes, config: Mapping[str, Any] | None, families: Sequence[Family], chosen: str | None = None
) -> Layout | Miss | Contradiction:
    """The layout of a checkpoint with these tensor shapes and this config (None: it has none).

    `chosen` names the family outright. Otherwise the config's model_type decides, or its architecture
    where it has none; without a config the names do, if just one family explains them best.
    """
    tensors = _unwrapped(shapes)
    found = _choose(tensors, config, families, chosen)
    if isinstance(found, Miss):
        return found
    try:
        return _lay_out(found, tensors, shapes, config)
    except (_UnknowableError, _OtherLayoutError) as error:
        return Miss(str(error))
    except (_MismatchError, ConfigError) as error:
        return Contradiction(str(error))


def _unwrapped(shapes: Shapes) -> dict[str, str]:
    """Bare name to full name, wrappers' prefixes taken off; where two would meet, one keeps its own."""
    tensors: dict[str, str] = {}
    for name in shapes:
        bare = _WRAPPERS.sub("", name)
        tensors[name if bare in shapes or bare in tensors else bare] = name
    return tensors


def _choose(
    tensors: Mapping[str, str],
    config: Mapping[str, Any] | None,
    families: Sequence[Family],
    chosen: str | None,
) -> Family | Miss:
    by_name = {family.name: family for family in families}
    if chosen is not None:
        if chosen in by_name:
            return by_name[chosen]
        near = difflib.get_close_matches(chosen, by_name, n=3)
        return Miss(f"no family is called {chosen!r}", tuple(near))
    if config is None:
        return _choose_by_names(tensors, families)
    claims = {name: family for family in families for name in family.model_types}
    types = tuple(dict.fromkeys(model_types(config)))
    for model_type in types:
        if model_type in claims:
            return claims[model_type]
    if types:
        return Miss(f"model_type {types[0]!r} is unknown", nearest(types[0], tensors, families))
    return _choose_by_architecture(tensors, architecture(config), families)


def _choose_by_architecture(
    tensors: Mapping[str, str], name: str | None, families: Sequence[Family]
) -> Family | Miss:
    """The family that claims a name in timm, if its tensors are here: the name alone does not tell them."""
    if name is None:
        said = "config.json has neither model_type nor architecture"
        return Miss(said, nearest("", tensors, families))
    family = next((family for family in families if family.claims(name)), None)
    if family is None:
        return Miss(f"architecture {name!r} is unknown", nearest(name, tensors, families))
    if lacking := _lacking(family, tensors):
        said = f"architecture {name!r} is of the family {family.name}, and no tensor is named "
        return Miss(said + family.layers[0] + lacking[0], nearest(name, tensors, families))
    return family


def _choose_by_names(tensors: Mapping[str, str], families: Sequence[Family]) -> Family | Miss:
    explained = {
        family.name: len(_claimed(family, tensors)) for family in families if not _lacking(family, tensors)
    }
    best = [name for name, count in explained.items() if count == max(explained.values())]
    if len(best) == 1:
        return next(family for family in families if family.name == best[0])
    if best:
        return Miss(
            "there is no config.json, and by tensor names alone it could be any of these", tuple(best)
        )
    return Miss(
        "there is no config.json and no family has these tensor names", nearest("", tensors, families)
    )


def _lacking(family: Family, tensors: Iterable[str]) -> list[str]:
    """The family's layer-local tensor names that no layer here has."""
    layers = family.layers_among(tensors)
    return [name for name in family.tensors if not any(name in layer for layer in layers.values())]


def _claimed(family: Family, tensors: Iterable[str]) -> set[str]:
    """Names that are projections, norms in front, or ignored by the family's own rules."""
    wanted = {*family.tensors, *family.norms.weights}
    inside = {
        name
        for layer in family.layers_among(tensors).values()
        for local, name in layer.items()
        if local in wanted
    }
    return inside | {name for name in tensors if family.ignoring_rule(name)}


def nearest(model: str, tensors: Iterable[str], families: Sequence[Family]) -> tuple[str, ...]:
    """The three families whose names and tensors come nearest, each with what it lacks here.

    `model` is a model type, a name in timm, or empty.
    """
    names = tuple(tensors)
    ranked = []
    for family in families:
        missing = [t for t in family.tensors if not any(name.endswith("." + t) for name in names)]
        share = 1 - len(missing) / len(family.tensors)
        claims = (*family.model_types, *family.architectures)
        alike = max(difflib.SequenceMatcher(None, model, name).ratio() for name in claims)
        lacks = f"no tensor ends in {missing[0]}" if missing else "all its tensors are here"
        ranked.append((share, alike, f"{family.name} ({lacks})"))
    ranked.sort(reverse=True)
    near = tuple(text for share, alike, text in ranked[:3] if share > 0 or alike > 0.6)
    return near or tuple(text for _, _, text in ranked[:1])


def _lay_out(
    family: Family, tensors: Mapping[str, str], shapes: Shapes, config: Mapping[str, Any] | None
) -> Layout | Miss:
    local_layers = family.layers_among(tensors)
    if not local_layers:
        wanted = family.layers[0].format(layer=0) + family.tensors[0]
        return Miss(f"the family {family.name} keeps its tensors as {wanted}, and none is named so")
    dims = dimensions(config, family.config)
    past_end = {i for i in local_layers if dims.layers is not None and i >= dims.layers}
    if dims.layers is None and max(local_layers) >= MAX_LAYERS:
        raise _MismatchError(f"there are tensors of layer {max(local_layers)}, more than any model has")
    if len(past_end) == len(local_layers):
        raise _MismatchError(
            f"config.json gives {dims.layers} layers, and the first with tensors is {min(local_layers)}"
        )
    layers = tuple(
        _lay_out_layer(family, index, {local: tensors[name] for local, name in local.items()}, shapes, dims)
        for index, local in sorted(local_layers.items())
        if index not in past_end
    )
    audited = {slot.tensor for layer in layers for slot in layer.slots.values()}
    late = {tensors[name] for index in past_end for name in local_layers[index].values()}
    ignored: dict[str, tuple[str, ...]] = {}
    unknown = []
    for stripped, name in tensors.items():
        if name in audited:
            continue
        rule = "layers past the config's count" if name in late else family.ignoring_rule(stripped)
        rule = rule or _rank_rule(name, shapes[name])
        if rule is None:
            unknown.append(name)
        else:
            ignored[rule] = (*ignored.get(rule, ()), name)
    expected = dims.layers if dims.layers is not None else max(local_layers) + 1
    present = {(name, layer.index) for layer in layers for name in layer.slots}
    return Layout(
        family=family.name,
        model_type=next(model_types(config), None) if config else None,
        hidden_size=dims.hidden
        or next((slot.shape[1] for layer in layers for slot in layer.slots.values()), None),
        heads=_heads(dims),
        declared=family.declared,
        layers=layers,
        missing=tuple(
            (name, index)
            for name in family.declared
            for index in range(expected)
            if (name, index) not in present
        ),
        ignored=ignored,
        unknown=tuple(unknown),
    )


def _heads(dims: Dimensions) -> Heads | None:
    if dims.heads is None or dims.kv_heads is None or dims.head_dim is None:
        return None
    if dims.heads % dims.kv_heads:
        raise _MismatchError(
            f"config.json: {dims.heads} heads cannot share {dims.kv_heads} key-value heads evenly"
        )
    return Heads(dims.heads, dims.kv_heads, dims.head_dim)


def _rank_rule(name: str, shape: tuple[int, ...]) -> str | None:
    if len(shape) > 1:
        return None
    return "biases" if name.endswith("bias") else "norms and scales"


def _lay_out_layer(
    family: Family, index: int, local: Mapping[str, str], shapes: Shapes, dims: Dimensions
) -> LayerLayout:
    slots: dict[Projection, Slot] = {}
    for projection, tensor in family.projections.items():
        if tensor in local:
            shape = _oriented(local[tensor], shapes, family.stored)
            slots[projection] = Slot(local[tensor], shape, family.stored)
    for fused in family.fused:
        if fused.tensor in local:
            slots |= _split(fused, fused.stored or family.stored, local[fused.tensor], shapes, dims)
    _check_residual(slots, dims.hidden)
    _check_inner(slots, family.name)
    return LayerLayout(
        index,
        {name: slots[name] for name in Projection if name in slots},
        dict(_norm_slots(family.norms, local)),
    )


def _check_residual(slots: Mapping[Projection, Slot], hidden: int | None) -> None:
    """Readers read, and writers write, as many channels as the config says the residual stream has."""
    for projection, slot in slots.items():
        width = slot.shape[0] if projection.facing == "u" else slot.shape[1]
        if hidden is not None and width != hidden:
            verb = "writes" if projection.facing == "u" else "reads"
            raise _MismatchError(
                f"{slot.tensor} {verb} {width} channels as {projection}, where config.json has {hidden}"
            )


def _check_inner(slots: Mapping[Projection, Slot], family: str) -> None:
    """Gate and Up make as many channels as Down reads; more, and they hold what is not declared."""
    down = slots.get(Projection.DOWN)
    for name in (Projection.GATE, Projection.UP):
        if down and name in slots and slots[name].shape[0] != down.shape[1]:
            raise _OtherLayoutError(
                f"{slots[name].tensor} makes {slots[name].shape[0]} channels as {name}, "
                f"where {down.tensor} reads {down.shape[1]}: a layout other than {family}'s"
            )


def _norm_slots(
    norms: Norms, local: Mapping[str, str]
) -> Iterator[tuple[Literal["attention", "ffn"], NormSlot]]:
    if norms.attention and (name := _first(norms.attention.weight, local)):
        yield "attention", NormSlot(name, norms.attention.kind, norms.attention.gain == "1+w")
    if norms.ffn and (name := _first(norms.ffn.weight, local)):
        yield "ffn", NormSlot(name, norms.ffn.kind, norms.ffn.gain == "1+w")


def _first(candidates: Sequence[str], local: Mapping[str, str]) -> str | None:
    return next((local[name] for name in candidates if name in local), None)


def _oriented(name: str, shapes: Shapes, stored: Literal["out_in", "in_out"]) -> tuple[int, int]:
    shape = shapes[name]
    if len(shape) != 2 or 0 in shape:
        raise _MismatchError(f"{name} has shape {list(shape)}, where a projection is a matrix")
    return (shape[0], shape[1]) if stored == "out_in" else (shape[1], shape[0])


def _split(
    fused: Fused, stored: Literal["out_in", "in_out"], name: str, shapes: Shapes, dims: Dimensions
) -> dict[Projection, Slot]:
    """The slots of a fused tensor: `repeat` groups, in each a share of every part, in the declared order."""
    rows, columns = _oriented(name, shapes, stored)
    groups = _groups(fused, name, dims)
    heights = _heights(fused, rows, name, dims)
    if sum(heights) != rows or any(height % groups for height in heights):
        parts = " + ".join(f"{part} {height}" for part, height in zip(fused.order, heights, strict=True))
        raise _MismatchError(f"{name} has {rows} rows, where config.json gives {parts} in {groups} groups")
    slots: dict[Projection, Slot] = {}
    start = 0
    for part, height in zip(fused.order, heights, strict=True):
        if part != "-":
            run = Rows(groups, height // groups, start, rows // groups)
            slots[part] = Slot(name, (height, columns), stored, run)
        start += height // groups
    return slots


def _groups(fused: Fused, name: str, dims: Dimensions) -> int:
    match fused.repeat:
        case "once":
            return 1
        case "heads":
            return _needed(dims.heads, "heads", name)
        case "kv_heads":
            return _needed(dims.kv_heads, "key-value heads", name)
        case int(count):
            return count


def _heights(fused: Fused, rows: int, name: str, dims: Dimensions) -> list[int]:
    """Rows of each part: heads times their width for attention, equal shares for a feed-forward pair."""
    if fused.equal or not {Projection.Q, Projection.K, Projection.V} & set(fused.order):
        return [rows // len(fused.order)] * len(fused.order)
    width = _needed(dims.head_dim, "the head width", name)
    query = _needed(dims.heads, "heads", name) * width
    key = _needed(dims.kv_heads, "key-value heads", name) * width
    return [query if part in (Projection.Q, "-") else key for part in fused.order]


def _needed(value: int | None, what: str, name: str) -> int:
    if value is None:
        raise _UnknowableError(f"{name} is fused, and without config.json the number of {what} is unknown")
    return value
