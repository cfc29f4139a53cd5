"""Text to token ids: as bytes, or by a byte-level BPE through the library `tokenizers`.

A vocabulary without `<|endoftext|>` has no token for the end of a document: the documents then follow each
other with nothing between.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from registry.experiments import GPT2_TOKENS


class Encoder(Protocol):
    """A tokenizer: ids below `vocabulary`, `end` for the end of a document where it has one.

    `identity` is the same for two encoders only where they give the same ids.
    """

    @property
    def name(self) -> str:
        """As the report says it."""

    @property
    def vocabulary(self) -> int:
        """One more than the largest id."""

    @property
    def end(self) -> int | None:
        """The id for the end of a document."""

    @property
    def identity(self) -> str:
        """What tells it from others."""

    def may_cut(self, line: str, following: str) -> bool:
        """Whether a document may be encoded apart up to this line and from the following one."""

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each."""


class Bytes:
    """UTF-8's bytes as ids, and 256 for the end of a document."""

    name = identity = "bytes"
    vocabulary = 257
    end = 256

    def may_cut(self, line: str, following: str) -> bool:
        """Anywhere."""
        return True

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The bytes of each."""
        return [np.frombuffer(text.encode(), np.uint8) for text in texts]


def encoder_named(name: str) -> Encoder:
    """The encoder "bytes", "gpt2" from the Hub, or the one in a folder.

    Raises UsageError, PathNotFoundError, DataError and the AccessErrors, as `audit.train.text.bpe` says.
    """
    if name == Bytes.name:
        return Bytes()
    # it imports the Hub's client and what reads checkpoints, which bytes do without
    from audit.train.text.bpe import folder_bpe, gpt2

    return gpt2() if name == GPT2_TOKENS else folder_bpe(name)
