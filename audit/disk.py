"""Files written whole or not at all, and an error of ours where the disk refuses."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from audit.errors import OutputError

DRAFT = ".report."
"""How the names of folders begin in which a report is being written."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raise OutputError in place of what the system raises for a folder that cannot be written."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        # safetensors tells the system's number in words only
        full = getattr(error, "errno", None) in _FULL or any(f"os error {code})" in reason for code in _FULL)
        hint = "make room and repeat the command, or" if full else ""
        raise OutputError(
            f"{folder} cannot be written: {reason}", f"{hint} name another folder with --out".strip()
        ) from error


def write_file(file: Path, content: bytes, *, durable: bool = False) -> None:
    """Write beside its place, then move it there; `durable`: on the disk itself before it is moved."""
    handle, fresh = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as opened:
            opened.write(content)
            if durable:
                opened.flush()
                os.fsync(opened.fileno())
        Path(fresh).chmod(0o644)
        Path(fresh).replace(file)
    finally:
        Path(fresh).unlink(missing_ok=True)


def sync(folder: Path) -> None:
    """Wait until every file in a folder is on the disk itself."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
