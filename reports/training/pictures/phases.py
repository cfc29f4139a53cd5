"""Figure 2: from all but nothing, weights take on the gradients' continuity; then they keep or lose it."""

from collections.abc import Iterator, Sequence

from reports.figures import Illustration
from reports.training.model import AblationRuns, Experiment, RunHistory
from reports.training.pictures.picture import Finding, Picture, Row

NAMES = ("res-none-init-0.0001", "res-relu-init-0.0001")
"""Without an activation and with one, from weights far smaller than the first updates."""

METRICS = ("W_v1", "G_v1", "acc")

LOST = 0.5
"""A direction counts as lost when its continuity has fallen below this share of its highest."""


def shown(experiment: Experiment) -> tuple[AblationRuns, ...]:
    """Both ablations, where both have runs."""
    there = [one for name in NAMES if (one := experiment.ablation(name)) is not None and one.whole]
    return tuple(there) if len(there) == len(NAMES) else ()


def rows(experiment: Experiment) -> Sequence[Row]:
    """An epoch of a run a row."""
    return tuple(
        {
            "ablation": one.name, "seed": run.seed, "epoch": experiment.reached(place, values),
            **{metric: values.get(metric) for metric in METRICS},
        }
        for one in shown(experiment)
        for run in one.whole
        for place, values in enumerate(run.entries)
    )  # fmt: skip


def found(experiment: Experiment) -> Sequence[Finding]:
    """When each run's weights and gradients had most continuity, and when they had lost it."""
    return tuple(
        {"ablation": one.name, "seed": run.seed, **dict(_of_run(experiment, run))}
        for one in shown(experiment)
        for run in one.whole
    )


def _of_run(experiment: Experiment, run: RunHistory) -> Iterator[tuple[str, int | float | None]]:
    for metric in ("W_v1", "G_v1"):
        course = _course(experiment, run, metric)
        peak = max(course, key=lambda at: course[at], default=None)
        yield f"{metric} highest", None if peak is None else course[peak]
        yield f"{metric} highest in epoch", peak
        yield f"{metric} lost in epoch", None if peak is None else _lost(course, peak)
        yield f"{metric} at the end", run.last.get(metric)
    accuracy = _course(experiment, run, "acc")
    dip = _dip(accuracy)
    yield "acc lowest after its first peak", None if dip is None else accuracy[dip]
    yield "in epoch", dip
    yield "acc at the end", run.last.get("acc")


def _course(experiment: Experiment, run: RunHistory, metric: str) -> dict[int, float]:
    """What was measured of a run after each epoch, the first included."""
    measured = ((experiment.reached(i, one), one.get(metric)) for i, one in enumerate(run.entries))
    return {at: value for at, value in measured if value is not None and at}


def _lost(course: dict[int, float], peak: int) -> int | None:
    """The first epoch after the peak with less than half of it."""
    return next((at for at in course if at > peak and course[at] < LOST * course[peak]), None)


def _dip(accuracy: dict[int, float]) -> int | None:
    """The epoch of the deepest fall below what had been reached before."""
    deepest, at_deepest, best = 0.0, None, 0.0
    for at, value in accuracy.items():
        best = max(best, value)
        if best - value > deepest:
            deepest, at_deepest = best - value, at
    return at_deepest


PHASES = Picture(
    Illustration(
        "figure-2",
        "Formation and retention",
        "From weights far smaller than the first updates: v1 of the weights and of a minibatch's gradient, "
        "and the accuracy. Lines are means over seeds, thin ones the seeds. A triangle marks the epoch in "
        "which the mean has fallen below half of its highest. Dotted: what random directions give.",
    ),
    rows,
    found,
    number=2,
)
