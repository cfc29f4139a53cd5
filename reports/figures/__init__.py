"""The report's figures: which ones a report has, what each shows, and the PNGs themselves.

Asking which figures there are is free; matplotlib is loaded by the first drawing.
"""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from reports.comparison import Audited
from reports.experts import with_experts
from reports.model import SPACES, ProjectionReport, Report, Space, Stack
from reports.view import printable


@dataclass(frozen=True)
class Illustration:
    """A figure a report can have: its name, its heading, how to read it; its stack if not the main one."""

    name: str
    title: str
    caption: str
    stack: str | None = None

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
EXPERTS = Illustration(
    "experts",
    "The routed experts",
    "For each layer, |cos| between the leading direction of each expert and that of all experts stacked, in "
    "the space that faces the residual stream: a dot an expert or, of many experts, a thin bar from the "
    "lowest to the highest, thick over the middle half, with a dash at the median. Circles are the mean "
    "|cos| between two experts. The grey band is where 95 of 100 pairs of random directions fall.",
)
SPECTRA = Illustration(
    "spectra",
    "Spectra",
    "The singular values of each layer, largest first, over the largest: first layer dark, last light. A "
    "steep start is a matrix with few strong directions; a flat line has none.",
)

ILLUSTRATIONS = (CONTINUITY, HEATMAP, *TRAJECTORIES.values(), LAG, EXPERTS, SPECTRA)
"""Every figure of the main stack, in reading order."""

OF_ANY_STACK = {
    CONTINUITY: "|cos| of adjacent layers in the space that faces the residual stream, as in the first "
    "figure.",
    EXPERTS: EXPERTS.caption,
}
"""The figures that each further stack has too, with the caption they have there."""

STACK_LETTERS = 40
"""Of a stack's name in the name of a file."""


def illustrations(report: Report) -> tuple[Illustration, ...]:
    """Those that this report has something to show in: the main stack's, then those of each further stack."""
    mine = [one for one in ILLUSTRATIONS if _HAS[one](report.main)]
    further = [
        own
        for name, stack in report.stacks.items()
        for one, own in of_stack(report.stacks, name).items()
        if _HAS[one](stack)
    ]
    return (*mine, *further)


def of_stack(stacks: Iterable[str], name: str) -> dict[Illustration, Illustration]:
    """The figures that a further stack can have, each with the main stack's that it is like."""
    place = _places(stacks)[name]
    return {
        one: Illustration(f"{one.name}-{place}", f"{one.title}: {printable(name)}", caption, name)
        for one, caption in OF_ANY_STACK.items()
    }


def files(stacks: Iterable[str]) -> frozenset[str]:
    """Every file of a figure that a report with these further stacks can have."""
    names = tuple(stacks)
    further = [one for name in names for one in of_stack(names, name).values()]
    return frozenset(one.file for one in (*ILLUSTRATIONS, *further))


def _places(stacks: Iterable[str]) -> dict[str, str]:
    """A name fit for a file for each stack, no two alike."""
    places: dict[str, str] = {}
    for name in stacks:
        plain = re.sub("[^a-z0-9]+", "-", name.lower())[:STACK_LETTERS].strip("-") or "stack"
        place, count = plain, 1
        while place in places.values():
            count += 1
            place = f"{plain}-{count}"
        places[name] = place
    return places


def _pairs(found: ProjectionReport, space: Space) -> int:
    return sum(getattr(pair, f"{space}1") is not None for pair in found.pairs)


def _lags(found: ProjectionReport, space: Space) -> int:
    return sum(value is not None for value in getattr(found.lag, space))


_HAS: Mapping[Illustration, Callable[[Stack], bool]] = {
    CONTINUITY: lambda stack: any(_pairs(one, space) for one in _all(stack) for space in one.faced),
    HEATMAP: lambda stack: any(_pairs(one, space) for one in _all(stack) for space in SPACES),
    TRAJECTORIES["v"]: lambda stack: any(one.trajectory.v for one in _all(stack)),
    TRAJECTORIES["u"]: lambda stack: any(one.trajectory.u for one in _all(stack)),
    LAG: lambda stack: any(_lags(one, space) > 1 for one in _all(stack) for space in one.faced),
    EXPERTS: lambda stack: bool(with_experts(stack)),
    SPECTRA: lambda stack: any(any(one.spectrum or ()) for one in _all(stack)),
}
"""Whether a stack has something to show in a figure."""


def _all(stack: Stack) -> Iterable[ProjectionReport]:
    return stack.projections.values()


def draw(report: Report, illustration: Illustration) -> bytes:
    """One figure of the report as PNG; the same report gives the same bytes on the same machine."""
    with hushed():
        from reports.figures.experts import experts
        from reports.figures.grids import heatmap, spectra
        from reports.figures.lines import continuity, lag
        from reports.figures.paths import trajectories
        from reports.figures.style import png

    stack = illustration.stack
    base = illustration
    if stack is not None:
        base = next(one for one, own in of_stack(report.stacks, stack).items() if own == illustration)
    drawings: dict[Illustration, Callable[..., None]] = {
        CONTINUITY: partial(continuity, stack=stack),
        HEATMAP: heatmap,
        TRAJECTORIES["v"]: partial(trajectories, space="v"),
        TRAJECTORIES["u"]: partial(trajectories, space="u"),
        LAG: lag,
        EXPERTS: partial(experts, stack=stack),
        SPECTRA: spectra,
    }
    with hushed():
        return png(partial(drawings[base], report=report))


def draw_models(audited: Sequence[Audited]) -> bytes:
    """The figure over several models as PNG."""
    with hushed():
        from reports.figures.models import models
        from reports.figures.style import png

        return png(partial(models, audited=audited))


@contextmanager
def hushed() -> Iterator[None]:
    """Keep matplotlib from announcing where it caches its fonts, which is nobody's concern here."""
    logger = logging.getLogger("matplotlib")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
