"""Each published cell beside ours, whether the two agree, and how many do."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from reports.training.measured import Measured, measured
from reports.training.model import AblationRuns, Experiment, PublishedCell

STDS, WIDTH = 3, 0.03
"""Two numbers agree within so many published standard deviations or this width, whichever is wider."""

SLACK = 1e-9
"""Beyond both: .99 - .96 is not .03 in binary."""

SCORED = (
    "W_v1", "W_v2", "W_wa_v", "W_u1", "W_u2", "W_wa_u", "Gcum_v1", "acc",
    "Q_v1", "K_v1", "Gate_v1", "Up_v1", "O_u1", "Down_u1", "V_v1",
)  # fmt: skip
"""The metrics that the score is about; gradients of a single minibatch are noisy and count apart."""

UNJUDGED = ("ppl",)
"""Metrics that stand beside the published ones without a verdict: the width is one of |cos|."""

UNKNOWN_SETTINGS = "adam"
"""The first optimiser row: its settings are not printed, and ours were chosen by their fit to it."""


class Verdict(StrEnum):
    """What comes of comparing a published number with ours."""

    AGREES = "agrees"
    DIFFERS = "differs"


class Group(StrEnum):
    """What a cell counts towards."""

    SCORED = "scored"
    MINIBATCH = "single minibatch"
    UNKNOWN = "settings unknown"


@dataclass(frozen=True)
class Comparison:
    """One cell of a published table beside ours.

    `verdict` is None where the settings are not the paper's, no run was measured, or the metric has none.
    """

    table: int
    ablation: str
    metric: str
    published: PublishedCell
    ours: Measured
    verdict: Verdict | None

    @property
    def difference(self) -> float | None:
        """Ours minus the published mean."""
        return None if self.ours.mean is None else self.ours.mean - self.published.mean

    @property
    def stds(self) -> float | None:
        """The difference in published standard deviations; None where the table prints none, or 0."""
        return (
            self.difference / self.published.std
            if self.difference is not None and self.published.std
            else None
        )

    @property
    def group(self) -> Group | None:
        """What the cell counts towards; None where it is not counted."""
        if self.ablation == UNKNOWN_SETTINGS:
            return Group.UNKNOWN
        if self.metric.startswith("G_"):
            return Group.MINIBATCH
        return Group.SCORED if self.metric in SCORED else None


def compare(experiment: Experiment) -> tuple[Comparison, ...]:
    """Every cell of the published tables whose ablation has runs, table by table."""
    judged = experiment.as_published is None
    deviations = _deviations(experiment)
    return tuple(
        _comparison(table.number, runs, metric, row[metric], deviations if judged else None)
        for table in experiment.tables
        for name, row in table.rows.items()
        if (runs := experiment.ablation(name)) is not None
        for metric in table.columns
        if metric in row
    )


def _deviations(experiment: Experiment) -> Mapping[tuple[str, str], float]:
    """The published deviation of an ablation's metric, whichever table prints it."""
    return {
        (name, metric): cell.std
        for table in experiment.tables
        for name, row in table.rows.items()
        for metric, cell in row.items()
        if cell.std is not None
    }


def _comparison(
    table: int,
    runs: AblationRuns,
    metric: str,
    published: PublishedCell,
    deviations: Mapping[tuple[str, str], float] | None,
) -> Comparison:
    ours = measured(runs, metric)
    verdict = None
    if deviations is not None and ours.mean is not None and metric not in UNJUDGED:
        std = deviations.get((runs.name, metric)) if published.std is None else published.std
        verdict = judge(published.mean, std, ours.mean)
    return Comparison(table, runs.name, metric, published, ours, verdict)


def judge(published: float, std: float | None, ours: float) -> Verdict:
    """Whether ours is within the published deviations, or the width, of what is published."""
    tolerance = max(STDS * (std or 0.0), WIDTH) + SLACK
    return Verdict.AGREES if abs(ours - published) <= tolerance else Verdict.DIFFERS


def once(comparisons: Iterable[Comparison]) -> tuple[Comparison, ...]:
    """Each metric of each ablation once: from the table that prints a deviation, else from the first."""
    chosen: dict[tuple[str, str], Comparison] = {}
    for one in comparisons:
        earlier = chosen.setdefault((one.ablation, one.metric), one)
        if earlier.published.std is None and one.published.std is not None:
            chosen[one.ablation, one.metric] = one
    return tuple(chosen.values())


@dataclass(frozen=True)
class Score:
    """How many cells of a group agree, of those with a verdict; `unmeasured` have no run to compare."""

    agree: int
    of: int
    unmeasured: int


def scores(comparisons: Sequence[Comparison]) -> dict[Group, Score]:
    """The score of each group that has cells with a verdict."""
    cells = once(comparisons)
    counted = {group: [one for one in cells if one.group == group] for group in Group}
    return {group: score for group, found in counted.items() if (score := _score(found)).of}


def _score(cells: Sequence[Comparison]) -> Score:
    verdicts = [one.verdict for one in cells]
    of = sum(verdict is not None for verdict in verdicts)
    return Score(verdicts.count(Verdict.AGREES), of, len(verdicts) - of)


def differing(comparisons: Iterable[Comparison]) -> Iterator[Comparison]:
    """The counted cells that differ, in the order of the tables, those of the score first."""
    cells = [one for one in once(comparisons) if one.verdict is Verdict.DIFFERS]
    for group in Group:
        yield from (one for one in cells if one.group == group)
