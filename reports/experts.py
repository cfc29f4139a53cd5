"""The routed experts of a mixture: whether they share a leading direction, as a table's rows and in words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import median

from reports.model import ExpertSummary, ProjectionReport, Space, Stack
from reports.view import MISSING, number

SHARED, PARTLY = 0.5, 0.2
"""Shares of the way from the null to 1, of the mean |cos| between two experts, from which they share a
direction, and share it in part."""

LEADS = 0.9
"""An expert with so large a |cos| with the stack's direction has that direction."""

LEGEND = (
    "With the stack: |cos| of an expert's leading direction with that of all experts stacked, the median "
    "over a layer's experts, then over layers; beside it the lowest and the highest layer. Between two: the "
    "mean |cos| between the leading directions of two experts, the median over layers. null is what random "
    "directions give; as each expert is part of the stack, a few experts lie above it in any case."
)


@dataclass(frozen=True)
class ExpertRow:
    """One projection's experts, as text."""

    name: str
    layers: str
    experts: str
    with_stack: str
    over_layers: str
    between: str
    null: str


class Bond(Enum):
    """What the experts of a layer have to do with one another, by their leading directions."""

    SHARED = "The experts of a layer share a direction"
    PARTLY = "The experts of a layer share a direction in part"
    LED = "Each expert has a direction of its own, and the stack's is that of one or a few"
    OWN = "Each expert has a direction of its own"


def rows(stack: Stack) -> Iterator[ExpertRow]:
    """A row for each projection that has routed experts in some layer."""
    for name, found in with_experts(stack).items():
        known = summaries(found)
        typical = [median(values) for one in known if (values := measured(one))]
        counts = sorted({len(one.sigma1) for one in known})
        yield ExpertRow(
            name=name,
            layers=f"{len(known)} of {len(found.layers)}",
            experts=str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}",
            with_stack=number(median(typical) if typical else None, 2),
            over_layers=f"{min(typical):.2f} to {max(typical):.2f}" if typical else MISSING,
            between=number(_between(known), 2),
            null=number(getattr(found.null, space_of(found)), 3),
        )


def sentences(stack: Stack) -> Iterator[str]:
    """Whether experts share a direction, or each has its own."""
    bonds = {name: bond(found) for name, found in with_experts(stack).items()}
    for kind in Bond:
        places: dict[Space, list[str]] = {}
        for name, own in bonds.items():
            if own is kind:
                places.setdefault(space_of(stack.projections[name]), []).append(name)
        if places:
            told = (f"{space}1 of {', '.join(names)}" for space, names in places.items())
            yield f"{kind.value}: {'; '.join(told)}."


def bond(found: ProjectionReport) -> Bond | None:
    """What the experts share; None where they or random directions cannot be compared."""
    known = summaries(found)
    between, null = _between(known), getattr(found.null, space_of(found))
    if between is None or null is None or null >= 1:
        return None
    excess = (between - null) / (1 - null)
    if excess >= PARTLY:
        return Bond.SHARED if excess >= SHARED else Bond.PARTLY
    led = [max(values) >= LEADS for one in known if (values := measured(one))]
    return Bond.LED if 2 * sum(led) >= len(led) > 0 else Bond.OWN


def with_experts(stack: Stack) -> Mapping[str, ProjectionReport]:
    """The projections that have routed experts in some layer."""
    return {name: found for name, found in stack.projections.items() if summaries(found)}


def summaries(found: ProjectionReport) -> list[ExpertSummary]:
    """One for each layer with routed experts."""
    return [one for one in found.experts or () if one is not None]


def measured(one: ExpertSummary) -> list[float]:
    """|cos| with the stack's direction, of the experts of a layer for which it is known."""
    return [value for value in one.with_stack if value is not None]


def space_of(found: ProjectionReport) -> Space:
    """The space in which experts can be compared."""
    return found.faced[0]


def _between(known: Sequence[ExpertSummary]) -> float | None:
    values = [one.between for one in known if one.between is not None]
    return median(values) if values else None
