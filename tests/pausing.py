"""Pauses that a test does not sit out."""

import threading
from collections.abc import Callable

import pytest


def instead_of_waiting(monkeypatch: pytest.MonkeyPatch, told: Callable[[float], object]) -> None:
    """Tell of each wait of this thread instead of waiting; others, as a progress bar's, wait as ever."""
    here, wait = threading.current_thread(), threading.Event.wait

    def patched(self: threading.Event, timeout: float | None = None) -> bool:
        if threading.current_thread() is not here or timeout is None:
            return wait(self, timeout)
        told(timeout)
        return False

    monkeypatch.setattr(threading.Event, "wait", patched)
