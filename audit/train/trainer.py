"""Train the runs that were asked for, several at once, each from where it stands."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event
from typing import Any, Protocol

import torch

from audit.errors import OutputError
from audit.threads import in_threads, threads
from audit.train.folder import RunFolder
from audit.train.images import Images
from audit.train.loop import Batch, Run
from audit.train.settings import Settings
from audit.train.values import Values
from registry.experiments import TOY_MODEL_TYPE


@dataclass(frozen=True, eq=False)
class Training:
    """What a call trains: the runs, on what, how, and where they go.

    `readings` are the answers to what the paper leaves open, where they are not the usual ones.
    """

    runs: tuple[Run, ...]
    data: Images
    settings: Settings
    out: Path
    device: torch.device
    readings: Mapping[str, str] = field(default_factory=dict)

    def folder(self, run: Run) -> RunFolder:
        """Where a run's files are."""
        return RunFolder(self.out / run.name, config_of(run, self.data, self.settings))


MOST_ON_A_DEVICE = 64
"""Runs that share the launches of a GPU's kernels."""

LATER = {"share": 1.0, "norm_place": "sum", "init_of": "all", "beta1": 0.9, "beta2": 0.999}
"""What an ablation can be told by since some runs were trained, and what those had."""

OVER = object()
"""What comes after a batch's last epoch."""


class Progress(Protocol):
    """Who is told how far the training is; called from several threads."""

    def begin(self, run: Run, epoch: int, steps: int) -> None:
        """A run goes on from an epoch, of `steps` steps each."""

    def step(self, run: Run) -> None:
        """It made a step."""

    def measured(self, run: Run, values: Values) -> None:
        """It was measured, after an epoch."""


def config_of(run: Run, data: Images, settings: Settings) -> dict[str, Any]:
    """What config.json says: the shape, in transformers' words, and all that the run follows from."""
    told = asdict(run.ablation)
    del told["isolates"]
    for name, usual in LATER.items():
        if told[name] == usual:
            del told[name]
    return {
        "model_type": TOY_MODEL_TYPE,
        "num_hidden_layers": settings.depth,
        "hidden_size": settings.width,
        "input_size": data.inputs,
        "num_labels": data.classes,
        "ablation": told,
        "seed": run.seed,
        "dataset": data.name,
        "dataset_sha256": data.digest,
        "training": settings.identity,
    }


def train(training: Training, progress: Progress, *, fresh: bool = False) -> None:
    """Train every run to its end; what is finished, or has diverged, is left as it is.

    On a CPU batches run side by side, one to a core. Raises OutputError for folders that hold something else,
    before anything is trained, and KeyboardInterrupt when told to stop: every epoch that was whole is kept.
    """
    folders = {run: training.folder(run) for run in training.runs}
    for folder in folders.values():
        folder.check(fresh=fresh)
        if not fresh and (trained := len(folder.history()) - 1) > (wanted := training.settings.epochs):
            raise OutputError(
                f"{folder.path} has been trained for {trained} epochs already, not {wanted}",
                "name another place with --out, or ask for as many",
            )
    with ExitStack() as stack:
        for run in training.runs:
            stack.enter_context(folders[run].locked())
            if fresh:
                folders[run].clear()
        twins = _twins(training.runs)
        batches = list(_batches(training, [run for run in training.runs if run not in twins]))
        _side_by_side(training, batches, progress)
        for run, original in twins.items():
            if folders[run].history() != folders[original].history() or not folders[run].is_settled():
                folders[run].adopt(folders[original])


def _twins(runs: Sequence[Run]) -> dict[Run, Run]:
    """Runs that differ from an earlier one by the name of their ablation alone, and that one."""
    first: dict[Run, Run] = {}
    twins = {}
    for run in runs:
        recipe = replace(run, ablation=replace(run.ablation, name="", isolates=""))
        if first.setdefault(recipe, run) != run:
            twins[run] = first[recipe]
    return twins


@dataclass(frozen=True)
class Work:
    """A batch's runs, and the epoch that all of them have come to."""

    runs: tuple[Run, ...]
    epoch: int


def _batches(training: Training, runs: Iterable[Run]) -> Iterator[Work]:
    """What is left to do, divided into batches: by architecture, then in the order asked for.

    The division does not depend on what is done already, so that a batch that was stopped is the same batch
    when it goes on: to the last bit, a run's numbers depend on who is in its batch.
    """
    size = most_together(training.device)
    groups: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(run.ablation.program, []).append(run)
    for together in groups.values():
        for start in range(0, len(together), size):
            yield from _works(training, together[start : start + size])


def most_together(device: torch.device) -> int:
    """The size of a batch; on a CPU one run, where stacking gains 5 % and a run's bits depend on no other."""
    return 1 if device.type == "cpu" else MOST_ON_A_DEVICE


def _works(training: Training, runs: Sequence[Run]) -> Iterator[Work]:
    """The unfinished ones of a batch, all together where they have come to the same epoch."""
    wanted = training.settings.epochs
    reached: dict[Run, set[int]] = {}
    for run in runs:
        folder = training.folder(run)
        epochs = folder.kept()
        last = max(epochs, default=0)
        ended = last == wanted or diverged(folder.history()[: last + 1]) is not None
        if not (ended and folder.is_settled()):
            reached[run] = epochs | {0}
    if not reached:
        return
    common = max(set.intersection(*reached.values()))
    # stopped while the first epoch was being written, they start together once more
    if common or max(map(max, reached.values())) <= 1:
        yield Work(tuple(reached), common)
        return
    for epoch, group in groupby(
        sorted(reached, key=lambda run: max(reached[run])), lambda run: max(reached[run])
    ):
        yield Work(tuple(group), epoch)


def diverged(history: Sequence[Values]) -> int | None:
    """The epoch after which a run's loss was no longer finite; None where it always was."""
    losses = ([one.get(name) for name in ("loss", "test_loss")] for one in history)
    return next((epoch for epoch, found in enumerate(losses) if epoch and None in found), None)


def _side_by_side(training: Training, works: Sequence[Work], progress: Progress) -> None:
    """Work through the batches, on a CPU as many at a time as there are threads.

    They take turns, an epoch each, one more of them than there are workers: so that three batches keep two
    cores busy to the end.
    """
    available = torch.get_num_threads()
    cores = available if training.device.type == "cpu" else 1
    workers = min(len(works), cores)
    # by all runs, not those left: how many threads a run has must not follow from what is done already
    each = max(1, available // min(len(training.runs), cores))
    stop = Event()
    pending = deque(_epochs(training, work, progress, stop) for work in works)
    turns: SimpleQueue[Iterator[None]] = SimpleQueue()
    for _ in range(min(workers + 1, len(works))):
        turns.put(pending.popleft())

    def carry_out() -> None:
        with threads(each), suppress(Empty):  # whatever is left is in the hands of the others
            while not stop.is_set():
                batch = turns.get_nowait()
                if next(batch, OVER) is not OVER:
                    turns.put(batch)
                else:
                    with suppress(IndexError):
                        turns.put(pending.popleft())

    in_threads(workers, carry_out, stop)  # each ends with its step, or with what it is writing


def _epochs(training: Training, work: Work, progress: Progress, stop: Event) -> Iterator[None]:
    """Train one batch to its end, and write what came of every epoch; each turn is one."""
    folders = [training.folder(run) for run in work.runs]
    batch = Batch(work.runs, training.data, training.settings, training.device)
    for run in work.runs:
        progress.begin(run, work.epoch, batch.steps)
    if work.epoch:
        _restore(batch, folders, work.epoch)
        histories = [folder.history()[: work.epoch + 1] for folder in folders]
    else:
        histories = [[values] for values in batch.first_backward()]

    def on_step() -> bool:
        for run in work.runs:
            progress.step(run)
        return not stop.is_set()

    def write() -> None:
        for folder, history, state, parameters in zip(
            folders, histories, batch.states(), batch.networks(), strict=True
        ):
            folder.write(batch.epoch, history, state, parameters)
        for folder in folders:
            folder.forget_before(batch.epoch)

    if batch.epoch:
        write()  # a process that died may not have come to the end of it
    while batch.epoch < training.settings.epochs and not all(map(diverged, histories)):
        found = batch.train_epoch(on_step)
        if found is None:
            return
        for history, values in zip(histories, found, strict=True):
            history.append(values)
        write()
        for run, values in zip(work.runs, found, strict=True):
            progress.measured(run, values)
        yield


def _restore(batch: Batch, folders: Sequence[RunFolder], epoch: int) -> None:
    try:
        batch.restore([folder.state(epoch) for folder in folders], epoch)
    except (KeyError, RuntimeError) as error:
        named = ", ".join(str(folder.path) for folder in folders)
        raise OutputError(f"the state in {named} is of something else: {error}", "add --fresh") from error
