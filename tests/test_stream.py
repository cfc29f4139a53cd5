"""Ranges in flight: every byte comes as it lies in the file, is asked for once, in a small buffer."""

import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import shake_128

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pausing import instead_of_waiting

from audit.checkpoint import origin, stream
from audit.checkpoint.model import ShardFile
from audit.checkpoint.origin import PassingError, fetch
from audit.checkpoint.stream import Extent, Stream, requests_of
from audit.errors import AccessError, NetworkError

LENGTH = 5000


@dataclass(eq=False)
class Held:
    """A file in memory that remembers what was asked of it."""

    title: str = "a file"
    content: bytes = b""
    asked: list[tuple[int, int]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, start: int, stop: int) -> Iterator[bytes]:
        with self.lock:
            self.asked.append((start, stop))
        for at in range(start, stop, 100):
            yield self.content[at : min(at + 100, stop)]


def files(count: int = 2) -> list[ShardFile]:
    held = [Held(str(one), shake_128(bytes([one])).digest(LENGTH)) for one in range(count)]
    return [ShardFile(one.title, LENGTH, None, origin=one) for one in held]


def content(extent: Extent) -> bytes:
    return extent.file.origin.content[extent.start : extent.stop]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "REQUEST", 256)
    monkeypatch.setattr(stream, "AHEAD", 1000)


ranges = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, LENGTH), st.integers(0, 900)), min_size=1, max_size=30
)


def extents_of(drawn: list[tuple[int, int, int]]) -> list[Extent]:
    """Extents that do not overlap unless they are the same, as tensors lie in a file; some come twice."""
    shards = files()
    chosen: list[Extent] = []
    for file, start, size in drawn:
        extent = Extent(shards[file], start, min(start + size, LENGTH))
        if all(
            extent == one
            or extent.file is not one.file
            or extent.stop <= one.start
            or one.stop <= extent.start
            for one in chosen
        ):
            chosen.append(extent)
    return chosen + chosen[::3]


@pytest.mark.usefixtures("small")
@settings(max_examples=60)
@given(ranges, st.integers(0, 2**32), st.integers(1, 4))
def test_every_extent_is_read_as_it_lies_and_every_planned_byte_asked_for_once(
    drawn: list[tuple[int, int, int]], seed: int, threads: int
) -> None:
    extents = extents_of(drawn)
    told: list[int] = []
    flow = Stream(extents, told.append)
    order = extents[:]
    random.Random(seed).shuffle(order)
    wrong: list[object] = []

    def work(mine: list[Extent]) -> None:
        try:
            for extent in mine:
                buffer = bytearray(extent.size)
                flow.read(extent, memoryview(buffer))
                if bytes(buffer) != content(extent):
                    wrong.append(extent)
        except BaseException as error:
            wrong.append(error)

    crew = [threading.Thread(target=work, args=(order[one::threads],)) for one in range(threads)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join(60)
    flow.close()
    assert not any(thread.is_alive() for thread in crew)
    assert wrong == []
    total = sum(extent.size for extent in extents)
    asked = [one for file in {id(e.file): e.file for e in extents}.values() for one in file.origin.asked]
    assert sum(stop - start for start, stop in asked) == sum(told) == total
    assert len(asked) == sum(1 for _ in requests_of(extents))
    assert all(0 < stop - start <= 256 for start, stop in asked)


@pytest.mark.usefixtures("small")
def test_requests_follow_the_order_of_reading_and_join_neighbours_within_the_buffer() -> None:
    (file,) = files(1)
    near = [Extent(file, start, start + 50) for start in (150, 0, 100, 50, 400)]
    far = [Extent(file, 2000, 3000), Extent(file, 1000, 2000)]
    found = [(request.extent.start, request.extent.stop) for request, _ in requests_of([*near, *far])]
    first = [(0, 200), (400, 450)]
    assert found[:2] == first  # the window goes on into the first large one, which fills it
    assert found[2:6] == [(2000, 2256), (2256, 2512), (2512, 2768), (2768, 3000)]
    assert found[6:] == [(1000, 1256), (1256, 1512), (1512, 1768), (1768, 2000)]


@pytest.mark.usefixtures("small")
def test_what_lies_in_two_files_is_never_one_request() -> None:
    first, second = files()
    extents = [Extent(first, 0, 100), Extent(second, 100, 200)]
    found = [(request.extent.file.name, request.extent.start) for request, _ in requests_of(extents)]
    assert found == [("0", 0), ("1", 100)]


@pytest.mark.usefixtures("small")
def test_what_was_not_planned_is_fetched_too() -> None:
    (file,) = files(1)
    flow = Stream([Extent(file, 0, 300)])
    for extent in (Extent(file, 1000, 1700), Extent(file, 0, 300), Extent(file, 0, 300), Extent(file, 9, 9)):
        buffer = bytearray(extent.size)
        flow.read(extent, memoryview(buffer))
        assert bytes(buffer) == content(extent)
    flow.close()


@pytest.mark.usefixtures("small")
def test_no_more_is_fetched_ahead_than_the_buffer_holds() -> None:
    (file,) = files(1)
    extents = [Extent(file, start, start + 100) for start in range(0, LENGTH, 100)]
    flow = Stream(extents)
    for number, extent in enumerate(extents):
        flow.read(extent, memoryview(bytearray(100)))
        wanted = min(LENGTH, extent.stop + stream.AHEAD - 2 * stream.REQUEST) if number % 10 == 0 else 0
        for _ in range(400):
            if (fetched := sum(stop - start for start, stop in file.origin.asked)) >= wanted:
                break
            threading.Event().wait(0.02)
        assert wanted <= fetched <= extent.stop + stream.AHEAD + stream.REQUEST
        if wanted:
            threading.Event().wait(0.05)  # time enough to fetch all of it
    flow.close()


@pytest.mark.usefixtures("small")
def test_what_is_waited_for_goes_first() -> None:
    """The buffer is full of what nobody takes; a read of what comes last is served all the same."""
    (file,) = files(1)
    extents = [Extent(file, start, start + 500) for start in range(0, LENGTH, 500)]
    flow = Stream(extents)
    last = extents[-1]
    buffer = bytearray(500)
    flow.read(last, memoryview(buffer))
    assert bytes(buffer) == content(last)
    flow.close()


def test_stopped_while_a_connection_is_made_it_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that has not said that it started cannot be waited for."""
    one = Extent(files(1)[0], 0, 100)
    reading = Stream([one], [].append)

    def stopped(thread: threading.Thread) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", stopped)
    with pytest.raises(KeyboardInterrupt):
        reading.read(one, memoryview(bytearray(100)))
    reading.close()


@pytest.mark.usefixtures("small")
def test_a_trouble_is_raised_where_somebody_reads_and_the_rest_is_still_served() -> None:
    (file,) = files(1)
    first, second = Extent(file, 0, 200), Extent(file, 3000, 3200)
    take = file.origin.take

    def failing(start: int, stop: int) -> Iterator[bytes]:
        if start >= 3000:
            raise AccessError("no", "never")
        yield from take(start, stop)

    file.origin.take = failing
    flow = Stream([first, second])
    flow.read(first, memoryview(bytearray(200)))
    for _ in range(2):
        with pytest.raises(AccessError, match="no"):
            flow.read(second, memoryview(bytearray(200)))
    third = Extent(file, 1000, 1200)
    buffer = bytearray(200)
    flow.read(third, memoryview(buffer))
    assert bytes(buffer) == content(third)
    flow.close()
    with pytest.raises(ValueError, match="closed"):
        flow.read(third, memoryview(buffer))


# --- the patience around an origin


class Scripted:
    """An origin that does what a script says, attempt by attempt: bytes to bring, then an error or none."""

    title = "a file"

    def __init__(self, *script: tuple[int, Exception | None]) -> None:
        self.script = iter(script)
        self.asked: list[tuple[int, int]] = []

    def take(self, start: int, stop: int) -> Iterator[bytes]:
        self.asked.append((start, stop))
        count, error = next(self.script)
        for at in range(start, start + count):
            yield bytes([at % 256])
        if error is not None:
            raise error


def passing(wait: float | None = None) -> PassingError:
    return PassingError(NetworkError("down", "wait"), wait)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were waited, without waiting."""
    waited: list[float] = []
    instead_of_waiting(monkeypatch, waited.append)
    return waited


def fetched(source: Scripted, size: int) -> bytes:
    buffer = bytearray(size)
    fetch(source, 10, memoryview(buffer))
    return bytes(buffer)


def test_it_goes_on_from_the_byte_where_it_broke_off(pauses: list[float]) -> None:
    source = Scripted((3, passing()), (0, passing()), (0, passing()), (4, None), (13, None))
    assert fetched(source, 20) == bytes(range(10, 30))
    assert source.asked == [(10, 30), (13, 30), (13, 30), (13, 30), (17, 30)]
    assert pauses == [0.5, 0.5, 1.0, 0.5]


def test_more_than_was_asked_for_is_cut_off() -> None:
    assert fetched(Scripted((99, None)), 5) == bytes(range(10, 15))


def test_a_minute_without_a_byte_is_the_end(pauses: list[float]) -> None:
    with pytest.raises(NetworkError, match="down"):
        fetched(Scripted(*[(0, passing())] * 50), 5)
    assert pauses == list(origin.PAUSES)
    assert 55 < sum(pauses) < 70


def test_a_server_that_drips_is_left_too(pauses: list[float]) -> None:
    source = Scripted(*[(1, passing())] * 1000)
    with pytest.raises(NetworkError, match="too slowly"):
        fetched(source, 1000)
    assert len(source.asked) == origin.ATTEMPTS


def test_an_answer_that_never_ends_is_broken_off(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter(range(0, 100_000, 100))
    monkeypatch.setattr(origin.time, "monotonic", lambda: float(next(seconds)))
    source = Scripted((50, None), (50, None))
    fetched(source, 8)
    assert len(source.asked) == 2


def test_the_server_says_how_long_to_wait(pauses: list[float]) -> None:
    fetched(Scripted((0, passing(wait=7)), (0, passing(wait=0)), (5, None)), 5)
    assert pauses == [7, 0]


def test_who_asks_for_a_day_is_not_waited_for(pauses: list[float]) -> None:
    with pytest.raises(NetworkError, match="down"):
        fetched(Scripted((0, passing(wait=86400))), 5)
    assert pauses == []


def test_what_lasts_is_not_tried_again(pauses: list[float]) -> None:
    source = Scripted((2, AccessError("refused", "ask")))
    with pytest.raises(AccessError, match="refused"):
        fetched(source, 5)
    assert len(source.asked) == 1
