"""Audits in processes of their own that can be stopped: from outside, or by themselves at an exact moment.

They are forked from a process that has loaded the program and computed nothing, so that each starts at once,
and no thread of the tests' own is in it.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

import audit.audit
import audit.disk
import audit.measure
import audit.output
import audit.partial
from audit.cli import main

MOMENTS: dict[str, tuple[object, str]] = {
    "before a measurement is kept": (audit.partial.Partial, "keep"),
    "before its file is whole": (audit.disk.os, "fsync"),
    "before its file is in place": (audit.disk.Path, "replace"),
    "before the summary": (audit.audit, "_series"),
    "before the report is written": (audit.output, "to_json"),
    "before the report is in place": (audit.output, "_replace"),
    "before the partial folder is removed": (audit.partial.Partial, "discard"),
}
"""Each a function that is called then."""

LOADED = ["audit.audit", "audit.cli", "audit.finished", "audit.partial", "reports.terminal"]
"""What takes seconds to import."""


@dataclass(frozen=True)
class Stop:
    """A signal that a process sends itself when something happens for the `count`-th time."""

    moment: str
    signal: signal.Signals
    count: int = 1


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, minus a signal's number, and what it said."""

    code: int | None
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """The last line on stderr."""
        return self.stderr.splitlines()[-1]


def run(*line: object, stop: Stop | None = None) -> Ended:
    """Run a command line to its end."""
    with started(*line, stop=stop) as process:
        return ended(process)


@contextmanager
def started(*line: object, stop: Stop | None = None) -> Iterator[BaseProcess]:
    """A command line at work; it is killed where it still is when the test is through with it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    process = context.Process(target=_work, args=([str(word) for word in line], stop))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def ended(process: BaseProcess) -> Ended:
    """What becomes of a process."""
    process.join(120)
    assert process.exitcode is not None, "it hangs"
    return Ended(process.exitcode, *(Path(f"../{name}").read_text() for name in ("stdout", "stderr")))


@contextmanager
def never_done(*line: object, size: int) -> Iterator[subprocess.Popen[bytes]]:
    """A command line in an interpreter of its own, whose threads factorise matrices of a size without end."""
    program = f"import stopping; stopping.never_done_by({[str(word) for word in line]}, {size})"
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    with subprocess.Popen([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": path}) as process:
        try:
            yield process
        finally:
            process.kill()


def never_done_by(line: list[str], size: int) -> None:
    """What that interpreter does."""

    def measure(*_: object, **__: object) -> None:
        while True:
            torch.linalg.svd(torch.ones(size, size).triu())

    _set(audit.measure.Measurer, "measure", measure)
    torch.set_num_threads(2)
    _work(line, None)


def _work(line: list[str], stop: Stop | None) -> None:
    for name, number in (("stdout", 1), ("stderr", 2)):
        os.dup2(os.open(f"../{name}", os.O_CREAT | os.O_TRUNC | os.O_WRONLY), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["gcont-audit", *line]
    _set(audit.output, "draw", lambda report, illustration: b"")  # drawing takes seconds
    if stop is not None:
        _stop(stop)
    main()


def _set(owner: Any, name: str, value: object) -> None:
    setattr(owner, name, value)


def _stop(stop: Stop) -> None:
    owner, name = MOMENTS[stop.moment]
    function: Callable[..., object] = getattr(owner, name)
    calls = []

    def counting(*args: object, **options: object) -> object:
        calls.append(name)
        if len(calls) == stop.count:
            os.kill(os.getpid(), stop.signal)
        return function(*args, **options)

    _set(owner, name, counting)
