"""How far the transformers' training is: a bar over each run's steps, and what was last measured of it."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich import progress as bars

from audit.cli.talk import Talk, console
from audit.train.text import Progress as TextProgress
from audit.train.transformer.settings import Run
from audit.train.transformer.trainer import Progress, Training
from audit.train.values import Values

SHOWN = (("ppl", "ppl"), ("Q_v1", "Q"), ("Gate_v1", "Gate"), ("V_v1", "V"))
"""What a bar shows live."""

ENOUGH_STEPS, ENOUGH_SECONDS = 5, 10.0
"""Steps after which, or seconds, the rest is estimated; a first step is never typical."""


@contextmanager
def training_bar(training: Training, talk: Talk) -> Iterator[Progress]:
    """A bar for the run in training."""
    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(bar_width=None),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[told]}"),
        bars.TimeRemainingColumn(compact=True),
    )
    with bars.Progress(
        *columns, console=console(stderr=True), transient=True, disable=not talk.shows_progress
    ) as bar:
        yield Bar(bar, training, talk)


class Bar:
    """Tells how far each run is, and once how long all will take."""

    def __init__(self, bar: bars.Progress, training: Training, talk: Talk) -> None:
        """None is in training yet."""
        self._bar, self._training, self._talk = bar, training, talk
        self._task: bars.TaskID | None = None
        self._times: list[float] = []
        self._estimated = False
        self._left = self._steps_left = 0

    def begin(self, run: Run, step: int, lost: bool) -> None:
        """Draw a bar for a run, and say where it stands."""
        if lost:
            self._talk.note(f"{run.name} is trained again: not all that it had come to is there")
        if step:
            self._talk.note(f"{run.name} goes on from step {step:,}")
        if self._task is not None:
            self._bar.remove_task(self._task)
        steps = self._training.settings.steps
        self._task = self._bar.add_task(f"{run.name:<16}", total=steps, completed=step, told="")
        runs = self._training.runs
        self._left = len(runs) - runs.index(run)
        self._steps_left = self._left * steps - step
        self._times.clear()

    def step(self, run: Run, seconds: float) -> None:
        """One step further."""
        if self._task is not None:
            self._bar.advance(self._task)
        self._times.append(seconds)
        timed = self._times[1:]
        if not self._estimated and timed and (len(timed) >= ENOUGH_STEPS or sum(timed) >= ENOUGH_SECONDS):
            self._estimated = True
            self._talk.note(self._estimate(sorted(timed)[len(timed) // 2]))

    def measured(self, run: Run, values: Values) -> None:
        """Show what was measured."""
        diverged = values.get("valid_loss") is None
        told = " ".join(
            f"{name} {value:.2f}" for key, name in SHOWN if (value := values.get(key)) is not None
        )
        if self._task is not None:
            self._bar.update(self._task, told=told)
        self._talk.detail(f"{run.name}, step {values['step']}: {'diverged' if diverged else told}")

    def _estimate(self, seconds: float) -> str:
        settings, machine = self._training.settings, self._training.machine
        rate = settings.batch_size * settings.sequence / seconds
        left = counted(self._left, "run")
        pace = f"{seconds:.3g} s a step on {machine.name}, {rate:,.0f} tokens a second"
        return f"{pace}: about {lasting(self._steps_left * seconds)} for {left}"


def counted(count: int, name: str) -> str:
    """`1 run`, `6 runs`."""
    return f"{count} {name}{'' if count == 1 else 's'}"


def lasting(seconds: float) -> str:
    """`40 s`, `7 min`, `3.2 h`, `5.1 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:.1f} days"


@contextmanager
def text_bar(talk: Talk) -> Iterator[TextProgress]:
    """A bar over the bytes of the text that is turned into token ids."""
    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(bar_width=None),
        bars.DownloadColumn(),
        bars.TimeRemainingColumn(compact=True),
    )
    with bars.Progress(
        *columns, console=console(stderr=True), transient=True, disable=not talk.shows_progress
    ) as bar:
        yield Reading(bar)


class Reading:
    """Tells how much of a text is read."""

    def __init__(self, bar: bars.Progress) -> None:
        """Nothing is read yet."""
        self._bar = bar
        self._task: bars.TaskID | None = None

    def begin(self, part: str, total_bytes: int | None) -> None:
        """Draw a bar for a part."""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(f"reading {part}", total=total_bytes)

    def advance(self, count: int, /) -> None:
        """So many bytes further."""
        if self._task is not None:
            self._bar.advance(self._task, count)
