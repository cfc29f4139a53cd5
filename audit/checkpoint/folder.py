"""A folder with a checkpoint's files, wherever it is, and how a checkpoint is made from one."""

from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Event
from typing import Protocol, TypeVar

from audit.checkpoint import files
from audit.checkpoint.header import TensorEntry, header_length, parse_header, read_header
from audit.checkpoint.model import Checkpoint, ShardFile, Source, StoredTensor
from audit.checkpoint.origin import PARTING, Origin, fetch
from audit.errors import CorruptError, ShardIndexError

_FIRST_BYTES = 100_000
"""What is asked of a shard at first: nearly every header fits."""

_AT_ONCE = 8
"""Headers that are asked for at a time."""


T = TypeVar("T")
R = TypeVar("R")


class Folder(Protocol):
    """Where a checkpoint's files lie: on this machine, on the Hub, behind a URL."""

    @property
    def id(self) -> str:
        """What the user calls it."""

    @property
    def source(self) -> Source:
        """Which kind of place it is."""

    @property
    def revision(self) -> str | None:
        """The Hub's commit."""

    @property
    def names(self) -> Collection[str]:
        """Its files, those in its subfolders as `sub/file`."""

    def text(self, name: str) -> bytes:
        """A small file, whole; raises CorruptError for one that is too large or cannot be read."""

    def shard(self, name: str) -> ShardFile:
        """One of its safetensors files; raises the CorruptErrors."""


def weight_names(folder: Folder) -> tuple[str, ...]:
    """The files that together are the model; raises NoSafetensorsError and ShardIndexError."""
    return files.weight_files(folder.names, lambda: folder.text(files.INDEX), folder.id)


def assemble(
    folder: Folder,
    names: Iterable[str] | None = None,
    *,
    notes: tuple[str, ...] = (),
    streamed: bool = False,
) -> Checkpoint:
    """The checkpoint in a folder; every header is read and checked, no weight is. `names` are its shards.

    Raises NoSafetensorsError, the CorruptErrors, and AccessErrors for a folder that is elsewhere.
    """
    names = weight_names(folder) if names is None else tuple(names)
    several = at_once(folder)
    shards = together(lambda name, stopping: folder.shard(name), names, at_once=several)
    tensors: dict[str, StoredTensor] = {}
    for shard, entries in zip(shards, together(header_of, shards, at_once=several), strict=True):
        add_tensors(tensors, shard, entries)
    surplus = _surplus(folder, tensors, {shard.name for shard in shards})
    config = (
        files.parse_config(folder.text(files.CONFIG), folder.id) if files.CONFIG in folder.names else None
    )
    return Checkpoint(
        folder.id, folder.source, folder.revision, config, tuple(shards), tensors, notes, surplus, streamed
    )


def header_of(shard: ShardFile, stopping: Event | None = None) -> Mapping[str, TensorEntry]:
    """The tensors that a shard's header declares; raises the CorruptErrors, and AccessErrors.

    Where `stopping` is set nobody waits for it any more.
    """
    if shard.path is not None:
        return read_header(shard.path)
    origin = shard.origin
    assert origin is not None
    start = first_bytes(origin, min(shard.size, _FIRST_BYTES), stopping)
    length = header_length(start[:8], shard.size, shard.name)
    if 8 + length > len(start):
        rest = bytearray(8 + length - len(start))
        fetch(origin, len(start), memoryview(rest), stopping=stopping)
        start += rest
    return parse_header(start[8 : 8 + length], shard.size, shard.name)


def first_bytes(origin: Origin, count: int, stopping: Event | None = None, *, briefly: bool = False) -> bytes:
    """So many bytes from the start of a file; raises AccessErrors."""
    read = bytearray(count)
    if count:
        fetch(origin, 0, memoryview(read), stopping=stopping, briefly=briefly)
    return bytes(read)


def add_tensors(
    tensors: dict[str, StoredTensor], shard: ShardFile, entries: Mapping[str, TensorEntry]
) -> None:
    """Enter a shard's tensors; raises CorruptError where two shards hold the same name."""
    for tensor, entry in entries.items():
        if tensor in tensors:
            raise CorruptError(f"{tensor} stands in both {tensors[tensor].file.name} and {shard.name}")
        tensors[tensor] = StoredTensor(shard, entry)


def _surplus(folder: Folder, tensors: Mapping[str, StoredTensor], shards: Collection[str]) -> tuple[str, ...]:
    """The tensors that the index does not name; raises ShardIndexError where it promises what is not so."""
    if files.INDEX not in folder.names:
        return ()
    index = files.weight_map(folder.text(files.INDEX), folder.id)
    promised = {tensor: file for tensor, file in index.items() if file in shards}
    if not promised:  # a file beside an index that is of others
        return ()
    held = {tensor: stored.file.name for tensor, stored in tensors.items()}
    difference = files.compare_index(promised, held)
    for tensor in (*difference.missing, *difference.contradictory):
        raise ShardIndexError(
            f"{files.INDEX} promises {tensor} in {promised[tensor]}, which does not hold it",
            "download it again",
        )
    return tuple(difference.surplus)


def at_once(folder: Folder) -> int:
    """How many of its files are opened at a time."""
    return 1 if folder.source == "local" else _AT_ONCE


def together(work: Callable[[T, Event], R], things: Collection[T], *, at_once: int) -> list[R]:
    """The work done on each thing, several at a time; raises what the first of them raises.

    The event is set once nobody waits for the others.
    """
    stopping = Event()
    if at_once == 1:
        return [work(thing, stopping) for thing in things]
    pool = ThreadPoolExecutor(at_once)
    futures: list[Future[R]] = []
    try:
        futures.extend(pool.submit(work, thing, stopping) for thing in things)
        return [future.result() for future in futures]
    finally:
        stopping.set()
        pool.shutdown(wait=False, cancel_futures=True)
        wait(futures, timeout=PARTING)
