"""A file behind http(s), read by ranges with huggingface_hub's own client: its proxies, time-outs, pool."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Lock
from typing import Any, Protocol
from urllib.parse import urlsplit

from huggingface_hub import constants
from huggingface_hub import errors as hub_errors
from huggingface_hub.utils import get_session  # type: ignore[attr-defined]  # documented, but not declared as an export

from audit.checkpoint.origin import PassingError
from audit.errors import AccessError, AuditError, NetworkError, OfflineError

PASSING = (408, 409, 425, 429, 500, 502, 503, 504)
"""What a server answers that may do better a moment later."""

LAPSED = (401, 403, 404, 410)
"""What storage answers to a signature that has run out, or to one for another time."""

_RANGE = re.compile(r"bytes (\d{1,20})-(\d{1,20})/(\d{1,20}|\*)")

_LASTING = {
    "TooManyRedirects": "its redirects lead in circles",
    "UnsupportedProtocol": "it leads to what is no web address",
    "InvalidURL": "it leads to what is no web address",
}
"""What a client's errors mean that come again however often one asks, by their names."""

_URL = re.compile(r"[\x21-\x7e]{1,8000}")

_CHUNK = 2**18
"""Bytes handed on at a time."""


class Address(Protocol):
    """Where a file is asked for, which may change with time."""

    def get(self) -> tuple[str, Mapping[str, str]]:
        """The URL and the headers to ask with; raises PassingError and AccessError."""

    def renew(self, stale: str) -> bool:
        """Find another URL than the stale one; False where there is only one."""


class FixedAddress:
    """A URL that stays what it is."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        """Nothing is asked yet."""
        self._url, self._headers = url, headers

    def get(self) -> tuple[str, Mapping[str, str]]:
        """As above."""
        return self._url, self._headers

    def renew(self, stale: str) -> bool:
        """There is only one."""
        return False


class HttpFile:
    """An origin behind an address; every answer has to be of the same file: the same size, the same ETag."""

    def __init__(self, title: str, address: Address, size: int | None = None) -> None:
        """Nothing is asked yet; the size is learnt from the first answer where it is None."""
        self.title = title
        self.size = size
        self.etag: str | None = None
        self.modified: str | None = None
        self._address = address
        self._lock = Lock()

    def take(self, start: int, stop: int) -> Iterator[bytes]:
        """As Origin says."""
        url, headers = self._address.get()
        asked = {**headers, "Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
        try:
            with get_session().stream(
                "GET", url, headers=asked, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
            ) as response:
                self._check(response, url, start)
                yield from response.iter_raw(_CHUNK)
        except hub_errors.OfflineModeIsEnabled as error:
            raise OfflineError(f"{self.title} is elsewhere, and HF_HUB_OFFLINE is set", "unset it") from error
        except (hub_errors.HTTPError, OSError, ValueError) as error:  # type: ignore[attr-defined]  # httpx or httpx2, as the Hub client has it
            if (lasting := _LASTING.get(type(error).__name__)) is not None:
                raise NetworkError(f"{self.title} cannot be read: {lasting}", "check the address") from error
            what = f"{self.title} cannot be read: {_words(error)}"
            raise PassingError(NetworkError(what, "check the network, then try again")) from error

    def _check(self, response: Any, url: str, start: int) -> None:
        """Make sure that the answer holds what was asked; raises PassingError, NetworkError, AccessError."""
        status = response.status_code
        host = urlsplit(url).hostname or "the server"
        if status == 206:
            self._check_range(response, start)
        elif status == 200:
            if start:
                hint = "download the model (a Hub model with --download) and audit the copy"
                told = NetworkError(f"{host} sends all of {self.title} where a part is asked for", hint)
                raise PassingError(told, wait=0)
            self._is_size(response.headers.get("Content-Length"))
        elif status == 416 and start == 0:
            raise AccessError(f"{self.title} is empty", "check the file")
        elif status == 416:
            raise PassingError(self._changed("it is shorter than it was"), wait=0)
        elif status in LAPSED and self._address.renew(url):
            raise PassingError(self._refused(status, host), wait=0)
        elif status in PASSING:
            raise PassingError(
                NetworkError(f"{host} answered {status} for {self.title}", "try again later"),
                wait_of(response.headers.get("Retry-After")),
            )
        else:
            raise self._refused(status, host)
        self._is_unchanged(response)

    def _check_range(self, response: Any, start: int) -> None:
        told = _RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        if told is None or int(told[1]) != start:
            what = f"another part of {self.title} came than was asked for"
            raise PassingError(NetworkError(what, "check any proxy on the way"), wait=0)
        self._is_size(told[3])

    def _is_size(self, told: str | None) -> None:
        if told is None or not told.isdecimal():
            return
        if self.size is None:
            self.size = int(told)
        elif self.size != int(told):
            raise self._changed(f"it has {told} bytes, and had {self.size}")

    def _is_unchanged(self, response: Any) -> None:
        """Hold the answer against the first one."""
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding not in ("", "identity"):
            what = f"{self.title} comes {encoding}-coded"
            raise PassingError(NetworkError(what, "check any proxy on the way"), wait=0)
        etag = (response.headers.get("ETag") or "").removeprefix("W/").strip('"') or None
        with self._lock:
            if self.etag is None:
                self.etag, self.modified = etag, response.headers.get("Last-Modified")
            elif etag is not None and etag != self.etag:
                raise self._changed("its ETag is another")

    def _changed(self, how: str) -> NetworkError:
        return NetworkError(
            f"{self.title} changed while it was read: {how}", "start again when it is settled"
        )

    def _refused(self, status: int, host: str) -> AuditError:
        if status in (401, 403):
            what = f"{self.title} may not be read: {host} answers {status}"
            return AccessError(what, "check the credentials")
        if status in (404, 410):
            return AccessError(f"there is no {self.title}: {host} answers {status}", "check the name")
        return NetworkError(f"{host} answered {status} for {self.title}", "try again later")


def checked_url(url: str) -> str:
    """The URL, if a client can ask for it; raises NetworkError."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        fits = False
    if not fits or not _URL.fullmatch(url):
        raise no_web_address()
    return url


def no_web_address() -> NetworkError:
    """What to say of a redirect to something else."""
    return NetworkError("a server sends on to what is no web address", "check HF_ENDPOINT, and any proxy")


def _words(error: BaseException) -> str:
    """What a client's error means; its own words can hold a signed URL."""
    name = type(error).__name__
    if "Timeout" in name:
        return f"no answer within {constants.HF_HUB_DOWNLOAD_TIMEOUT} seconds"
    if name == "ConnectError":
        return "no connection"
    if name in ("ReadError", "RemoteProtocolError", "WriteError", "CloseError"):
        return "the connection broke"
    return name


def wait_of(told: str | None) -> float | None:
    """Seconds that Retry-After asks for, which may name a date; None for nothing of the kind."""
    if told is None:
        return None
    if told.strip().isdecimal():
        return float(told)
    try:
        return max(0.0, (parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
