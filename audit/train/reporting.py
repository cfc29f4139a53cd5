"""What the reports of both kinds of network share: the runs in a folder, and where numbers come from."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import torch

from audit.disk import write_file, writing
from audit.train.folder import config_in, history_in
from audit.train.values import Values
from registry import experiments as published
from reports.training.model import Experiment, PublishedCell, PublishedTable, RunHistory

Drawn = Mapping[str, Callable[[Experiment], bytes]]
"""The files of a report, and what draws each."""


@dataclass(frozen=True)
class Written:
    """What the report says, how many runs in the folder it is not about, and the files it lies in."""

    experiment: Experiment
    left_out: int
    files: tuple[str, ...]


@dataclass(frozen=True)
class Wanted:
    """Which runs a report is about.

    `names` are the ablations in their order, `model_types` those of such runs, trained like these or not;
    `name_and_config` gives the folder and the config.json of a run of an ablation with a seed.
    """

    names: Sequence[str]
    model_types: Sequence[str]
    name_and_config: Callable[[str, int], tuple[str, Mapping[str, Any]]]
    is_finished: Callable[[Sequence[Values]], bool]
    diverged: Callable[[Sequence[Values]], int | None]


def runs_in(out: Path, wanted: Wanted) -> tuple[dict[str, tuple[RunHistory, ...]], int]:
    """The wanted runs in a folder that are finished, by their ablation, and how many others there are."""
    found: dict[str, list[RunHistory]] = {name: [] for name in wanted.names}
    left_out = 0
    for folder in sorted(out.iterdir()):
        config = config_in(folder)
        if config is None or config.get("model_type") not in wanted.model_types or "seed" not in config:
            continue
        history = history_in(folder)
        name, seed = _ablation_of(config), config["seed"]
        if (
            name in found
            and isinstance(seed, int)
            and wanted.is_finished(history)
            and (folder.name, config) == wanted.name_and_config(name, seed)
        ):
            found[name].append(RunHistory(seed, tuple(history), wanted.diverged(history)))
        else:
            left_out += 1
    return {name: tuple(sorted(runs, key=lambda run: run.seed)) for name, runs in found.items()}, left_out


def _ablation_of(config: Mapping[str, Any]) -> str:
    told = config.get("ablation")
    return str(told.get("name")) if isinstance(told, Mapping) else ""


def deviation(settings: Mapping[str, object], papers: Mapping[str, object]) -> str | None:
    """How settings differ from the paper's, as a sentence; None where they do not."""
    changed = [
        f"{name.replace('_', ' ')} {settings[name]} instead of {value}"
        for name, value in papers.items()
        if settings[name] != value
    ]
    return f"The settings are not the paper's: {', '.join(changed)}." if changed else None


def published_tables(numbers: Sequence[int], without: Sequence[str] = ()) -> Iterator[PublishedTable]:
    """The paper's tables of these numbers, as the report knows them, without some of their columns."""
    for table in published.published_tables():
        if table.number in numbers:
            rows = {
                name: {
                    metric: PublishedCell(cell.mean, cell.std)
                    for metric, cell in row.items()
                    if metric not in without
                }
                for name, row in table.rows.items()
            }
            columns = tuple(one for one in table.columns if one not in without)
            yield PublishedTable(table.number, table.title, published.published_source(), columns, rows)


def provenance(data: str, device: str) -> Iterator[tuple[str, str]]:
    """Where the numbers come from."""
    yield "data", data
    yield (
        "tool",
        f"gcont-audit {version('gcont-audit')}, torch {torch.__version__}, Python {python_version()}",
    )
    yield "device", device
    yield "written", datetime.now(UTC).isoformat(timespec="seconds")


def write_files(out: Path, files: Drawn, experiment: Experiment) -> None:
    """Draw and write each file of a report; raises OutputError."""
    contents = {name: drawn(experiment) for name, drawn in files.items()}
    with writing(out / "figures"):
        (out / "figures").mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        with writing(out / name):
            write_file(out / name, content)
