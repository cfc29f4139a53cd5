"""Beyond the paper: the weights show the update when it is a spike that their random start cannot hide."""

from collections.abc import Iterator, Sequence
from math import sqrt
from statistics import fmean

from reports.figures import Illustration
from reports.training.model import AblationRuns, Experiment, RunHistory, Values
from reports.training.pictures.picture import Finding, Picture, Row

WELL_ABOVE = 1.5
"""The strength from which the prediction is judged: near 1 a matrix of this size has no sharp threshold."""

METRICS = ("spike", "kept_v1", "kept_u1", "dW_v1", "W_v1")


def predicted(spike: float) -> float:
    """|<v1(W), v1(W - W0)>| for an update of rank one and this strength, in a large square matrix."""
    return sqrt(1 - 1 / spike**2) if spike > 1 else 0.0


def shown(experiment: Experiment) -> tuple[AblationRuns, ...]:
    """The ablations whose runs' updates were measured."""
    return tuple(one for one in experiment.ablations if any(_moments(run) for run in one.whole))


def _moments(run: RunHistory) -> list[Values]:
    return [one for one in run.entries if all(one.get(name) is not None for name in METRICS)]


def rows(experiment: Experiment) -> Sequence[Row]:
    """An epoch of a run a row."""
    return tuple(row for one in shown(experiment) for run in one.whole for row in _of_run(one.name, run))


def _of_run(name: str, run: RunHistory) -> Iterator[Row]:
    for one in _moments(run):
        spike, moved = one["spike"], one["dW_v1"]
        assert spike is not None
        assert moved is not None
        yield {
            "ablation": name, "seed": run.seed, "epoch": one.get("epoch"),
            **{metric: one[metric] for metric in METRICS},
            "predicted_kept_v1": predicted(spike), "predicted_W_v1": moved * predicted(spike) ** 2,
        }  # fmt: skip


def found(experiment: Experiment) -> Sequence[Finding]:
    """When each ablation's runs cross the threshold, and how far the prediction is off above it."""
    return tuple(_of_ablation(one.name, rows) for one in shown(experiment) if (rows := _rows_of(one)))


def _rows_of(one: AblationRuns) -> list[Row]:
    return [row for run in one.whole for row in _of_run(one.name, run)]


def _of_ablation(name: str, rows: Sequence[Row]) -> Finding:
    last = max(_number(row, "epoch") for row in rows)
    end = [row for row in rows if row["epoch"] == last]
    above = [row for row in rows if _number(row, "spike") >= WELL_ABOVE]
    crossed = [_number(row, "epoch") for row in rows if _number(row, "spike") > 1]
    return {
        "ablation": name,
        "first epoch above 1": int(min(crossed)) if crossed else None,
        **{metric: fmean(_number(row, metric) for row in end) for metric in METRICS},
        "predicted_kept_v1": fmean(_number(row, "predicted_kept_v1") for row in end),
        "predicted_W_v1": fmean(_number(row, "predicted_W_v1") for row in end),
        "mean error well above 1": _error(above),
    }


def _error(rows: Sequence[Row]) -> float | None:
    errors = [abs(_number(row, "kept_v1") - _number(row, "predicted_kept_v1")) for row in rows]
    return fmean(errors) if errors else None


def _number(row: Row, name: str) -> float:
    value = row[name]
    return 0.0 if value is None else float(value)


THRESHOLD = Picture(
    Illustration(
        "threshold",
        "The update beside its random start",
        "Each point is an epoch of a run. Left, across: the largest singular value of the update W − W₀ over "
        "s √d, s the deviation of W₀'s entries; upwards: how far v1 of the weight is v1 of the update. The "
        "curve is what random-matrix theory predicts for an update of rank one: nothing up to 1. Right: the "
        "continuity of the weights against that of the updates times the curve's height, squared; on the "
        "line it is as predicted. Dotted: what random directions give.",
    ),
    rows,
    found,
)
