"""A file cut into pieces that are read in order: each of one tensor, or of what lies between tensors."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from audit.checkpoint.header import TensorEntry

PIECE = 2**20
"""Bytes of a piece at most: what was read is still in the processor's cache when it is hashed and scanned."""

BATCH = 2**21
"""Bytes of the pieces that are read at once."""

_MOST = 512
"""Pieces that are read at once; the system takes 1024."""

ALIGNMENT = 64
"""Where a piece may start in memory, whatever its place in the file: numbers are read fastest there."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The bytes [start, stop) of a file, and the tensor they are of; None for the header and gaps."""

    start: int
    stop: int
    tensor: str | None

    @property
    def size(self) -> int:
        """How many bytes."""
        return self.stop - self.start

    @property
    def room(self) -> int:
        """The memory it takes, up to where the next may start."""
        return -(-self.size // ALIGNMENT) * ALIGNMENT


def pieces_of(size: int, entries: Mapping[str, TensorEntry]) -> Iterator[Piece]:
    """All of a file of so many bytes, in order."""
    place = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].start):
        yield from _cut(place, entry.start, None)
        yield from _cut(entry.start, entry.stop, name)
        place = max(place, entry.stop)
    yield from _cut(place, size, None)


def _cut(start: int, stop: int, tensor: str | None) -> Iterator[Piece]:
    for place in range(start, stop, PIECE):
        yield Piece(place, min(place + PIECE, stop), tensor)


def batches_of(pieces: Iterable[Piece]) -> Iterator[Sequence[Piece]]:
    """Pieces that are read at once, in order; they fit into BATCH."""
    batch: list[Piece] = []
    room = 0
    for piece in pieces:
        if batch and (room + piece.room > BATCH or len(batch) == _MOST):
            yield batch
            batch, room = [], 0
        batch.append(piece)
        room += piece.room
    if batch:
        yield batch
