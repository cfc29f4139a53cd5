"""A rank among several: what may block is done in threads, and all end where one does."""

import json
import signal
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from queue import Empty, SimpleQueue
from threading import Thread, main_thread
from typing import Any, TypeVar

import torch

from audit.division import divide
from audit.errors import AuditError, PeerError, StoppedError, UsageError
from audit.keys import layout_digest
from audit.measure import Measured
from audit.peak import PeakWatch, resident_peak
from audit.pipeline import Pipeline
from audit.plan import AuditPlan, Place
from audit.processes.link import DEAD, PATIENCE, POLL, SILENT, GoneError, Link, Stop
from audit.processes.seat import Seat
from audit.processes.team import Effort, Team
from audit.provenance import device_name, header_digest, version
from audit.record import from_bytes, to_bytes
from registry import Projection

T = TypeVar("T")

_KEPT = "rank 0 keeps what was measured, and the same command goes on from there"

_COUNT = 8
"""Bytes that tell how many bytes were read, in front of a measurement."""

_GRACE = 3
"""Looks at the store in which a process that is told to end learns why."""


class Several(Team):
    """The processes that a launcher started, one of which this is.

    The main thread takes what threads find, and hears by SIGTERM, wherever it is, that all must end.
    """

    def __init__(self, seat: Seat) -> None:
        """Nothing is connected yet."""
        self.seat = seat
        self.size = seat.size
        self.leads = seat.leads
        self._found: SimpleQueue[Any] = SimpleQueue()
        self._link: Link | None = None
        self._cause: Stop | None = None
        self._looks = self._waits = 0

    def connect(self) -> None:
        """Meet the others; raises UsageError where they do not come."""
        self._link = self._behind(lambda: Link(self.seat))
        self._start(self._watch)

    @property
    def link(self) -> Link:
        """The way to the others, once they have met."""
        assert self._link is not None
        return self._link

    def in_turn(self, work: Callable[[], T]) -> T:
        """As above: the others wait until the first one of their machine says that it is done."""
        words, key = self.link.words, f"done/{self.seat.machine}"
        if self.seat.local:
            self._behind(lambda: words.hear(key))
        done = work()
        if not self.seat.local:
            words.say(key, True)
        return done

    def device(self, name: str) -> torch.device:
        """As above; of several CUDA devices each process of a machine takes its own."""
        device = super().device(name)
        if device.type == "cuda" and device.index is None:
            return torch.device("cuda", self.seat.local % torch.cuda.device_count())
        return device

    def part(self) -> None:
        """All is done that the others need; they may go."""

    def ending(self, error: BaseException) -> BaseException:
        """What this process has to say of its end; where that is its own doing, the others hear of it."""
        if isinstance(error, GoneError):
            self._cause = self._cause or error.stop
        if isinstance(error, KeyboardInterrupt | StoppedError | GoneError):
            cause = self._learnt()
            if cause is not None and cause.rank != self.seat.rank:
                who = "" if cause.rank is None else f"rank {cause.rank} of {self.size} ended: "
                hint = error.hint if isinstance(error, StoppedError) else _KEPT
                return PeerError(who + cause.reason, hint)
        if self._link is not None and not self._link.over.is_set():
            with suppress(GoneError):
                self._link.words.stop(_reason(error))
        return error

    @property
    def speaks(self) -> bool:
        """Whether this process tells of an end that is not its own doing: one of each machine does."""
        cause = self._cause
        mute = cause is not None and cause.rank == self.seat.machine and cause.reason in (DEAD, SILENT)
        return self.seat.local == (1 if mute else 0)

    def _learnt(self) -> Stop | None:
        """Why all must end, if a thread has heard it, or does in a moment."""
        for _ in range(_GRACE):
            if self._cause is not None or self._link is None:
                break
            self._link.over.wait(POLL)
        return self._cause

    def _start(self, work: Callable[[], None]) -> None:
        """Do it in a thread that can be left; its error is raised where results are taken."""

        def run() -> None:
            try:
                work()
            except GoneError as gone:
                self._lose(gone.stop)
            except BaseException as error:
                self._found.put(error)

        Thread(target=run, daemon=True).start()

    def _behind(self, work: Callable[[], T]) -> T:
        """What the work gives, done in a thread so that a signal ends the wait."""
        self._start(lambda: self._found.put((work(),)))
        (result,) = self._next()
        return result  # type: ignore[no-any-return]

    def _next(self) -> Any:
        """What a thread finds next; raises its error."""
        while True:
            try:
                found = self._found.get(timeout=POLL)
            except Empty:
                self._expect_looks()
                continue
            if isinstance(found, BaseException):
                raise found
            return found

    def _expect_looks(self) -> None:
        """End where a look at the store does not come back: its machine may be without power."""
        looks = self._link.words.looks if self._link else self._looks + 1
        self._waits = self._waits + 1 if looks == self._looks else 0
        self._looks = looks
        if self._waits >= PATIENCE:
            self._end(Stop(0, SILENT))

    def _watch(self) -> None:
        """Hear why all must end."""
        for stop in self.link.stops():
            self._end(stop)

    def _lose(self, stop: Stop) -> None:
        """Somebody is gone; who may have said why, or there is nobody left to say it to."""
        if self._link is None or self._link.over.is_set():
            return
        with suppress(GoneError):
            if stop.rank is not None:
                self._link.words.stop(stop.reason, stop.rank)
            stop = self._link.words.stopped() or stop
        self._end(stop)

    def _end(self, stop: Stop) -> None:
        self._cause = self._cause or stop
        main = main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGTERM)

    def _share(self, pipeline: Pipeline, known: Collection[Place]) -> Iterator[Measured]:
        """What this process measures."""
        plan = pipeline.plan
        share = divide(plan.tasks, known, self.size, plan.cost)[self.seat.rank]
        return pipeline.measure(share, {})


class Leader(Several):
    """Rank 0: says what there is to do, measures its share, and takes what the others measure."""

    def __init__(self, seat: Seat) -> None:
        """As above."""
        super().__init__(seat)
        self._called = False
        self._read: dict[int, int] = {}

    def connect(self) -> None:
        """As above; and hear the others."""
        super().connect()
        for rank in range(1, self.size):
            self._start(partial(self._listen, rank))

    def in_turn(self, work: Callable[[], T]) -> T:
        """As above; by that the others learn that there is work."""
        self._call(True)
        return super().in_turn(work)

    def measure(self, pipeline: Pipeline, known: Mapping[Place, Measured]) -> Iterator[Measured]:
        """As above: what this process measures, and what the others send."""
        self.begin(pipeline.plan, known)

        def work() -> None:
            for measured in self._share(pipeline, known):
                self._found.put(measured)
            self._found.put(None)

        self._start(work)
        done = False
        while not done or len(self.others) < self.size - 1:
            match self._next():
                case None:
                    done = True
                case Effort() as effort:
                    self.others += (effort,)
                case measured:
                    yield measured
        self._dismiss()

    @property
    def bytes_read(self) -> int:
        """As above, as far as they have told."""
        return sum(self._read.values())

    def begin(self, plan: AuditPlan, known: Collection[Place]) -> None:
        """Tell the others what this process sees, and what need not be measured."""
        word = {"plan": _digest(plan), "known": [_told(place) for place in known]}
        self.link.words.say("begin", word)

    def part(self) -> None:
        """As above, where there was nothing to do."""
        if not self._called:
            self._call(False)
            while len(self.others) < self.size - 1:
                self.others += (self._next(),)
            self._dismiss()

    def _call(self, there_is_work: bool) -> None:
        self._called = True
        self.link.words.say("work", there_is_work)

    def _listen(self, rank: int) -> None:
        """Take what a rank has measured, as it measures it."""
        while data := self.link.receive(rank):
            self._read[rank] = int.from_bytes(data[:_COUNT])
            self._found.put(from_bytes(data[_COUNT:]))
        effort = Effort(**json.loads(self.link.receive(rank)))
        self._read[rank] = effort.bytes_read
        self._found.put(effort)

    def _dismiss(self) -> None:
        """All have done their share: let them go. One that is gone already is not missed."""
        self.link.over.set()

        def work() -> None:
            for rank in range(1, self.size):
                with suppress(GoneError):
                    self.link.send(b"", rank)
            self.link.close()

        self._behind(work)


class Helper(Several):
    """Any other rank: measures its share, and sends it to rank 0."""

    def connect(self) -> None:
        """As above; and hear when rank 0 needs nothing any more, or is gone."""
        super().connect()
        self._start(lambda: self._found.put(self.link.receive(0)))

    def assist(self, prepare: Callable[[], Pipeline]) -> None:
        """As above: what is measured goes to rank 0 at once."""
        effort = Effort(0, 0, 0, "")
        if self._behind(lambda: self.link.words.hear("work")):
            pipeline = self.in_turn(prepare)
            known = self._behind(lambda: self.begun(pipeline.plan))
            with PeakWatch() as watch:
                self._behind(lambda: self._send(pipeline, known))
            device = device_name(pipeline.device)
            effort = Effort(pipeline.bytes_read, resident_peak(), watch.peak, device)

        def finish() -> None:
            self.link.send(b"")
            self.link.send(json.dumps(asdict(effort)).encode())

        self._start(finish)
        self._next()
        self.link.close()

    def begun(self, plan: AuditPlan) -> tuple[Place, ...]:
        """The places that rank 0 knows already; raises UsageError where it has another plan."""
        begun: Any = self.link.words.hear("begin")
        if begun["plan"] != _digest(plan):
            raise UsageError(
                f"{self.seat} has other files or another version than rank 0", "give all machines the same"
            )
        return tuple(Place(stack, Projection(name), layer) for stack, name, layer in begun["known"])

    def _send(self, pipeline: Pipeline, known: Collection[Place]) -> None:
        for measured in self._share(pipeline, known):
            self.link.send(pipeline.bytes_read.to_bytes(_COUNT) + to_bytes(measured))


def _reason(error: BaseException) -> str:
    """Why this process ends, for the others."""
    match error:
        case AuditError():
            return error.message
        case KeyboardInterrupt():
            return f"stopped by {error.args[0] if error.args else 'Ctrl-C'}"
        case _:
            return f"{type(error).__name__}: {error}"


def _digest(plan: AuditPlan) -> str:
    """What all processes must see alike: version, settings, files, and where everything lies in them."""
    options = plan.options
    files = [
        (file.name, file.size, file.etag or (header_digest(file.path) if file.path else None))
        for file in plan.checkpoint.files
    ]
    places = [_told(place) for task in plan.tasks for place in task.places]
    seen = [version(), options.full, options.fold_norm, options.k, files, places, layout_digest(plan.layout)]
    return sha256(json.dumps(seen).encode()).hexdigest()


def _told(place: Place) -> tuple[str | None, str, int]:
    return place.stack, place.projection.value, place.layer
