"""A checkpoint on this machine: one .safetensors file, or a folder with or without an index."""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from audit.checkpoint import files
from audit.checkpoint.folder import assemble
from audit.checkpoint.model import Checkpoint, ShardFile, Source, Stamp
from audit.errors import (
    ConfigError,
    CorruptError,
    HeaderError,
    ShardIndexError,
    TruncatedError,
    UnsupportedError,
)


@dataclass(frozen=True)
class LocalFolder:
    """A folder here; `etag` tells what identifies a file's content where that is known.

    With `only` nothing else in it counts, and it need not be listed.
    """

    path: Path
    id: str
    source: Source = "local"
    revision: str | None = None
    etag: Callable[[Path], str | None] = lambda path: None
    only: tuple[str, ...] | None = None

    @cached_property
    def names(self) -> frozenset[str]:
        """Its files; raises UnsupportedError where it cannot be listed."""
        if self.only is not None:
            return frozenset(name for name in self.only if (self.path / name).exists())
        try:
            names = {entry.name for entry in self.path.iterdir()}
            return frozenset(names | {name for one in names for name in _below(self.path / one)})
        except OSError as error:
            raise UnsupportedError(f"{self.path} cannot be listed", error.strerror or "") from error

    def text(self, name: str) -> bytes:
        """As Folder says."""
        path = self.path / name
        error_type = ConfigError if name == files.CONFIG else ShardIndexError
        try:
            if not path.is_file():
                raise error_type(f"{path} cannot be read", "it is no file")
            if path.stat().st_size > files.MAX_JSON_BYTES:
                raise error_type(f"{path} is too large to be what its name says")
            return path.read_bytes()
        except OSError as error:
            raise error_type(f"{path} cannot be read", error.strerror or "") from error

    def shard(self, name: str) -> ShardFile:
        """As Folder says; a shard that an index names lies in the folder, not behind a link out of it."""
        path = self.path / name
        try:
            status = path.stat()
        except OSError as error:
            raise HeaderError(f"{path} cannot be read", error.strerror or str(error)) from error
        if not stat.S_ISREG(status.st_mode):
            raise HeaderError(f"{path} cannot be read", "it is no file")
        if self.source == "local" and files.INDEX in self.names and not _is_within(path, self.path):
            raise ShardIndexError(
                f"{files.INDEX} in {self.path} names {name!r}, which is a link out of the folder",
                "put the file itself there",
            )
        return ShardFile(name, status.st_size, path, self.etag(path), stamp=stamp_of(status))


def open_local(path: Path, *, notes: tuple[str, ...] = ()) -> Checkpoint:
    """The checkpoint at `path`; raises NoSafetensorsError, UnsupportedError and the CorruptErrors."""
    folder, single = local_folder(path)
    return assemble(folder, single, notes=notes)


def local_folder(path: Path) -> tuple[LocalFolder, tuple[str, ...] | None]:
    """The folder at `path`, or the one around it and the file's own name; raises UnsupportedError."""
    if path.is_dir():
        return LocalFolder(path, str(path)), None
    if path.suffix != ".safetensors":
        raise UnsupportedError(
            f"{path} is not a .safetensors file",
            "no other weight format is opened; name a folder or such a file",
        )
    beside = (path.name, files.CONFIG, files.INDEX)
    return LocalFolder(path.parent, str(path), only=beside), (path.name,)


def stamp_of(status: os.stat_result) -> Stamp:
    """What tells a file from one that was written or put there since."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def changed(shard: ShardFile, status: os.stat_result) -> CorruptError:
    """What to say of a file that is not what its header was read from."""
    if status.st_size < shard.size:
        return TruncatedError(f"{shard.name} ended while it was read", "download it again")
    return CorruptError(
        f"{shard.name} was changed while it was read", "start again when nothing writes to it"
    )


def _is_within(path: Path, folder: Path) -> bool:
    """Whether a file lies in a folder, links followed; in the Hub's cache, that links to a model's blob."""
    home = folder.resolve()
    if path.resolve().is_relative_to(home):
        return True
    blobs = home.parent.parent / "blobs"
    return home.parent.name == "snapshots" and path.is_symlink() and _target(path).parent == blobs


def _target(link: Path) -> Path:
    """Where a link points to, no further links followed."""
    return Path(os.path.normpath(link.parent.resolve() / link.readlink()))


def _below(folder: Path) -> set[str]:
    """The safetensors files in a folder, for an index that points into subfolders."""
    if not folder.is_dir() or not os.access(folder, os.R_OK | os.X_OK):
        return set()
    return {f"{folder.name}/{each.name}" for each in folder.iterdir() if each.name.endswith(".safetensors")}
