"""Threads of Python: at work together until a signal comes, and how many of torch's each has."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import TypeVar

import torch

T = TypeVar("T")

_LOOKS = 0.25
"""Seconds between looks at whether a signal came."""


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many of torch's in this thread of Python, and afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_threads(count: int, work: Callable[[], T], stop: Event) -> list[T]:
    """What the work comes to in so many threads, in the order in which they end; raises the first error.

    It must end soon after `stop` is set: that is done, and waited for, at an error, and at a signal that
    raises in this thread, whenever it comes. No thread begins before all are started, so that a signal that
    comes earlier leaves none at work. (`Thread.start` may make a RuntimeError of it: what it waits with
    releases a lock that it does not hold where a signal ends the wait.)
    """
    may_begin: SimpleQueue[bool] = SimpleQueue()
    ended: SimpleQueue[tuple[T] | BaseException] = SimpleQueue()

    def carry_out() -> None:
        try:
            if may_begin.get():
                ended.put((work(),))
        except BaseException as error:  # raised again where the outcomes are taken
            ended.put(error)

    crew = [Thread(target=carry_out, daemon=True) for _ in range(count)]
    try:
        for one in crew:
            one.start()
        for _ in crew:
            may_begin.put(True)
        return [_outcome(awaited(ended)) for _ in crew]
    finally:
        stop.set()
        for _ in crew:
            may_begin.put(False)
        for one in crew:
            if one.is_alive():  # one that was only being started may not be joined, and does not begin
                one.join()


def awaited(queue: SimpleQueue[T]) -> T:
    """What comes next; a signal that raises in this thread ends the wait, whenever it comes.

    One that comes in the last moment before a wait would not end that wait: Python looks for signals before
    it and after it.
    """
    while True:
        with suppress(Empty):
            return queue.get(timeout=_LOOKS)


def _outcome(found: tuple[T] | BaseException) -> T:
    if isinstance(found, BaseException):
        raise found
    return found[0]
