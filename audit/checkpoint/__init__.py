"""Find a checkpoint's files and headers, and read its tensors.

A local path wins over a Hub id of the same name.
"""

import re
from pathlib import Path

from audit.checkpoint.local import open_local
from audit.checkpoint.model import Checkpoint, ShardFile, StoredTensor
from audit.checkpoint.reader import FLOAT_DTYPES, TensorReader
from audit.errors import PathNotFoundError, UsageError

__all__ = [
    "FLOAT_DTYPES", "Checkpoint", "ShardFile", "StoredTensor", "TensorReader", "local_path", "open_checkpoint"
]  # fmt: skip

_HUB_ID = re.compile(r"[\w.-]+(?:/[\w.-]+)?")


def open_checkpoint(model: str, revision: str | None = None, *, headers_only: bool = False) -> Checkpoint:
    """The checkpoint a user means by a path or a Hub id; headers are read and checked, weights are not.

    Raises PathNotFoundError for what is clearly a path and does not exist, UsageError for a revision of a
    local path, and what open_local and open_hub raise.
    """
    path = local_path(model)
    if path is not None:
        if revision is not None:
            raise UsageError(f"{model} is a local path, and --revision is for Hub models", "leave it out")
        shadowed = "/" in model and not _looks_like_path(model) and path.is_dir()
        note = f"{model} is a folder here, so the Hub model of that name is not asked for"
        return open_local(path, notes=(note,) if shadowed else ())
    if _looks_like_path(model):
        raise PathNotFoundError(f"there is no file or folder {model}", "check the path")
    from audit.checkpoint.hub import open_hub

    return open_hub(model, revision, headers_only=headers_only)


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
