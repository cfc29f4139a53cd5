"""The figures of the small transformers: each projection's continuity at the end, and how it grew.

Naming them is free; matplotlib is loaded by the first drawing.
"""

from functools import partial

from reports.figures import Illustration, hushed
from reports.training.model import Experiment

PROJECTIONS = Illustration(
    "projections",
    "Continuity, projection by projection",
    "Mean |cos| between adjacent layers after the last step, in the space that faces the residual stream: v1 "
    "of what reads it, u1 of what writes it, both of OV. The mean over seeds. The line in the colour bar is "
    "what random directions give.",
)
GROWTH = Illustration(
    "growth",
    "How continuity grew",
    "Mean |cos| between adjacent layers, step 0 before the first update; the mean over seeds, and of "
    "several a band from the lowest to the highest. Dotted: what random directions give.",
)


def draw_projections(experiment: Experiment) -> bytes:
    """The heat map as PNG; the same experiment gives the same bytes on the same machine."""
    with hushed():
        from reports.figures.style import png
        from reports.training.transformer.heatmap import projections

        return png(partial(projections, experiment=experiment))


def draw_growth(experiment: Experiment) -> bytes:
    """The lines over steps as PNG; the same experiment gives the same bytes on the same machine."""
    with hushed():
        from reports.figures.style import png
        from reports.training.transformer.growth import growth

        return png(partial(growth, experiment=experiment))
