"""A measurement as bytes, and back to the last bit: to keep it on disk, or to send it to another process.

A safetensors document: every tensor as it is, and in the metadata one JSON text with all that is no tensor,
and a digest of the whole. What a field may hold follows from the dataclasses of audit/measure.py; a new field
needs no word here.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from hashlib import sha256
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from audit.measure import Measured

_DIGEST = re.compile(rb'"sha256":"([0-9a-f]{64})"')
_UNKNOWN = b"0" * 64
_UNFIT = (ValueError, TypeError, LookupError, AttributeError)


class DamagedRecordError(ValueError):
    """Bytes that are no measurement, or not as they were written."""


def to_bytes(measured: Measured, key: str = "") -> bytes:
    """The measurement as bytes; `key` is a word to know it by again."""
    tensors: dict[str, Tensor] = {}
    told = json.dumps({"key": key, "measured": _plain(measured, tensors)})
    document: bytes = save(tensors, {"told": told, "sha256": _UNKNOWN.decode()})
    start, stop = _digest_in(document)
    return document[:start] + sha256(document).hexdigest().encode() + document[stop:]


def from_bytes(data: bytes, key: str = "") -> Measured:
    """What to_bytes was given, with the same key; raises DamagedRecordError for anything else."""
    start, stop = _digest_in(data)
    if sha256(data[:start] + _UNKNOWN + data[stop:]).hexdigest().encode() != data[start:stop]:
        raise DamagedRecordError("the bytes are not as they were written")
    try:
        tensors = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        told = json.loads(header["__metadata__"]["told"])
        if told["key"] != key:
            raise DamagedRecordError("a measurement of something else")
        measured: Measured = _typed(told["measured"], Measured, tensors)
    except (SafetensorError, *_UNFIT) as error:
        raise DamagedRecordError(f"no measurement as this version writes it: {error}") from error
    return measured


def _digest_in(data: bytes) -> tuple[int, int]:
    found = _DIGEST.search(data)
    if found is None:
        raise DamagedRecordError("the bytes are no measurement")
    return found.span(1)


def _plain(value: object, tensors: dict[str, Tensor]) -> object:
    """A value as JSON has it, floats to the last bit; its tensors go to `tensors`."""
    match value:
        case Tensor():
            name = str(len(tensors))
            tensors[name] = value.detach().cpu().contiguous().clone()
            return {"tensor": name}
        case Enum():
            return value.value
        case float():
            return {"float": value.hex()}
        case tuple():
            return [_plain(item, tensors) for item in value]
        case None | bool() | int() | str():
            return value
        case _ if is_dataclass(value):
            return {each.name: _plain(getattr(value, each.name), tensors) for each in fields(value)}
        case _:
            raise TypeError(f"{type(value).__name__} is nothing that a record can hold")


def _typed(value: Any, kind: Any, tensors: Mapping[str, Tensor]) -> Any:
    """A value as its field's type has it; raises one of _UNFIT where it is no such thing."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _any_of(value, inner, tensors)
    if origin is tuple:
        return _items(value, inner, tensors)
    if isinstance(kind, type) and is_dataclass(kind):
        hints = _hints(kind)
        if value.keys() != hints.keys():
            raise ValueError(f"other fields than those of {kind.__name__}")
        return kind(**{name: _typed(value[name], hint, tensors) for name, hint in hints.items()})
    if kind is Tensor:
        return tensors[value["tensor"]]
    if kind is float:
        return float(value) if type(value) is int else float.fromhex(value["float"])
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    fits = value in inner if origin is Literal else type(value) is kind
    if not fits:
        raise ValueError(f"{value!r} is no {kind}")
    return value


def _any_of(value: Any, kinds: tuple[Any, ...], tensors: Mapping[str, Tensor]) -> Any:
    if value is None and NoneType in kinds:
        return None
    for kind in kinds:
        try:
            return _typed(value, kind, tensors)
        except _UNFIT:
            continue
    raise ValueError(f"{value!r} is none of {kinds}")


def _items(value: Any, kinds: tuple[Any, ...], tensors: Mapping[str, Tensor]) -> tuple[Any, ...]:
    if kinds[1:] == (...,):
        kinds = kinds[:1] * len(value)
    return tuple(_typed(item, kind, tensors) for item, kind in zip(value, kinds, strict=True))


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)
