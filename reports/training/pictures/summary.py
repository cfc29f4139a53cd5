"""Figure 1: which ablations have gradients that agree from layer to layer, and which have such weights."""

from collections.abc import Iterator, Sequence
from statistics import fmean

from reports.figures import Illustration
from reports.training.measured import measured
from reports.training.model import AblationRuns, Condition, Experiment
from reports.training.pictures.picture import Cell, Finding, Picture, Row

METRICS = ("G_v1", "Gcum_v1", "W_v1")

FEWEST = 3
"""Ablations that make a summary."""

GROUPS = {
    Condition(residual=True, breaks=True): "residual connections, and the symmetry is broken",
    Condition(residual=True, breaks=False): "residual connections, and the symmetry is whole",
    Condition(residual=False, breaks=True): "no residual connections, and the symmetry is broken",
    Condition(residual=False, breaks=False): "no residual connections, and the symmetry is whole",
}
"""The two conditions of continuity, in reading order: which of them an ablation fulfils."""


def shown(experiment: Experiment) -> tuple[AblationRuns, ...]:
    """The ablations with runs that fulfil or fail the conditions and differ by nothing else, in groups."""
    told = [one for one in experiment.ablations if one.condition is not None and one.whole]
    chosen = [one for group in GROUPS for one in told if one.condition == group]
    return tuple(chosen) if len(chosen) >= FEWEST else ()


def rows(experiment: Experiment) -> Sequence[Row]:
    """A metric of an ablation a row, at the end of training."""
    return tuple(row for one in shown(experiment) for row in _of_ablation(experiment, one))


def _of_ablation(experiment: Experiment, ablation: AblationRuns) -> Iterator[Row]:
    assert ablation.condition is not None
    for metric in METRICS:
        ours = measured(ablation, metric)
        known = [value for value in ours.seeds if value is not None]
        yield {
            "ablation": ablation.name,
            "residual": ablation.condition.residual,
            "breaks_symmetry": ablation.condition.breaks,
            "metric": metric,
            "mean": ours.mean,
            "lowest": min(known, default=None),
            "highest": max(known, default=None),
            "seeds": len(known),
            "published": published(experiment, ablation.name, metric),
        }


def published(experiment: Experiment, name: str, metric: str) -> float | None:
    """The mean that the first of the published tables with this cell prints."""
    cells = (table.rows.get(name, {}).get(metric) for table in experiment.tables)
    return next((cell.mean for cell in cells if cell is not None), None)


def found(experiment: Experiment) -> Sequence[Finding]:
    """Each group's range over its ablations' means."""
    return tuple(_of_group(experiment, group) for group in _groups(experiment))


def _groups(experiment: Experiment) -> tuple[Condition, ...]:
    there = {one.condition for one in shown(experiment)}
    return tuple(group for group in GROUPS if group in there)


def _of_group(experiment: Experiment, group: Condition) -> Finding:
    members = [one for one in shown(experiment) if one.condition == group]
    row: dict[str, Cell] = {"group": GROUPS[group], "ablations": len(members)}
    for metric in METRICS:
        means = [value for one in members if (value := measured(one, metric).mean) is not None]
        row |= {
            f"{metric} lowest mean": min(means, default=None),
            f"{metric} mean": fmean(means) if means else None,
            f"{metric} highest mean": max(means, default=None),
        }
    return row


SUMMARY = Picture(
    Illustration(
        "figure-1",
        "The two conditions of continuity",
        "v1 at the end of training, an ablation a line: of a minibatch's gradient, of the sum of all "
        "gradients and, large, of the weights. The mean over seeds, with a bar from the lowest to the "
        "highest; rings, where there are any, are what was published. Dotted: what random directions give.",
    ),
    rows,
    found,
    number=1,
)
