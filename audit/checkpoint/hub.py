"""A checkpoint on the Hugging Face Hub, through huggingface_hub: its cache, token, endpoint and offline mode.

Only config.json, the index and the safetensors shards are fetched.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub import errors as hub_errors

from audit.checkpoint import files
from audit.checkpoint.header import TensorEntry
from audit.checkpoint.local import add_tensors, assemble
from audit.checkpoint.model import Checkpoint, ShardFile, StoredTensor
from audit.errors import (
    CorruptError,
    GatedRepoError,
    NetworkError,
    OfflineError,
    OutputError,
    RepoNotFoundError,
    UsageError,
)

_LOGIN = "log in with `hf auth login` or set HF_TOKEN"


def open_hub(repo: str, revision: str | None, *, headers_only: bool = False) -> Checkpoint:
    """The checkpoint of a Hub repo at a branch, tag or commit.

    With `headers_only` the shards stay on the Hub, and only their headers are read by range requests.
    Raises the AccessErrors, and what open_local raises for the files themselves.
    """
    if constants.HF_HUB_OFFLINE:
        return _open_cached(repo, revision)
    with _translated(repo, revision):
        info = huggingface_hub.HfApi(library_name="gcont-audit").model_info(
            repo, revision=revision, files_metadata=True
        )
        siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
        names = files.weight_files(siblings, lambda: _fetch(repo, files.INDEX, info.sha).read_bytes(), repo)
        config = _fetch(repo, files.CONFIG, info.sha) if files.CONFIG in siblings else None
        if headers_only:
            sizes = {name: siblings[name].size or 0 for name in names}
            return _remote_headers(repo, info.sha, config, sizes)
        folders = [_fetch_shard(repo, name, info.sha) for name in names]
    return assemble(repo, "hub", info.sha, folders[0], names, etag=_etag)


def _fetch(repo: str, name: str, revision: str | None) -> Path:
    return Path(huggingface_hub.hf_hub_download(repo, name, revision=revision, library_name="gcont-audit"))


def _fetch_shard(repo: str, name: str, revision: str | None) -> Path:
    """The snapshot folder, once the shard lies in it."""
    return _fetch(repo, name, revision).parents[name.count("/")]


def _open_cached(repo: str, revision: str | None) -> Checkpoint:
    """The checkpoint as the cache has it, without a word to the network."""
    wanted = (files.CONFIG, files.INDEX, files.WHOLE)
    paths = [huggingface_hub.try_to_load_from_cache(repo, name, revision=revision) for name in wanted]
    found = [Path(path) for path in paths if isinstance(path, str)]
    if not found:
        raise OfflineError(
            f"{repo} is not in the cache, and HF_HUB_OFFLINE is set",
            "unset it, or fetch the model while online",
        )
    folder = found[0].parent
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    try:
        names = files.weight_files(present, (folder / files.INDEX).read_bytes, repo)
    except CorruptError as error:
        raise OfflineError(
            f"{repo} is only partly in the cache ({error.message}), and HF_HUB_OFFLINE is set",
            "unset it, or fetch the model while online",
        ) from error
    return assemble(repo, "hub", folder.name, folder, names, etag=_etag)


def _remote_headers(
    repo: str, revision: str | None, config: Path | None, sizes: dict[str, int]
) -> Checkpoint:
    shards = []
    tensors: dict[str, StoredTensor] = {}
    for name, size in sizes.items():
        header = huggingface_hub.HfApi(library_name="gcont-audit").parse_safetensors_file_metadata(
            repo, name, revision=revision
        )
        shard = ShardFile(name, size, None)
        shards.append(shard)
        entries = {
            tensor: TensorEntry(said.dtype, tuple(said.shape), *said.data_offsets)
            for tensor, said in header.tensors.items()
        }
        add_tensors(tensors, shard, entries)
    parsed = files.parse_config(config.read_bytes(), repo) if config else None
    return Checkpoint(repo, "hub", revision, parsed, tuple(shards), tensors)


def _etag(path: Path) -> str | None:
    """The Hub's content hash: the name of the blob that a snapshot's link points to."""
    return path.resolve().name if path.is_symlink() else None


@contextmanager
def _translated(repo: str, revision: str | None) -> Iterator[None]:
    """Turn huggingface_hub's errors into ours; no message of ours ever holds a token or a signed URL."""
    at = f"{repo} at revision {revision}" if revision else repo
    try:
        yield
    except hub_errors.GatedRepoError as error:
        raise GatedRepoError(
            f"{repo} is gated", f"accept its terms at {constants.ENDPOINT}/{repo}, then {_LOGIN}"
        ) from error
    except hub_errors.RevisionNotFoundError as error:
        raise RepoNotFoundError(f"{repo} has no revision {revision}", "check --revision") from error
    except hub_errors.RepositoryNotFoundError as error:
        raise RepoNotFoundError(
            f"there is no model {repo} on the Hub, or it is private", f"check the name, or {_LOGIN}"
        ) from error
    except (hub_errors.OfflineModeIsEnabled, hub_errors.LocalEntryNotFoundError) as error:
        raise OfflineError(
            f"{at} is not in the cache, and the Hub cannot be reached", "check the network"
        ) from error
    except hub_errors.HFValidationError as error:
        raise UsageError(
            f"{repo!r} is neither a path here nor a Hub id", "a Hub id reads org/name"
        ) from error
    except hub_errors.SafetensorsParsingError as error:
        raise CorruptError(f"{at} has a safetensors header that cannot be read") from error
    except hub_errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "no")
        raise NetworkError(f"the Hub answered {status} for {at}", "try again later") from error
    except hub_errors.EntryNotFoundError as error:
        raise RepoNotFoundError(f"{at} lacks a file it lists", "try again later") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise OutputError(
                "the disk of the Hub cache is full", "free space or set HF_HOME elsewhere"
            ) from error
        raise NetworkError(
            f"{at} could not be fetched ({type(error).__name__})", "check the network and try again"
        ) from error
    except hub_errors.HTTPError as error:  # type: ignore[attr-defined]  # httpx or httpx2, as the Hub client has it
        raise NetworkError(
            f"the Hub could not be reached ({type(error).__name__})", "check the network and try again"
        ) from error
