"""Say what is wrong with a declaration: at which key, and what was expected there."""

import difflib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from registry.projection import STORED, Projection

LONGEST_VALUE = 40
"""Characters of a wrong value that are quoted."""

LISTED_KEYS = 10
"""A table with more keys than these does not list them."""


@dataclass(frozen=True)
class _Place:
    """Where in a declaration something is wrong: its dotted key, what holds it, and what it should be."""

    keys: tuple[str, ...]
    holder: Any
    kind: Any
    is_key: bool = False

    @property
    def name(self) -> str:
        """The dotted key."""
        return ".".join(self.keys)


def first_complaint(error: ValidationError, shape: type) -> str:
    """One sentence on the likeliest slip: the key, what was expected, and what is there.

    An unknown key comes first; among the branches of a union the deepest got furthest.
    """
    found = [(one, _place(shape, one["loc"])) for one in error.errors(include_url=False)]
    complaint, place = max(found, key=lambda one: (_is_unknown(*one), _is_ours(one[0]), len(one[1].keys)))
    if _is_unknown(complaint, place):
        return f"unknown key `{place.name}`{_suggestion(place)}"
    if _is_ours(complaint):
        return _own_words(complaint["msg"].removeprefix("Value error, "), place)
    expected = f"expected {_expected(place.kind)}"
    if complaint["type"] == "missing":
        return f"`{place.name}` is missing: {expected}"
    where = f"`{place.name}`: " if place.keys else ""
    return f"{where}{expected}, not {_quoted(complaint['input'])}"


def _is_unknown(complaint: ErrorDetails, place: _Place) -> bool:
    return place.is_key or complaint["type"] == "unexpected_keyword_argument"


def _is_ours(complaint: ErrorDetails) -> bool:
    """Whether a declaration's own checks said so."""
    return complaint["type"] == "value_error"


def _own_words(message: str, place: _Place) -> str:
    """Their message may begin with the key within the table that was checked."""
    key, colon, rest = message.partition(": ")
    if colon and re.fullmatch(r"\w+(\.\w+)*", key):
        if key in place.keys:
            return f"`{place.name}`: {rest}"
        if key.split(".")[0] in _keys(_branches(place.kind)[0]):
            return f"`{'.'.join((*place.keys, key))}`: {rest}"
    return f"`{place.name}`: {message}" if place.keys else message


def _place(kind: Any, loc: Sequence[int | str]) -> _Place:
    """Follow pydantic's path through the types: it also names the branch of each union that it tried."""
    keys: list[str] = []
    holder = kind
    for i, part in enumerate(loc):
        if part == "[key]" and get_origin(holder) is dict:
            return _Place(tuple(keys), holder, get_args(holder)[0], is_key=True)
        if len(branches := _branches(kind)) > 1:
            if i + 1 == len(loc):
                break
            kind = next((one for one in branches if _is_nest(one)), None)
            continue
        holder = branches[0]
        kind = _inside(holder, part)
        keys.append(str(part))
    return _Place(tuple(keys), holder, kind)


def _branches(kind: Any) -> list[Any]:
    """The members of a union, None apart."""
    if get_origin(kind) in (Union, UnionType):
        return [branch for one in get_args(kind) if one is not NoneType for branch in _branches(one)]
    return [kind]


def _is_nest(kind: Any) -> bool:
    return get_origin(kind) in (tuple, dict) or is_dataclass(kind)


def _inside(kind: Any, part: int | str) -> Any:
    if get_origin(kind) is tuple:
        return get_args(kind)[0]
    if get_origin(kind) is dict:
        return get_args(kind)[1]
    return _keys(kind).get(str(part))


def _keys(kind: Any) -> dict[str, Any]:
    """The keys of a table and what each holds; none for what is no table."""
    return get_type_hints(kind, include_extras=True) if is_dataclass(kind) and isinstance(kind, type) else {}


def _suggestion(place: _Place) -> str:
    """The nearest key that the table may have, or all of them where they are few."""
    if place.is_key:
        allowed = {name: name for name in _choices(place.kind)}
    else:
        keys = _keys(place.holder)
        nested = {
            inner: f"{name}.{inner}"
            for name, kind in keys.items()
            for one in _branches(kind)
            for inner in _keys(one)
        }
        allowed = nested | {name: name for name in keys}
    lowered = {name.lower(): told for name, told in allowed.items()}
    if near := difflib.get_close_matches(place.keys[-1].lower(), lowered, n=1):
        return f": did you mean `{lowered[near[0]]}`?"
    told = [name for name in allowed.values() if "." not in name]
    return f": expected {_or(told)}" if len(told) <= LISTED_KEYS else ""


def _expected(kind: Any) -> str:
    """What a key may hold, in words."""
    return _or(list(dict.fromkeys(choice for branch in _branches(kind) for choice in _wanted(branch))))


def _wanted(kind: Any) -> Iterator[str]:
    if get_origin(kind) is Annotated:
        base, *limits = get_args(kind)
        least = next((limit.ge for one in limits for limit in one.metadata if hasattr(limit, "ge")), None)
        yield f"{_expected(base)}{'' if least is None else f' of at least {least}'}"
    elif get_origin(kind) is tuple:
        inner = _expected(get_args(kind)[0])
        yield "a list of strings" if inner == "a string" else f"a list, each entry {inner}"
    elif get_origin(kind) is dict:
        value = get_args(kind)[1]
        yield f"a table, each entry {_expected(value)}"
    elif is_dataclass(kind):
        needed = [one.name for one in fields(kind) if one.default is one.default_factory is MISSING]
        keys = [one.name for one in fields(kind)]
        told = f" of {', '.join(keys)}" if len(keys) <= LISTED_KEYS else ""
        yield f"a table with {' and '.join(needed)}" if needed else f"a table{told}"
    elif choices := _choices(kind):
        yield from (f'"{choice}"' for choice in choices)
    else:
        yield {str: "a string", int: "a whole number", bool: "true or false"}.get(kind, "something else")


def _choices(kind: Any) -> tuple[str, ...]:
    if get_origin(kind) is Literal:
        return get_args(kind)
    return STORED if kind is Projection else ()


def _or(choices: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(choices[:-1]), choices[-1])))


def _quoted(value: object) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (RecursionError, ValueError):  # nested too deeply, or a number of more digits than Python prints
        return f"something of type {type(value).__name__} that is too large to show"
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."
