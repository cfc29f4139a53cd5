"""Locked files, that keep a second process out of a folder as long as the first one lives."""

from typing import BinaryIO


def is_free(file: BinaryIO) -> bool:
    """Lock a file, as far as that can be done here; False where it is locked."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True
