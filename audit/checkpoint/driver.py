"""The files that a driver of fsspec reaches: s3://, gs://, and whatever else is installed."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from posixpath import basename, dirname
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from audit.checkpoint import files
from audit.checkpoint.folder import first_bytes
from audit.checkpoint.model import ShardFile, Source
from audit.checkpoint.origin import PassingError
from audit.checkpoint.url import WEIGHTS, identity, scheme_of, without_secrets
from audit.errors import AccessError, CorruptError, NetworkError, RepoNotFoundError, UsageError

DRIVER_SECONDS = 120.0
"""How long a driver may take for one answer."""

ETAG, MODIFIED = ("ETag", "etag", "md5Hash"), ("LastModified", "updated", "mtime", "created")
"""Where drivers tell what identifies a file's content, and when it was written."""


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

        self.id, scheme = without_secrets(url), scheme_of(url)
        try:
            self._system, path = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise UsageError(f"{scheme}:// needs a driver that is not installed", str(error)[:200]) from error
        except ValueError as error:  # what fsspec says of a protocol that it does not know
            raise UsageError(f"no driver is known for {scheme}://", "check the URL") from error
        except Exception as error:  # a driver's complaint about its own URL
            raise UsageError(
                f"{self.id} cannot be opened: {type(error).__name__}", "check the URL"
            ) from error
        self.single = (basename(path),) if path.endswith(WEIGHTS) else None
        self._base = (dirname(path) if self.single else path).rstrip("/")

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
        etag, modified = (
            next((told[key] for key in keys if told.get(key)), None) for keys in (ETAG, MODIFIED)
        )
        return ShardFile(name, told["size"], None, identity(etag, modified), self._file(name))

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
        folder = dirname(self.id) if self.single else self.id.rstrip("/")
        return DriverFile(f"{folder}/{name}", self._system, self._path(name))

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
