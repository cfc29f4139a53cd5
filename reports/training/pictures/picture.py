"""A figure of a training experiment: how to read it, and the numbers that it is drawn from."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from reports.figures import Illustration
from reports.training.document import as_csv
from reports.training.measured import Measured
from reports.training.model import Experiment

Row = Mapping[str, str | int | float | bool | None]
"""One line of a figure's numbers, by the name of its columns."""

Cell = str | int | float | bool | Measured | None

Finding = Mapping[str, Cell]
"""One line of what the numbers come to."""


@dataclass(frozen=True)
class Picture:
    """What is drawn: `rows` are the numbers, a figure without any is not drawn; `found` is what they come to.

    `number` is that of the paper's figure, None for one that goes beyond it.
    """

    illustration: Illustration
    rows: Callable[[Experiment], Sequence[Row]]
    found: Callable[[Experiment], Sequence[Finding]]
    number: int | None = None

    @property
    def files(self) -> dict[str, Callable[[Experiment], bytes]]:
        """The numbers as JSON and CSV, beside the PNG."""
        stem = self.illustration.file.removesuffix(".png")
        return {
            f"{stem}.json": lambda experiment: self._json(experiment).encode(),
            f"{stem}.csv": lambda experiment: self._csv(experiment).encode(),
        }

    def _json(self, experiment: Experiment) -> str:
        told = {
            "figure": self.number,
            "title": self.illustration.title,
            "caption": self.illustration.caption,
            "dataset": experiment.dataset,
            "settings": experiment.settings,
            "found": [dict(row) for row in self.found(experiment)],
            "rows": [dict(row) for row in self.rows(experiment)],
        }
        return json.dumps(told, indent=1, allow_nan=False, default=asdict) + "\n"

    def _csv(self, experiment: Experiment) -> str:
        rows = self.rows(experiment)
        return as_csv(tuple(rows[0]) if rows else (), [tuple(row.values()) for row in rows])


def column(rows: Sequence[Row], name: str) -> list[float]:
    """The numbers of a column, without what is not defined."""
    return [float(value) for row in rows if (value := row[name]) is not None]
