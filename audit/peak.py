"""How much anonymous memory this process has, and how much the machine.

Anonymous is all but the pages of files, which the system drops and reads again as it likes.
"""

import os
import resource
import sys
from pathlib import Path
from threading import Event, Thread
from typing import Self

INTERVAL = 0.02
"""Seconds between two looks."""

_STATUS = Path("/proc/self/status")


class PeakWatch:
    """Watches, while its block runs, how much anonymous memory this process has.

    `peak` is the most bytes seen so far. Where the system tells only the most resident memory there ever was,
    it is that.
    """

    def __init__(self) -> None:
        """Nothing is watched yet."""
        self.peak = 0
        self._over = Event()
        self._thread = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        """Start to watch."""
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Look once more, and stop."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        over = False
        while True:
            self.peak = max(self.peak, anonymous_memory())
            if over:
                return
            over = self._over.wait(INTERVAL)


def anonymous_memory() -> int:
    """Bytes of anonymous memory now; where the system does not tell, the most ever resident."""
    try:
        status = _STATUS.read_bytes()
    except OSError:
        return resident_peak()
    _, found, after = status.partition(b"RssAnon:")
    return int(after.split(maxsplit=1)[0]) * 1024 if found else resident_peak()


def resident_peak() -> int:
    """The most resident memory this process ever had, in bytes, mapped library files included."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def physical_memory() -> float:
    """Bytes of the machine's memory; infinite where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return float("inf")
