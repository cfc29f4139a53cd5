"""Find stacks of layers among tensors' names alone: prefixes with a number that counts layers."""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from registry.guessing.words import components, read

Shape = tuple[int, ...]

_NUMBER = re.compile(r"\d{1,9}")
_EXPERT = re.compile(r"(?:(?<=experts[./])|(?<=expert[./]))\d{1,9}")
_WHOLE = re.compile(r"(?<![^./])\d{1,9}(?=[./])")

FEWEST = 4
"""Matrices that repeat from layer to layer, below which numbers are no stack."""


@dataclass
class Tensor:
    """A tensor by its layer-local name, with {expert} where that counts experts; shaped as in the first."""

    name: str
    shape: Shape
    layers: set[int] = field(default_factory=set)
    experts: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Found:
    """A stack: its prefix with {layer}, its layers, its tensors by layer-local name, and their full names."""

    template: str
    layers: tuple[int, ...]
    tensors: Mapping[str, Tensor]
    names: frozenset[str]


def find_stacks(shapes: Mapping[str, Shape]) -> list[Found]:
    """Every stack, the one with most matrices first; of one layer only where there is no other."""
    left = {name: shape for name, shape in shapes.items() if "{" not in name and "}" not in name}
    found: list[Found] = []
    while place := _most(left, repeated=True) or (None if found else _most(left, repeated=False)):
        stack = _stack(place, left)
        found.append(stack)
        left = {name: shape for name, shape in left.items() if name not in stack.names}
    return found


def _most(shapes: Mapping[str, Shape], *, repeated: bool) -> tuple[str, str] | None:
    """What stands before and behind the layer's number in most matrices, of experts one taken for all."""
    seen: dict[tuple[str, str], dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for name in dict.fromkeys(_EXPERT.sub("0", one) for one, shape in shapes.items() if len(shape) in (2, 3)):
        for hit in _NUMBER.finditer(name):
            behind = name[hit.end() : hit.end() + 1]
            if behind in (".", "/", "_") and hit.end() + 1 < len(name):
                seen[name[: hit.start()], behind][name[hit.end() + 1 :]].add(int(hit[0]))
    least = 2 if repeated else 1
    counts = {
        place: sum(len(numbers) for numbers in names.values() if len(numbers) >= least)
        for place, names in seen.items()
    }
    best = max(counts, key=lambda place: (counts[place], len(place[0])), default=None)
    return best if best is not None and counts[best] >= FEWEST else None


def _stack(place: tuple[str, str], shapes: Mapping[str, Shape]) -> Found:
    before, behind = place
    pattern = re.compile(re.escape(before) + r"(\d{1,9})" + re.escape(behind) + "(.+)", re.DOTALL)
    names: list[str] = []
    locals_: dict[str, dict[int, Shape]] = defaultdict(dict)
    for name, shape in shapes.items():
        if hit := pattern.fullmatch(name):
            names.append(name)
            locals_[hit[2]][int(hit[1])] = shape
    experts = _expert_places({local: next(iter(layers.values())) for local, layers in locals_.items()})
    tensors: dict[str, Tensor] = {}
    for local, layers in locals_.items():
        told, expert = _without_expert(local, experts)
        tensor = tensors.setdefault(told, Tensor(told, next(iter(layers.values()))))
        tensor.layers.update(layers)
        if expert is not None:
            tensor.experts.add(expert)
    present = {layer for layers in locals_.values() for layer, shape in layers.items() if len(shape) >= 2}
    return Found(f"{before}{{layer}}{behind}", tuple(sorted(present)), tensors, frozenset(names))


def _expert_places(tensors: Mapping[str, Shape]) -> set[str]:
    """What stands before a number that counts experts: alike from one to the next, and no attention."""
    seen: dict[str, dict[str, dict[int, Shape]]] = defaultdict(lambda: defaultdict(dict))
    for local, shape in tensors.items():
        if len(shape) >= 2:
            for hit in _WHOLE.finditer(local):
                seen[local[: hit.start()]][local[hit.end() :]][int(hit[0])] = shape
    return {before for before, names in seen.items() if _counts_experts(before, names)}


def _counts_experts(before: str, names: Mapping[str, Mapping[int, Shape]]) -> bool:
    if "expert" in components(before.rstrip("./"))[-1].lower():
        return True
    numbers = {number for shapes in names.values() for number in shapes}
    return (
        len(numbers) > 1
        and numbers == set(range(len(numbers)))
        and all(len(shapes) == len(numbers) and len(set(shapes.values())) == 1 for shapes in names.values())
        and all(read(f"{before}0{behind}").context == "ffn" for behind in names)
        and len(names) > 1
    )


def _without_expert(local: str, places: set[str]) -> tuple[str, int | None]:
    for hit in _WHOLE.finditer(local):
        if local[: hit.start()] in places:
            return f"{local[: hit.start()]}{{expert}}{local[hit.end() :]}", int(hit[0])
    return local, None
