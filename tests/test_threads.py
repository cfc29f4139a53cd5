"""Work in threads: what comes of it, and that none is left at work, whenever a signal comes."""

import signal
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from threading import Event, Lock, Thread, current_thread, main_thread
from types import FrameType

import pytest
from toys import Silent, training
from transformers_at_work import Silent as Silently
from transformers_at_work import training as transformers

from audit.threads import in_threads
from audit.train.trainer import train
from audit.train.transformer.trainer import train as train_transformers


class Working:
    """Work that goes on until it is told to end, and who is at it."""

    def __init__(self) -> None:
        self.stop = Event()
        self.begun = self.at_it = 0
        self._lock = Lock()

    def __call__(self) -> None:
        with self._lock:
            self.begun += 1
            self.at_it += 1
        while not self.stop.is_set():
            time.sleep(0.0001)
        with self._lock:
            self.at_it -= 1


@pytest.fixture
def alarm() -> Iterator[None]:
    """An alarm that raises in the main thread, as the command line has Ctrl-C and SIGTERM do."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, ring)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_the_outcomes_come_in_the_order_in_which_they_end() -> None:
    numbers, turn = count(), [Event(), Event(), Event()]
    turn[2].set()

    def work() -> int:
        number = next(numbers)
        turn[number].wait()
        turn[number - 1].set()
        return number

    def carry_out() -> int:
        number = work()
        time.sleep(0.05 * (2 - number))
        return number

    assert in_threads(3, carry_out, Event()) == [2, 1, 0]


def test_the_work_is_done_in_other_threads() -> None:
    assert main_thread() not in in_threads(2, current_thread, Event())
    assert in_threads(0, current_thread, Event()) == []


def test_an_error_ends_the_others_and_is_raised_when_they_have_ended() -> None:
    working, numbers = Working(), count()

    def work() -> None:
        if next(numbers) == 1:
            raise ValueError("one of three")
        working()

    with pytest.raises(ValueError, match="one of three"):
        in_threads(3, work, working.stop)
    assert (working.begun, working.at_it) == (2, 0)


@pytest.mark.parametrize("started", [1, 2, 3])
def test_stopped_while_threads_are_started_none_begins(started: int, monkeypatch: pytest.MonkeyPatch) -> None:
    working, crew, start = Working(), [], Thread.start

    def stopped(thread: Thread) -> None:
        start(thread)
        crew.append(thread)
        if len(crew) == started:
            time.sleep(0.05)  # time in which the work could begin
            raise KeyboardInterrupt

    monkeypatch.setattr(Thread, "start", stopped)
    with pytest.raises(KeyboardInterrupt):
        in_threads(3, working, working.stop)
    assert working.begun == 0
    for thread in crew:
        thread.join(10)
        assert not thread.is_alive()


def test_stopped_before_a_thread_says_that_it_has_started_it_does_not_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such a thread cannot be joined."""
    working, run = Working(), Thread.run
    late: list[Thread] = []

    def stopped(thread: Thread) -> None:
        late.append(Thread(target=run, args=(thread,), daemon=True))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Thread, "start", stopped)
        with pytest.raises(KeyboardInterrupt):
            in_threads(1, working, working.stop)
    [thread] = late
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert working.begun == 0


def test_whenever_a_signal_comes_nobody_is_left_at_work(alarm: None) -> None:
    """It may come while Python waits for a thread to start, and becomes a RuntimeError there."""
    rung = 0
    for microseconds in range(10, 1200, 3):
        working = Working()
        try:
            signal.setitimer(signal.ITIMER_REAL, microseconds / 1e6)
            in_threads(2, working, working.stop)
        except (KeyboardInterrupt, RuntimeError):
            rung += 1
        begun = working.begun
        assert working.at_it == 0
        time.sleep(0.0005)
        assert working.begun == begun
    assert rung == len(range(10, 1200, 3))


def test_a_toy_stopped_while_its_threads_are_started_is_not_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = interrupted(monkeypatch, "audit.train.trainer.Batch")
    with pytest.raises(KeyboardInterrupt):
        train(training(tmp_path, "res-relu"), Silent())
    assert not asked


def test_a_transformer_stopped_while_its_thread_is_started_is_not_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = interrupted(monkeypatch, "audit.train.transformer.trainer.Loop")
    with pytest.raises(KeyboardInterrupt):
        train_transformers(transformers(tmp_path, "tf-silu"), Silently())
    assert not asked


def interrupted(monkeypatch: pytest.MonkeyPatch, what: str) -> list[object]:
    """A signal comes when a thread has started, before anybody waits for it; what is asked of `what`."""
    asked: list[object] = []
    start = Thread.start

    def stopped(thread: Thread) -> None:
        start(thread)
        time.sleep(0.1)  # time in which the work could begin
        raise KeyboardInterrupt

    def recorded(*given: object) -> None:
        asked.append(given)
        raise AssertionError

    monkeypatch.setattr(Thread, "start", stopped)
    monkeypatch.setattr(what, recorded)
    return asked
