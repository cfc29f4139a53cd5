"""The report's figures: which ones a report has, what each shows, and the PNGs themselves.

Asking which figures there are is free; matplotlib is loaded by the first drawing.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from reports.comparison import Audited
from reports.model import SPACES, ProjectionReport, Report, Space


@dataclass(frozen=True)
class Illustration:
    """A figure a report can have: its name, its heading, and how to read it."""

    name: str
    title: str
    caption: str

    @property
    def file(self) -> str:
        """Where it lies in the report's folder."""
        return f"figures/{self.name}.png"


CONTINUITY = Illustration(
    "continuity",
    "Layer by layer",
    "Each point compares two adjacent layers: |cos| between their leading singular vectors, in the space "
    "that faces the residual stream. The grey band is where 95 of 100 pairs of random directions fall. "
    "Hollow points are degenerate pairs.",
)
HEATMAP = Illustration(
    "heatmap",
    "Both spaces at a glance",
    "The same numbers in both spaces: dark is a direction kept from layer to layer. Names in bold face the "
    "residual stream in that space.",
)
TRAJECTORIES: dict[Space, Illustration] = {
    space: Illustration(
        f"trajectories-{space}1",
        f"The path of {space}1 through depth ({side} space)",
        f"Each panel follows {space}1 from the first layer (dark) to the last (light) in its own first three "
        "principal components, with its shadow on the floor. EVR is the share of the path that these three "
        "hold; chance is what random directions would give. All panels have the same scale.",
    )
    for space, side in SPACES.items()
}
LAG = Illustration(
    "lag",
    "A path, or one direction throughout",
    "Mean |cos| between layers that lie 1, 2, 3 ... apart. A line that stays up is one direction kept "
    "throughout. A line that falls is a direction lost with depth: by turning step by step, or at once where "
    "the first figure has a break. The last points rest on few pairs; the band is that of a single pair.",
)
SPECTRA = Illustration(
    "spectra",
    "Spectra",
    "The singular values of each layer, largest first, over the largest: first layer dark, last light. A "
    "steep start is a matrix with few strong directions; a flat line has none.",
)

ILLUSTRATIONS = (CONTINUITY, HEATMAP, *TRAJECTORIES.values(), LAG, SPECTRA)
"""Every figure a report can have, in reading order."""


def illustrations(report: Report) -> tuple[Illustration, ...]:
    """Those that this report has something to show in."""
    found = report.projections.values()
    has: dict[Illustration, bool] = {
        CONTINUITY: any(_pairs(one, space) for one in found for space in one.faced),
        HEATMAP: any(_pairs(one, space) for one in found for space in SPACES),
        TRAJECTORIES["v"]: any(one.trajectory.v for one in found),
        TRAJECTORIES["u"]: any(one.trajectory.u for one in found),
        LAG: any(_lags(one, space) > 1 for one in found for space in one.faced),
        SPECTRA: any(any(one.spectrum or ()) for one in found),
    }
    return tuple(illustration for illustration in ILLUSTRATIONS if has[illustration])


def _pairs(found: ProjectionReport, space: Space) -> int:
    return sum(getattr(pair, f"{space}1") is not None for pair in found.pairs)


def _lags(found: ProjectionReport, space: Space) -> int:
    return sum(value is not None for value in getattr(found.lag, space))


def draw(report: Report, illustration: Illustration) -> bytes:
    """One figure of the report as PNG; the same report gives the same bytes on the same machine."""
    with _hushed():
        from reports.figures.grids import heatmap, spectra
        from reports.figures.lines import continuity, lag
        from reports.figures.paths import trajectories
        from reports.figures.style import png

    drawings: dict[Illustration, Callable[..., None]] = {
        CONTINUITY: continuity,
        HEATMAP: heatmap,
        TRAJECTORIES["v"]: partial(trajectories, space="v"),
        TRAJECTORIES["u"]: partial(trajectories, space="u"),
        LAG: lag,
        SPECTRA: spectra,
    }
    with _hushed():
        return png(partial(drawings[illustration], report=report))


def draw_models(audited: Sequence[Audited]) -> bytes:
    """The figure over several models as PNG."""
    with _hushed():
        from reports.figures.models import models
        from reports.figures.style import png

        return png(partial(models, audited=audited))


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep matplotlib from announcing where it caches its fonts, which is nobody's concern here."""
    logger = logging.getLogger("matplotlib")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
