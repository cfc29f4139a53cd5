"""A checkpoint on hand: its config, its files, and where in them each tensor lies."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from audit.checkpoint.header import TensorEntry
from audit.checkpoint.origin import Origin

Source = Literal["local", "hub", "url"]

Stamp = tuple[int, int, int, int]
"""What changes when a local file is written or replaced: its device, number, size and time of writing."""


@dataclass(frozen=True)
class ShardFile:
    """One safetensors file: at a `path` here, or at an `origin` where `path` is None.

    `etag` identifies its content: the Hub's hash, or what another server says. `stamp` is of when its header
    was read.
    """

    name: str
    size: int
    path: Path | None
    etag: str | None = None
    origin: Origin | None = field(default=None, compare=False, repr=False)
    stamp: Stamp | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class StoredTensor:
    """A tensor and the file that holds it."""

    file: ShardFile
    entry: TensorEntry


@dataclass(frozen=True)
class Checkpoint:
    """Everything known about a model before a weight is read.

    `id` is the Hub id, the path or the URL as given; `config` is None where there is no config.json; `notes`
    are things the user should hear, such as a local folder taken in place of a Hub id. `surplus` are the
    tensors that its index does not name. `streamed`: the files that are not here stay where they are, and are
    read by ranges; else an audit fetches them first.
    """

    id: str
    source: Source
    revision: str | None
    config: Mapping[str, Any] | None
    files: tuple[ShardFile, ...]
    tensors: Mapping[str, StoredTensor]
    notes: tuple[str, ...] = ()
    surplus: tuple[str, ...] = ()
    streamed: bool = False

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape by tensor name."""
        return {name: stored.entry.shape for name, stored in self.tensors.items()}

    @property
    def elsewhere(self) -> tuple[ShardFile, ...]:
        """The files that are not on this machine."""
        return tuple(file for file in self.files if file.path is None)
