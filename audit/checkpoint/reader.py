"""Read tensors from shards: each file is opened once, and closed after the last read that was planned.

What lies elsewhere comes through a stream (audit/checkpoint/stream.py). Several threads may read at once.
Where more is to be read than half of this machine's memory holds, the system is told to drop from its cache
what no read is planned for any more: else it drops what others need.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from threading import Lock
from typing import BinaryIO, Self

import torch
from torch import Tensor

from audit.checkpoint.header import TensorEntry
from audit.checkpoint.local import changed, stamp_of
from audit.checkpoint.model import Checkpoint, ShardFile, StoredTensor
from audit.checkpoint.origin import Heard
from audit.checkpoint.stream import Extent, Stream
from audit.errors import TruncatedError, UnsupportedDtypeError
from audit.peak import physical_memory
from registry import Read, Slab

FLOAT_DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
"""The stored dtypes that are plain floating point numbers."""


AHEAD = 2**30
"""Bytes that one hint may ask the system to read ahead."""


class TensorReader:
    """Reads tensors of one checkpoint; `planned` are all the reads to come, in any order.

    What is streamed is fetched in the order they have. `heard` is told of bytes as they come.
    """

    def __init__(
        self, checkpoint: Checkpoint, planned: Iterable[Read], heard: Heard = lambda count: None
    ) -> None:
        """Nothing is opened yet."""
        self._checkpoint = checkpoint
        self._heard = heard
        planned = tuple(planned)
        self._planned = Counter(planned)
        self._left = Counter(self._stored(read).file.name for read in self._planned.elements())
        whole = sum(extent_of(checkpoint, read).size for read in self._planned)
        self._drops = whole > physical_memory() / 2
        self._open: dict[str, BinaryIO] = {}
        self._lock = Lock()
        self._closed = False
        far = tuple(far_extents(checkpoint, planned))
        self._stream = Stream(far, heard) if far else None
        self.bytes_read = 0

    def read(self, read: Read, *, pinned: bool = False) -> Tensor:
        """The tensor as stored: its own dtype and shape, on the CPU, in memory of its own; or a slab of it.

        A slab of a tensor with three axes has two. `pinned` memory is what a CUDA device copies from without
        waiting. Raises UnsupportedDtypeError for a dtype that is no plain float, TruncatedError for a short
        file.
        """
        name, stored = read.tensor, self._stored(read)
        if stored.entry.dtype not in FLOAT_DTYPES:
            raise UnsupportedDtypeError(f"{name} is stored as {stored.entry.dtype}, which is no plain float")
        dtype = FLOAT_DTYPES[stored.entry.dtype]
        shape = _shape(stored.entry, read.slab)
        tensor = torch.empty(shape, dtype=dtype, pin_memory=pinned)
        buffer = memoryview(tensor.view(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
        if stored.file.path is None:
            self._take(read, buffer)
        else:
            self._fill(stored.file, read, buffer)
        self._done(read, len(buffer))
        return tensor

    def _take(self, read: Read, buffer: memoryview) -> None:
        assert self._stream is not None, "it was planned to read nothing that lies elsewhere"
        self._stream.read(extent_of(self._checkpoint, read), buffer)

    def _fill(self, shard: ShardFile, read: Read, buffer: memoryview) -> None:
        start = extent_of(self._checkpoint, read).start
        descriptor = self._file(shard).fileno()
        filled = 0
        while filled < len(buffer):
            count = os.preadv(descriptor, [buffer[filled:]], start + filled)
            if not count:
                raise TruncatedError(f"{shard.name} ended while {read.tensor} was read", "download it again")
            filled += count
            self._heard(count)

    def expect(self, reads: Iterable[Read]) -> None:
        """Have the system read these into its cache while something else is done: a hint, up to AHEAD."""
        ahead = 0
        for read in reads:
            ahead += extent_of(self._checkpoint, read).size
            if ahead > AHEAD:
                return
            if self._stored(read).file.path is not None:
                self._advise(self._file(self._stored(read).file), read, "POSIX_FADV_WILLNEED")

    def close(self) -> None:
        """Close whatever is still open; nothing is opened after it."""
        with self._lock:
            self._closed = True
            for file in self._open.values():
                file.close()
            self._open.clear()
        if self._stream is not None:
            self._stream.close()

    def __enter__(self) -> Self:
        """The reader itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close."""
        self.close()

    def _file(self, shard: ShardFile) -> BinaryIO:
        with self._lock:
            if self._closed:
                raise ValueError("the reader is closed")
            if shard.name not in self._open:
                assert shard.path is not None
                try:
                    file = open(shard.path, "rb", buffering=0)  # noqa: SIM115 - closed after its last read
                except OSError as error:
                    raise TruncatedError(
                        f"{shard.name} cannot be opened any more", error.strerror or ""
                    ) from error
                self._open[shard.name] = file
                self._is_unchanged(shard, file)
            return self._open[shard.name]

    def _done(self, read: Read, count: int) -> None:
        name = self._stored(read).file.name
        with self._lock:
            self.bytes_read += count
            self._planned[read] -= 1
            self._left[name] -= 1
            if self._drops and self._planned[read] <= 0 and name in self._open:
                self._advise(self._open[name], read, "POSIX_FADV_DONTNEED")
            if self._left[name] <= 0 and name in self._open:
                with self._open.pop(name) as file:
                    self._is_unchanged(self._stored(read).file, file)

    @staticmethod
    def _is_unchanged(shard: ShardFile, file: BinaryIO) -> None:
        """Raise CorruptError for a file that is not the one whose header was read, or was written since."""
        status = os.fstat(file.fileno())
        if shard.stamp is not None and stamp_of(status) != shard.stamp:
            raise changed(shard, status)

    def _advise(self, file: BinaryIO, read: Read, advice: str) -> None:
        if hasattr(os, advice):  # not on macOS
            with suppress(OSError, ValueError):  # a pipe, or closed in the meantime: it was only a hint
                extent = extent_of(self._checkpoint, read)
                os.posix_fadvise(file.fileno(), extent.start, extent.size, getattr(os, advice))

    def _stored(self, read: Read) -> StoredTensor:
        return self._checkpoint.tensors[read.tensor]


def extent_of(checkpoint: Checkpoint, read: Read) -> Extent:
    """The bytes that a read takes."""
    stored = checkpoint.tensors[read.tensor]
    entry = stored.entry
    if read.slab is None:
        return Extent(stored.file, entry.start, entry.stop)
    size = entry.nbytes // read.slab.count
    start = entry.start + read.slab.index * size
    return Extent(stored.file, start, start + size)


def far_extents(checkpoint: Checkpoint, reads: Iterable[Read]) -> Iterator[Extent]:
    """Of the reads those of files that are not on this machine."""
    for read in reads:
        if checkpoint.tensors[read.tensor].file.path is None:
            yield extent_of(checkpoint, read)


def _shape(entry: TensorEntry, slab: Slab | None) -> tuple[int, ...]:
    """The shape to read."""
    if slab is None:
        return entry.shape
    return entry.shape[1:] if len(entry.shape) == 3 else (entry.shape[0] // slab.count, *entry.shape[1:])
