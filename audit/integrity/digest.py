"""What a file's hash should be, as the Hub or its client noted it down, and what it is."""

import hashlib
import re
from pathlib import Path

from audit.checkpoint import ShardFile
from audit.checkpoint.folder import Folder
from audit.checkpoint.local import LocalFolder
from reports.integrity.model import Digest

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")

_NOTES = Path(".cache/huggingface/download")
"""Where `hf download --local-dir` keeps a note of each file: its commit, its hash, the time, a line each."""

_LONGEST_NOTE = 10_000

_ABOVE = 3
"""Folders above a file, its own among them, that may be the one it was downloaded to."""


def digest_of(etag: str | None) -> Digest | None:
    """The hash that the Hub's ETag is: SHA-256 of a large file, git's name of a small one; None for neither.

    https://huggingface.co/docs/huggingface_hub/en/guides/download
    """
    if etag is None:
        return None
    if _SHA256.fullmatch(etag):
        return Digest("sha256", etag)
    return Digest("git-sha1", etag) if _SHA1.fullmatch(etag) else None


def expected(shard: ShardFile, source: str) -> Digest | None:
    """The hash that the Hub gave a weight file; None where nobody told.

    Another server's ETag may be a hash of anything, and counts for nothing.
    """
    told = digest_of(shard.etag) if source != "url" else None
    return told or (recorded(shard.path) if shard.path is not None else None)


def expected_of_text(folder: Folder, name: str) -> Digest | None:
    """The hash that the Hub gave config.json or the index; None where nobody told."""
    if isinstance(folder, LocalFolder):
        return recorded(folder.path / name)
    if folder.source != "hub":
        return None
    from audit.checkpoint.hub import HubFolder

    assert isinstance(folder, HubFolder)
    listed = folder.listed[name]
    return digest_of(listed.lfs.sha256 if listed.lfs else listed.blob_id)


def recorded(path: Path) -> Digest | None:
    """The hash that the Hub's client noted of a file here: a blob's name in its cache, or in a note."""
    try:
        if path.is_symlink() and path.readlink().parent.name == "blobs":
            return digest_of(path.readlink().name)
        for folder in path.parents[:_ABOVE]:
            note = folder / _NOTES / f"{path.relative_to(folder)}.metadata"
            if note.is_file() and note.stat().st_size <= _LONGEST_NOTE:
                lines = note.read_text(encoding="utf-8", errors="replace").splitlines()
                return digest_of(lines[1].strip()) if len(lines) > 1 else None
    except OSError:
        return None
    return None


def git_hasher(size: int) -> "hashlib._Hash":
    """SHA-1 of a git blob of so many bytes, which are to be added."""
    return hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)


def hash_of(content: bytes, algorithm: str) -> Digest:
    """The hash of bytes."""
    if algorithm == "git-sha1":
        hasher = git_hasher(len(content))
        hasher.update(content)
        return Digest("git-sha1", hasher.hexdigest())
    return Digest("sha256", hashlib.sha256(content).hexdigest())
