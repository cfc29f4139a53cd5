"""One number of an ablation over its seeds."""

from dataclasses import dataclass
from statistics import fmean, stdev

from reports.training.model import AblationRuns

FIRST, LAST = 0, -1
"""When: before any update, and after the last epoch."""


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
        run.epochs[when].get(metric) if run.diverged is None and run.epochs else None for run in ablation.runs
    )
    known = [value for value in seeds if value is not None]
    return Measured(fmean(known) if known else None, stdev(known) if len(known) > 1 else None, seeds)
