"""URLs: their parts, as a client may ask for them, and what identifies the content behind one."""

import re
from time import time_ns
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit

from audit.errors import UsageError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

WEIGHTS = ".safetensors"
"""How the URL of a single file ends; any other is a folder's."""

_URL = re.compile(r"[a-z][a-z0-9+.:-]*://", re.IGNORECASE)
_PLAIN = "%/:=&?~#+!$,;'@()*[]"
"""Characters that stay as they are in a URL's path and query."""


def is_url(text: str) -> bool:
    """Whether a user means a place elsewhere: https://…, s3://…, and whatever else fsspec knows."""
    return _URL.match(text) is not None


def without_secrets(text: str) -> str:
    """A URL without its query and its user, which may be secrets, be it right or not; other text as it is."""
    if not is_url(text):
        return text
    shown = re.sub(r"//[^/?#]*@", "//", re.split(r"[?#]", text)[0])
    # what a # in a password leaves: no port, but half of a secret
    return re.sub(r"(//[^/:\[]*):(?!:|[0-9]*(?:/|$))[^/]*", r"\1", shown)


def scheme_of(url: str) -> str:
    """What stands before its ://, in small letters."""
    return url.split("://", 1)[0].lower()


def parts_of(url: str) -> "SplitResult":
    """The URL's parts; raises UsageError for what is none."""
    try:
        parts = urlsplit(url)
        _ = parts.port, parts.hostname
    except ValueError as error:
        raise UsageError(f"{shown(url)} is no URL", "check its host and its port") from error
    return parts


def web_parts_of(url: str) -> "SplitResult":
    """The parts of an address on the web, encoded as a client asks for it; raises UsageError."""
    parts = parts_of(url)
    user, at, _ = parts.netloc.rpartition("@")
    try:
        host = (parts.hostname or "").encode("idna").decode()
    except UnicodeError:
        host = ""
    host = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port is not None else ""
    netloc = f"{quote(user, safe=_PLAIN)}{at}{host}{port}"
    whole = urlunsplit(
        (parts.scheme, netloc, quote(parts.path, safe=_PLAIN), quote(parts.query, safe=_PLAIN), "")
    )
    if not host or not re.fullmatch(r"[\x21-\x7e]{1,8000}", whole):
        raise UsageError(f"{shown(url)} is no web address", "check the host after //")
    return urlsplit(whole)


def shown(url: str) -> str:
    """A URL that is wrong, as an error quotes it."""
    return repr(without_secrets(url)[:200])


def identity(etag: object, modified: object) -> str:
    """What tells this content from another; where nothing does, what no other time will be equal to."""
    if isinstance(etag, str) and etag:
        return etag.strip('"')
    return f"modified {modified}" if modified else f"read at {time_ns()}"
