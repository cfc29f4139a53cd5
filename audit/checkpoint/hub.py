"""A checkpoint on the Hugging Face Hub, through huggingface_hub: its cache, token, endpoint and offline mode.

Only config.json, the index and the safetensors shards are fetched.
"""

import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.hf_api import ModelInfo, RepoSibling

from audit.checkpoint import files
from audit.checkpoint.folder import Folder, assemble, weight_names
from audit.checkpoint.http import PASSING, HttpFile
from audit.checkpoint.local import LocalFolder
from audit.checkpoint.model import Checkpoint, ShardFile, Source
from audit.checkpoint.origin import PassingError, patiently
from audit.checkpoint.refusals import at_revision, translated
from audit.checkpoint.signed import CLIENT, SignedAddress, wait_asked
from audit.errors import CorruptError, NetworkError, NoSafetensorsError, OfflineError
from reports.view import size as human

_MARGIN = 2_000_000_000
"""Bytes of a disk that are left free when it is decided whether shards fit."""


def open_hub(
    repo: str, revision: str | None, *, headers_only: bool = False, stream: bool | None = None
) -> Checkpoint:
    """The checkpoint of a Hub repo at a branch, tag or commit.

    Shards in the cache are read there. With `headers_only` the others stay on the Hub, and only their
    headers are read; so they do with `stream`, to be read by ranges when measured. Else they are fetched,
    where `stream` is None only if the disk has room for them. Where the Hub cannot be reached but the cache
    holds the checkpoint, that copy is used, with a note.
    Raises the AccessErrors, and what open_local raises for the files themselves.
    """
    folder, notes = hub_folder(repo, revision)
    if not isinstance(folder, HubFolder):
        return assemble(folder, notes=notes)
    with translated(repo, revision):
        names = weight_names(folder)
        streamed, notes = _decide(stream, folder.missing(names))
        if not headers_only and not streamed:
            folder.fetch(names)
        return assemble(folder, names, notes=notes, streamed=streamed)


def hub_folder(repo: str, revision: str | None) -> tuple[Folder, tuple[str, ...]]:
    """A Hub repo's files, none of them opened yet, and what the user should hear of it.

    What the cache has, where the Hub is not or cannot be asked. Raises the AccessErrors.
    """
    if constants.HF_HUB_OFFLINE:
        return _cached(repo, revision), ()
    try:
        return HubFolder(repo, revision, patiently(lambda: _ask(repo, revision))), ()
    except NetworkError:
        folder = None
        with suppress(OfflineError):
            folder = _cached(repo, revision)
        if folder is None:
            raise
        return folder, (f"the Hub cannot be reached; using the cached copy at {folder.revision}",)


def bring(folder: Folder, names: Sequence[str], stream: bool | None) -> tuple[str, ...]:
    """Fetch the shards that the cache lacks, unless they are to be streamed; as open_hub decides it.

    Returns what the user should hear of it. To be used within `translated`; raises the AccessErrors.
    """
    if not isinstance(folder, HubFolder):
        return ()
    streamed, notes = _decide(stream, folder.missing(names))
    if not streamed:
        folder.fetch(names)
    return notes


def _decide(stream: bool | None, missing: Mapping[str, int]) -> tuple[bool, tuple[str, ...]]:
    """Whether to stream the shards that the cache lacks, by size, and what to say of it."""
    if stream is not None or not missing:
        return bool(stream and missing), ()
    size, free = sum(missing.values()), _free_bytes(Path(constants.HF_HUB_CACHE))
    if free is None or size + _MARGIN <= free:
        return False, ()
    what = f"{human(size)} of shards do not fit on the disk of the Hub cache, which has {human(free)}"
    return True, (f"{what}: streaming them (--download fetches them all the same)",)


def _free_bytes(folder: Path) -> int | None:
    """What the disk of a folder that need not be there has room for; None where nobody knows."""
    try:
        return shutil.disk_usage(next(each for each in (folder, *folder.parents) if each.exists())).free
    except OSError:
        return None


@dataclass(frozen=True)
class HubFolder:
    """A repo at a commit; what of it is in the cache is read there, the rest by ranges.

    To be used within `translated`.
    """

    id: str
    asked: str | None
    info: ModelInfo
    source: Source = "hub"

    @property
    def revision(self) -> str | None:
        """The commit."""
        return self.info.sha

    @cached_property
    def listed(self) -> Mapping[str, RepoSibling]:
        """The repo's files."""
        return {sibling.rfilename: sibling for sibling in self.info.siblings or ()}

    @property
    def names(self) -> Collection[str]:
        """As Folder says."""
        return self.listed.keys()

    def text(self, name: str) -> bytes:
        """As Folder says; it is fetched into the cache."""
        return self._descriptions[name].read_bytes()

    def shard(self, name: str) -> ShardFile:
        """As Folder says."""
        if (path := self.cached(name)) is not None:
            return LocalFolder(path.parents[name.count("/")], self.id, etag=_etag).shard(name)
        url = huggingface_hub.hf_hub_url(self.id, name, revision=self.revision)
        address, sibling = SignedAddress(url, self.id, self.asked), self.listed[name]
        told = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
        size, etag = sibling.size, told
        if size is None or etag is None:
            metadata = huggingface_hub.get_hf_file_metadata(url, library_name=CLIENT)
            size, etag = metadata.size or 0, metadata.etag
        return ShardFile(name, size, None, etag, HttpFile(f"{name} of {self.id}", address, size))

    def missing(self, names: Iterable[str]) -> Mapping[str, int]:
        """Those of the files that the cache lacks, with their size, 0 where nobody tells it."""
        return {name: self.listed[name].size or 0 for name in names if self.cached(name) is None}

    def fetch(self, names: Iterable[str]) -> None:
        """Fetch those of the files that the cache lacks; raises what `translated` turns into ours."""
        for name in self.missing(names):
            fetch(self.id, name, self.revision)

    def cached(self, name: str) -> Path | None:
        """The file in the cache, if it is there."""
        found = huggingface_hub.try_to_load_from_cache(self.id, name, revision=self.revision)
        return Path(found) if isinstance(found, str) else None

    @cached_property
    def _descriptions(self) -> Mapping[str, Path]:
        """config.json and the index, as far as the repo has them.

        The first is asked for by the revision's own name: the cache then remembers which commit that name
        means, and offline mode needs to know.
        """
        wanted = [name for name in (files.CONFIG, files.INDEX) if name in self.listed]
        for name in wanted:
            if (self.listed[name].size or 0) > files.MAX_JSON_BYTES:
                raise CorruptError(f"{name} in {self.id} is too large to be what its name says")
        for name in wanted[:1]:
            fetch(self.id, name, self.asked)
        return {name: fetch(self.id, name, self.revision) for name in wanted}


def _ask(repo: str, revision: str | None) -> ModelInfo:
    """What the Hub says about the repo: the commit behind the revision, and its files with their sizes."""
    try:
        with translated(repo, revision):
            return huggingface_hub.HfApi(library_name=CLIENT).model_info(
                repo, revision=revision, files_metadata=True, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
            )
    except NetworkError as error:
        response = getattr(error.__cause__, "response", None)
        if response is None or response.status_code not in PASSING:
            raise
        raise PassingError(error, wait_asked(error)) from error


def fetch(repo: str, name: str, revision: str | None) -> Path:
    """A file of a repo, from the cache where it is there; within `translated`, for what may go wrong."""
    try:
        return Path(huggingface_hub.hf_hub_download(repo, name, revision=revision, library_name=CLIENT))
    except RuntimeError as error:  # how hf_xet reports a transfer that failed
        raise NetworkError(
            f"{name} of {repo} could not be fetched", "check the network and try again"
        ) from error


def _cached(repo: str, revision: str | None) -> LocalFolder:
    """The cache's folder, without a word to the network; raises OfflineError where it lacks a shard."""
    wanted = (files.CONFIG, files.INDEX, files.WHOLE)
    with translated(repo, revision):
        paths = [huggingface_hub.try_to_load_from_cache(repo, name, revision=revision) for name in wanted]
    found = [Path(path) for path in paths if isinstance(path, str)]
    if not found:
        raise OfflineError(
            f"{at_revision(repo, revision)} is not in the cache, and HF_HUB_OFFLINE is set",
            "unset it, or fetch the model while online",
        )
    folder = found[0].parent
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    try:
        files.weight_files(present, (folder / files.INDEX).read_bytes, repo)
    except (CorruptError, NoSafetensorsError) as error:
        what = f"{at_revision(repo, revision)} is only partly in the cache ({error.message})"
        raise OfflineError(
            f"{what}, and HF_HUB_OFFLINE is set",
            "unset it, or fetch the model while online",
        ) from error
    return LocalFolder(folder, repo, "hub", folder.name, _etag)


def _etag(path: Path) -> str | None:
    """The Hub's content hash: the name of the blob that a snapshot's link points to."""
    return path.readlink().name if path.is_symlink() else None
