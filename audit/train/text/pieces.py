"""A text on its way through: lines, and the ends of its documents."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from audit.train.text.tokens import Progress

TRAIN, VALID = "train", "valid"
PARTS = (TRAIN, VALID)

END = None
"""In place of a line: a document ends here."""

END_OF_TEXT = "<|endoftext|>"
"""The line that ends a document in a file, and the token that stands for it."""

Piece = str | None
"""A line with its newline, or END."""


@dataclass(frozen=True)
class Text:
    """A text before it is read.

    `identity` tells it from every other without reading it whole. `read` gives the pieces of a part, anew at
    every call, and tells the Progress how many bytes they took. `about`: what a reader should know of it.
    """

    name: str
    identity: str
    read: Callable[[str, Progress], Iterator[Piece]]
    about: str = ""


def lines_of(document: str) -> Iterator[Piece]:
    """A document's lines, each with its newline, then END."""
    *lines, last = document.split("\n")
    for line in lines:
        yield f"{line}\n"
    if last:
        yield last
    yield END
