"""The numbers of a projection that a gate can name, by dotted name: `v1`, `v1.min`, `evr3.u`, `wa.v`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import get_args

from reports.model import ProjectionReport, Space

SUMMARIES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "min": min,
    "max": max,
    "mean": mean,
    "median": median,
}
"""How the numbers of a series, one a layer or a pair, become one; what was not measured is left out."""


@dataclass(frozen=True)
class Quantity:
    """One number of a projection, None where it was not measured.

    `reasons` are the keys of `unmeasured` that may say why. `full`: only an audit with --full has it.
    """

    name: str
    value: Callable[[ProjectionReport], float | None]
    reasons: tuple[str, ...]
    full: bool = False

    def why_not(self, found: ProjectionReport) -> str:
        """Why a projection has no such number, in the report's own words."""
        said = [found.unmeasured[key] for key in self.reasons if key in found.unmeasured]
        said += [f"{key}: {why}" for key, why in found.unmeasured.items() if key.startswith("layer")]
        return said[0] if said else "the report has no value for it"


def _cosine(key: str, space: Space) -> Iterator[Quantity]:
    """The mean over pairs, the same less what random directions give, and summaries over the pairs."""
    reasons = ("continuity", space)

    def over_pairs(found: ProjectionReport) -> Sequence[float | None]:
        return [getattr(pair, key) for pair in found.pairs]

    yield Quantity(key, lambda found: getattr(found.continuity, key), reasons)
    yield Quantity(
        f"{key}.excess",
        lambda found: _less(getattr(found.continuity, key), getattr(found.null, space)),
        reasons,
    )
    yield from _summaries(key, over_pairs, reasons)


def _in_space(space: Space) -> Iterator[Quantity]:
    for digit in "12":
        yield from _cosine(f"{space}{digit}", space)
    yield Quantity(f"evr3.{space}", lambda found: getattr(found.evr3, space), ("evr3", space))
    yield Quantity(
        f"evr3.{space}.excess",
        lambda found: _less(getattr(found.evr3, space), getattr(found.evr3_null, space)),
        ("evr3", space),
    )
    yield Quantity(f"wa.{space}", lambda found: getattr(found.wa, space, None), ("wa", space), full=True)


def _summaries(
    key: str,
    series: Callable[[ProjectionReport], Sequence[float | None]],
    reasons: tuple[str, ...],
    *,
    full: bool = False,
) -> Iterator[Quantity]:
    for name, summary in SUMMARIES.items():

        def value(
            found: ProjectionReport, summary: Callable[[Sequence[float]], float] = summary
        ) -> float | None:
            known = [one for one in series(found) if one is not None]
            return summary(known) if known else None

        yield Quantity(f"{key}.{name}", value, reasons, full)


def _less(value: float | None, chance: float | None) -> float | None:
    return None if value is None or chance is None else value - chance


def _all() -> Iterator[Quantity]:
    for space in get_args(Space):
        yield from _in_space(space)
    yield from _summaries("stable_rank", lambda found: found.stable_rank, ())
    yield from _summaries(
        "effective_rank", lambda found: found.effective_rank or (), ("effective_rank",), full=True
    )


QUANTITIES: Mapping[str, Quantity] = {quantity.name: quantity for quantity in _all()}
"""Every quantity by its name; the keys are those of audit.json."""
