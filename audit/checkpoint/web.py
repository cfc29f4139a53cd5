"""The files beside an address on the web, read by ranges."""

from collections.abc import Collection
from functools import cached_property
from posixpath import basename, dirname
from urllib.parse import quote, unquote, urlunsplit

from audit.checkpoint import files
from audit.checkpoint.folder import first_bytes
from audit.checkpoint.http import FixedAddress, HttpFile
from audit.checkpoint.model import ShardFile, Source
from audit.checkpoint.url import WEIGHTS, identity, web_parts_of, without_secrets
from audit.errors import AccessError, CorruptError, NetworkError


class WebFolder:
    """The files beside a URL; as the web has no list of them, each is asked for."""

    source: Source = "url"
    revision = None

    def __init__(self, url: str) -> None:
        """Nothing is asked yet; raises UsageError for a URL without a host."""
        self._parts = web_parts_of(url)
        self.id = without_secrets(self._parts.geturl())
        path = self._parts.path
        self.single = (unquote(basename(path)),) if path.endswith(WEIGHTS) else None
        self._base = (dirname(path) if self.single else path).rstrip("/")
        self._texts: dict[str, bytes | None] = {}

    @cached_property
    def names(self) -> Collection[str]:
        """config.json and the index, as far as they are there, and the weights they lead to."""
        if self.single:
            return {*self.single} | ({files.CONFIG} if self._found(files.CONFIG) is not None else set())
        there = {name for name in (files.CONFIG, files.INDEX) if self._found(name) is not None}
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
        return ShardFile(name, file.size, None, identity(file.etag, file.modified), file)

    def _found(self, name: str) -> bytes | None:
        if name not in self._texts:
            self._texts[name] = self._ask(name)
        return self._texts[name]

    def _ask(self, name: str) -> bytes | None:
        """A small file, None where there is none for us."""
        file = self._file(name)
        try:
            first_bytes(file, 1, briefly=True)
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
        return HttpFile(without_secrets(url), FixedAddress(url, {}))
