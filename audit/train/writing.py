"""The report over all toy MLPs in a folder: report.md, a figure, and the numbers as JSON and CSV."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from types import MappingProxyType
from typing import Any

from audit.continuity import null_mean
from audit.train.ablations import ABLATIONS, TABLES, Ablation, ablation
from audit.train.datasets import as_published
from audit.train.loop import Run
from audit.train.readings import read
from audit.train.reporting import (
    Drawn,
    Wanted,
    Written,
    deviation,
    provenance,
    published_tables,
    runs_in,
    write_files,
)
from audit.train.settings import Settings
from audit.train.trainer import Training, config_of, diverged
from audit.train.values import Values
from registry.experiments import TOY_MODEL_TYPE
from reports.training import document
from reports.training.figures import draw_continuity, files_of
from reports.training.markdown import to_markdown
from reports.training.model import AblationRuns, Condition, Experiment, RunHistory

PAPERS = "mnist"
"""The data set that the paper's tables of the toy MLP are about."""

FILES: Drawn = {
    "figures/continuity.png": draw_continuity,
    "histories.csv": lambda experiment: document.histories_csv(experiment).encode(),
    "results.csv": lambda experiment: document.results_csv(experiment).encode(),
    "results.json": lambda experiment: document.to_json(experiment).encode(),
    "report.md": lambda experiment: to_markdown(experiment).encode(),
}


def write(training: Training, beside: Sequence[Experiment] = ()) -> Written:
    """Write the report over every finished run in the folder that was trained like these.

    Figures over several data sets have the experiments `beside` in them too. Raises OutputError.
    """
    found, left_out = runs_in(training.out, wanted(training))
    data = training.data
    experiment = replace(
        described(data.name, training.settings, found, training.readings),
        tables=tuple(published_tables(TABLES)) if _is_papers(training) else (),
        provenance=tuple(provenance(f"{data.name}, SHA-256 {data.digest}", str(training.device))),
        beside=tuple(beside),
    )
    files = {**files_of(experiment), **FILES}
    write_files(training.out, files, experiment)
    return Written(experiment, left_out, tuple(files))


def described(
    dataset: str,
    settings: Settings,
    found: Mapping[str, tuple[RunHistory, ...]],
    readings: Mapping[str, str] = MappingProxyType({}),
) -> Experiment:
    """Runs, by their ablation's name, as an experiment."""
    told = _told(settings)
    if readings:
        told["reading"] = [f"{name}={answer}" for name, answer in readings.items()]
    papers = asdict(Settings())
    del papers["betas"]
    return Experiment(
        dataset=dataset,
        settings=told,
        as_published=deviation(asdict(settings), papers),
        null=null_mean(settings.width),
        ablations=tuple(
            AblationRuns(one.name, one.isolates, found[one.name], one.broken, condition(one))
            for one in ABLATIONS
            if found[one.name]
        ),
    )


def condition(one: Ablation) -> Condition | None:
    """Which of the two conditions of continuity an ablation fulfils, in the report's words."""
    return None if one.conditions is None else Condition(*one.conditions)


def wanted(training: Training) -> Wanted:
    """The finished runs that were trained like these."""

    def name_and_config(name: str, seed: int) -> tuple[str, Mapping[str, Any]]:
        run = Run(read(ablation(name), training.readings), seed)
        return run.name, config_of(run, training.data, training.settings)

    def is_finished(history: Sequence[Values]) -> bool:
        return len(history) == training.settings.epochs + 1 or diverged(history) is not None

    names = [one.name for one in ABLATIONS]
    return Wanted(names, (TOY_MODEL_TYPE,), name_and_config, is_finished, diverged)


def _told(settings: Settings) -> dict[str, object]:
    """The settings in words that need no code beside them."""
    told = asdict(settings)
    averages = told.pop("betas")
    return {**told, "gradient averages": averages}


def _is_papers(training: Training) -> bool:
    """Whether the images are those the paper trained on, to the byte."""
    return training.data.name == PAPERS and as_published(PAPERS, training.data.digest) is True
