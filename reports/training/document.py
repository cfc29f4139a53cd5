"""An experiment's numbers for other programs: results.json, and tables as CSV."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TypedDict

from reports.training.measured import measured
from reports.training.model import AblationRuns, Experiment
from reports.training.notation import in_order


class Result(TypedDict):
    """One metric of one ablation in the last entry; see `measured.Measured`."""

    mean: float | None
    std: float | None
    seeds: list[float | None]


def results(experiment: Experiment) -> dict[str, dict[str, Result]]:
    """Mean, sample standard deviation and each seed's value, by ablation and then metric."""
    return {
        ablation.name: {metric: _result(ablation, metric) for metric in metrics_of(ablation)}
        for ablation in experiment.ablations
    }


def _result(ablation: AblationRuns, metric: str) -> Result:
    found = measured(ablation, metric)
    return {"mean": found.mean, "std": found.std, "seeds": list(found.seeds)}


def metrics_of(ablation: AblationRuns) -> tuple[str, ...]:
    """What was measured of an ablation's runs last, in reading order."""
    return in_order(metric for run in ablation.runs for metric in run.last)


def to_json(experiment: Experiment) -> str:
    """The results as indented JSON, null for what was not measured; NaN cannot occur in it."""
    return json.dumps(results(experiment), indent=1, allow_nan=False) + "\n"


def results_csv(experiment: Experiment) -> str:
    """The results as CSV, a row for each metric, a column for each seed."""
    seeds = sorted({run.seed for ablation in experiment.ablations for run in ablation.runs})
    return as_csv(
        ("ablation", "metric", "mean", "std", *map("seed {}".format, seeds)), _results(experiment, seeds)
    )


def _results(experiment: Experiment, seeds: Sequence[int]) -> Iterator[tuple[object, ...]]:
    for ablation in experiment.ablations:
        for metric in metrics_of(ablation):
            found = measured(ablation, metric)
            of = {run.seed: value for run, value in zip(ablation.runs, found.seeds, strict=True)}
            yield ablation.name, metric, found.mean, found.std, *map(of.get, seeds)


def histories_csv(experiment: Experiment) -> str:
    """Every number of every run as CSV, a row each; diverged runs too, 0 is before any update."""
    return as_csv(("ablation", "seed", experiment.axis, "metric", "value"), _histories(experiment))


def _histories(experiment: Experiment) -> Iterator[tuple[object, ...]]:
    for ablation in experiment.ablations:
        for run in ablation.runs:
            for place, values in enumerate(run.entries):
                reached = experiment.reached(place, values)
                for metric in in_order(values):
                    yield ablation.name, run.seed, reached, metric, values[metric]


def as_csv(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as CSV: floats to the last digit, nothing for None."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows(rows)
    return buffer.getvalue()
