"""Several models side by side: what a batch did, and the cells of its table."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from reports.model import Report, Space
from reports.pattern import Strength, judged, strength
from reports.view import MISSING, number

ORDER = ("Q", "K", "V", "O", "OV", "Gate", "Up", "Down", "SharedGate", "SharedUp", "SharedDown")


@dataclass(frozen=True)
class Audited:
    """A model with a report in `folder`, made now or, if not `fresh`, found there as it would be made."""

    name: str
    folder: str
    report: Report
    fresh: bool


@dataclass(frozen=True)
class Failed:
    """A model without a report, and why."""

    name: str
    message: str
    exit_code: int


Entry = Audited | Failed


@dataclass(frozen=True)
class Column:
    """One projection in one space that faces the residual stream."""

    projection: str
    space: Space

    @property
    def heading(self) -> str:
        """As the tables have it."""
        return f"{self.projection} {self.space}1"


def columns(entries: Sequence[Entry]) -> tuple[Column, ...]:
    """The columns that any of the models has, in the usual order."""
    found = [one.report.projections for one in entries if isinstance(one, Audited)]
    faced = {name: each.faced for projections in found for name, each in projections.items()}
    names = [name for name in ORDER if name in faced] + [name for name in faced if name not in ORDER]
    return tuple(Column(name, space) for name in names for space in faced[name])


def to_json(entries: Sequence[Entry]) -> str:
    """The batch as indented JSON: each model's outcome and continuity; the reports stand in their folders."""
    return json.dumps({"schema": "gcont-audit-batch/1", "models": [_plain(one) for one in entries]}, indent=1)


def _plain(entry: Entry) -> dict[str, object]:
    match entry:
        case Audited(name, folder, report, fresh):
            means = {key: asdict(found.continuity) for key, found in report.projections.items()}
            outcome = "audited" if fresh else "unchanged"
            return {"name": name, "outcome": outcome, "folder": folder, "continuity": means}
        case Failed(name, message, exit_code):
            return {"name": name, "outcome": "failed", "error": message, "exit_code": exit_code}


@dataclass(frozen=True)
class Cell:
    """One number of the table as text; `strong` from moderate continuity upward."""

    text: str
    strong: bool


def cell(report: Report, column: Column) -> Cell:
    """A model's mean continuity in a column."""
    found = report.projections.get(column.projection)
    if found is None:
        return Cell(MISSING, strong=False)
    strong = (strength(found, column.space) or Strength.NONE) >= Strength.MODERATE
    return Cell(number(getattr(found.continuity, f"{column.space}1"), 2), strong)


def null(report: Report) -> str:
    """What random directions give in the residual stream."""
    nulls = [getattr(found.null, space) for found in report.projections.values() for space in found.faced]
    return number(next((value for value in nulls if value is not None), None), 3)


def verdict(report: Report) -> str:
    """How many projections of the main stack are as the paper expects: `5 of 6`."""
    expected, of = judged(report.main)
    return f"{expected} of {of}"


def findings_by_severity(report: Report) -> str:
    """Errors / warnings / notes: `0 / 1 / 3`."""
    severities = [finding.severity for finding in report.findings]
    return " / ".join(str(severities.count(severity)) for severity in ("error", "warning", "info"))


def settings(report: Report) -> str:
    """What was asked beyond the paper's default: `--full, --layers 0:16`."""
    asked = report.settings
    options = (
        ("--full", asked.full),
        ("--fold-norm", asked.fold_norm),
        (f"--layers {asked.layers}", asked.layers),
        (f"--only {','.join(asked.only or ())}", asked.only),
    )
    return ", ".join(text for text, given in options if given)
