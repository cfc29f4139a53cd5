"""A checkpoint behind a URL: https, or whatever has a driver of fsspec (s3://, gs://, memory://).

A URL names one .safetensors file, beside which config.json may lie, or a folder. Weights are streamed.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from posixpath import basename, dirname
from queue import Empty, SimpleQueue
from threading import Thread
from time import time_ns
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from audit.checkpoint import files
from audit.checkpoint.folder import assemble, first_bytes
from audit.checkpoint.http import FixedAddress, HttpFile
from audit.checkpoint.model import Checkpoint, ShardFile, Source
from audit.checkpoint.origin import PassingError
from audit.errors import (
    AccessError,
    CorruptError,
    NetworkError,
    RepoNotFoundError,
    UsageError,
)

DRIVER_SECONDS = 120.0
"""How long a driver of fsspec may take for one answer."""

_SUFFIX = ".safetensors"


def open_url(url: str) -> Checkpoint:
    """The checkpoint at a URL.

    Raises UsageError for a URL that no driver here is for, AccessErrors, and what `assemble` raises.
    """
    folder = folder_at(url)
    notes = () if files.CONFIG in folder.names else (f"no {files.CONFIG} could be read beside {folder.id}",)
    return assemble(folder, folder.single, notes=notes, streamed=True)


def folder_at(url: str) -> "WebFolder | DriverFolder":
    """The files at a URL, none of them opened yet; raises UsageError where no driver here is for it."""
    web = urlsplit_checked(url).scheme.lower() in ("http", "https")
    return WebFolder(url) if web else DriverFolder(url)


def urlsplit_checked(url: str) -> Any:
    """The URL's parts; raises UsageError for what is none."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise UsageError(f"{url[:200]!r} is no URL: {error}", "check it") from error
    return parts


class WebFolder:
    """The files beside a URL; as the web has no list of them, each is asked for."""

    source: Source = "url"
    revision = None

    def __init__(self, url: str) -> None:
        """Nothing is asked yet; raises UsageError for a URL without a host."""
        self._parts = urlsplit_checked(url)
        if not self._parts.hostname or not re.fullmatch(r"[\x21-\x7e]{1,8000}", url):
            raise UsageError(f"{url[:200]!r} is no web address", "check it: no spaces, a host after //")
        host = self._parts.netloc.rpartition("@")[2]
        path = self._parts.path
        self.id = urlunsplit((self._parts.scheme, host, path, "", ""))
        self.single = (basename(path),) if path.endswith(_SUFFIX) else None
        self._base = dirname(path) if self.single else path.rstrip("/")
        self._texts: dict[str, bytes | None] = {}

    @cached_property
    def names(self) -> Collection[str]:
        """config.json and the index, as far as they are there, and the weights they lead to."""
        there = {name for name in (files.CONFIG, files.INDEX) if self._found(name) is not None}
        if self.single:
            return there | {*self.single}
        if files.INDEX not in there:
            return there | {files.WHOLE}
        return there | set(files.weight_map(self.text(files.INDEX), self.id).values())

    def text(self, name: str) -> bytes:
        """As Folder says."""
        found = self._found(name)
        assert found is not None
        return found

    def shard(self, name: str) -> ShardFile:
        """As Folder says."""
        file = self._file(name)
        first_bytes(file, 1)
        if file.size is None:
            raise NetworkError(
                f"the server does not tell how long {file.title} is", "download it, and audit the copy"
            )
        return ShardFile(name, file.size, None, _identity(file.etag, file.modified), file)

    def _found(self, name: str) -> bytes | None:
        if name not in self._texts:
            self._texts[name] = self._ask(name)
        return self._texts[name]

    def _ask(self, name: str) -> bytes | None:
        """A small file, None where there is none for us."""
        file = self._file(name)
        try:
            first_bytes(file, 1)
        except AccessError as error:
            if isinstance(error, NetworkError):
                raise
            return None
        if (file.size or 0) > files.MAX_JSON_BYTES:
            raise CorruptError(f"{name} beside {self.id} is too large to be what its name says")
        return first_bytes(file, file.size or 0)

    def _file(self, name: str) -> HttpFile:
        whole = self.single == (name,)
        path = self._parts.path if whole else f"{self._base}/{quote(name)}"
        query = self._parts.query if whole else ""
        url = urlunsplit((self._parts.scheme, self._parts.netloc, path, query, ""))
        return HttpFile(f"{name} of {self._parts.hostname}", FixedAddress(url, {}))


class DriverFile:
    """An origin behind a driver of fsspec; one attempt may take DRIVER_SECONDS."""

    def __init__(self, title: str, system: Any, path: str) -> None:
        """Nothing is asked yet."""
        self.title = title
        self._system, self._path = system, path

    def take(self, start: int, stop: int) -> Iterator[bytes]:
        """As Origin says."""
        with driven(self.title):
            try:
                yield within(DRIVER_SECONDS, lambda: self._system.cat_file(self._path, start=start, end=stop))
            except (FileNotFoundError, PermissionError, GeneratorExit):
                raise
            except Exception as error:  # each driver has errors of its own
                told = f"{self.title} cannot be read: {type(error).__name__}"
                raise PassingError(NetworkError(told, "check the network and the credentials")) from error


class DriverFolder:
    """The files that a driver of fsspec lists."""

    source: Source = "url"
    revision = None

    def __init__(self, url: str) -> None:
        """Raises UsageError where there is no such driver, or it is not installed."""
        import fsspec

        parts = urlsplit_checked(url)
        self.id = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
        scheme = parts.scheme.lower()
        try:
            self._system, path = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise UsageError(f"{scheme}:// needs a driver that is not installed", str(error)[:200]) from error
        except Exception as error:  # a driver's complaint about its own URL
            raise UsageError(
                f"{self.id} cannot be opened: {type(error).__name__}", "check the URL"
            ) from error
        self.single = (basename(path),) if path.endswith(_SUFFIX) else None
        self._base = dirname(path) if self.single else path.rstrip("/")

    @cached_property
    def names(self) -> Collection[str]:
        """As Folder says; raises AccessErrors."""
        if self.single:
            with driven(self.id), listening(self.id):
                beside = [name for name in (files.CONFIG, files.INDEX) if self._exists(name)]
            return {*self.single, *beside}
        with driven(self.id), listening(self.id):
            found = within(DRIVER_SECONDS, lambda: self._system.find(self._base, maxdepth=2))
        if not found:
            raise RepoNotFoundError(f"there is nothing at {self.id}", "check the URL")
        return {path[len(self._base) :].lstrip("/") for path in found}

    def text(self, name: str) -> bytes:
        """As Folder says."""
        if self._told(name)["size"] > files.MAX_JSON_BYTES:
            raise CorruptError(f"{name} in {self.id} is too large to be what its name says")
        return first_bytes(self._file(name), self._told(name)["size"])

    def shard(self, name: str) -> ShardFile:
        """As Folder says."""
        told = self._told(name)
        modified = next(
            (told[key] for key in ("LastModified", "updated", "mtime", "created") if told.get(key)), None
        )
        identity = _identity(told.get("ETag") or told.get("etag") or told.get("md5Hash"), modified)
        return ShardFile(name, told["size"], None, identity, self._file(name))

    def _told(self, name: str) -> Mapping[str, Any]:
        with driven(self.id), listening(self.id):
            told: Mapping[str, Any] = within(DRIVER_SECONDS, lambda: self._system.info(self._path(name)))
        if type(told.get("size")) is not int:
            raise NetworkError(
                f"nobody tells how long {name} in {self.id} is", "download it, and audit the copy"
            )
        return told

    def _exists(self, name: str) -> bool:
        return bool(within(DRIVER_SECONDS, lambda: self._system.exists(self._path(name))))

    def _file(self, name: str) -> DriverFile:
        return DriverFile(f"{name} in {self.id}", self._system, self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._base}/{name}"


def within(seconds: float, work: Callable[[], Any]) -> Any:
    """What the work gives; raises what it raises, and TimeoutError where it takes longer."""
    result: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            result.put((work(), None))
        except BaseException as error:  # it is raised again below
            result.put((None, error))

    # a daemon: a driver that hangs must not hold up the end of the program
    Thread(target=run, daemon=True).start()
    try:
        value, error = result.get(timeout=seconds)
    except Empty:
        raise TimeoutError(f"no answer within {seconds:.0f} seconds") from None
    if error is not None:
        raise error
    return value


@contextmanager
def driven(what: str) -> Iterator[None]:
    """Turn the errors that all drivers share into ours."""
    try:
        yield
    except FileNotFoundError as error:
        raise RepoNotFoundError(f"there is no {what}", "check the URL") from error
    except PermissionError as error:
        raise AccessError(f"{what} may not be read", "check the credentials of its driver") from error


@contextmanager
def listening(what: str) -> Iterator[None]:
    """Turn a driver's own errors into ours, but for those that `driven` knows."""
    try:
        yield
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # each driver has errors of its own
        told = f"{what} could not be reached ({type(error).__name__})"
        raise NetworkError(told, "check the network and the credentials, then try again") from error


def _identity(etag: object, modified: object) -> str:
    """What tells this content from another; where nothing does, what no other time will be equal to."""
    if isinstance(etag, str) and etag:
        return etag.strip('"')
    return f"modified {modified}" if modified else f"read at {time_ns()}"
