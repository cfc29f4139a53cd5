"""What the paper leaves open, tried on MNIST: the fit of every answer to the published rows.

    python tests/search.py FOLDER-OF-MNIST

trains three seeds of each, or six, and one of most candidates for the first optimiser row, two at a time on
two cores, and writes what is measured after the last epoch to docs/reproduction/readings.csv. What is there
already is not trained again. Without a folder it prints the tables of docs/reproduction.md.
"""

import csv
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import docs_runs
import torch
from torch import Tensor

from audit.train.ablations import ABLATIONS, ablation
from audit.train.datasets import load
from audit.train.images import Images
from audit.train.loop import Batch, Run
from audit.train.readings import QUESTIONS, read
from audit.train.reporting import published_tables
from audit.train.settings import Settings
from reports.markdown import table
from reports.training.comparison import STDS, WIDTH
from reports.training.model import PublishedCell
from reports.training.notation import decimal, heading

FILE = Path(__file__).parents[1] / "docs/reproduction/readings.csv"
HEADINGS = ("question", "answer", "ablation", "seed", "metric", "value")
CELLS = ("acc", "W_v1", "W_v2", "W_wa_v", "W_u1", "W_u2", "W_wa_u", "Gcum_v1")
"""The metrics that a fit is over: those of the score."""

SHOWN = ("acc", "W_v1", "W_v2", "W_wa_v", "W_u1", "Gcum_v1")
SEEDS = (0, 1, 2)
"""Those of every answer: some are told apart by no single one."""

MORE_SEEDS = {"radial": (("soft", "sigmoid", "tanh"), (3, 4, 5))}
"""Of a question that three leave open, its answers that are still near, and further seeds of each."""

CPU = torch.device("cpu")

Task = tuple[str, str, str, int]
"""Question, answer, ablation and seed."""

Step = Callable[[], object]
Optimiser = Callable[[Sequence[Tensor]], Step]


@dataclass(frozen=True)
class Candidate:
    """A way to train the first optimiser row: what differs from res-relu."""

    words: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    lr: float = 1e-3
    optimiser: Optimiser | None = None
    scaled: bool = True
    seeds: tuple[int, ...] = (0,)


def uncorrected(parameters: Sequence[Tensor], *, beta2: float = 0.999, v: float = 0) -> Step:
    """Adam without the correction of its moments' bias, the second starting at v."""
    first = [torch.zeros_like(one) for one in parameters]
    second = [torch.full_like(one, v) for one in parameters]

    def step() -> None:
        with torch.no_grad():
            for one, m, square in zip(parameters, first, second, strict=True):
                assert one.grad is not None
                m.lerp_(one.grad, 1 - 0.9)
                square.mul_(beta2).addcmul_(one.grad, one.grad, value=1 - beta2)
                one.addcdiv_(m, square.sqrt().add_(1e-8), value=-1e-3)

    return step


def of_torch(kind: Callable[..., torch.optim.Optimizer], parameters: Sequence[Tensor], **told: Any) -> Step:
    """One of torch's optimisers, at the usual rate."""
    return kind(parameters, lr=1e-3, **told).step


ADAM = partial(of_torch, torch.optim.Adam, fused=True)
ADAMW = partial(of_torch, torch.optim.AdamW, fused=True)
CANDIDATES: Mapping[str, Candidate] = {
    "baseline": Candidate("as res-relu"),
    "beta1-0": Candidate("β1 = 0: no momentum", {"beta1": 0.0}, seeds=SEEDS),
    "beta1-0.5": Candidate("β1 = .5", {"beta1": 0.5}),
    "beta1-0-beta2-0.99": Candidate("β1 = 0, β2 = .99", {"beta1": 0.0, "beta2": 0.99}),
    "beta2-0.9": Candidate("β2 = .9", {"beta2": 0.9}),
    "beta2-0.9-lr-0.002": Candidate("β2 = .9, rate 2e-3", {"beta2": 0.9}, lr=2e-3),
    "beta2-0.95": Candidate("β2 = .95", {"beta2": 0.95}),
    "rmsprop": Candidate(
        "RMSprop, its second moment's decay .99", optimiser=partial(of_torch, torch.optim.RMSprop)
    ),
    "uncorrected": Candidate("moments' bias not corrected", optimiser=uncorrected),
    "uncorrected-beta2-0.99": Candidate("the same, β2 = .99", optimiser=partial(uncorrected, beta2=0.99)),
    "uncorrected-from-1": Candidate(
        "the same, the second moment starts at 1", optimiser=partial(uncorrected, v=1)
    ),
    "eps-0.001": Candidate("eps = 1e-3", {"eps": 1e-3}),
    "eps-0.0001": Candidate("eps = 1e-4", {"eps": 1e-4}),
    "lr-0.003": Candidate("rate 3e-3", lr=3e-3),
    "init-0.02": Candidate("all matrices drawn N(0, .02)", {"init_std": 0.02}),
    "l2-0.0001": Candidate("a penalty of 1e-4 on squares", optimiser=partial(ADAM, weight_decay=1e-4)),
    "adamw-0.1": Candidate("decoupled weight decay .1", optimiser=partial(ADAMW, weight_decay=0.1)),
    "inputs-unit": Candidate("images from 0 to 1, not standardised", scaled=False),
}
"""By name; what is not said is as in res-relu."""


class Otherwise:
    """An optimiser to stand in a batch's place of its own."""

    def __init__(self, step: Step) -> None:
        self.step = step


def candidate(name: str, seed: int, data: Images) -> dict[str, float | None]:
    """What is measured of a candidate after the last epoch."""
    told = CANDIDATES[name]
    settings = Settings(lr=told.lr, betas=())
    batch = Batch([Run(replace(ablation("res-relu"), **told.changes), seed)], data, settings, CPU)
    if told.optimiser is not None:
        batch._optimiser = Otherwise(told.optimiser([*batch.mlp.parameters.values()]))  # type: ignore[assignment]
    if not told.scaled:
        batch._x = batch._x * 0.3081 + 0.1307
        batch._test = batch._test[0] * 0.3081 + 0.1307, batch._test[1]
    return trained(batch, settings)


def trained(batch: Batch, settings: Settings) -> dict[str, float | None]:
    """The last epoch of a batch of one, which alone is measured."""
    measure = batch._measure
    batch._measure = lambda *_: {}  # type: ignore[method-assign]
    for _ in range(settings.epochs - 1):
        batch.train_epoch()
    batch._measure = measure  # type: ignore[method-assign]
    (values,) = batch.train_epoch() or [{}]
    return values


def answer(question: str, name: str, row: str, seed: int, data: Images) -> dict[str, float | None]:
    """The same of an ablation as an answer has it."""
    settings = Settings(betas=())
    return trained(Batch([Run(read(ablation(row), {question: name}), seed)], data, settings, CPU), settings)


def tasks() -> Iterator[Task]:
    """Question, answer, ablation and seed of everything that is tried."""
    for name, told in CANDIDATES.items():
        yield from (("adam", name, "adam", seed) for seed in told.seeds)
    for question, about in QUESTIONS.items():
        if question == "adam":  # its answers are among the candidates
            continue
        for row in rows_of(question):
            for name in about.answers:
                if name != about.usual:
                    yield from ((question, name, row, seed) for seed in SEEDS)
            names, seeds = MORE_SEEDS.get(question, ((), ()))
            yield from ((question, name, row, seed) for name in names for seed in seeds)


ROWS = {
    "nonadaptive": ("adam-nonadaptive",),
    "momentum": ("adam-nonadaptive", "nonadaptive-init-0.005"),
    "init": ("nonadaptive-init-0.005", "nonadaptive-init-0.0001"),
}
"""Of the rows that a question is about those that it is tried on, where that is not all."""


def rows_of(question: str) -> list[str]:
    """The published rows that a question is tried on."""
    there = {name for one in published_tables((1, 3, 5)) for name in one.rows}
    rows = [one.name for one in ABLATIONS if one.name in there and QUESTIONS[question].is_about(one)]
    return [row for row in rows if row in ROWS.get(question, rows)]


def tried(folder: Path, task: Task) -> tuple[Task, dict[str, float | None]]:
    """One of the tasks, on one thread."""
    torch.set_num_threads(1)
    question, name, row, seed = task
    data = load("mnist", folder)
    found = candidate(name, seed, data) if question == "adam" else answer(question, name, row, seed, data)
    return task, found


def search(folder: Path) -> None:
    """Train what is not there yet, and write each as it ends."""
    done = {*found()}
    if not FILE.exists():
        FILE.write_text(",".join(HEADINGS) + "\n")
    with ProcessPoolExecutor(2) as pool, FILE.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        left = [task for task in tasks() if task not in done]
        for task, values in pool.map(partial(tried, folder), left):
            writer.writerows((*task, metric, value) for metric, value in values.items() if metric != "epoch")
            file.flush()


@cache
def found() -> dict[Task, dict[str, float]]:
    """What was measured, by question, answer, ablation and seed; the usual answer's is the reproduction's."""
    results: dict[Task, dict[str, float]] = {}
    if FILE.exists():
        with FILE.open(newline="") as file:
            for row in csv.DictReader(file):
                key = row["question"], row["answer"], row["ablation"], int(row["seed"])
                if row["value"]:
                    results.setdefault(key, {})[row["metric"]] = float(row["value"])
    for question, about in QUESTIONS.items():
        if question == "adam":
            continue
        for row in rows_of(question):
            ours = docs_runs.runs_of("").ablation(row)
            for run in ours.whole if ours is not None else ():
                known = {name: value for name, value in run.last.items() if value is not None}
                results[question, about.usual, row, run.seed] = known
    return results


def published(row: str) -> dict[str, PublishedCell]:
    """The cells of a row that a fit is over; a deviation is taken from whichever table prints it."""
    cells: dict[str, PublishedCell] = {}
    for one in published_tables((5, 1, 3)):
        for metric, cell in one.rows.get(row, {}).items():
            if metric in CELLS and (metric not in cells or cells[metric].std is None):
                cells[metric] = cell
    return cells


def distance(cell: PublishedCell, ours: float) -> float:
    """How far apart, in the tolerances of the reproduction: at 1 or less the two agree."""
    return abs(ours - cell.mean) / max(STDS * (cell.std or 0), WIDTH)


def means(question: str, name: str) -> dict[str, dict[str, float]]:
    """What an answer gives, by the row that it is about: the mean over its seeds."""
    rows: dict[str, dict[str, list[float]]] = {}
    for (asked, answered, row, _), values in found().items():
        if (asked, answered) == (question, name):
            for metric, value in values.items():
                rows.setdefault(row, {}).setdefault(metric, []).append(value)
    return {row: {metric: fmean(of) for metric, of in values.items()} for row, values in rows.items()}


def fit(question: str, name: str) -> tuple[int, int, float]:
    """Cells that agree, of how many, and the mean distance of all, over a question's rows."""
    apart = [
        distance(cell, values[metric])
        for row, values in means(question, name).items()
        for metric, cell in published(row).items()
    ]
    return sum(one <= 1 for one in apart), len(apart), fmean(apart)


def scatter(question: str, name: str, row: str) -> float:
    """How far a row is from what is published, seeds considered: a sum of squares over its cells.

    Each is in deviations of the mean of our seeds less that of the paper's three, taken to differ as much.
    """
    seeds = [of for (*asked, _), of in found().items() if asked == [question, name, row]]
    apart = 0.0
    for metric, cell in published(row).items():
        values = [of[metric] for of in seeds]
        apart += (fmean(values) - cell.mean) ** 2 / (stdev(values) ** 2 * (1 / len(values) + 1 / len(SEEDS)))
    return apart


def tables() -> Iterator[str]:
    """The tables of the page, a question each, the best fit first."""
    for question in QUESTIONS:
        yield from ("", f"**{question}**", "")
        yield from table(
            ("", "", "seeds", "cells that agree", "mean distance", "", *map(heading, SHOWN)),
            (line for name in ranked(question) for line in lines(question, name)),
        )


def ranked(question: str) -> list[str]:
    """The answers that were tried, the best fit first."""
    names = dict.fromkeys(name for asked, name, *_ in found() if asked == question)
    return sorted(names, key=lambda name: fit(question, name)[2])


def words_of(question: str, name: str) -> str:
    """What an answer is."""
    return CANDIDATES[name].words if question == "adam" else QUESTIONS[question].answers[name].says


def lines(question: str, name: str) -> Iterator[tuple[str, ...]]:
    """An answer's rows in the table."""
    agree, of, apart = fit(question, name)
    seeds = len({seed for asked, answered, _, seed in found() if (asked, answered) == (question, name)})
    first = (
        f"`{name}`",
        words_of(question, name).replace("|", "\\|"),
        str(seeds),
        f"{agree} of {of}",
        f"{apart:.2f}",
    )
    for row, values in means(question, name).items():
        yield (*first, row, *(decimal(values.get(metric)) for metric in SHOWN))
        first = ("", "", "", "", "")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        search(Path(sys.argv[1]))
    print("\n".join(tables()))
