"""Where the Hub says that a file lies: a URL whose signature runs out, and is asked for again."""

from collections.abc import Mapping
from threading import Lock
from urllib.parse import urlsplit

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented, but not declared as an export

from audit.checkpoint.http import checked_url, no_web_address, wait_of
from audit.checkpoint.origin import PassingError
from audit.checkpoint.refusals import translated
from audit.errors import NetworkError

CLIENT = "gcont-audit"
"""What the Hub is told of who asks."""


class SignedAddress:
    """Where the Hub says that a file lies, asked once for many ranges: a URL whose signature runs out."""

    def __init__(self, url: str, repo: str, revision: str | None) -> None:
        """Nothing is asked yet."""
        self._url, self._repo, self._revision = url, repo, revision
        self._found: str | None = None
        self._lock = Lock()

    def get(self) -> tuple[str, Mapping[str, str]]:
        """As Address says; the token goes to the Hub alone."""
        with self._lock:
            if self._found is None:
                self._found = self._ask()
            ours = urlsplit(self._found).netloc == urlsplit(self._url).netloc
            return self._found, build_hf_headers(library_name=CLIENT, token=None if ours else False)

    def renew(self, stale: str) -> bool:
        """As Address says."""
        with self._lock:
            if self._found == stale:
                self._found = None
            return True

    def _ask(self) -> str:
        try:
            with translated(self._repo, self._revision):
                found = huggingface_hub.get_hf_file_metadata(
                    self._url, library_name=CLIENT, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
                )
        except NetworkError as error:
            raise PassingError(error, wait_asked(error)) from error
        except ValueError as error:  # of the client, for a redirect to what is no URL
            raise no_web_address() from error
        return checked_url(found.location)


def wait_asked(error: NetworkError) -> float | None:
    """The seconds that the Hub asked to wait for, if it did."""
    response = getattr(error.__cause__, "response", None)
    return None if response is None else wait_of(response.headers.get("Retry-After"))
