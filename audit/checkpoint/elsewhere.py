"""A checkpoint behind a URL: https, or whatever has a driver of fsspec (s3://, gs://, memory://).

A URL names one .safetensors file, beside which config.json may lie, or a folder. Weights are streamed.
"""

from audit.checkpoint import files
from audit.checkpoint.driver import DriverFolder
from audit.checkpoint.folder import assemble
from audit.checkpoint.model import Checkpoint
from audit.checkpoint.url import scheme_of
from audit.checkpoint.web import WebFolder


def open_url(url: str) -> Checkpoint:
    """The checkpoint at a URL.

    Raises UsageError for a URL that no driver here is for, AccessErrors, and what `assemble` raises.
    """
    folder = folder_at(url)
    notes = () if files.CONFIG in folder.names else (f"no {files.CONFIG} could be read beside {folder.id}",)
    return assemble(folder, folder.single, notes=notes, streamed=True)


def folder_at(url: str) -> WebFolder | DriverFolder:
    """The files at a URL, none of them opened yet; raises UsageError where no driver here is for it."""
    return WebFolder(url) if scheme_of(url) in ("http", "https") else DriverFolder(url)
