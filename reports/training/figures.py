"""The figures of an experiment: continuity over epochs, a panel an ablation, and against the share broken.

Naming them is free; matplotlib is loaded by the first drawing.
"""

from functools import partial

from reports.figures import Illustration, hushed
from reports.training.model import Experiment

CONTINUITY = Illustration(
    "continuity",
    "Continuity over epochs",
    "Mean |cos| between adjacent layers, epoch 0 before the first update; the mean over seeds, and a band "
    "from the lowest to the highest seed. Dotted: what random directions give.",
)

SHARES = Illustration(
    "shares",
    "How much of the symmetry must be broken",
    "Continuity at the end against the share of the coordinates on which the activation acts; the others "
    "pass as they are, and may rotate. Lines are means over seeds, points are seeds. Dotted: what random "
    "directions give.",
)


def draw_shares(experiment: Experiment) -> bytes:
    """As draw_continuity, of the ablations that differ by their share alone."""
    with hushed():
        from reports.figures.style import png
        from reports.training.curve import shares

        return png(partial(shares, experiment=experiment))


def draw_continuity(experiment: Experiment) -> bytes:
    """The figure as PNG; the same experiment gives the same bytes on the same machine."""
    with hushed():
        from reports.figures.style import png
        from reports.training.panels import continuity

        return png(partial(continuity, experiment=experiment))
