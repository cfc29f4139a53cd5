"""Why each tensor of a checkpoint is read or left out: one by one, or together where only numbers differ."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

from registry import Layout, Projection
from reports.view import spans

Kind = Literal["projection", "norm", "ignored", "unknown"]

_NUMBER = re.compile(r"(\d{1,9})")
_FEW = 3
"""So few different numbers within a word, as of fc1 and fc2, are names and count nothing."""


@dataclass(frozen=True)
class Explained:
    """A tensor, and the rule that claimed it in words."""

    name: str
    shape: tuple[int, ...]
    kind: Kind
    rule: str
    inside: bool


@dataclass(frozen=True)
class Group:
    """Tensors of one shape and rule whose names differ in numbers only.

    `name` has ranges where they differ; `possible` is how many tensors these could make together.
    """

    name: str
    shape: tuple[int, ...]
    kind: Kind
    rule: str
    count: int
    possible: int


def explain(layout: Layout, shapes: Mapping[str, Sequence[int]]) -> tuple[Explained, ...]:
    """Every tensor with its rule, in the order of the files."""
    roles = _roles(layout)
    return tuple(
        Explained(name, tuple(shapes[name]), claim.kind, roles.get(name) or claim.rule, claim.inside)
        for name, claim in layout.claims.items()
    )


def _roles(layout: Layout) -> dict[str, str]:
    """What each tensor of a projection holds, and what each norm stands in front of, whatever the layer."""
    holds: dict[tuple[str, str], dict[Projection, None]] = defaultdict(dict)
    roles: dict[str, str] = {}
    for stack in layout.stacks:
        own = "" if stack is layout.main or not stack.name else f" of {stack.name}"
        for layer in stack.layers:
            for site, norm in layer.norms.items():
                readers = [name for name in layer.slots if layer.norm_of(name) is norm]
                told = ", ".join(readers) or site
                roles[norm.weight] = f"norm in front of {told}{own}"
            for projection, place in layer.slots.items():
                for tensor in place.tensors:
                    holds[tensor, own][projection] = None
    for (tensor, own), projections in holds.items():
        told = f"{', '.join(projections)}{own}"
        roles[tensor] = f"{roles[tensor]}; {told}" if tensor in roles else told
    return {
        name: role
        for name, role in roles.items()
        if layout.claims[name].kind == ("norm" if role.startswith("norm") else "projection")
    }


def grouped(tensors: Sequence[Explained]) -> list[Group]:
    """As few lines as tell all: projections, norms, what is ignored by which rule, and what is unknown."""
    places: dict[tuple[tuple[str, ...], tuple[int, ...], Kind, str], list[Sequence[str]]] = {}
    for one in tensors:
        rule = _unknown(one) if one.kind == "unknown" else one.rule
        parts = _NUMBER.split(one.name)
        places.setdefault((tuple(parts[::2]), one.shape, one.kind, rule), []).append(parts[1::2])
    groups = [group for key, numbers in places.items() for group in _groups(*key, numbers)]
    first = {(group.kind, group.rule): i for i, group in reversed(list(enumerate(groups)))}
    order: tuple[Kind, ...] = ("projection", "norm", "ignored", "unknown")
    return sorted(groups, key=lambda one: (order.index(one.kind), _rank(one), first[one.kind, one.rule]))


def _rank(group: Group) -> int:
    """Projections as they are read: Q, K, V, O, ..."""
    first = group.rule.split(" of ")[0].split(",")[0].split("; ")[-1]
    return list(Projection).index(Projection(first)) if first in list(Projection) else len(Projection)


def _unknown(one: Explained) -> str:
    return "UNKNOWN, inside a layer" if one.inside else "UNKNOWN, outside the layers"


def _groups(
    text: Sequence[str], shape: tuple[int, ...], kind: Kind, rule: str, numbers: Sequence[Sequence[str]]
) -> Iterator[Group]:
    """One group, or one for each of the few numbers that belong to a word."""
    fixed = [i for i in range(len(text) - 1) if _names(text, i, {one[i] for one in numbers})]
    parts: dict[tuple[str, ...], list[Sequence[str]]] = {}
    for one in numbers:
        parts.setdefault(tuple(one[i] for i in fixed), []).append(one)
    for part in parts.values():
        values = [sorted({int(one[i]) for one in part}) for i in range(len(text) - 1)]
        ranges = [f"{{{spans(found)}}}" if found[1:] else part[0][i] for i, found in enumerate(values)]
        name = "".join(f"{before}{told}" for before, told in zip(text, [*ranges, ""], strict=True))
        yield Group(name, shape, kind, rule, len(part), prod(len(found) for found in values))


def _names(text: Sequence[str], place: int, values: set[str]) -> bool:
    """Whether a number is part of a word, and takes few values."""
    before, behind = text[place][-1:], text[place + 1][:1]
    return len(values) <= _FEW and not (before in ("", ".", "/") and behind in ("", ".", "/"))


@dataclass(frozen=True)
class Counts:
    """How many tensors are audited, ignored by each rule, and unknown."""

    audited: int
    ignored: Mapping[str, int]
    unknown_inside: int
    unknown_outside: int


def count(layout: Layout) -> Counts:
    """The sums, by the rules that the report of an audit names."""
    kinds = Counter(claim.kind for claim in layout.claims.values())
    inside = sum(layout.claims[name].inside for name in layout.unknown)
    return Counts(
        kinds["projection"],
        dict(Counter(rule for _, rule in layout.ignored())),
        inside,
        kinds["unknown"] - inside,
    )
