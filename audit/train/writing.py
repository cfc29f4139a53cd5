"""The report over all runs in a folder: report.md, a figure, and the numbers as JSON and CSV."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from platform import python_version
from typing import Any

import torch

from audit.continuity import null_mean
from audit.disk import write_file, writing
from audit.train.ablations import ABLATIONS, Ablation
from audit.train.datasets import as_published
from audit.train.folder import config_in, history_in
from audit.train.loop import Run
from audit.train.selection import TABLES
from audit.train.settings import Settings
from audit.train.trainer import Training, config_of, diverged
from registry import experiments as published
from reports.training import document
from reports.training.figures import draw_continuity
from reports.training.markdown import to_markdown
from reports.training.model import AblationRuns, Experiment, PublishedCell, PublishedTable, RunHistory

PAPERS = "mnist"
"""The data set that the paper's tables of the toy MLP are about."""

FILES: dict[str, Callable[[Experiment], bytes]] = {
    "figures/continuity.png": draw_continuity,
    "histories.csv": lambda experiment: document.histories_csv(experiment).encode(),
    "results.csv": lambda experiment: document.results_csv(experiment).encode(),
    "results.json": lambda experiment: document.to_json(experiment).encode(),
    "report.md": lambda experiment: to_markdown(experiment).encode(),
}


@dataclass(frozen=True)
class Written:
    """What the report says, and how many runs in the folder it is not about."""

    experiment: Experiment
    left_out: int


def write(training: Training) -> Written:
    """Write the report over every finished run in the folder that was trained like these.

    Raises OutputError.
    """
    histories, left_out = _histories(training)
    experiment = Experiment(
        dataset=training.data.name,
        settings=_told(training.settings),
        as_published=_deviation(training.settings),
        null=null_mean(training.settings.width),
        ablations=tuple(
            AblationRuns(one.name, one.isolates, runs) for one, runs in histories.items() if runs
        ),
        tables=tuple(_tables()) if _is_papers(training) else (),
        provenance=tuple(_provenance(training)),
    )
    with writing(training.out):
        (training.out / "figures").mkdir(parents=True, exist_ok=True)
        for name, drawn in FILES.items():
            write_file(training.out / name, drawn(experiment))
    return Written(experiment, left_out)


def _histories(training: Training) -> tuple[dict[Ablation, tuple[RunHistory, ...]], int]:
    """The runs in the folder that are finished and trained like these, and how many others there are."""
    found: dict[Ablation, list[RunHistory]] = {one: [] for one in ABLATIONS}
    left_out = 0
    for folder in sorted(training.out.iterdir()):
        config = config_in(folder)
        if config is None or config.get("model_type") != published.TOY_MODEL_TYPE:
            continue
        history = history_in(folder)
        run = _run_of(config)
        finished = len(history) == training.settings.epochs + 1 or diverged(history) is not None
        if (
            run
            and finished
            and folder.name == run.name
            and config == config_of(run, training.data, training.settings)
        ):
            found[run.ablation].append(RunHistory(run.seed, tuple(history), diverged(history)))
        else:
            left_out += 1
    return {one: tuple(sorted(runs, key=lambda run: run.seed)) for one, runs in found.items()}, left_out


def _run_of(config: Mapping[str, Any]) -> Run | None:
    """Which run a config is of; None where its ablation is none of ours."""
    told, seed = config.get("ablation"), config.get("seed")
    name = told.get("name") if isinstance(told, Mapping) else None
    known = next((one for one in ABLATIONS if one.name == name), None)
    return Run(known, seed) if known and isinstance(seed, int) else None


def _told(settings: Settings) -> dict[str, object]:
    """The settings in words that need no code beside them."""
    told = asdict(settings)
    averages = told.pop("betas")
    return {**told, "gradient averages": averages}


def _deviation(settings: Settings) -> str | None:
    """How the settings differ from the paper's, as a sentence; None where they do not."""
    papers = asdict(Settings())
    changed = [
        f"{name.replace('_', ' ')} {value} instead of {papers[name]}"
        for name, value in asdict(settings).items()
        if value != papers[name] and name != "betas"
    ]
    return f"The settings are not the paper's: {', '.join(changed)}." if changed else None


def _is_papers(training: Training) -> bool:
    """Whether the images are those the paper trained on, to the byte."""
    return training.data.name == PAPERS and as_published(PAPERS, training.data.digest) is True


def _tables() -> Iterator[PublishedTable]:
    for table in published.published_tables():
        if table.number in TABLES:
            rows = {
                name: {metric: PublishedCell(cell.mean, cell.std) for metric, cell in row.items()}
                for name, row in table.rows.items()
            }
            yield PublishedTable(table.number, table.title, published.published_source(), table.columns, rows)


def _provenance(training: Training) -> Iterator[tuple[str, str]]:
    yield "data", f"{training.data.name}, SHA-256 {training.data.digest}"
    yield (
        "tool",
        f"gcont-audit {version('gcont-audit')}, torch {torch.__version__}, Python {python_version()}",
    )
    yield "device", str(training.device)
    yield "written", datetime.now(UTC).isoformat(timespec="seconds")
