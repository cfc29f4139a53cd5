"""Runs put together again from a report's histories.csv."""

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from reports.training.model import AblationRuns, Axis, Condition, RunHistory


class Named(Protocol):
    """An ablation of either kind."""

    @property
    def name(self) -> str: ...

    @property
    def isolates(self) -> str: ...


def ablations_in(file: Path, ablations: Sequence[Named], axis: Axis) -> tuple[AblationRuns, ...]:
    """Each ablation that has runs there, with them, entry by entry."""
    runs: dict[tuple[str, int], dict[int, dict[str, float | None]]] = defaultdict(lambda: defaultdict(dict))
    with file.open(newline="") as opened:
        for row in csv.DictReader(opened):
            value = float(row["value"]) if row["value"] else None
            runs[row["ablation"], int(row["seed"])][int(row[axis])][row["metric"]] = value
    return tuple(
        AblationRuns(
            one.name,
            one.isolates,
            tuple(
                RunHistory(seed, tuple({axis: at, **values} for at, values in sorted(entries.items())))
                for (name, seed), entries in runs.items()
                if name == one.name
            ),
            getattr(one, "broken", None),
            None if (told := getattr(one, "conditions", None)) is None else Condition(*told),
        )
        for one in ablations
        if any(name == one.name for name, _ in runs)
    )
