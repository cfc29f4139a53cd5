"""A file that lies elsewhere and is read by byte ranges, however its network fails.

An origin makes one attempt at a time. `fetch` is the patience around it: it goes on from the byte where an
attempt broke off, waits longer after each one that brought nothing, and gives up at last.
"""

import time
from collections.abc import Callable, Iterator
from threading import Event
from typing import Protocol, TypeVar

from audit.errors import AuditError, NetworkError

PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds to wait after each attempt in a row that brought nothing; a minute in all, then it is over."""

PATIENCE = 60.0
"""Seconds without a byte after which no further attempt is made, where attempts themselves take long."""

BRIEFLY = 3
"""So many pauses are made where nothing has come from a server yet: its name may be mistyped."""

ATTEMPTS = 40
"""For one range, whatever they bring: a server that drips is left too."""

ATTEMPT_SECONDS = 300.0
"""How long one answer may take that comes in drips."""

LONGEST_WAIT = 120.0
"""Seconds that a server may ask for with Retry-After; who asks for more is not waited for."""

PARTING = 1.0
"""Seconds that are waited for what is in flight and wanted no more; a silent server's answer ends later."""

Heard = Callable[[int], None]
"""Takes the number of bytes that have come, or 0 where nothing comes and it is waited for."""


T = TypeVar("T")


class PassingError(Exception):
    """An attempt failed in a way that may pass: `lasting` is the error if it does not.

    `wait` are the seconds that the server asked for, None where it named none.
    """

    def __init__(self, lasting: AuditError, wait: float | None = None) -> None:
        """Nothing was waited for yet."""
        super().__init__(lasting.message)
        self.lasting = lasting
        self.wait = wait


class Origin(Protocol):
    """Where a file lies."""

    @property
    def title(self) -> str:
        """The file, in an error's words."""

    def take(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes [start, stop) as they come, or the first of them; more than asked for is cut off.

        Raises PassingError for what may pass, and the AccessErrors for what does not.
        """


def patiently(work: Callable[[], T]) -> T:
    """What the work gives, tried a few times where it raises PassingError; then raises what lasts."""
    for pause in PAUSES[:3]:
        try:
            return work()
        except PassingError as error:
            if (error.wait or 0) > LONGEST_WAIT:
                raise error.lasting from error
            time.sleep(error.wait if error.wait is not None else pause)
    try:
        return work()
    except PassingError as error:
        raise error.lasting from error


def fetch(
    origin: Origin,
    start: int,
    buffer: memoryview,
    heard: Heard = lambda count: None,
    stopping: Event | None = None,
    *,
    briefly: bool = False,
) -> None:
    """Fill the buffer with the bytes from `start` on; `heard` is told 0 when it is waited for.

    Raises NetworkError, AccessError, and what the last attempt failed with once patience is at its end.
    Where `stopping` is set, returns as it is.
    """
    filled, barren, stopping = 0, 0, stopping or Event()
    pauses, last = PAUSES[:BRIEFLY] if briefly else PAUSES, time.monotonic()
    for _ in range(ATTEMPTS):
        before = filled
        try:
            for chunk in _in_time(origin, start + filled, start + len(buffer)):
                piece = chunk[: len(buffer) - filled]
                buffer[filled : filled + len(piece)] = piece
                filled += len(piece)
                heard(len(piece))
                if filled == len(buffer) or stopping.is_set():
                    return
            trouble = PassingError(_broke_off(origin))
        except PassingError as error:
            trouble = error
        barren, last = (0, time.monotonic()) if filled > before else (barren + 1, last)
        late = barren and time.monotonic() - last > PATIENCE
        if barren > len(pauses) or late or (trouble.wait or 0) > LONGEST_WAIT:
            raise trouble.lasting from trouble
        heard(0)
        stopping.wait(trouble.wait if trouble.wait is not None else pauses[max(0, barren - 1)])
        if stopping.is_set():
            return
    raise NetworkError(f"{origin.title} comes too slowly to be read", "check the network, then try again")


def _in_time(origin: Origin, start: int, stop: int) -> Iterator[bytes]:
    begun = time.monotonic()
    for chunk in origin.take(start, stop):
        yield chunk
        if time.monotonic() - begun > ATTEMPT_SECONDS:
            return


def _broke_off(origin: Origin) -> AuditError:
    return NetworkError(f"the answer for {origin.title} broke off", "check the network, then try again")
