"""How every figure looks: a fixed style whatever the user's own, colours told apart by the colour-blind.

The eight hues are those of Okabe and Ito (2008), with a brown in place of their yellow, which fades on white.
"""

import io
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reports.model import ModelInfo, ProjectionReport, Report, Space
from reports.view import name_of, null_deviation, printable, short_name

DPI = 150

LETTERS_PER_INCH = 7.8
"""Of a heading, counted with room for wide ones."""

LONGEST_NAME = 12
"""Letters of a projection's name that there is room for."""

STACK_LETTERS = 20
"""Of a stack's name in a heading."""

BLUE, SKY, VERMILLION, GREEN = "#0072B2", "#56B4E9", "#D55E00", "#009E73"
ORANGE, PURPLE, BROWN, INK, GREY = "#E69F00", "#CC79A7", "#7A3E00", "#222222", "#8A8A8A"
BAND = "#DDDDDD"
HUES = (BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE, BROWN, INK)
MARKERS = "osD^vPX*"

_OWN = {
    "Q": (BLUE, "o"),
    "K": (SKY, "s"),
    "V": (VERMILLION, "D"),
    "O": (GREEN, "o"),
    "OV": (INK, "P"),
    "Gate": (ORANGE, "^"),
    "Up": (PURPLE, "v"),
    "Down": (BROWN, "s"),
    "SharedGate": (ORANGE, "*"),
    "SharedUp": (PURPLE, "X"),
    "SharedDown": (BROWN, "P"),
}

DEPTH = "viridis"
"""The colours of layers, first to last."""

STYLE = {
    "figure.dpi": DPI,
    "font.family": "DejaVu Sans",  # it comes with matplotlib
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.8,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "lines.linewidth": 2,
    "lines.markersize": 5,
    "text.parse_math": False,  # a model's name may hold a dollar sign
}


def look_of(projections: Sequence[str]) -> dict[str, tuple[str, str]]:
    """(colour, marker) of each projection: the same in every figure of every model."""
    others = cycle(zip(HUES, reversed(MARKERS), strict=True))
    return {name: _OWN[name] if name in _OWN else next(others) for name in projections}


def dashes_of(name: str, found: ProjectionReport) -> str:
    """How a line is broken: OV, which faces the residual stream twice, and shared experts, hued as the
    routed ones."""
    if found.facing == "both":
        return "--"
    return ":" if name.startswith("Shared") else "-"


def png(drawing: Callable[[Figure], None]) -> bytes:
    """What `drawing` draws on an empty figure, as PNG without a date or version in it."""
    style = matplotlib.style.context(["default", STYLE])
    with style, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a model may have any name
        figure = Figure()
        FigureCanvasAgg(figure)
        drawing(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


@dataclass(frozen=True)
class Margins:
    """Inches around all panels, and shares of a panel's side between them."""

    left: float
    right: float
    bottom: float
    top: float
    across: float = 0.0
    down: float = 0.0


def lay_out(figure: Figure, width: float, height: float, margins: Margins) -> None:
    """Set the figure's size in inches, and where its panels go."""
    figure.set_size_inches(width, height)
    figure.subplots_adjust(
        left=margins.left / width,
        right=1 - margins.right / width,
        bottom=margins.bottom / height,
        top=1 - margins.top / height,
        wspace=margins.across,
        hspace=margins.down,
    )


def title(figure: Figure, model: ModelInfo, text: str) -> None:
    """The heading of a figure laid out: the model's name, harmless and as long as fits, and what is shown."""
    room = int(LETTERS_PER_INCH * figure.get_figwidth()) - len(text)
    heading(figure, f"{shortened(printable(short_name(model)), max(room, 8))}: {text}")


def of_stack(report: Report, stack: str | None, text: str) -> str:
    """A heading's words, with the stack in front where there are several."""
    return f"{shortened(name_of(report, stack), STACK_LETTERS)}, {text}" if report.stacks else text


def heading(figure: Figure, text: str) -> None:
    """A line of words at the top left."""
    left, top = 0.1 / figure.get_figwidth(), 1 - 0.1 / figure.get_figheight()
    figure.text(left, top, text, fontsize=13, fontweight="bold", va="top")


def band(axes: Axes, shown: Iterable[ProjectionReport], space: Space) -> None:
    """Where 95 of 100 pairs of random directions fall, in the smallest of the spaces shown."""
    ends = [
        min(1.0, null + 2 * null_deviation(null, found.dimension(space)))
        for found in shown
        if (null := getattr(found.null, space)) is not None
    ]
    if ends:
        axes.axhspan(0, max(ends), color=BAND, zorder=0, lw=0)


def key(figure: Figure, text: str) -> None:
    """What the band is, at the bottom right: inside a panel it would lie in some line's way."""
    width, height = figure.get_size_inches()
    figure.text(
        1 - 0.1 / width, 0.1 / height, text, fontsize=10, ha="right", va="bottom",
        bbox={"facecolor": BAND, "edgecolor": "none", "pad": 2},
    )  # fmt: skip


def marker_size(points: int) -> float | None:
    """The area of a marker in square points, smaller where there are many; None where there are too many."""
    return 22 if points <= 40 else 9 if points <= 120 else None


def room_for(names: Iterable[str]) -> float:
    """Inches that the longest of these names needs in bold, and a little air; a very long one is cut off."""
    return 0.25 + 0.12 * min(max(map(len, names), default=0), LONGEST_NAME)


def layers_of(projections: Mapping[str, ProjectionReport]) -> Normalize:
    """The scale of layer numbers, for DEPTH."""
    numbers = [layer for found in projections.values() for layer in found.layers]
    return Normalize(min(numbers), max(numbers))


def depth_bar(figure: Figure, layers: Normalize) -> None:
    """The key to the colours of layers, below all panels; none for a single layer."""
    if layers.vmin == layers.vmax:
        return
    width, height = figure.get_size_inches()
    axes = figure.add_axes((0.5 - 1.5 / width, 0.47 / height, 3 / width, 0.12 / height))
    bar = figure.colorbar(ScalarMappable(layers, DEPTH), cax=axes, orientation="horizontal")
    bar.locator = MaxNLocator(nbins=6, integer=True)
    bar.set_label("layer", labelpad=0)
    bar.outline.set_visible(False)


def shortened(text: str, length: int) -> str:
    """The text, its middle left out where it is longer."""
    if len(text) <= length:
        return text
    half = (length - 1) // 2
    return f"{text[:half]}…{text[-half:]}"
