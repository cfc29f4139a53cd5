"""Ids in files: made once, written whole or not at all, mapped into memory from then on."""

import json
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from audit.disk import write_file, writing
from audit.errors import DataError
from audit.train.text.encoders import Encoder
from audit.train.text.known import ADVICE
from audit.train.text.pieces import PARTS, Piece, Text
from audit.train.text.tokens import Progress, Tokens

_FORMAT = "1"
"""Of the files and of how a text becomes ids: another number makes them all anew."""

_DRAFT = ".draft."
_ABANDONED = 86_400
"""Seconds."""

_UINT16_IDS = 1 << 16
_CHUNK = 1 << 14
"""Characters that are encoded together at least, where the text may be cut."""
_BATCH = 1 << 21
"""Characters that are encoded at a time."""


def cached(text: Text, encoder: Encoder, cache: Path, progress: Progress) -> Tokens:
    """The ids of a text, from the cache, or made and kept there.

    Raises OutputError where the cache cannot be written, DataError for a part without text, and what reading
    the text raises.
    """
    key = sha256(json.dumps([_FORMAT, text.identity, encoder.identity]).encode()).hexdigest()[:16]
    tokens = _kept(cache, key, text, encoder)
    if tokens is None:
        with writing(cache):
            cache.mkdir(parents=True, exist_ok=True)
            _sweep(cache)
            _make(cache, key, text, encoder, progress)
        tokens = _kept(cache, key, text, encoder)
    if tokens is None:
        raise DataError(f"the ids just written to {cache} are not there", "name another folder with --out")
    return tokens


def _kept(cache: Path, key: str, text: Text, encoder: Encoder) -> Tokens | None:
    """The ids in the cache; None where they are not there, or not whole."""
    try:
        fields = json.loads((cache / f"{key}.json").read_bytes())
        train, valid = (
            _mapped(cache / f"{key}.{part}.npy", fields["bytes"][part], _dtype(encoder)) for part in PARTS
        )
        digest = str(fields["digest"])
        return Tokens(text.name, encoder.name, encoder.vocabulary, digest, train, valid, text.about)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _sweep(cache: Path) -> None:
    """Remove what processes left that were killed while they wrote; nobody writes for so long."""
    for draft in cache.glob(f"{_DRAFT}*"):
        # another process may remove its own meanwhile
        with suppress(FileNotFoundError):
            if time.time() - draft.stat().st_mtime > _ABANDONED:
                shutil.rmtree(draft, ignore_errors=True)


def _mapped(file: Path, size: int, dtype: np.dtype[Any]) -> np.ndarray:
    """The ids of a file that begins as ours of this size; numpy's own reader of headers can raise anything.

    A file that is shorter cannot be mapped: that is a ValueError too.
    """
    start = len(_header(0, dtype))
    count = (size - start) // dtype.itemsize
    with file.open("rb") as opened:
        if opened.read(start) != _header(count, dtype):
            raise ValueError(f"{file} does not begin as it should")
    return np.memmap(file, dtype, "r", start, (count,))


def _make(cache: Path, key: str, text: Text, encoder: Encoder, progress: Progress) -> None:
    """Write both parts beside their places, move them there, and say last that they are whole."""
    digest = sha256(f"{encoder.identity}\0".encode())
    with tempfile.TemporaryDirectory(prefix=_DRAFT, dir=cache) as draft:
        drafts = {part: Path(draft, f"{part}.npy") for part in PARTS}
        for part, file in drafts.items():
            reading = _Reading(text.read(part, progress), digest)
            with file.open("wb") as opened:
                _write(opened, ids_of(reading, encoder), _dtype(encoder))
            if not reading.characters:
                raise DataError(f"the {part} text of {text.name} is empty", ADVICE)
            digest.update(b"\xfe")
        sizes = {part: file.stat().st_size for part, file in drafts.items()}
        for part, file in drafts.items():
            file.replace(cache / f"{key}.{part}.npy")
    fields: dict[str, Any] = {
        "dataset": text.name, "tokenizer": encoder.name, "vocabulary": encoder.vocabulary,
        "digest": digest.hexdigest(), "bytes": sizes,
    }  # fmt: skip
    write_file(cache / f"{key}.json", json.dumps(fields, indent=1).encode())


def _dtype(encoder: Encoder) -> np.dtype[Any]:
    return np.dtype("<u2" if encoder.vocabulary <= _UINT16_IDS else "<u4")


@dataclass
class _Reading:
    """Pieces on their way, hashed and counted; no UTF-8 holds the byte that stands for a document's end."""

    pieces: Iterable[Piece]
    digest: Any
    characters: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[Piece]:
        for piece in self.pieces:
            self.digest.update(b"\xff" if piece is None else piece.encode())
            self.characters += len(piece or "")
            yield piece


def _write(file: IO[bytes], ids: Iterable[np.ndarray], dtype: np.dtype[Any]) -> None:
    """An .npy file whose length is known at its end: numpy leaves room in the header for any."""
    count = 0
    file.write(_header(count, dtype))
    for some in ids:
        file.write(some.astype(dtype).tobytes())
        count += len(some)
    file.seek(0)
    file.write(_header(count, dtype))


def _header(count: int, dtype: np.dtype[Any]) -> bytes:
    header = BytesIO()
    fields = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": (count,)}
    npy.write_array_header_1_0(header, fields)
    return header.getvalue()


def ids_of(pieces: Iterable[Piece], encoder: Encoder) -> Iterator[np.ndarray]:
    """The ids of a text, as if each of its documents were encoded whole."""
    batch: list[Piece] = []
    characters = 0
    for chunk in _chunks(pieces, encoder):
        batch.append(chunk)
        characters += len(chunk or "")
        if characters >= _BATCH:
            yield from _encoded(batch, encoder)
            batch, characters = [], 0
    yield from _encoded(batch, encoder)


def _chunks(pieces: Iterable[Piece], encoder: Encoder) -> Iterator[Piece]:
    """Lines put together as far as they have to be, and the ends of the documents."""
    lines: list[str] = []
    characters = 0
    for piece in pieces:
        if lines and (piece is None or (characters >= _CHUNK and encoder.may_cut(lines[-1], piece))):
            yield "".join(lines)
            lines, characters = [], 0
        if piece is None:
            yield None
        else:
            lines.append(piece)
            characters += len(piece)
    if lines:
        yield "".join(lines)


def _encoded(batch: list[Piece], encoder: Encoder) -> Iterator[np.ndarray]:
    encoded = iter(encoder.encode([chunk for chunk in batch if chunk is not None]))
    end = np.array([] if encoder.end is None else [encoder.end], np.uint32)
    for chunk in batch:
        yield end if chunk is None else next(encoded)
