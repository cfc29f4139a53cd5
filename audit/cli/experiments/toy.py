"""`gcont-audit train`: the experiments that explain the audit, run again, beside the published numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audit.cli import options as o
from audit.cli.talk import Talk, console, show, stopped_by

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from audit.train.loop import Run
    from audit.train.measure import Values
    from audit.train.trainer import Progress, Training

WHAT, HOW = "What to train", "How to train it"

Names = Annotated[
    list[str] | None,
    typer.Option(
        "--ablation", metavar="NAME", help="One of --list; can be given again.", rich_help_panel=WHAT
    ),
]
Tables = Annotated[
    list[int] | None,
    typer.Option(
        "--table", metavar="1|3|4|5", help="All rows of one of the paper's tables.", rich_help_panel=WHAT
    ),
]
All = Annotated[bool, typer.Option("--all", metavar="", help="Every ablation.", rich_help_panel=WHAT)]
Listing = Annotated[
    bool,
    typer.Option(
        "--list", metavar="", help="Show the ablations, and what each isolates.", rich_help_panel=WHAT
    ),
]
Seeds = Annotated[
    str,
    typer.Option("--seeds", metavar="N", help="How many seeds, or which: 3, or 0,4,7.", rich_help_panel=WHAT),
]
Dataset = Annotated[
    str,
    typer.Option(
        "--dataset",
        metavar="NAME",
        help="mnist, fashion-mnist, emnist-letters, svhn, cifar-10, cifar-100, or digits, which needs no "
        "download.",
        rich_help_panel=WHAT,
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Where the data set's files are: idx (.gz), npz or parquet. Default: from the Hub.",
        rich_help_panel=WHAT,
    ),
]
Epochs = Annotated[int, typer.Option(min=1, max=9999, help="Times through the images.", rich_help_panel=HOW)]
BatchSize = Annotated[int, typer.Option(min=1, max=1 << 20, help="Images a step.", rich_help_panel=HOW)]
Lr = Annotated[float, typer.Option(help="Adam's step size.", rich_help_panel=HOW)]
Width = Annotated[int, typer.Option(min=2, max=1 << 15, help="Of the hidden layers.", rich_help_panel=HOW)]
Depth = Annotated[int, typer.Option(min=2, max=1000, help="Hidden layers.", rich_help_panel=HOW)]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Runs go to DIR/ABLATION-SEED, the report to DIR. Default: gcont-runs/DATASET.",
        rich_help_panel=o.OUTPUT,
    ),
]
Fresh = Annotated[
    bool,
    typer.Option(
        "--fresh", metavar="", help="Train again what is finished or begun.", rich_help_panel=o.OUTPUT
    ),
]


def train(
    names: Names = None,
    tables: Tables = None,
    all: All = False,
    listing: Listing = False,
    seeds: Seeds = "3",
    dataset: Dataset = "mnist",
    data: Data = None,
    epochs: Epochs = 20,
    batch_size: BatchSize = 128,
    lr: Lr = 1e-3,
    width: Width = 256,
    depth: Depth = 16,
    device: o.Device = "auto",
    out: Out = None,
    fresh: Fresh = False,
    json: o.AsJson = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = 0,
) -> None:
    """Train the toy MLPs of arXiv:2605.04971 with a part taken away, measure them, compare with the paper."""
    talk = Talk(quiet, verbose)
    with talk.errors():
        if listing:
            _show_ablations(json=json)
            return
        from audit.errors import UsageError
        from audit.pipeline import resolve_device
        from audit.train.datasets import as_published, load
        from audit.train.loop import Run
        from audit.train.selection import chosen, seeds_in
        from audit.train.settings import Settings
        from audit.train.trainer import Training

        ablations = chosen(names or (), tables or (), everything=all)
        runs = tuple(Run(one, seed) for one in ablations for seed in seeds_in(seeds))
        if not 0 < lr < inf:
            raise UsageError(f"--lr {lr:g}", "choose a number above 0, as 0.001")
        settings = Settings(epochs=epochs, batch_size=batch_size, lr=lr, width=width, depth=depth)
        where = resolve_device(device)
        with talk.busy(f"reading {dataset}"):
            images = load(dataset, data)
        if batch_size > (count := len(images.train_labels)):
            raise UsageError(
                f"--batch-size {batch_size}: {dataset} has {count} training images", "choose fewer"
            )
        if as_published(dataset, images.digest) is False:
            talk.note(f"these images are not {dataset} as published: no published values stand beside them")
        root = out or Path("gcont-runs") / dataset
        _perform(Training(runs, images, settings, root, where), talk, fresh=fresh, json=json)


def _perform(training: "Training", talk: Talk, *, fresh: bool, json: bool) -> None:
    """Train, write the report over all runs in the folder, and print it."""
    from audit.train.trainer import train as train_all
    from audit.train.writing import FILES, write

    try:
        with _bars(training, talk) as progress:
            train_all(training, progress, fresh=fresh)
    except KeyboardInterrupt as stop:
        from audit.errors import StoppedError

        raise StoppedError(
            stopped_by(stop),
            f"finished epochs are kept in {training.out}; the same command goes on from there",
        ) from stop
    written = write(training)
    if written.left_out:
        talk.note(f"{written.left_out} runs in {training.out} are unfinished or trained otherwise: left out")
    if json:
        from reports.training.document import to_json

        typer.echo(to_json(written.experiment), nl=False)
        return
    from reports.training.terminal import to_terminal

    show(to_terminal(written.experiment))
    if not talk.quiet:
        typer.echo(f"Written to {training.out}: {', '.join(sorted(FILES))}", err=True)


@contextmanager
def _bars(training: "Training", talk: Talk) -> "Iterator[Progress]":
    """A bar for each run in training, with what was last measured of it."""
    from rich import progress as bars

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

    def __init__(self, bar: "RichProgress", epochs: int, talk: Talk) -> None:
        """None is in training yet."""
        self._bar = bar
        self._epochs = epochs
        self._talk = talk
        self._tasks: dict[Run, TaskID] = {}

    def begin(self, run: "Run", epoch: int, steps: int) -> None:
        """Draw a bar for a run."""
        self._tasks[run] = self._bar.add_task(
            f"{run.name:<18}", total=self._epochs * steps, completed=epoch * steps, told=""
        )

    def step(self, run: "Run") -> None:
        """One step further."""
        if (task := self._tasks.get(run)) is not None:
            self._bar.advance(task)

    def measured(self, run: "Run", values: "Values") -> None:
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


SHOWN = (("acc", "acc"), ("W_v1", "W v1"), ("G_v1", "G v1"))
"""What a bar shows live."""


def _show_ablations(*, json: bool) -> None:
    from audit.train.ablations import ABLATIONS

    if json:
        from dataclasses import asdict
        from json import dumps

        typer.echo(dumps([asdict(one) for one in ABLATIONS], indent=1))
        return
    from rich import box
    from rich.table import Table

    from registry.experiments import published_tables

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("ablation", "tables", "isolates"):
        table.add_column(heading)
    for one in ABLATIONS:
        where = ", ".join(str(each.number) for each in published_tables() if one.name in each.rows)
        table.add_row(one.name, where, one.isolates)
    show(table)
