"""Read the header of a safetensors file, believing nothing it says until it is checked.

The format: 8 bytes of little-endian header length N, N bytes of JSON {name: {dtype, shape, data_offsets}},
then the data. https://huggingface.co/docs/safetensors
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from operator import mul
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeGuard

from audit.errors import HeaderError, TruncatedError
from registry.quotation import quoted

MAX_HEADER_BYTES = 100_000_000
"""The limit the format itself sets."""

MAX_RANK = 16
"""More axes than this no weight has: a list of millions would cost minutes to multiply out."""

MAX_ELEMENTS = 2**64
"""What the format's own library counts elements in; a product of axes that leaves it, even on its way to 0,
is no shape."""

BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64, "C64": 64,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
"""Bits an element of each dtype takes on disk."""


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of a file: its dtype as the file names it, its shape, and its bytes [start, stop)."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return self.stop - self.start


def read_header(path: Path) -> dict[str, TensorEntry]:
    """The tensors of a safetensors file, offsets counted from the start of the file.

    Raises HeaderError for a header that cannot be right, TruncatedError for one that promises more bytes
    than the file has. Allocates no more than the header's own length, and that at most 100 MB.
    """
    try:
        with path.open("rb") as file:
            return _read(file, os.fstat(file.fileno()).st_size, path.name)
    except OSError as error:
        raise HeaderError(f"{path} cannot be read", error.strerror or str(error)) from error


def _read(file: BinaryIO, size: int, name: str) -> dict[str, TensorEntry]:
    length = header_length(file.read(8), size, name)
    return parse_header(file.read(length), size, name)


def header_length(prefix: bytes, file_size: int, name: str) -> int:
    """The length of the header that a file's first 8 bytes announce; raises HeaderError, TruncatedError."""
    if prefix.startswith(b"version "):
        raise HeaderError(f"{name} is a Git LFS pointer, not the weights", "run `git lfs pull` in its folder")
    if len(prefix) < 8:
        raise TruncatedError(f"{name} is too short for a safetensors file", "download it again")
    length = int.from_bytes(prefix, "little")
    if length > MAX_HEADER_BYTES:
        raise HeaderError(f"{name} is not a safetensors file", f"it claims a header of {length} bytes")
    if 8 + length > file_size:
        raise TruncatedError(f"{name} ends within its header", "download it again")
    return length


def parse_header(text: bytes, file_size: int, name: str) -> dict[str, TensorEntry]:
    """The tensors a header's JSON declares for a file of `file_size` bytes called `name`.

    Raises HeaderError or TruncatedError, and nothing else, whatever the bytes.
    """
    data_start = 8 + len(text)
    said = _object(text, name)
    _check_metadata(said.pop("__metadata__", None), name)
    entries = {tensor: _entry(tensor, one, data_start, name) for tensor, one in said.items()}
    end = data_start
    for tensor, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start != end:
            raise HeaderError(f"{name}: {quoted(tensor)} starts at byte {entry.start}, expected {end}")
        end = entry.stop
    if end > file_size:
        raise TruncatedError(f"{name} is truncated: it has {file_size} bytes of {end}", "download it again")
    if end < file_size:
        raise HeaderError(f"{name} has {file_size - end} bytes that belong to no tensor")
    return entries


def _check_metadata(said: Any, name: str) -> None:
    """The file's own notes are strings by strings, as the format has it; null is as good as none."""
    if said is None:
        return
    if not isinstance(said, dict) or not all(isinstance(value, str) for value in said.values()):
        raise HeaderError(f"{name}: __metadata__ is no map of strings to strings")
    _check_encodable((*said, *said.values()), name)


def _check_encodable(texts: Iterable[str], name: str) -> None:
    """JSON can spell half a surrogate pair, which neither a report nor a terminal can hold."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        raise HeaderError(f"{name} has an unreadable safetensors header", "half a character in it") from error


def _object(text: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(
            text.decode("utf-8"), object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        raise HeaderError(f"{name} has an unreadable safetensors header", str(error)[:200]) from error
    if not isinstance(value, dict):
        raise HeaderError(f"{name} has an unreadable safetensors header", "it is no JSON object")
    _check_encodable(value, name)
    return value


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {quoted(twice)} stands twice")
    return value


def _entry(tensor: str, said: Any, data_start: int, name: str) -> TensorEntry:
    """Keys besides the three are passed over, as the format's own library does."""
    where = f"{name}: {quoted(tensor)}"
    if not isinstance(said, dict):
        raise HeaderError(f"{where} is described by {type(said).__name__}, not an object")
    dtype, shape, offsets = said.get("dtype"), said.get("shape"), said.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in BITS:
        raise HeaderError(f"{where} has the unknown dtype {quoted(dtype)}")
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise HeaderError(f"{where} has an impossible shape or offsets")
    if max(accumulate(shape, mul), default=1) >= MAX_ELEMENTS:
        raise HeaderError(f"{where} has the impossible shape {shape}")
    start, stop = offsets
    bits = prod(shape) * BITS[dtype]
    if bits % 8:
        raise HeaderError(f"{where}: {dtype} {shape} makes {bits} bits, which are no whole bytes")
    if (stop - start) * 8 != bits:
        raise HeaderError(f"{where} takes {stop - start} bytes, where {dtype} {shape} takes {bits // 8}")
    return TensorEntry(dtype, tuple(shape), data_start + start, data_start + stop)


def _are_sizes(value: Any) -> TypeGuard[list[int]]:
    return (
        isinstance(value, list)
        and len(value) <= MAX_RANK
        and all(type(item) is int and 0 <= item < 2**63 for item in value)
    )
