"""Train the runs that were asked for, one after the other, each from where it stands."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Protocol

import torch

from audit.errors import OutputError, PeerError, UsageError
from audit.threads import in_threads, threads
from audit.train.folder import Pace, RunFolder, pace_in
from audit.train.text import Tokens
from audit.train.transformer.config import config_of
from audit.train.transformer.cost import cost_of, least_memory
from audit.train.transformer.loop import Loop
from audit.train.transformer.machine import Machine
from audit.train.transformer.settings import Run, Settings
from audit.train.transformer.windows import count_of
from audit.train.values import Values
from reports.view import size


@dataclass(frozen=True, eq=False)
class Training:
    """What a call trains: the runs, on what, how, and where they go."""

    runs: tuple[Run, ...]
    tokens: Tokens
    settings: Settings
    out: Path
    machine: Machine

    def folder(self, run: Run) -> RunFolder:
        """Where a run's files are."""
        config = config_of(run, self.tokens, self.settings)
        every = self.settings.every
        # all measurements before that step; its own is made when the run goes on
        return RunFolder(self.out / run.name, config, lambda step: -(-step // every))

    def check(self) -> None:
        """Raise UsageError for settings that the text or the machine cannot fill."""
        settings, tokens = self.settings, self.tokens
        for part, ids in (("training", tokens.train), ("validation", tokens.valid)):
            if count_of(ids, settings.sequence) == 0:
                raise UsageError(
                    f"{tokens.dataset} has {len(ids)} {part} tokens, a window {settings.sequence + 1}",
                    "choose a shorter --sequence, or a longer text",
                )
        if settings.batch_size % self.machine.size:
            raise UsageError(
                f"a batch of {settings.batch_size} on {self.machine.size} processes",
                "choose a --batch-size that they divide evenly",
            )
        for run in self.runs:
            self._check_memory(run)

    def _check_memory(self, run: Run) -> None:
        machine, settings, vocabulary = self.machine, self.settings, self.tokens.vocabulary
        rows = min(machine.rows_at_a_time(settings.batch_size), settings.batch_size)
        cost = cost_of(run, settings, vocabulary)
        least = least_memory(cost, settings, vocabulary, rows)
        if least > machine.memory:
            raise UsageError(
                f"{run.name} takes {size(least)} of memory at least, and there are {size(machine.memory)}",
                "choose a smaller --micro-batch, --width or --depth",
            )


class Progress(Protocol):
    """Who is told how far the training is; called from the thread that trains, on every process."""

    def begin(self, run: Run, step: int, lost: bool) -> None:
        """A run goes on from a step; `lost`: it begins anew, for not all that it had come to is there."""

    def step(self, run: Run, seconds: float) -> None:
        """It made a step, in so many seconds."""

    def measured(self, run: Run, values: Values) -> None:
        """It was measured."""


def train(training: Training, progress: Progress, *, fresh: bool = False) -> None:
    """Train every run to its end; what is finished, or has diverged, is left as it is.

    Raises UsageError and OutputError before anything is trained, KeyboardInterrupt when told to stop, and
    PeerError where another process has ended: the step that is not whole is given up, and every one before
    it is kept.
    """
    training.check()
    with ExitStack() as stack:
        if training.machine.leads:
            folders = [training.folder(run) for run in training.runs]
            for folder in folders:
                folder.check(fresh=fresh)
            for folder in folders:
                stack.enter_context(folder.locked())
                if fresh:
                    folder.clear()
        stop, available = Event(), torch.get_num_threads()

        def work() -> bool:
            with threads(available):
                return _train(training, progress, stop.is_set)

        # in a thread that ends with its step, or with what it is writing: a signal tears nothing apart
        (is_whole,) = in_threads(1, work, stop)
    if not is_whole:
        raise KeyboardInterrupt  # another process was told to stop


def _train(training: Training, progress: Progress, stopped: Callable[[], bool]) -> bool:
    """Whether every run came to its end."""
    training.machine.take()
    return all(_train_run(training, run, progress, stopped) for run in training.runs)


def _train_run(training: Training, run: Run, progress: Progress, stopped: Callable[[], bool]) -> bool:
    """Whether the run came to its end."""
    machine, settings, folder = training.machine, training.settings, training.folder(run)
    reached = machine.told(_reached(folder, settings) if machine.leads else None)
    if reached is None:
        return True
    lost = reached == 0 and bool(pace_in(folder.path))
    loop = Loop(run, training.tokens, settings, machine)
    history: list[Values] = []
    if reached:
        history = _until(folder.history(), reached)
        _restore(loop, folder, reached, machine.told(history[-1:]), leads=machine.leads)
    progress.begin(run, reached, lost)
    try:
        is_whole = _go_on(training, run, progress, loop, history, stopped)
    except PeerError:
        _keep(loop, folder, history, machine)
        raise
    if not is_whole:
        _keep(loop, folder, history, machine)
    return is_whole


def _go_on(
    training: Training,
    run: Run,
    progress: Progress,
    loop: Loop,
    history: list[Values],
    stopped: Callable[[], bool],
) -> bool:
    """Whether it came to its end; False where told to stop. What is measured is written, and in `history`."""
    machine, settings, folder = training.machine, training.settings, training.folder(run)
    earlier = pace_in(folder.path)
    times: list[float] = []
    while True:
        if loop.is_due:
            values = loop.measured(stopped)
            if values is None:
                return False
            history.append(values)
            if machine.leads and times[1:]:
                pace = Pace(machine.name, len(times) - 1, sum(times[1:]), machine.size)
                folder.write_pace(pace.after(earlier))
            _keep(loop, folder, history, machine, last=is_last(history, settings))
            progress.measured(run, values)
        if is_last(history, settings):
            return True
        began = time.perf_counter()
        if not loop.advance(stopped):
            return False
        times.append(time.perf_counter() - began)
        progress.step(run, times[-1])


def _until(history: Sequence[Values], step: int) -> list[Values]:
    """What was measured up to a step."""
    return [one for one in history if (one.get("step") or 0) <= step]


def _reached(folder: RunFolder, settings: Settings) -> int | None:
    """The step that a run goes on from, None where it has come to its end."""
    kept = max(folder.kept(), default=0)
    if not is_last(_until(folder.history(), kept), settings):
        return kept
    return None if folder.is_settled() else 0


def _restore(loop: Loop, folder: RunFolder, step: int, last: Sequence[Values], *, leads: bool) -> None:
    measured = int(last[0].get("step") or 0)
    try:
        loop.restore(folder.state(step) if leads else {}, step, measured)
    except (KeyError, RuntimeError) as error:
        raise OutputError(
            f"the state in {folder.path} is of something else: {error}", "add --fresh"
        ) from error


def _keep(
    loop: Loop, folder: RunFolder, history: Sequence[Values], machine: Machine, *, last: bool = False
) -> None:
    """Write what the run has come to; of one that has come to its end no state, for none goes on from it."""
    when = loop.step + loop.diverged
    if machine.leads and when > 0:
        folder.write(when, history, {} if last else loop.state(), loop.network())
        folder.forget_before(when)


def is_last(history: Sequence[Values], settings: Settings) -> bool:
    """Whether a run ended with what was measured of it."""
    return bool(history) and (history[-1].get("step") == settings.steps or diverged(history) is not None)


def diverged(history: Sequence[Values]) -> int | None:
    """The step in which a run's loss or gradient was no longer finite; None where all were."""
    for values in history[1:]:
        if values.get("loss") is None or values.get("valid_loss") is None:
            return int(values.get("step") or 0)
    return None
