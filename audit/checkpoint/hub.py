"""A checkpoint on the Hugging Face Hub, through huggingface_hub: its cache, token, endpoint and offline mode.

Only config.json, the index and the safetensors shards are fetched.
"""

import errno
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub import errors as hub_errors
from huggingface_hub.hf_api import ModelInfo, RepoSibling
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status  # type: ignore[attr-defined]  # documented, but not declared as exports
from huggingface_hub.utils.logging import get_verbosity, set_verbosity

from audit.checkpoint import files
from audit.checkpoint.header import TensorEntry, header_length, parse_header
from audit.checkpoint.local import add_tensors, assemble, check_index
from audit.checkpoint.model import Checkpoint, ShardFile, StoredTensor
from audit.errors import (
    AccessError,
    AuditError,
    CorruptError,
    GatedRepoError,
    NetworkError,
    NoSafetensorsError,
    OfflineError,
    OutputError,
    RepoNotFoundError,
    UsageError,
)

_US = "gcont-audit"
_LOGIN = "log in with `hf auth login` or set HF_TOKEN"

_FIRST_BYTES = 100_000
"""What is asked of a shard at first: nearly every header fits."""


def open_hub(repo: str, revision: str | None, *, headers_only: bool = False) -> Checkpoint:
    """The checkpoint of a Hub repo at a branch, tag or commit.

    With `headers_only` the shards stay on the Hub, and only their headers are read by range requests. Where
    the Hub cannot be reached but the cache holds the checkpoint, that copy is used, with a note.
    Raises the AccessErrors, and what open_local raises for the files themselves.
    """
    if constants.HF_HUB_OFFLINE:
        return _open_cached(repo, revision)
    try:
        info = _ask(repo, revision)
    except NetworkError:
        cached = _if_cached(repo, revision)
        if cached is None:
            raise
        return cached
    with translated(repo, revision):
        listed = {sibling.rfilename: sibling for sibling in info.siblings or ()}
        described = _fetch_descriptions(repo, revision, info.sha, listed)
        names = files.weight_files(listed, lambda: described[files.INDEX].read_bytes(), repo)
        if headers_only:
            shards = [_shard(repo, info.sha, listed[name]) for name in names]
            return _remote(repo, info.sha, described, shards)
        folders = [fetch(repo, name, info.sha).parents[name.count("/")] for name in names]
    return assemble(repo, "hub", info.sha, folders[0], names, etag=_etag)


def _ask(repo: str, revision: str | None) -> ModelInfo:
    """What the Hub says about the repo: the commit behind the revision, and its files with their sizes."""
    with translated(repo, revision):
        return huggingface_hub.HfApi(library_name=_US).model_info(
            repo, revision=revision, files_metadata=True, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
        )


def _fetch_descriptions(
    repo: str, revision: str | None, commit: str | None, listed: Mapping[str, RepoSibling]
) -> dict[str, Path]:
    """config.json and the index, as far as the repo has them.

    The first is asked for by the revision's own name: the cache then remembers which commit that name
    means, and offline mode needs to know.
    """
    wanted = [name for name in (files.CONFIG, files.INDEX) if name in listed]
    for name in wanted:
        if (listed[name].size or 0) > files.MAX_JSON_BYTES:
            raise CorruptError(f"{name} in {repo} is too large to be what its name says")
    for name in wanted[:1]:
        fetch(repo, name, revision)
    return {name: fetch(repo, name, commit) for name in wanted}


def fetch(repo: str, name: str, revision: str | None) -> Path:
    """A file of a repo, from the cache where it is there; within `translated`, for what may go wrong."""
    try:
        return Path(huggingface_hub.hf_hub_download(repo, name, revision=revision, library_name=_US))
    except RuntimeError as error:  # how hf_xet reports a transfer that failed
        raise NetworkError(
            f"{name} of {repo} could not be fetched", "check the network and try again"
        ) from error


def _open_cached(repo: str, revision: str | None) -> Checkpoint:
    """The checkpoint as the cache has it, without a word to the network."""
    wanted = (files.CONFIG, files.INDEX, files.WHOLE)
    with translated(repo, revision):
        paths = [huggingface_hub.try_to_load_from_cache(repo, name, revision=revision) for name in wanted]
    found = [Path(path) for path in paths if isinstance(path, str)]
    if not found:
        raise OfflineError(
            f"{_at(repo, revision)} is not in the cache, and HF_HUB_OFFLINE is set",
            "unset it, or fetch the model while online",
        )
    folder = found[0].parent
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    try:
        names = files.weight_files(present, (folder / files.INDEX).read_bytes, repo)
    except (CorruptError, NoSafetensorsError) as error:
        raise OfflineError(
            f"{_at(repo, revision)} is only partly in the cache ({error.message}), and HF_HUB_OFFLINE is set",
            "unset it, or fetch the model while online",
        ) from error
    return assemble(repo, "hub", folder.name, folder, names, etag=_etag)


def _if_cached(repo: str, revision: str | None) -> Checkpoint | None:
    """The cached checkpoint in place of one that cannot be asked for, None where the cache lacks it."""
    try:
        cached = _open_cached(repo, revision)
    except OfflineError:
        return None
    note = f"the Hub cannot be reached; using the cached copy at {cached.revision}"
    return replace(cached, notes=(note,))


def _remote(
    repo: str,
    commit: str | None,
    described: Mapping[str, Path],
    shards: list[tuple[ShardFile, Mapping[str, TensorEntry]]],
) -> Checkpoint:
    tensors: dict[str, StoredTensor] = {}
    for shard, entries in shards:
        add_tensors(tensors, shard, entries)
    read = tuple(shard for shard, _ in shards)
    if files.INDEX in described:
        check_index(described[files.INDEX], tensors, {shard.name for shard in read})
    config = described.get(files.CONFIG)
    parsed = files.parse_config(config.read_bytes(), repo) if config else None
    return Checkpoint(repo, "hub", commit, parsed, read, tensors)


def _shard(
    repo: str, commit: str | None, sibling: RepoSibling
) -> tuple[ShardFile, Mapping[str, TensorEntry]]:
    """A shard that stays on the Hub, and its header, checked like that of a local file."""
    name = sibling.rfilename
    url = huggingface_hub.hf_hub_url(repo, name, revision=commit)
    size = sibling.size
    if size is None:
        size = huggingface_hub.get_hf_file_metadata(url, library_name=_US).size or 0
    start = _first_bytes(url, min(size, _FIRST_BYTES))
    length = header_length(start[:8], size, name)
    if 8 + length > len(start):
        start = _first_bytes(url, 8 + length)
    return ShardFile(name, size, None), parse_header(start[8 : 8 + length], size, name)


def _first_bytes(url: str, count: int) -> bytes:
    """The first bytes of a file, and no more even from a server that ignores ranges."""
    if count == 0:
        return b""
    asked = {"range": f"bytes=0-{count - 1}", "accept-encoding": "identity"}
    headers = build_hf_headers(library_name=_US, headers=asked)
    read = bytearray()
    with get_session().stream(
        "GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
    ) as response:
        hf_raise_for_status(response)
        for chunk in response.iter_bytes():
            read += chunk
            if len(read) >= count:
                break
    return bytes(read[:count])


def _etag(path: Path) -> str | None:
    """The Hub's content hash: the name of the blob that a snapshot's link points to."""
    return path.readlink().name if path.is_symlink() else None


def _at(repo: str, revision: str | None) -> str:
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
            return RepoNotFoundError(f"{_at(repo, revision)} lacks a file it lists", "try again later")
        case hub_errors.HFValidationError():
            return UsageError(f"{repo!r} is neither a path here nor a Hub id", "a Hub id reads org/name")
        case hub_errors.HfHubHTTPError():
            return _refusal(error.response.status_code, _at(repo, revision))
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
                f"the Hub could not be reached for {_at(repo, revision)} ({reason})",
                "check the network (and HF_ENDPOINT, if set), then try again",
            )


def _refusal(status: int, at: str) -> AuditError:
    match status:
        case 401:
            wanted = "another token" if huggingface_hub.get_token() else "a token"
            return AccessError(f"the Hub wants {wanted} for {at}", _LOGIN)
        case 403:
            return AccessError(f"the Hub refuses access to {at}", f"use a token that may read it: {_LOGIN}")
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
