"""Small multiples of the small transformers: seven projections over steps, a panel an ablation."""

from matplotlib.figure import Figure

from reports.figures.style import BLUE, BROWN, GREEN, ORANGE, PURPLE, SKY, VERMILLION
from reports.training.model import Experiment
from reports.training.notation import heading
from reports.training.panels import Curve, Multiples, draw
from reports.training.transformer.projections import FACING

_LOOKS: dict[str, tuple[str, str | tuple[int, tuple[float, ...]], float]] = {
    "Down": (BROWN, (0, (6, 1.5)), 1.8),
    "O": (GREEN, (0, (6, 1.5, 1, 1.5)), 1.8),
    "Up": (PURPLE, (0, (3, 1, 1, 1, 1, 1)), 1.8),
    "Gate": (ORANGE, (0, (2, 1)), 1.8),
    "K": (SKY, (0, (10, 2)), 1.8),
    "Q": (BLUE, (0, (8, 1, 2, 1)), 1.8),
    "V": (VERMILLION, "-", 2.4),
}
"""In the order they are drawn: the exception comes last, on top."""

GROWTH = Multiples(
    "Continuity over steps",
    tuple(Curve(FACING[name], heading(FACING[name]), *look) for name, look in _LOOKS.items()),
    "ppl",
    (8, 4),
)


def growth(figure: Figure, experiment: Experiment) -> None:
    """A panel for each ablation; a diverged run is in none, an ablation without others says so."""
    draw(figure, experiment, GROWTH)
