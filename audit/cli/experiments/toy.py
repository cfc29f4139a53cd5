"""Train the toy MLPs that were asked for, show how far it is, and print the report."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich import progress as bars

from audit.cli.experiments.concluding import conclude, tell_left_out
from audit.cli.talk import Talk, console, stopped_by
from audit.errors import StoppedError, UsageError
from audit.pipeline import resolve_device
from audit.train.ablations import FIGURES, ablation
from audit.train.beside import all_beside
from audit.train.datasets import as_published, load
from audit.train.folder import check_root
from audit.train.loop import Run
from audit.train.readings import QUESTIONS, read
from audit.train.settings import Settings
from audit.train.trainer import Progress, Training
from audit.train.trainer import train as train_all
from audit.train.values import Values
from audit.train.writing import write
from reports.training.figures import pictured
from reports.training.terminal import to_terminal

SHOWN = (("acc", "acc"), ("W_v1", "W v1"), ("G_v1", "G v1"))
"""What a bar shows live."""


@dataclass(frozen=True)
class Asked:
    """What the command line says; None stands for the paper's setting."""

    names: tuple[str, ...]
    seeds: tuple[int, ...]
    dataset: str
    data: Path | None
    epochs: int | None
    batch_size: int | None
    lr: float | None
    width: int | None
    depth: int | None
    device: str
    out: Path | None
    figures: tuple[int, ...] = ()
    beside: tuple[Path, ...] = ()
    readings: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """The usual folder's name: runs that are trained for longer, or otherwise, have one of their own."""
        longer = [f"figure-{number}" for number in self.figures if FIGURES[number].epochs is not None]
        others = [f"{name}-{answer}" for name, answer in self.readings.items()]
        return "-".join((self.dataset, *longer, *others))

    @property
    def settings(self) -> Settings:
        """The paper's, but for what was asked for."""
        changed = {
            name: value
            for name in ("epochs", "batch_size", "lr", "width", "depth")
            if (value := getattr(self, name)) is not None
        }
        return Settings(**changed)


def perform(asked: Asked, talk: Talk, *, fresh: bool, json: bool) -> None:
    """Read the images, train, write the report over all runs in the folder, and print it."""
    runs = tuple(
        Run(read(ablation(name), asked.readings), seed) for name in asked.names for seed in asked.seeds
    )
    for name, answer in asked.readings.items():
        if not any(QUESTIONS[name].is_about(ablation(one)) for one in asked.names):
            raise UsageError(f"--reading {name}={answer} is about none of these ablations", "leave it out")
    settings, where = asked.settings, resolve_device(asked.device)
    root = asked.out or Path("gcont-runs") / asked.place
    check_root(root)
    with talk.busy(f"reading {asked.dataset}"):
        images = load(asked.dataset, asked.data)
    if settings.batch_size > (count := len(images.train_labels)):
        raise UsageError(
            f"--batch-size {settings.batch_size}: {asked.dataset} has {count} training images", "choose fewer"
        )
    if as_published(asked.dataset, images.digest) is False:
        talk.note(f"these images are not {asked.dataset} as published: no published values stand beside them")
    training = Training(runs, images, settings, root, where, asked.readings)
    others = all_beside(asked.beside, training)
    _train(training, talk, fresh=fresh)
    written = write(training, [one.experiment for one in others])
    for one in others:
        tell_left_out(one.left_out, one.folder, talk)
    for number in asked.figures:
        if not any(picture.number == number for picture in pictured(written.experiment)):
            talk.note(f"Figure {number} has nothing to show: runs diverged, or numbers are not defined")
    conclude(written, root, to_terminal, talk, json=json)


def _train(training: Training, talk: Talk, *, fresh: bool) -> None:
    try:
        with _bars(training, talk) as progress:
            train_all(training, progress, fresh=fresh)
    except KeyboardInterrupt as stop:
        raise StoppedError(
            stopped_by(stop),
            f"finished epochs are kept in {training.out}; the same command goes on from there",
        ) from stop


@contextmanager
def _bars(training: Training, talk: Talk) -> Iterator[Progress]:
    """A bar for each run in training, with what was last measured of it."""
    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(bar_width=None),
        bars.TextColumn("{task.fields[told]}"),
        bars.TimeRemainingColumn(compact=True),
    )
    with bars.Progress(
        *columns, console=console(stderr=True), transient=True, disable=not talk.shows_progress
    ) as bar:
        yield Bars(bar, training.settings.epochs, talk)


class Bars:
    """Tells how far each run is."""

    def __init__(self, bar: bars.Progress, epochs: int, talk: Talk) -> None:
        """None is in training yet."""
        self._bar = bar
        self._epochs = epochs
        self._talk = talk
        self._tasks: dict[Run, bars.TaskID] = {}

    def begin(self, run: Run, epoch: int, steps: int) -> None:
        """Draw a bar for a run."""
        self._tasks[run] = self._bar.add_task(
            f"{run.name:<18}", total=self._epochs * steps, completed=epoch * steps, told=""
        )

    def step(self, run: Run) -> None:
        """One step further."""
        if (task := self._tasks.get(run)) is not None:
            self._bar.advance(task)

    def measured(self, run: Run, values: Values) -> None:
        """Show what was measured; a run that is done or has diverged makes room."""
        diverged = values.get("test_loss") is None
        told = " ".join(
            f"{name} {value:.3f}" for key, name in SHOWN if (value := values.get(key)) is not None
        )
        if (task := self._tasks.get(run)) is not None:
            self._bar.update(task, told=told)
            if diverged or values["epoch"] == self._epochs:
                self._bar.remove_task(self._tasks.pop(run))
        self._talk.detail(f"{run.name}, epoch {values['epoch']}: {'diverged' if diverged else told}")
