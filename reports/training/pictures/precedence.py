"""Figure 12: gradients agree before weights do, and weights point where gradients did on the long run."""

from collections.abc import Sequence

from reports.figures import Illustration
from reports.training.measured import LAST, course, measured
from reports.training.model import AblationRuns, Experiment
from reports.training.pictures.picture import Finding, Picture, Row

NAME = "res-relu"

METRICS = ("G_v1", "Gcum_v1", "W_v1")


def shown(experiment: Experiment) -> AblationRuns | None:
    """The baseline, where it has runs whose gradients' averages were measured."""
    one = experiment.ablation(NAME)
    return one if one is not None and one.whole and _averages(one) else None


def _averages(ablation: AblationRuns) -> tuple[str, ...]:
    """The metrics of the averages, shortest first."""
    names = {name for run in ablation.whole for name in run.last if name.startswith("ema_")}
    return tuple(sorted((name for name in names if name.endswith("_v1")), key=decay))


def decay(metric: str) -> float:
    """The decay of the average that a metric is about: 0 is a single gradient, 1 the sum of all."""
    return float(metric.split("_")[1])


def rows(experiment: Experiment) -> Sequence[Row]:
    """A metric at an epoch a row: continuity, and |cos| of v1 in the weight and in an average."""
    one = shown(experiment)
    if one is None:
        return ()
    return tuple(
        {
            "epoch": point.at, "metric": metric, "mean": point.mean, "lowest": point.lowest,
            "highest": point.highest,
        }
        for metric in (*METRICS, *_averages(one))
        for point in course(experiment, one, metric)
    )  # fmt: skip


def found(experiment: Experiment) -> Sequence[Finding]:
    """Each metric before the first update and after the last."""
    one = shown(experiment)
    if one is None:
        return ()
    return tuple(
        {"metric": metric, "before the first update": _first(experiment, one, metric)}
        | {"at the end": measured(one, metric, LAST).mean}
        for metric in (*METRICS, *_averages(one))
    )


def _first(experiment: Experiment, one: AblationRuns, metric: str) -> float | None:
    return next((point.mean for point in course(experiment, one, metric) if point.at == 0), None)


PRECEDENCE = Picture(
    Illustration(
        "figure-12",
        "Gradients, their averages, and the weights",
        "Of res-relu. Left: v1 of a minibatch's gradient, of the sum of all and of the weights over epochs. "
        "Right: |cos| between v1 of a layer's weight and v1 of an average of its gradients, the mean over "
        "layers; the longer the average, the darker. The mean over seeds, and a band from lowest to highest.",
    ),
    rows,
    found,
    number=12,
)
