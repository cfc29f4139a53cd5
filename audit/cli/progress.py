"""Bars on stderr, only where somebody sees them."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from audit.cli.talk import Talk, console

if TYPE_CHECKING:
    from rich import progress as bars

    from audit.measure import Measured
    from audit.plan import AuditPlan, Place

WAITING = "waiting for the network"

_LETTERS = 24
"""Room for what is being read."""


@dataclass(frozen=True)
class Watcher:
    """Hears of an audit as it goes: of each measurement, and of bytes as they come, 0 where none do."""

    measured: "Callable[[Measured], None]" = lambda measured: None
    heard: Callable[[int], None] = lambda count: None


@contextmanager
def watching(plan: "AuditPlan", known: "Collection[Place]", talk: Talk, processes: int) -> Iterator[Watcher]:
    """A bar over what is left of a plan; over bytes where they are streamed, else over measurements.

    Those of all processes, of which each streams its share.
    """
    if not talk.shows_progress:
        yield Watcher()
        return
    by_bytes = plan.checkpoint.streamed and processes == 1
    where = f" on {processes} processes" if processes > 1 else ""
    total, done = (plan.bytes_left(known), 0) if by_bytes else (plan.count, len(known))
    with _bar(by_bytes=by_bytes) as bar:
        task = bar.add_task(f"reading{where}", total=total, completed=done)

        def measured(one: "Measured") -> None:
            bar.update(
                task, advance=0 if by_bytes else 1, description=f"layer {one.layer}, {one.projection}{where}"
            )

        def heard(count: int) -> None:
            if by_bytes and count:
                bar.advance(task, count)
            elif not count:
                bar.update(task, description=WAITING)

        yield Watcher(measured, heard)


@contextmanager
def counting(total: int, what: str, talk: Talk) -> Iterator[Callable[[int], None]]:
    """A bar over the bytes that are read of something."""
    if not talk.shows_progress:
        yield lambda count: None
        return
    from reports.view import printable

    named = printable(what)[-_LETTERS:]
    with _bar(by_bytes=True) as bar:
        task = bar.add_task(named, total=total)
        yield lambda count: bar.update(task, advance=count, description=named if count else WAITING)


def _bar(*, by_bytes: bool) -> "bars.Progress":
    """A bar over bytes, with their speed, or over things."""
    from rich import progress as bars

    counted = (
        (bars.DownloadColumn(), bars.TransferSpeedColumn()) if by_bytes else (bars.MofNCompleteColumn(),)
    )
    return bars.Progress(
        bars.TextColumn(f"{{task.description:<{_LETTERS}}}"),
        bars.BarColumn(),
        *counted,
        bars.TimeRemainingColumn(),
        console=console(stderr=True),
        transient=True,
    )


@contextmanager
def downloads(talk: Talk) -> Iterator[None]:
    """The Hub client's own bars."""
    if talk.shows_progress:
        yield
        return
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            enable_progress_bars()
