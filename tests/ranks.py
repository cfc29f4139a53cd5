"""Several processes that make one audit, started as a launcher does, at once: forked from one that has loaded
the program.

The store by which they find one another is the test's, as it is a launcher's: it outlives any of them.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch.distributed import TCPStore

import audit.output
from audit.cli import main
from audit.pipeline import Pipeline

LOADED = ["audit.audit", "audit.cli", "audit.finished", "audit.partial", "audit.processes.ranks", "ranks"]
"""What takes seconds to import."""

SLOWLY = 0.05
"""Seconds a measurement takes at least, so that no rank is done before the trouble begins."""

LIMIT = 100
"""Seconds after which a rank is taken to hang."""


@dataclass(frozen=True)
class Trouble:
    """What happens in a rank after so many measurements: a signal, or a file that is cut short."""

    rank: int
    count: int
    what: signal.Signals | Path

    def strike(self) -> None:
        """Let it happen."""
        if isinstance(self.what, Path):
            os.truncate(self.what, 9 * self.what.stat().st_size // 10)
        else:
            os.kill(os.getpid(), self.what)


@dataclass(frozen=True)
class Ended:
    """How a rank ended: exit code (minus a signal's number), what it printed, when, what it had measured."""

    code: int | None
    out: str
    err: str
    when: float
    measured: tuple[str, ...]


def run(*line: object, size: int = 2, trouble: Trouble | None = None) -> list[Ended]:
    """What becomes of each rank."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    processes = []
    for rank in range(size):
        variables = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": size,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": store.port,
            "TORCHELASTIC_USE_AGENT_STORE": True,
        }
        told = {name: str(value) for name, value in variables.items()}
        arguments = ([str(word) for word in line], told, trouble, os.getcwd())
        processes.append(context.Process(target=_work, args=arguments))
        processes[-1].start()
    try:
        whens = _ends(processes)
        return [_ended(rank, process, whens[rank]) for rank, process in enumerate(processes)]
    finally:
        for process in processes:
            process.kill()


def _ends(processes: list[BaseProcess]) -> dict[int, float]:
    """When each of them ended."""
    running = {process.sentinel: rank for rank, process in enumerate(processes)}
    whens = {}
    while running:
        over = wait(list(running), LIMIT)
        assert over, f"ranks {sorted(running.values())} hang"
        for sentinel in over:
            whens[running.pop(sentinel)] = time.monotonic()
    return whens


def _ended(rank: int, process: BaseProcess, when: float) -> Ended:
    process.join()
    out, err, log = (_file(rank, name).read_text() for name in ("out", "err", "log"))
    return Ended(process.exitcode, out, err, when, tuple(log.splitlines()))


def _file(rank: int, name: str) -> Path:
    return Path(f"../rank-{rank}.{name}")


def _work(line: list[str], variables: dict[str, str], trouble: Trouble | None, folder: str) -> None:
    os.chdir(folder)
    os.environ.update(variables)
    rank = int(variables["RANK"])
    for name, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(_file(rank, name), os.O_CREAT | os.O_TRUNC | os.O_WRONLY), number)
    _file(rank, "log").write_text("")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    setattr(audit.output, "draw", lambda report, illustration: b"")  # noqa: B010 - drawing takes seconds
    _watch_measurements(rank, trouble)
    sys.argv = ["gcont-audit", *line]
    main()


def _watch_measurements(rank: int, trouble: Trouble | None) -> None:
    measure = Pipeline.measure

    def watched(self: Pipeline, *arguments: Any) -> Iterator[Any]:
        for count, one in enumerate(measure(self, *arguments), 1):
            with _file(rank, "log").open("a") as log:
                log.write(f"{one.projection} {one.layer}\n")
            time.sleep(SLOWLY)
            yield one
            if trouble is not None and (trouble.rank, trouble.count) == (rank, count):
                trouble.strike()

    setattr(Pipeline, "measure", watched)  # noqa: B010
