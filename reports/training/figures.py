"""The figures of an experiment: continuity over epochs, and those that have a claim each.

Naming them is free; matplotlib is loaded by the first drawing.
"""

from collections.abc import Callable
from functools import partial

from reports.figures import Illustration, hushed
from reports.training.model import Experiment
from reports.training.pictures import PICTURES, Picture

CONTINUITY = Illustration(
    "continuity",
    "Continuity over epochs",
    "Mean |cos| between adjacent layers, epoch 0 before the first update; the mean over seeds, and a band "
    "from the lowest to the highest seed. Dotted: what random directions give.",
)


def draw_continuity(experiment: Experiment) -> bytes:
    """The figure as PNG; the same experiment gives the same bytes on the same machine."""
    with hushed():
        from reports.figures.style import png
        from reports.training.panels import continuity

        return png(partial(continuity, experiment=experiment))


def draw(picture: Picture, experiment: Experiment) -> bytes:
    """As draw_continuity, of a picture that has something to show."""
    with hushed():
        from reports.figures.style import png
        from reports.training.drawings import DRAWINGS

        return png(lambda figure: DRAWINGS[picture](figure, experiment))


def pictured(experiment: Experiment) -> tuple[Picture, ...]:
    """The pictures that an experiment has the runs for."""
    return tuple(picture for picture in PICTURES if picture.rows(experiment))


def files_of(experiment: Experiment) -> dict[str, Callable[[Experiment], bytes]]:
    """Each of those as PNG, with its numbers as JSON and CSV."""
    files: dict[str, Callable[[Experiment], bytes]] = {}
    for picture in pictured(experiment):
        files |= {picture.illustration.file: partial(draw, picture), **picture.files}
    return files
