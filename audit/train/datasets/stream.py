"""Bytes out of a file that may hold fewer than it promises."""

from typing import Protocol

_CHUNK = 1 << 20


class Readable(Protocol):
    """A binary file, plain or unpacked on the way."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""


def take(file: Readable, count: int) -> bytearray:
    """The next `count` bytes, or as many as there are; memory grows with what is there, not with `count`."""
    taken = bytearray()
    while len(taken) < count and (chunk := file.read(min(_CHUNK, count - len(taken)))):
        taken += chunk
    return taken
