"""One pass over a file's bytes: hashed in one thread, read and scanned in another, in bounded memory."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event

import torch
from torch import Tensor

from audit.checkpoint import ShardFile
from audit.checkpoint.local import changed, stamp_of
from audit.checkpoint.origin import Heard
from audit.checkpoint.stream import Extent, Stream
from audit.errors import CorruptError, StoppedError, TruncatedError
from audit.integrity.digest import git_hasher
from audit.integrity.pieces import BATCH, Piece, batches_of, pieces_of
from audit.integrity.scan import Scan
from audit.integrity.survey import Shard
from audit.threads import threads

Fill = Callable[[Sequence[Piece], Sequence[memoryview]], None]
"""Reads pieces that lie side by side in a file."""


@dataclass(frozen=True)
class Passed:
    """What a pass over a file found: its hashes, and of each tensor its values.

    `trouble` is why it did not come to the end; the rest is then of no use.
    """

    sha256: str = ""
    git: str = ""
    scans: Mapping[str, Scan] = field(default_factory=dict)
    trouble: CorruptError | None = None


def local_at_once() -> int:
    """Files on this machine that are passed over at a time: each keeps two threads busy."""
    return max(2, min(8, (os.cpu_count() or 1) // 2))


def pass_over(shards: Sequence[Shard], heard: Heard) -> dict[str, Passed]:
    """All bytes of the files once, by file name: several at a time of those here, then those elsewhere.

    Raises AccessErrors.
    """
    stopping = Event()
    near = [shard for shard in shards if shard.file.path is not None]
    far = [shard for shard in shards if shard.file.path is None]
    pool = ThreadPoolExecutor(local_at_once())
    try:
        done = pool.map(lambda shard: _pass(shard, heard, stopping), near)
        found = {shard.file.name: one for shard, one in zip(near, done, strict=True)}
        # a stream keeps its own connections busy: one file at a time
        return found | {shard.file.name: _pass(shard, heard, stopping) for shard in far}
    finally:
        stopping.set()
        pool.shutdown(wait=False, cancel_futures=True)


def _pass(shard: Shard, heard: Heard, stopping: Event) -> Passed:
    try:
        with threads(1), _reading(shard) as fill:
            return _follow(shard, fill, heard, stopping)
    except CorruptError as error:
        return Passed(trouble=error)


def _follow(shard: Shard, fill: Fill, heard: Heard, stopping: Event) -> Passed:
    """Read a batch and scan it while the one before is hashed."""
    sha256, git = hashlib.sha256(), None
    hashers = [sha256]
    if shard.expected is not None and shard.expected.algorithm == "git-sha1":
        hashers.append(git := git_hasher(shard.file.size))
    hashed = shard.file.path is None  # what comes from afar is not read again to compare tensors
    scans = {name: Scan(entry.dtype, hashed) for name, entry in (shard.entries or {}).items()}
    arenas = [torch.empty(BATCH, dtype=torch.uint8) for _ in range(2)]
    before: Future[None] | None = None
    with ThreadPoolExecutor(1) as pool:
        for batch in batches_of(pieces_of(shard.file.size, shard.entries or {})):
            if stopping.is_set():
                raise StoppedError("stopped")
            data = _laid_out(arenas[0], batch)
            views = [memoryview(one.numpy()) for one in data]  # type: ignore[arg-type]
            fill(batch, views)
            if before is not None:
                before.result()
            before = pool.submit(_update, hashers, views)
            for piece, one in zip(batch, data, strict=True):
                if piece.tensor is not None:
                    scans[piece.tensor].take(one)
            heard(sum(piece.size for piece in batch))
            arenas.reverse()
        if before is not None:
            before.result()
    return Passed(sha256.hexdigest(), git.hexdigest() if git is not None else "", scans)


def _update(hashers: "Sequence[hashlib._Hash]", views: Sequence[memoryview]) -> None:
    for view in views:
        for hasher in hashers:
            hasher.update(view)


def _laid_out(arena: Tensor, batch: Sequence[Piece]) -> list[Tensor]:
    """Each piece's place in the arena, aligned."""
    places, start = [], 0
    for piece in batch:
        places.append(arena[start : start + piece.size])
        start += piece.room
    return places


@contextmanager
def _reading(shard: Shard) -> Iterator[Fill]:
    """How a file's pieces are read; raises CorruptError where it ends or changes meanwhile."""
    if shard.file.path is None:
        pieces = pieces_of(shard.file.size, shard.entries or {})
        stream = Stream(Extent(shard.file, one.start, one.stop) for one in pieces)
        try:
            yield lambda batch, views: _take(stream, shard, batch, views)
        finally:
            stream.close()
        return
    with open_file(shard) as descriptor:
        yield lambda batch, views: fill_from(descriptor, shard.file.name, batch[0].start, views)


def _take(stream: Stream, shard: Shard, batch: Sequence[Piece], views: Sequence[memoryview]) -> None:
    for piece, view in zip(batch, views, strict=True):
        stream.read(Extent(shard.file, piece.start, piece.stop), view)


@contextmanager
def open_file(shard: Shard) -> Iterator[int]:
    """A descriptor of a file here; raises CorruptError where it is not what its header was read from."""
    file = shard.file
    assert file.path is not None
    try:
        descriptor = os.open(file.path, os.O_RDONLY)
    except OSError as error:
        raise CorruptError(f"{file.name} cannot be opened any more", error.strerror or "") from error
    try:
        _check_stamp(file, descriptor)
        yield descriptor
        _check_stamp(file, descriptor)
    except OSError as error:
        raise CorruptError(f"{file.name} cannot be read", error.strerror or "") from error
    finally:
        os.close(descriptor)


def _check_stamp(file: ShardFile, descriptor: int) -> None:
    status = os.fstat(descriptor)
    if file.stamp is not None and stamp_of(status) != file.stamp:
        raise changed(file, status)


def fill_from(descriptor: int, name: str, start: int, views: Sequence[memoryview]) -> None:
    """Fill buffers with the bytes from `start` on; raises TruncatedError where the file ends."""
    left = list(views)
    while left:
        count = os.preadv(descriptor, left, start)
        if not count:
            raise TruncatedError(f"{name} ended while it was read", "download it again")
        start += count
        while left and count >= len(left[0]):
            count -= len(left.pop(0))
        if left:
            left[0] = left[0][count:]
