"""Beyond the paper: continuity against the share of the coordinates whose rotation symmetry is broken."""

from collections.abc import Sequence

from reports.figures import Illustration
from reports.training.measured import measured
from reports.training.model import AblationRuns, Experiment
from reports.training.pictures.picture import Finding, Picture, Row

FEWEST = 3
"""Shares that make a curve."""

METRICS = ("W_v1", "W_u1", "W_wa_v", "Gcum_v1", "acc")


def by_share(experiment: Experiment) -> tuple[AblationRuns, ...]:
    """The ablations that differ by their share alone, least first, the first of each; none where too few."""
    there: dict[float, AblationRuns] = {}
    for one in experiment.ablations:
        if one.share is not None and one.whole:
            there.setdefault(one.share, one)
    return tuple(there[share] for share in sorted(there)) if len(there) >= FEWEST else ()


def rows(experiment: Experiment) -> Sequence[Row]:
    """A run a row, at the end of training."""
    return tuple(
        {"share": one.share, "ablation": one.name, "seed": run.seed}
        | {metric: run.last.get(metric) for metric in METRICS}
        for one in by_share(experiment)
        for run in one.whole
    )


def found(experiment: Experiment) -> Sequence[Finding]:
    """Each share over its seeds."""
    return tuple(
        {"share": one.share, "ablation": one.name} | {metric: measured(one, metric) for metric in METRICS}
        for one in by_share(experiment)
    )


SHARES = Picture(
    Illustration(
        "shares",
        "How much of the symmetry must be broken",
        "Continuity at the end against the share of the coordinates on which the activation acts; the others "
        "pass as they are, and may rotate. Lines are means over seeds, points are seeds. Dotted: what random "
        "directions give.",
    ),
    rows,
    found,
)
