"""Find a checkpoint's files and headers, and read its tensors.

A local path wins over a Hub id of the same name, and over a URL.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from audit.checkpoint.folder import Folder
from audit.checkpoint.local import local_folder, open_local
from audit.checkpoint.model import Checkpoint, ShardFile, StoredTensor
from audit.checkpoint.reader import FLOAT_DTYPES, TensorReader, far_extents
from audit.checkpoint.url import is_url, without_secrets
from audit.errors import PathNotFoundError, UsageError

__all__ = [
    "FLOAT_DTYPES", "Checkpoint", "OpenedFolder", "ShardFile", "StoredTensor", "TensorReader", "far_extents",
    "is_url", "local_path", "open_checkpoint", "open_folder", "without_secrets",
]  # fmt: skip

_HUB_ID = re.compile(r"[\w.-]+(?:/[\w.-]+)?")


def open_checkpoint(
    model: str, revision: str | None = None, *, headers_only: bool = False, stream: bool | None = None
) -> Checkpoint:
    """The checkpoint a user means by a path, a Hub id or a URL; headers are read and checked, no weight is.

    `stream`: whether what is not here stays where it is and is read by ranges; None where that is left to the
    room on the disk. With `headers_only` nothing is fetched for it in any case.
    Raises PathNotFoundError for what is clearly a path and does not exist, UsageError for a revision of
    anything but a Hub model, and what open_local, open_hub and open_url raise.
    """
    path = _asked_path(model, revision, stream)
    if path is not None:
        return open_local(path, notes=_shadowing(model, path))
    if is_url(model):
        from audit.checkpoint.elsewhere import open_url

        return open_url(model)
    from audit.checkpoint.hub import open_hub

    return open_hub(model, revision, headers_only=headers_only, stream=stream)


@dataclass(frozen=True)
class OpenedFolder:
    """A folder that a user means, nothing in it read yet; `only` are the shards meant, None for all.

    What is done with the folder goes `within`, which turns its errors into ours; `bring` fetches shards
    where that was asked for, and says what the user should hear of it.
    """

    folder: Folder
    only: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    within: Callable[[], AbstractContextManager[None]] = nullcontext
    bring: Callable[[Sequence[str]], tuple[str, ...]] = lambda names: ()


def open_folder(model: str, revision: str | None = None, *, stream: bool | None = None) -> OpenedFolder:
    """The folder of a checkpoint that may be broken; `stream` and what is raised are as open_checkpoint has
    it, but for the CorruptErrors."""
    path = _asked_path(model, revision, stream)
    if path is not None:
        folder, only = local_folder(path)
        return OpenedFolder(folder, only, _shadowing(model, path))
    if is_url(model):
        from audit.checkpoint.elsewhere import folder_at

        web = folder_at(model)
        return OpenedFolder(web, web.single)
    from audit.checkpoint.hub import bring, hub_folder
    from audit.checkpoint.refusals import translated

    hub, notes = hub_folder(model, revision)
    return OpenedFolder(
        hub, None, notes, lambda: translated(model, revision), lambda names: bring(hub, names, stream)
    )


def _asked_path(model: str, revision: str | None, stream: bool | None) -> Path | None:
    """The path a user means, None for a URL or a Hub id; raises UsageError, PathNotFoundError."""
    path = local_path(model)
    if path is not None:
        if revision is not None:
            raise UsageError(f"{model} is a local path, and --revision is for Hub models", "leave it out")
    elif is_url(model):
        if revision is not None:
            raise UsageError("--revision is for Hub models", "leave it out, or name the model by its Hub id")
        if stream is False:
            raise UsageError("--download is for Hub models", "fetch the files yourself, and audit the folder")
    elif _looks_like_path(model):
        raise PathNotFoundError(f"there is no file or folder {model}", "check the path")
    return path


def _shadowing(model: str, path: Path) -> tuple[str, ...]:
    """What to say of a folder that was taken in place of a Hub model."""
    if "/" in model and not _looks_like_path(model) and path.is_dir():
        return (f"{model} is a folder here, so the Hub model of that name is not asked for",)
    return ()


def local_path(model: str) -> Path | None:
    """The file or folder a user means, None where there is none of that name."""
    try:
        path = Path(model).expanduser()
        return path if model and path.exists() else None
    except (OSError, RuntimeError):  # a name no file can have, or a home folder that nobody has
        return None


def _looks_like_path(model: str) -> bool:
    return (
        model.startswith((".", "/", "~", "\\"))
        or model.endswith((".safetensors", "/"))
        or not _HUB_ID.fullmatch(model)
    )
