"""Read tensors from shards: each file is opened once, and closed after the last read that was planned.

Several threads may read at once.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from threading import Lock
from typing import BinaryIO, Self

import torch
from torch import Tensor

from audit.checkpoint.header import TensorEntry
from audit.checkpoint.model import Checkpoint, ShardFile
from audit.errors import TruncatedError, UnsupportedDtypeError
from registry import Read, Slab

FLOAT_DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
"""The stored dtypes that are plain floating point numbers."""


class TensorReader:
    """Reads tensors of one checkpoint; `planned` are all the reads to come, in any order."""

    def __init__(self, checkpoint: Checkpoint, planned: Iterable[Read]) -> None:
        """Nothing is opened yet."""
        self._checkpoint = checkpoint
        self._left = Counter(checkpoint.tensors[read.tensor].file.name for read in planned)
        self._open: dict[str, BinaryIO] = {}
        self._lock = Lock()
        self.bytes_read = 0

    def read(self, read: Read, *, pinned: bool = False) -> Tensor:
        """The tensor as stored: its own dtype and shape, on the CPU, in memory of its own; or a slab of it.

        A slab of a tensor with three axes has two. `pinned` memory is what a CUDA device copies from without
        waiting. Raises UnsupportedDtypeError for a dtype that is no plain
        float, TruncatedError for a short file.
        """
        name = read.tensor
        stored = self._checkpoint.tensors[name]
        if stored.entry.dtype not in FLOAT_DTYPES:
            raise UnsupportedDtypeError(f"{name} is stored as {stored.entry.dtype}, which is no plain float")
        dtype = FLOAT_DTYPES[stored.entry.dtype]
        shape, start = _extent(stored.entry, read.slab)
        tensor = torch.empty(shape, dtype=dtype, pin_memory=pinned)
        buffer = memoryview(tensor.view(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
        descriptor = self._file(stored.file).fileno()
        filled = 0
        while filled < len(buffer):
            count = os.preadv(descriptor, [buffer[filled:]], start + filled)
            if not count:
                raise TruncatedError(f"{stored.file.name} ended while {name} was read", "download it again")
            filled += count
        self._done(stored.file, filled)
        return tensor

    def close(self) -> None:
        """Close whatever is still open."""
        for file in self._open.values():
            file.close()
        self._open.clear()

    def __enter__(self) -> Self:
        """The reader itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close."""
        self.close()

    def _file(self, shard: ShardFile) -> BinaryIO:
        with self._lock:
            if shard.name not in self._open:
                assert shard.path is not None, (
                    "a checkpoint opened for its headers only has no weights to read"
                )
                try:
                    self._open[shard.name] = open(shard.path, "rb", buffering=0)  # noqa: SIM115 - closed after its last read
                except OSError as error:
                    raise TruncatedError(
                        f"{shard.name} cannot be opened any more", error.strerror or ""
                    ) from error
            return self._open[shard.name]

    def _done(self, shard: ShardFile, count: int) -> None:
        with self._lock:
            self.bytes_read += count
            self._left[shard.name] -= 1
            if self._left[shard.name] <= 0 and shard.name in self._open:
                self._open.pop(shard.name).close()


def _extent(entry: TensorEntry, slab: Slab | None) -> tuple[tuple[int, ...], int]:
    """The shape to read, and the byte at which it starts."""
    if slab is None:
        return entry.shape, entry.start
    rows = entry.shape[0] // slab.count
    shape = entry.shape[1:] if len(entry.shape) == 3 else (rows, *entry.shape[1:])
    return shape, entry.start + slab.index * (entry.nbytes // slab.count)
