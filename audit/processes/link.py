"""What the processes of one audit tell one another, without a pickle.

Bytes go from one to another by gloo. Words for all go into the launcher's store, which outlives whoever wrote
them.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from threading import Event

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore, Store, rendezvous  # type: ignore[attr-defined]  # documented, but not declared as exports

from audit.errors import UsageError
from audit.processes.seat import Seat

POLL = 0.25
"""Seconds between two looks at the store."""

PATIENCE = 240
"""Looks without a sign of life after which a process is given up."""

SILENT = "it gave no sign of life for a minute"
DEAD = "it died without a word (killed, perhaps for lack of memory)"
GONE = "the launcher is gone, or its machine cannot be reached"

_MEETING = timedelta(minutes=5)
_FOREVER = timedelta(days=365)


@dataclass(frozen=True)
class Stop:
    """All must end: the rank that is the cause, if it is one, and why."""

    rank: int | None
    reason: str


class GoneError(Exception):
    """The other side is not there any more; `stop` says who."""

    def __init__(self, stop: Stop) -> None:
        """No words of torch's: it has too many."""
        super().__init__(stop.reason)
        self.stop = stop


class Words:
    """Short words for all in the store: what is done, signs of life, why all must end.

    Every method raises GoneError where the store is gone.
    """

    def __init__(self, store: Store, seat: Seat) -> None:
        """Give the first sign of life."""
        self.looks = 0
        self._store = store
        self._seat = seat
        self._last: dict[int, bytes] = {}
        self._silent: dict[int, int] = {}
        self._beat()

    def say(self, key: str, value: object) -> None:
        """Something that JSON holds."""
        with _reaching(Stop(None, GONE)):
            self._store.set(key, json.dumps(value))

    def hear(self, key: str) -> object:
        """What another process says under that key, once it does."""
        with _reaching(Stop(None, GONE)):
            while not self._store.check([key]):
                time.sleep(POLL)
            return json.loads(self._store.get(key))

    def stop(self, reason: str, rank: int | None = None) -> None:
        """Tell all to end, unless somebody has; the cause is this process if no other rank is named."""
        told = json.dumps([self._seat.rank if rank is None else rank, reason])
        with _reaching(Stop(None, GONE)):
            self._store.compare_set("stop", "", told)

    def stopped(self) -> Stop | None:
        """Why all must end, None where nobody says so."""
        with _reaching(Stop(None, GONE)):
            return Stop(*json.loads(self._store.get("stop"))) if self._store.check(["stop"]) else None

    def look(self) -> Stop | None:
        """Give a sign of life, look for those of the others, and for a reason to end.

        Rank 0 looks for all. The others hear of its machine by the store, which is there or nearby.
        """
        with _reaching(Stop(None, GONE)):
            self._beat()
            if self._seat.leads:
                self._miss_the_silent()
        found = self.stopped()
        self.looks += 1
        return found

    def _beat(self) -> None:
        self._store.set(f"alive/{self._seat.rank}", str(self.looks))

    def _miss_the_silent(self) -> None:
        beats = self._store.multi_get([f"alive/{rank}" for rank in range(self._seat.size)])
        for rank, beat in enumerate(beats):
            self._silent[rank] = self._silent.get(rank, 0) + 1 if self._last.get(rank) == beat else 0
            self._last[rank] = beat
            if self._silent[rank] >= PATIENCE:
                self.stop(SILENT, rank)


class Link:
    """The way to the other processes. What it does may block: it belongs in threads that can be left."""

    def __init__(self, seat: Seat) -> None:
        """Meet the others; raises UsageError where they do not come."""
        self.over = Event()
        try:
            store, rank, size = next(rendezvous("env://", timeout=_MEETING))
            attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
            self.words = Words(PrefixStore(f"gcont-audit/{attempt}", store), seat)
            dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=_MEETING)
        except (RuntimeError, ValueError) as error:
            where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            reason = str(error).splitlines()[0]
            raise UsageError(
                f"{seat} does not reach the others by {where}: {reason}",
                "check that address, and name the network in GLOO_SOCKET_IFNAME where there are several",
            ) from error

    def stops(self) -> Iterator[Stop]:
        """Look for a reason to end until it is over, or one is found; raises GoneError."""
        while not self.over.wait(POLL):
            if (found := self.words.look()) is not None:
                yield found
                return

    def send(self, data: bytes, to: int = 0) -> None:
        """Bytes for another rank, which may be none at all; raises GoneError."""
        with _reaching(Stop(to, DEAD)):
            dist.send(torch.tensor([len(data)]), to)
            if data:
                dist.send(torch.frombuffer(bytearray(data), dtype=torch.uint8), to)

    def receive(self, origin: int) -> bytes:
        """The next bytes from another rank, however long they take; raises GoneError."""
        with _reaching(Stop(origin, DEAD)):
            length = int(_received(torch.empty(1, dtype=torch.int64), origin))
            data = _received(torch.empty(length, dtype=torch.uint8), origin) if length else torch.empty(0)
        return data.numpy().tobytes()

    def close(self) -> None:
        """Let go of the others, when nothing is under way any more."""
        self.over.set()
        dist.destroy_process_group()


def _received(buffer: Tensor, origin: int) -> Tensor:
    work = dist.irecv(buffer, origin)
    assert work is not None
    work.wait(_FOREVER)
    return buffer


@contextmanager
def _reaching(stop: Stop) -> Iterator[None]:
    """Raise GoneError in place of the RuntimeError by which torch says that a connection closed."""
    try:
        yield
    except RuntimeError as error:
        raise GoneError(stop) from error
