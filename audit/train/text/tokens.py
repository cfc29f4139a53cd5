"""What comes of a text: its token ids; and who is told while they are made."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True, eq=False)
class Tokens:
    """A text as token ids: what is trained on, and what perplexity is taken on.

    `dataset` is its name as the report says it, `tokenizer` is "bytes", "gpt2" or a folder's name. All ids
    are below `vocabulary`. `digest` is the SHA-256 of the text and of the tokenizer: the same digest means
    the same ids. `train` [N] and `valid` [M] are uint16 or uint32, memory-mapped and read-only. `about`: what
    a reader should know of it.
    """

    dataset: str
    tokenizer: str
    vocabulary: int
    digest: str
    train: np.ndarray
    valid: np.ndarray
    about: str = ""


class Progress(Protocol):
    """Told how far the work has come, one part after another."""

    def begin(self, part: str, total_bytes: int | None) -> None:
        """A part begins; None where nobody knows how long it is."""

    def advance(self, count: int, /) -> None:
        """So many bytes more are read."""


class Silent:
    """A Progress that tells nobody."""

    def begin(self, part: str, total_bytes: int | None) -> None:
        """Say nothing."""

    def advance(self, count: int, /) -> None:
        """Say nothing."""
