"""Degenerate pairs, where v1 alone is not well defined: how the leading planes of the two layers lie.

A matrix whose sigma1 and sigma2 are nearly equal may turn v1 and v2 into one another at almost no cost; what
is well defined then is the plane they span. Two planes have two principal angles.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from reports.model import Stack
from reports.view import number

SHOWN = 24
"""Rows at most; audit.json holds them all."""

LEGEND = (
    "The cosines of the principal angles between the planes of v1 and v2 (u1 and u2), the larger one first: "
    "two ones are the same plane. Bound: how far these may be from the truth; 1 where the third singular "
    "value is so near the second that the plane is not well defined either."
)


@dataclass(frozen=True)
class PlaneRow:
    """One degenerate pair, as text: |cos| of v1 and u1 beside the planes' cosines in both spaces."""

    projection: str
    layers: str
    v1: str
    plane_v: str
    u1: str
    plane_u: str
    bound: str


def plane_rows(stack: Stack) -> tuple[PlaneRow, ...]:
    """Every degenerate pair of a stack whose planes were compared."""
    return tuple(_rows(stack))


def _rows(stack: Stack) -> Iterator[PlaneRow]:
    for name, found in stack.projections.items():
        for pair in found.pairs:
            planes = pair.subspace
            if planes is None:
                continue
            bounds = (*planes.bound_v, *planes.bound_u)
            yield PlaneRow(
                projection=name,
                layers=f"{pair.layers[0]}–{pair.layers[1]}",
                v1=number(pair.v1, 4),
                plane_v=", ".join(number(one, 4) for one in planes.v),
                u1=number(pair.u1, 4),
                plane_u=", ".join(number(one, 4) for one in planes.u),
                bound=f"{max(bounds):.0e}" if bounds else "",
            )
