"""Figure 13: the rank of the gradients tells little beside the architecture."""

from collections.abc import Iterator, Sequence
from statistics import correlation

from reports.figures import Illustration
from reports.training.model import Experiment
from reports.training.pictures.picture import Finding, Picture, Row, column

NAMES = ("res-relu", "res-none", "nores-relu")

FEWEST = 2
"""Architectures that make a comparison."""


def rows(experiment: Experiment) -> Sequence[Row]:
    """A run a row, of every data set."""
    there = tuple(row for one in (experiment, *experiment.beside) for row in _of_experiment(one))
    return there if len({row["ablation"] for row in there}) >= FEWEST else ()


def _of_experiment(experiment: Experiment) -> Iterator[Row]:
    for name in NAMES:
        ablation = experiment.ablation(name)
        for run in ablation.whole if ablation is not None else ():
            rank, kept = run.last.get("G_erank"), run.last.get("W_v1")
            if rank is not None and kept is not None:
                yield {
                    "dataset": experiment.dataset, "ablation": name, "seed": run.seed, "G_erank": rank,
                    "W_v1": kept, "acc": run.last.get("acc"),
                }  # fmt: skip


def found(experiment: Experiment) -> Sequence[Finding]:
    """The ranges of each architecture, and how rank and continuity go together within it."""
    there = rows(experiment)
    return tuple(
        _of_architecture(name, mine)
        for name in NAMES
        if (mine := [row for row in there if row["ablation"] == name])
    )


def _of_architecture(name: str, mine: Sequence[Row]) -> Finding:
    ranks, kept = column(mine, "G_erank"), column(mine, "W_v1")
    varied = len(mine) > 2 and min(len(set(ranks)), len(set(kept))) > 1
    return {
        "ablation": name,
        "data sets": len({row["dataset"] for row in mine}),
        "runs": len(mine),
        "G_erank lowest": min(ranks),
        "G_erank highest": max(ranks),
        "W_v1 lowest": min(kept),
        "W_v1 highest": max(kept),
        "correlation": correlation(ranks, kept) if varied else None,
    }


RANK = Picture(
    Illustration(
        "figure-13",
        "Continuity beside the rank of the gradients",
        "Each point is a run: v1 of its weights against the effective rank of its last minibatch's gradient, "
        "the mean over layers. The colour is the architecture, the shape the data set. Left: residual "
        "connections and ReLU alone; right: all. Dotted, there: what random directions give.",
    ),
    rows,
    found,
    number=13,
)
