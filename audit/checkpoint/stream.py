"""Several byte ranges in flight: what is to be read is fetched ahead, in few requests and a bounded buffer.

Reads come in a known order. They are taken in windows; in a window what lies side by side in a file is joined
into one request, and what is large is cut into several. Requests go out in that order, as far ahead as the
buffer holds, but what somebody waits for goes first.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Condition, Event, Thread

from audit.checkpoint.model import ShardFile
from audit.checkpoint.origin import PARTING, Heard, fetch

REQUEST = 2**23
"""Bytes of a request at most."""

CONNECTIONS = 8
"""Requests in flight at a time."""

AHEAD = 2**26
"""Bytes that are fetched before anybody waits for them."""

STREAM_BYTES = AHEAD + CONNECTIONS * REQUEST + 2**24
"""The most that streaming takes of memory: what is fetched ahead, what is in flight, and the client's own."""

_LOOKS = 2.0
"""Seconds between two looks at whether the stream was closed."""


@dataclass(frozen=True)
class Extent:
    """The bytes [start, stop) of a file."""

    file: ShardFile
    start: int
    stop: int

    @property
    def size(self) -> int:
        """How many bytes."""
        return self.stop - self.start


@dataclass(eq=False)
class Request:
    """An extent that is fetched as one; `uses` are the reads that still have to take from it."""

    extent: Extent
    uses: int = 0
    data: bytearray | None = None
    begun: bool = False
    trouble: BaseException | None = None


def requests_of(extents: Iterable[Extent]) -> Iterator[tuple[Request, tuple[Extent, ...]]]:
    """The requests that fetch extents, which come in the order they are read; with each what it serves."""
    for window in _windows(extents):
        for run in _runs(sorted(window, key=lambda one: (one.file.name, one.start))):
            first, last = run[0], run[-1]
            for start in range(first.start, last.stop, REQUEST):
                extent = Extent(first.file, start, min(start + REQUEST, last.stop))
                served = tuple(one for one in run if one.start < extent.stop and extent.start < one.stop)
                yield Request(extent, len(served)), served


def _windows(extents: Iterable[Extent]) -> Iterator[Sequence[Extent]]:
    """Stretches of the order, each as long as what is fetched ahead; none holds the same extent twice."""
    window: dict[Extent, None] = {}
    size = 0
    for extent in extents:
        if extent in window or size >= AHEAD:
            yield tuple(window)
            window, size = {}, 0
        window[extent] = None
        size += extent.size
    if window:
        yield tuple(window)


def _runs(extents: Iterable[Extent]) -> Iterator[Sequence[Extent]]:
    """Extents that lie side by side, each run of them together; empty ones are in none."""
    run: list[Extent] = []
    for extent in extents:
        if not extent.size:
            continue
        if run and (run[-1].file is not extent.file or run[-1].stop != extent.start):
            yield run
            run = []
        run.append(extent)
    if run:
        yield run


@dataclass(eq=False)
class Stream:
    """Serves the extents that were planned, in any order, and others; several threads may read at once."""

    planned: Iterable[Extent]
    heard: Heard = lambda count: None
    _coming: Iterator[tuple[Request, tuple[Extent, ...]]] = field(init=False)
    _ahead: deque[Request] = field(default_factory=deque, init=False)
    _wanted: deque[Request] = field(default_factory=deque, init=False)
    _serving: dict[Extent, deque[list[Request]]] = field(default_factory=dict, init=False)
    _held: int = field(default=0, init=False)
    _change: Condition = field(default_factory=Condition, init=False)
    _failing: bool = field(default=False, init=False)
    _stopping: Event = field(default_factory=Event, init=False)
    _crew: list[Thread] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        """Nothing is asked before the first read."""
        self._coming = requests_of(self.planned)

    def read(self, extent: Extent, buffer: memoryview) -> None:
        """Fill the buffer with an extent's bytes; raises what `fetch` raises, and ValueError once closed."""
        with self._change:
            requests = self._requests_for(extent)
            for request in requests:
                if not request.begun:
                    self._wanted.append(request)
            self._man()
            self._change.notify_all()
        while requests:
            request = self._next_done(requests)
            requests.remove(request)
            self._copy(request, extent, buffer)

    def close(self) -> None:
        """Ask for nothing more; what is in flight ends in a moment, or once its server speaks."""
        with self._change:
            self._stopping.set()
            self._ahead.clear()
            self._wanted.clear()
            self._change.notify_all()
        moment = time.monotonic() + PARTING
        for thread in filter(
            Thread.is_alive, self._crew
        ):  # one that was only being started may not be joined
            thread.join(max(0.0, moment - time.monotonic()))

    def _requests_for(self, extent: Extent) -> list[Request]:
        """Those that serve the extent: planned, or made for it."""
        if not extent.size:
            return []
        while True:
            times = self._serving.get(extent)
            if times and times[0][-1].extent.stop >= extent.stop:
                found = times.popleft()
                if not times:
                    del self._serving[extent]
                return found
            if not self._plan_next():
                return [request for request, _ in requests_of([extent])]

    def _plan_next(self) -> bool:
        """Take up one more request; False where there is none."""
        request, served = next(self._coming, (None, ()))
        if request is None:
            return False
        self._ahead.append(request)
        for extent in served:
            times = self._serving.setdefault(extent, deque())
            if extent.start >= request.extent.start:
                times.append([])
            times[-1].append(request)
        return True

    def _next_done(self, requests: Sequence[Request]) -> Request:
        with self._change:
            while True:
                if self._stopping.is_set():
                    raise ValueError("the stream is closed")
                for request in requests:
                    if request.trouble is not None:
                        raise request.trouble
                    if request.data is not None:
                        return request
                self._change.wait(_LOOKS)

    def _copy(self, request: Request, extent: Extent, buffer: memoryview) -> None:
        there, data = request.extent, request.data
        assert data is not None
        start, stop = max(extent.start, there.start), min(extent.stop, there.stop)
        buffer[start - extent.start : stop - extent.start] = memoryview(data)[
            start - there.start : stop - there.start
        ]
        with self._change:
            request.uses -= 1
            if request.uses <= 0:
                request.data = None
                self._held -= there.size
                self._change.notify_all()

    def _man(self) -> None:
        """Start the threads that fetch, once."""
        while len(self._crew) < CONNECTIONS:
            # daemons: one that waits for a network must not hold up a program that was stopped
            self._crew.append(Thread(target=self._work, daemon=True))
            self._crew[-1].start()

    def _work(self) -> None:
        while (request := self._next()) is not None:
            try:
                origin = request.extent.file.origin
                assert origin is not None
                data = bytearray(request.extent.size)
                fetch(origin, request.extent.start, memoryview(data), self.heard, self._stopping)
                with self._change:
                    request.data = data
                    self._change.notify_all()
            except BaseException as error:  # it is raised again where somebody reads
                with self._change:
                    request.trouble, self._failing = error, True
                    self._change.notify_all()

    def _next(self) -> Request | None:
        """The request to make now: one that is waited for, or the next one while the buffer has room.

        Nothing is fetched ahead any more once a request has failed for good.
        """
        with self._change:
            while not self._stopping.is_set():
                request = self._choose()
                if request is not None:
                    request.begun = True
                    self._held += request.extent.size
                    return request
                self._change.wait(_LOOKS)
        return None

    def _choose(self) -> Request | None:
        while self._wanted:
            request = self._wanted.popleft()
            if not request.begun:
                return request
        while self._ahead and self._ahead[0].begun:
            self._ahead.popleft()
        if not self._ahead:
            self._plan_next()
        if self._ahead and not self._failing and self._held + self._ahead[0].extent.size <= AHEAD:
            return self._ahead.popleft()
        return None
