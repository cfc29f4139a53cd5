"""Tensors of a model that hold the same bytes: suspected by their sums, told by their hashes."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence

from audit.checkpoint.header import TensorEntry
from audit.errors import CorruptError
from audit.integrity.passage import Passed, fill_from, open_file
from audit.integrity.pieces import PIECE
from audit.integrity.survey import Shard
from reports.integrity.model import Problem

_NAMED = 4
"""Tensors of a group that a message names; the rest are counted."""

_Held = tuple[str, Shard, TensorEntry]


def duplicates(shards: Sequence[Shard], passed: Mapping[str, Passed]) -> Iterator[Problem]:
    """A finding for each set of tensors of one dtype, shape and content, but for those of a single value.

    Only what is suspected is read again, and of that only what is here.
    """
    alike: dict[tuple[object, ...], list[_Held]] = {}
    for shard in shards:
        scans = passed[shard.file.name].scans
        for name, entry in (shard.entries or {}).items():
            if name in scans and entry.nbytes and not scans[name].constant:
                key = (entry.dtype, entry.shape, scans[name].sums)
                alike.setdefault(key, []).append((name, shard, entry))
    for suspects in alike.values():
        if len(suspects) > 1:
            yield from _told(suspects, passed)


def _told(suspects: Sequence[_Held], passed: Mapping[str, Passed]) -> Iterator[Problem]:
    same: dict[str, list[_Held]] = {}
    for name, shard, entry in suspects:
        digest = passed[shard.file.name].scans[name].digest or _digest(shard, entry)
        if digest is not None:
            same.setdefault(digest, []).append((name, shard, entry))
    for (first, shard, entry), *others in same.values():
        if others:
            names = ", ".join(name[:200] for name, _, _ in others[:_NAMED])
            more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
            message = f"{first[:200]} {list(entry.shape)} is stored again as {names}{more}"
            yield Problem("duplicate-tensor", "info", message, shard.file.name, first)


def _digest(shard: Shard, entry: TensorEntry) -> str | None:
    """The SHA-256 of a tensor of a file here; None where it cannot be read any more."""
    hasher = hashlib.sha256()
    buffer = memoryview(bytearray(min(PIECE, entry.nbytes)))
    try:
        with open_file(shard) as descriptor:
            for start in range(entry.start, entry.stop, PIECE):
                piece = buffer[: min(PIECE, entry.stop - start)]
                fill_from(descriptor, shard.file.name, start, [piece])
                hasher.update(piece)
    except CorruptError:
        return None
    return hasher.hexdigest()
