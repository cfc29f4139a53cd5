"""What a checkpoint's files say of themselves: every header is tried, and every contradiction noted."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from audit.checkpoint import OpenedFolder, ShardFile, files
from audit.checkpoint.folder import Folder, at_once, header_of, together, weight_names
from audit.checkpoint.header import TensorEntry
from audit.errors import (
    AccessError,
    ConfigError,
    CorruptError,
    HeaderError,
    NetworkError,
    NoSafetensorsError,
    ShardIndexError,
    TruncatedError,
)
from audit.integrity.digest import expected, expected_of_text
from registry.quotation import quoted
from reports.integrity.model import Digest, Problem

_ONE_OF_SEVERAL = re.compile(r"-\d{5}-of-(?!00001)\d{5}\.safetensors")


@dataclass(frozen=True)
class Shard:
    """A weight file that can be opened; `entries` is None where its header is broken.

    `expected` is the hash that the Hub gave it, None where nobody told.
    """

    file: ShardFile
    entries: Mapping[str, TensorEntry] | None
    expected: Digest | None


@dataclass
class Survey:
    """The files of a model, and what is wrong with them before a weight is read.

    `texts` are config.json and the index, as far as they are there, each with its expected hash. `incomplete`
    says why the tensors that are known are not the whole model's; empty where they are.
    """

    shards: list[Shard] = field(default_factory=list)
    texts: dict[str, tuple[bytes, Digest | None]] = field(default_factory=dict)
    config: Mapping[str, Any] | None = None
    problems: list[Problem] = field(default_factory=list)
    incomplete: str = ""

    @property
    def tensors(self) -> Iterator[tuple[str, Shard, TensorEntry]]:
        """Every tensor: its name, and where it is."""
        for shard in self.shards:
            for name, entry in (shard.entries or {}).items():
                yield name, shard, entry


def survey(opened: OpenedFolder, *, bring: bool) -> tuple[Survey, tuple[str, ...]]:
    """Look at all of a folder's files; with `bring` shards are fetched if so asked. Also notes to the user.

    Raises NoSafetensorsError, AccessErrors, and CorruptErrors where no shard can be told.
    """
    with opened.within():
        found = Survey()
        promised = _read_index(opened.folder, found)
        names = _names(opened, promised, found)
        notes = opened.bring(names) if bring else ()
        _read_config(opened.folder, found)
        _read_headers(opened.folder, names, found)
        if promised is not None:
            _compare(promised, found)
        _find_doubles(found)
    return found, (*opened.notes, *notes)


def _read_index(folder: Folder, found: Survey) -> Mapping[str, str] | None:
    """Tensor to file, as the index has it; None without one that can be read."""
    if files.INDEX not in folder.names:
        return None
    try:
        return files.weight_map(_text(folder, files.INDEX, found), folder.id)
    except CorruptError as error:
        found.problems.append(Problem("index", "error", str(error), files.INDEX))
        return None


def _text(folder: Folder, name: str, found: Survey) -> bytes:
    content = folder.text(name)
    found.texts[name] = content, expected_of_text(folder, name)
    return content


def _names(opened: OpenedFolder, promised: Mapping[str, str] | None, found: Survey) -> Sequence[str]:
    """The weight files there are; what is missing of them is noted."""
    folder = opened.folder
    if opened.only is not None:
        (name,) = opened.only
        if _ONE_OF_SEVERAL.search(name) or (promised and {*promised.values()} - {name}):
            found.incomplete = f"{name} is one of several files"
        return opened.only
    if promised is not None:
        return [*_promised_names(folder.names, promised, found)]
    whole = sorted(name for name in folder.names if name.endswith(".safetensors") and "/" not in name)
    if found.problems and whole:  # the index is broken
        found.incomplete = f"{files.INDEX} does not say which files make up the model"
        return whole
    try:
        return weight_names(folder)
    except NoSafetensorsError:
        if not whole:
            raise
        found.incomplete = "nothing says which of the files make up the model"
    except ShardIndexError as error:
        if found.problems:
            raise
        found.problems.append(Problem("missing-shard", "error", str(error)))
        found.incomplete = "a file of the model is missing"
    return whole


def _promised_names(there: Collection[str], promised: Mapping[str, str], found: Survey) -> Iterator[str]:
    for name in dict.fromkeys(promised.values()):
        if not files.lies_beside(name):
            message = f"{files.INDEX} names {quoted(name)}, which is no shard beside it"
            found.problems.append(Problem("index", "error", message, files.INDEX))
        elif name not in there:
            found.problems.append(_missing(name))
        else:
            yield name
            continue
        found.incomplete = "a file of the model is missing"


def _missing(name: str) -> Problem:
    return Problem("missing-shard", "error", f"{name} is missing, and {files.INDEX} names it", name)


def _read_config(folder: Folder, found: Survey) -> None:
    if files.CONFIG not in folder.names:
        return
    try:
        found.config = files.parse_config(_text(folder, files.CONFIG, found), folder.id)
    except ConfigError as error:
        found.problems.append(Problem("config", "error", str(error), files.CONFIG))
        found.incomplete = found.incomplete or f"{files.CONFIG} cannot be read"


def _read_headers(folder: Folder, names: Sequence[str], found: Survey) -> None:
    """Open every shard; raises AccessError where none is there."""

    def look(name: str, stopping: Event) -> tuple[Shard | None, CorruptError | AccessError | None]:
        file = None
        try:
            file = folder.shard(name)
            return Shard(file, header_of(file, stopping), expected(file, folder.source)), None
        except NetworkError:
            raise
        except (CorruptError, AccessError) as error:
            broken = None if file is None else Shard(file, None, expected(file, folder.source))
            return broken, error

    looked = together(look, names, at_once=at_once(folder))
    for name, (shard, error) in zip(names, looked, strict=True):
        if isinstance(error, AccessError) and all(one is None for one, _ in looked):
            raise error
        if shard is not None:
            found.shards.append(shard)
        if error is not None:
            found.problems.append(
                _missing(name)
                if isinstance(error, AccessError)
                else Problem(_code(error), "error", str(error), name)
            )
            found.incomplete = found.incomplete or f"the tensors of {name} are not known"


def _code(error: CorruptError) -> str:
    match error:
        case TruncatedError():
            return "truncated"
        case HeaderError():
            return "header"
        case _:
            return "index"


def _compare(promised: Mapping[str, str], found: Survey) -> None:
    """Hold the index against the headers that were read."""
    known = {shard.file.name for shard in found.shards if shard.entries is not None}
    if not known & set(promised.values()):
        return
    held: dict[str, str] = {}
    for name, shard, _ in found.tensors:
        if name not in held or promised.get(name) == shard.file.name:  # of two that hold it, the promised
            held[name] = shard.file.name
    difference = files.compare_index(promised, held)
    for tensor in (*difference.missing, *difference.contradictory):
        if (file := promised[tensor]) in known:
            there = f"{held[tensor]} does" if tensor in held else "no file does"
            message = f"{files.INDEX} promises {_short(tensor)} in {file}, which does not hold it: {there}"
            found.problems.append(Problem("index", "error", message, file, tensor))
    for tensor in difference.surplus:
        message = f"{_short(tensor)} is not named by {files.INDEX}, so that loaders may pass it over"
        found.problems.append(Problem("surplus-tensor", "warning", message, held[tensor], tensor))
    if not found.incomplete:
        _compare_sizes(found)


def _compare_sizes(found: Survey) -> None:
    metadata = files.parse_object(found.texts[files.INDEX][0], files.INDEX, ShardIndexError).get("metadata")
    told = metadata.get("total_size") if isinstance(metadata, Mapping) else None
    size = sum(entry.nbytes for _, _, entry in found.tensors)
    if type(told) in (int, float) and told != size:
        message = f"{files.INDEX} tells of {quoted(told)} bytes in all, and the tensors have {size}"
        found.problems.append(Problem("total-size", "info", message, files.INDEX))


def _find_doubles(found: Survey) -> None:
    first: dict[str, str] = {}
    for name, shard, _ in found.tensors:
        before = first.setdefault(name, shard.file.name)
        if before != shard.file.name:
            message = f"{_short(name)} stands in both {before} and {shard.file.name}"
            found.problems.append(Problem("double-tensor", "error", message, shard.file.name, name))
            found.incomplete = "two files hold a tensor of one name"


def _short(name: str) -> str:
    """A tensor's name in a message; `Problem.tensor` has all of it."""
    return name if len(name) <= 200 else f"{name[:200]}..."
