"""One number of an ablation over its seeds: at its end, or as it went on."""

from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean, stdev

from reports.training.model import AblationRuns, Experiment

FIRST, LAST = 0, -1
"""When: before any update, and in the last entry."""


@dataclass(frozen=True)
class Measured:
    """Mean and sample standard deviation over the seeds, and each seed's value in the order of the runs.

    A seed's value is None where its run diverged or the metric is not defined; such seeds are in no mean. The
    deviation of a single seed is None.
    """

    mean: float | None
    std: float | None
    seeds: tuple[float | None, ...]


def measured(ablation: AblationRuns, metric: str, when: int = LAST) -> Measured:
    """A metric of an ablation over its runs; `when` counts a run's entries."""
    seeds = tuple(
        run.entries[when].get(metric) if run.diverged is None and run.entries else None
        for run in ablation.runs
    )
    known = [value for value in seeds if value is not None]
    return Measured(fmean(known) if known else None, stdev(known) if len(known) > 1 else None, seeds)


@dataclass(frozen=True)
class Point:
    """A metric at an epoch or step: over the seeds that did not diverge and have it there."""

    at: int
    mean: float
    lowest: float
    highest: float


def course(experiment: Experiment, ablation: AblationRuns, metric: str) -> tuple[Point, ...]:
    """A metric of an ablation over epochs or steps, in their order."""
    found: dict[int, list[float]] = defaultdict(list)
    for run in ablation.whole:
        for place, values in enumerate(run.entries):
            if (value := values.get(metric)) is not None:
                found[experiment.reached(place, values)].append(value)
    return tuple(Point(at, fmean(of), min(of), max(of)) for at, of in sorted(found.items()))
