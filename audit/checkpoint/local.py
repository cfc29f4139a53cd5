"""A checkpoint on this machine: one .safetensors file, or a folder with or without an index."""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from audit.checkpoint import files
from audit.checkpoint.header import read_header
from audit.checkpoint.model import Checkpoint, ShardFile, StoredTensor
from audit.errors import AuditError, ConfigError, CorruptError, ShardIndexError, UnsupportedError


def open_local(path: Path, *, notes: tuple[str, ...] = ()) -> Checkpoint:
    """The checkpoint at `path`; raises NoSafetensorsError, UnsupportedError and the CorruptErrors."""
    if path.is_file():
        if path.suffix != ".safetensors":
            raise UnsupportedError(
                f"{path} is not a .safetensors file",
                "no other weight format is opened; name a folder or such a file",
            )
        return assemble(str(path), "local", None, path.parent, (path.name,), notes=notes)
    try:
        names = {entry.name for entry in path.iterdir()}
        index = path / files.INDEX
        chosen = files.weight_files(
            _with_subfolders(path, names), lambda: _read(index, ShardIndexError), str(path)
        )
    except OSError as error:
        raise UnsupportedError(f"{path} cannot be listed", error.strerror or "") from error
    return assemble(str(path), "local", None, path, chosen, notes=notes)


def assemble(
    model_id: str,
    source: Literal["local", "hub"],
    revision: str | None,
    folder: Path,
    names: Iterable[str],
    *,
    notes: tuple[str, ...] = (),
    etag: Callable[[Path], str | None] = lambda path: None,
) -> Checkpoint:
    """A checkpoint from files that lie in one folder; every header is read and checked, no weight is."""
    shards = []
    tensors: dict[str, StoredTensor] = {}
    for name in names:
        path = folder / name
        entries = read_header(path)
        shard = ShardFile(name, path.stat().st_size, path, etag(path))
        shards.append(shard)
        add_tensors(tensors, shard, entries)
    check_index(folder / files.INDEX, tensors, {shard.name for shard in shards})
    return Checkpoint(model_id, source, revision, read_config(folder), tuple(shards), tensors, notes)


def add_tensors(tensors: dict[str, StoredTensor], shard: ShardFile, entries: Mapping[str, Any]) -> None:
    """Enter a shard's tensors; raises CorruptError where two shards hold the same name."""
    for tensor, entry in entries.items():
        if tensor in tensors:
            raise CorruptError(f"{tensor} stands in both {tensors[tensor].file.name} and {shard.name}")
        tensors[tensor] = StoredTensor(shard, entry)


def check_index(index: Path, tensors: Mapping[str, StoredTensor], shards: set[str]) -> None:
    """Every tensor the index promises in these shards is there; raises ShardIndexError."""
    if not index.is_file():
        return
    promised = files.weight_map(_read(index, ShardIndexError), str(index.parent))
    for tensor, file in promised.items():
        if file in shards and (tensor not in tensors or tensors[tensor].file.name != file):
            raise ShardIndexError(
                f"{files.INDEX} promises {tensor} in {file}, which does not hold it", "download it again"
            )


def read_config(folder: Path) -> Mapping[str, Any] | None:
    """The folder's config.json, None where there is none; raises ConfigError."""
    path = folder / files.CONFIG
    if not path.exists():
        return None
    return files.parse_config(_read(path, ConfigError), str(folder))


def _with_subfolders(path: Path, names: set[str]) -> set[str]:
    """The names, and for an index that points into subfolders those files too."""
    below = {
        f"{name}/{entry.name}"
        for name in names
        if (path / name).is_dir() and os.access(path / name, os.R_OK | os.X_OK)
        for entry in (path / name).iterdir()
        if entry.name.endswith(".safetensors")
    }
    return names | below


def _read(path: Path, error_type: type[AuditError]) -> bytes:
    try:
        if path.stat().st_size > files.MAX_JSON_BYTES:
            raise error_type(f"{path} is too large to be what its name says")
        return path.read_bytes()
    except OSError as error:
        raise error_type(f"{path} cannot be read", error.strerror or "") from error
