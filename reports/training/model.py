"""What a training experiment found: its runs entry by entry, and the published tables beside them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Values = Mapping[str, float | None]
"""Metrics by name: `acc`, `W_v1`, `Q_u2`, ...; None where one is not defined."""

Axis = Literal["epoch", "step"]
"""What the entries of a run are counted in."""


@dataclass(frozen=True)
class RunHistory:
    """One run: what was measured of it before any update (the first entry), then as it went on.

    `diverged` is the epoch, or step, in which the loss was no longer finite, None for a run that is whole.
    """

    seed: int
    entries: tuple[Values, ...]
    diverged: int | None = None

    @property
    def last(self) -> Values:
        """What was measured last."""
        return self.entries[-1] if self.entries else {}


@dataclass(frozen=True)
class Condition:
    """The two conditions of continuity: residual connections, and something that breaks rotation symmetry."""

    residual: bool
    breaks: bool


@dataclass(frozen=True)
class AblationRuns:
    """All runs of one ablation, and what it isolates.

    `share` is that of the coordinates whose symmetry its activation breaks, where it differs from others by
    nothing else; `condition` which of the two conditions it fulfils, where it differs by nothing else.
    """

    name: str
    isolates: str
    runs: tuple[RunHistory, ...]
    share: float | None = None
    condition: Condition | None = None

    @property
    def whole(self) -> tuple[RunHistory, ...]:
        """The runs that did not diverge: those that means are taken over."""
        return tuple(run for run in self.runs if run.diverged is None)


@dataclass(frozen=True)
class PublishedCell:
    """A published mean over seeds and its standard deviation, None where the table prints none."""

    mean: float
    std: float | None


@dataclass(frozen=True)
class PublishedTable:
    """One published table: its metrics in their order, and its rows by the ablation's name."""

    number: int
    title: str
    source: str
    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, PublishedCell]]


@dataclass(frozen=True)
class Experiment:
    """Everything that one call trained and measured.

    `as_published` is None where the settings are the paper's, else a sentence on how they differ; no verdict
    is given then. `null` is E|cos| of random directions in the layers' width. `tables` is empty unless the
    data set is the one that the tables are about. `audits` is where the audit of a run's final weights lies,
    by the run's name, as seen from the report. `beside` are experiments of the same settings on other data.
    """

    dataset: str
    settings: Mapping[str, object]
    as_published: str | None
    null: float
    ablations: tuple[AblationRuns, ...]
    tables: tuple[PublishedTable, ...] = ()
    provenance: tuple[tuple[str, str], ...] = ()
    axis: Axis = "epoch"
    audits: Mapping[str, str] = field(default_factory=dict)
    beside: tuple["Experiment", ...] = ()

    def reached(self, place: int, values: Values) -> int:
        """The epoch or step of a run's entry: what it says itself, else its place among the others."""
        told = values.get(self.axis)
        return place if told is None else int(told)

    def ablation(self, name: str) -> AblationRuns | None:
        """The ablation of this name, where it has runs."""
        return next((one for one in self.ablations if one.name == name and one.runs), None)
