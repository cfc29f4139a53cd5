"""What an error of huggingface_hub means to the user, with no token and no signed URL in it."""

import errno
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub import errors as hub_errors
from huggingface_hub.utils.logging import get_verbosity, set_verbosity

from audit.errors import (
    AccessError,
    AuditError,
    GatedRepoError,
    NetworkError,
    OutputError,
    RepoNotFoundError,
    UsageError,
)

_LOGIN = "log in with `hf auth login` or set HF_TOKEN"


def at_revision(repo: str, revision: str | None) -> str:
    """A repo, and the revision of it that was asked for."""
    return f"{repo} at revision {revision}" if revision else repo


@contextmanager
def translated(repo: str, revision: str | None) -> Iterator[None]:
    """Turn huggingface_hub's errors into ours, and hush its warnings: both can hold signed URLs."""
    verbosity = get_verbosity()
    if verbosity == logging.WARNING:
        set_verbosity(logging.ERROR)
    try:
        yield
    except (
        hub_errors.HTTPError,  # type: ignore[attr-defined]  # httpx or httpx2, as the Hub client has it
        hub_errors.EntryNotFoundError,
        hub_errors.HFValidationError,
        json.JSONDecodeError,
        UnicodeEncodeError,
        OSError,
    ) as error:
        raise _our_error(error, repo, revision) from error
    finally:
        set_verbosity(verbosity)


def _our_error(error: BaseException, repo: str, revision: str | None) -> AuditError:
    """What an error of huggingface_hub means to the user, with no token and no signed URL in it."""
    match error:
        case hub_errors.LocalEntryNotFoundError(__cause__=BaseException() as cause):
            return _our_error(cause, repo, revision)
        case hub_errors.GatedRepoError():
            page = re.sub("//[^/]*@", "//", f"{constants.ENDPOINT}/{repo}")
            return GatedRepoError(f"{repo} is gated", f"accept its terms at {page}, then {_LOGIN}")
        case hub_errors.RevisionNotFoundError():
            return RepoNotFoundError(
                f"{repo} has no revision {revision or constants.DEFAULT_REVISION}", "check --revision"
            )
        case hub_errors.RepositoryNotFoundError():
            return RepoNotFoundError(
                f"there is no model {repo} on the Hub, or it is private", f"check the name, or {_LOGIN}"
            )
        case hub_errors.EntryNotFoundError():
            return RepoNotFoundError(
                f"{at_revision(repo, revision)} lacks a file it lists", "try again later"
            )
        case hub_errors.HFValidationError():
            return UsageError(f"{repo!r} is neither a path here nor a Hub id", "a Hub id reads org/name")
        case hub_errors.HfHubHTTPError():
            return _refusal(error.response.status_code, at_revision(repo, revision))
        case json.JSONDecodeError() | hub_errors.FileMetadataError():
            return NetworkError(
                f"what answers for {repo} is not the Hub", "check HF_ENDPOINT, and any proxy or login page"
            )
        case UnicodeEncodeError():
            return AccessError("the Hub token holds a character that no token has", f"copy it anew: {_LOGIN}")
        case OSError(errno=int()):
            return _cache_trouble(error)
        case _:
            reason = type(error).__name__
            return NetworkError(
                f"the Hub could not be reached for {at_revision(repo, revision)} ({reason})",
                "check the network (and HF_ENDPOINT, if set), then try again",
            )


def _refusal(status: int, at: str) -> AuditError:
    match status:
        case 401:
            wanted = "another token" if huggingface_hub.get_token() else "a token"
            return AccessError(f"the Hub wants {wanted} for {at}", _LOGIN)
        case 403:
            return AccessError(f"the Hub refuses access to {at}", f"use a token that may read it: {_LOGIN}")
        case 404:
            return RepoNotFoundError(f"the Hub has nothing at {at}", "check the name")
        case 429:
            return NetworkError(f"the Hub has too many requests to answer for {at}", f"wait, or {_LOGIN}")
        case _:
            return NetworkError(f"the Hub answered {status} for {at}", "try again later")


def _cache_trouble(error: OSError) -> AuditError:
    if error.errno == errno.ENOSPC:
        return OutputError("the disk of the Hub cache is full", "free space or set HF_HOME elsewhere")
    return OutputError(
        f"the Hub cache {constants.HF_HUB_CACHE} cannot be used: {error.strerror}", "set HF_HOME elsewhere"
    )
