"""A checkpoint on hand: its config, its files, and where in them each tensor lies."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from audit.checkpoint.header import TensorEntry


@dataclass(frozen=True)
class ShardFile:
    """One safetensors file; `path` is None where only its header was fetched."""

    name: str
    size: int
    path: Path | None
    etag: str | None = None


@dataclass(frozen=True)
class StoredTensor:
    """A tensor and the file that holds it."""

    file: ShardFile
    entry: TensorEntry


@dataclass(frozen=True)
class Checkpoint:
    """Everything known about a model before a weight is read.

    `id` is the Hub id or the path as given; `config` is None where there is no config.json; `notes` are
    things the user should hear, such as a local folder taken in place of a Hub id.
    """

    id: str
    source: Literal["local", "hub"]
    revision: str | None
    config: Mapping[str, Any] | None
    files: tuple[ShardFile, ...]
    tensors: Mapping[str, StoredTensor]
    notes: tuple[str, ...] = ()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape by tensor name."""
        return {name: stored.entry.shape for name, stored in self.tensors.items()}
