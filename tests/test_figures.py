"""Figures show the report's own numbers, fit their page, and look the same whoever draws them."""

import struct
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from math import cos, sin

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.text import Text
from sample_report import pair, projection, sample_report

from reports.comparison import Audited, columns
from reports.figures import (
    EXPERTS,
    ILLUSTRATIONS,
    LAG,
    SPECTRA,
    TRAJECTORIES,
    draw,
    draw_models,
    files,
    illustrations,
)  # fmt: skip
from reports.figures.experts import experts
from reports.figures.grids import heatmap, spectra
from reports.figures.lines import continuity, lag, spread
from reports.figures.models import models
from reports.figures.paths import trajectories
from reports.figures.style import HUES, STYLE, look_of
from reports.model import (
    Continuity,
    ExpertSummary,
    LayerSpaces,
    ProjectionReport,
    Report,
    Spaces,
    Trajectories,
    Trajectory,
)

HALF_SIZE = 4.5
"""The least size of type, in points, once a figure is shown at half its width."""

NAMES = ("Q", "K", "V", "O", "OV", "Gate", "Up", "Down")
SHARED = ("SharedGate", "SharedUp", "SharedDown")
FACING = {"O": "u", "Down": "u", "SharedDown": "u", "OV": "both"}


def drawn(drawing, *args: object) -> Figure:
    with mpl.style.context(["default", STYLE]):
        figure = Figure()
        FigureCanvasAgg(figure)
        drawing(figure, *args)
        figure.canvas.draw()
    return figure


def deep_projection(name: str, layers: int) -> ProjectionReport:
    """A projection of many layers, its numbers made of a rule that a test can repeat."""
    facing = FACING.get(name, "v")
    pairs = tuple(pair(i, value(name, i, "v"), value(name, i, "u")) for i in range(layers - 1))
    points = tuple((sin(i / 9), cos(i / 7), i / layers) for i in range(layers))
    path = Trajectory(points, (0.5, 0.25, 0.125))
    other = Trajectory(tuple((z, x, y) for x, y, z in points), (0.5, 0.25, 0.125))
    lags = tuple(1 / (k + 1) for k in range(layers - 1))
    spectrum = tuple(((1, 4.0), (2, 2.0), (8, 4.0 / (i + 2))) for i in range(layers))
    base = projection(facing, pairs, None, None)  # type: ignore[arg-type]
    return replace(
        base,
        layers=tuple(range(layers)),
        continuity=Continuity(0.5, 0.5, 0.5, 0.5),
        trajectory=Trajectories(path, other),
        evr3=Spaces(0.875, 0.875),
        evr3_null=Spaces(0.25, 0.25),
        lag=LayerSpaces(lags, lags),
        spectrum=spectrum,
    )


def value(name: str, i: int, space: str) -> float:
    return 0.5 + 0.5 * sin(i + (*NAMES, *SHARED).index(name) + (space == "u"))


def deep_report(layers: int = 80, names: Sequence[str] = NAMES, model: str = "org/deep") -> Report:
    base = sample_report()
    return replace(
        base,
        model=replace(base.model, id=model, layers=layers),
        projections={name: deep_projection(name, layers) for name in names},
    )


def expert_report(layers: int = 80, count: int = 128, model: str = "org/deep") -> Report:
    """Routed experts in all layers but the first, shared ones beside them."""
    report = deep_report(layers, (*NAMES, *SHARED), model)
    summaries = tuple(
        ExpertSummary((1.0,) * count, tuple(0.5 + 0.5 * sin(i + j) for j in range(count)), 0.5 + 0.5 * cos(i))
        for i in range(1, layers)
    )
    routed = {
        name: replace(report.projections[name], experts=(None, *summaries)) for name in ("Gate", "Up", "Down")
    }
    return replace(report, projections={**report.projections, **routed})


def with_stacks(report: Report, *names: str, cross: bool = False) -> Report:
    """The same report with its main stack again beside it, under these names."""
    return replace(
        report,
        model=replace(report.model, stack="decoder"),
        stacks={name: replace(report.main, cross=cross) for name in names},
    )


def entries(count: int, layers: int = 80) -> list[Audited]:
    return [
        Audited(f"m{i}", f"m{i}", deep_report(layers + i, model=f"org/model-{i}"), fresh=True)
        for i in range(count)
    ]


DRAWINGS = {
    "continuity": (continuity,),
    "heatmap": (heatmap,),
    "trajectories-v1": (trajectories, "v"),
    "trajectories-u1": (trajectories, "u"),
    "lag": (lag,),
    "experts": (experts,),
    "spectra": (spectra,),
}


def test_every_illustration_is_drawn_here() -> None:
    assert [illustration.name for illustration in ILLUSTRATIONS] == list(DRAWINGS)


# Which figures there are


def names_of(report: Report) -> list[str]:
    return [illustration.name for illustration in illustrations(report)]


def test_a_report_has_the_figures_it_has_something_to_show_in() -> None:
    assert names_of(expert_report()) == list(DRAWINGS)
    assert names_of(deep_report()) == [name for name in DRAWINGS if name != "experts"]
    assert names_of(sample_report()) == ["continuity", "heatmap", "lag", "spectra"]
    single = replace(deep_projection("Q", 2), layers=(0,), pairs=(), lag=LayerSpaces((), ()), spectrum=None)
    single = replace(single, trajectory=Trajectories())
    assert names_of(replace(sample_report(), projections={"Q": single})) == []


def test_a_projection_whose_facing_space_is_unknown_shows_only_where_it_is_known() -> None:
    one_sided = replace(deep_projection("Q", 5), pairs=tuple(pair(i, None, 0.5) for i in range(4)))
    one_sided = replace(one_sided, lag=LayerSpaces((None,) * 4, (0.5,) * 4), spectrum=None)
    report = replace(sample_report(), projections={"Q": one_sided})
    assert names_of(report) == ["heatmap", "trajectories-v1", "trajectories-u1"]


# What they show


def plotted(figure: Figure, panel: int) -> list[tuple[list[float], list[float]]]:
    """The polylines of a panel that have as many points as layers or pairs: no leader lines."""
    lines = figure.axes[panel].get_lines()
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in lines if len(line.get_xdata()) > 2]


def test_continuity_draws_each_projection_in_its_facing_space() -> None:
    figure = drawn(continuity, deep_report(12))
    readers, writers = plotted(figure, 0), plotted(figure, 1)
    x = [i + 0.5 for i in range(11)]
    expected = [(x, [value(name, i, "v") for i in range(11)]) for name in ("Q", "K", "V", "OV", "Gate", "Up")]
    assert readers == expected
    assert writers == [(x, [value(name, i, "u") for i in range(11)]) for name in ("O", "OV", "Down")]


def test_the_band_is_where_random_directions_fall() -> None:
    """Of 1000 pairs of random directions in R^100, 95% lie in the band drawn for that dimension."""
    report = deep_report(12)
    axes = drawn(continuity, report).axes[0]
    low, high = axes.transData.inverted().transform(axes.patches[0].get_window_extent())[:, 1]
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((2, 1000, 100))
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    cosines = np.abs((directions[0] * directions[1]).sum(axis=1))
    assert low == pytest.approx(0, abs=1e-9)
    assert np.mean(cosines <= high) == pytest.approx(0.95, abs=0.02)


def test_degenerate_pairs_are_hollow_and_unknown_ones_left_out() -> None:
    pairs = (pair(0, 0.5, 0.1), pair(1, 0.25, 0.1, degenerate=True), pair(2, None, None), pair(3, 0.75, 0.1))
    found = replace(deep_projection("Q", 5), pairs=pairs)
    axes = drawn(continuity, replace(sample_report(), projections={"Q": found})).axes[0]
    assert plotted_points(axes) == [(0.5, 0.5), (1.5, 0.25), (3.5, 0.75)]
    (dots,) = [one for one in axes.collections if isinstance(one, PathCollection)]
    white = [tuple(face) == to_rgba("white") for face in dots.get_facecolors()]
    assert white == [False, True, False, False]
    assert np.isnan(axes.get_lines()[0].get_ydata()[2]), "the line breaks where nothing is known"


def plotted_points(axes) -> list[tuple[float, float]]:
    (dots,) = [one for one in axes.collections if isinstance(one, PathCollection)]
    return [
        (float(x), float(y))
        for x, y in dots.get_offsets()
        if x is not np.ma.masked and y is not np.ma.masked and not np.isnan(y)
    ]


def test_lag_draws_the_profile() -> None:
    figure = drawn(lag, deep_report(12, names=("Q", "O")))
    profile = (list(range(1, 12)), [1 / (k + 1) for k in range(11)])
    assert plotted(figure, 0) == plotted(figure, 1) == [profile]


def test_the_heat_map_shades_each_pair_by_its_value_and_writes_it_out() -> None:
    report = deep_report(6, names=("Q", "Down"))
    figure = drawn(heatmap, report)
    blues = mpl.colormaps["Blues"]
    for axes, space in zip(figure.axes[:2], "vu", strict=True):
        for row, (name, cells) in enumerate(zip(("Q", "Down"), axes.collections, strict=True)):
            boxes = [path.get_extents().extents for path in cells.get_paths()]
            assert [(box[0], box[2]) for box in boxes] == [(i, i + 1) for i in range(5)]
            assert [round((box[1] + box[3]) / 2, 9) for box in boxes] == [row] * 5
            wanted = [blues(value(name, i, space)) for i in range(5)]
            assert cells.get_facecolors() == pytest.approx(np.array(wanted))
        written = [text.get_text() for text in axes.texts]
        assert written == [f"{value(name, i, space):.2f}" for name in ("Q", "Down") for i in range(5)]
    assert not list(drawn(heatmap, deep_report(80)).axes[0].texts)


def test_a_gap_between_layers_is_as_wide_as_it_is() -> None:
    wide = replace(pair(1, 0.5, 0.5), layers=(1, 4), gap=3)
    found = replace(deep_projection("Q", 5), layers=(0, 1, 4), pairs=(pair(0, 0.5, 0.5), wide))
    report = replace(sample_report(), projections={"Q": found})
    cells = drawn(heatmap, report).axes[0].collections[0]
    assert [tuple(path.get_extents().intervalx) for path in cells.get_paths()] == [(0, 1), (1, 4)]


def test_trajectories_draw_the_points_of_the_report_in_panels_of_one_scale() -> None:
    report = deep_report(9, names=("Q", "K", "V", "O", "Down"))
    figure = drawn(trajectories, report, "u")
    panels = [axes for axes in figure.axes if axes.name == "3d"]
    assert len(panels) == 5
    for axes in panels:
        (dots,) = axes.collections[1:]
        assert np.transpose(dots._offsets3d) == pytest.approx(
            np.array(report.projections["Q"].trajectory.u.points)
        )
        assert axes.get_xlim() == panels[0].get_xlim() == axes.get_zlim()
    labels = [text.get_text() for text in panels[0].texts]
    assert labels == ["Q", "EVR 0.88, chance 0.25", "  0  ", "  8  "]


def test_a_projection_without_a_path_in_a_space_has_no_panel_there() -> None:
    report = deep_report(6, names=("Q", "K"))
    half = replace(
        report.projections["K"], trajectory=Trajectories(None, report.projections["K"].trajectory.u)
    )
    report = replace(report, projections={"Q": report.projections["Q"], "K": half})
    for space, count in (("v", 1), ("u", 2)):
        panels = [axes for axes in drawn(trajectories, report, space).axes if axes.name == "3d"]
        assert len(panels) == count


def test_a_layer_without_a_point_is_left_out_of_its_path() -> None:
    found = deep_projection("Q", 6)
    points = tuple(None if i == 2 else point for i, point in enumerate(found.trajectory.v.points))
    path = Trajectories(Trajectory(points, (0.5, 0.3, 0.1)), None)
    report = replace(sample_report(), projections={"Q": replace(found, trajectory=path)})
    (axes,) = [axes for axes in drawn(trajectories, report, "v").axes if axes.name == "3d"]
    assert len(axes.collections[1].get_offsets()) == 5


def test_spectra_draw_each_layer_over_its_largest() -> None:
    figure = drawn(spectra, deep_report(3, names=("Q",)))
    lines = figure.axes[0].get_lines()
    assert [list(line.get_xdata()) for line in lines] == [[1, 2, 8]] * 3
    assert [list(line.get_ydata()) for line in lines] == [[1, 0.5, 1 / (i + 2)] for i in range(3)]


def offsets(axes, colour: str | None = None) -> list[tuple[float, float]]:
    """The dots of a panel, those of one colour, or the hollow ones."""
    (dots,) = [
        one
        for one in axes.collections
        if isinstance(one, PathCollection)
        and tuple(one.get_facecolors()[0]) == to_rgba("white" if colour is None else colour)
    ]
    return [(float(x), float(y)) for x, y in dots.get_offsets()]


def test_few_experts_are_a_dot_each() -> None:
    report = expert_report(3, 4)
    figure = drawn(experts, report)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Gate, v1", "Up, v1", "Down, u1"]
    for axes, name in zip(figure.axes, ("Gate", "Up", "Down"), strict=True):
        assert offsets(axes, look_of(NAMES)[name][0]) == [
            (i, 0.5 + 0.5 * sin(i + j)) for i in (1, 2) for j in range(4)
        ]
        assert offsets(axes) == [(i, 0.5 + 0.5 * cos(i)) for i in (1, 2)]


def test_many_experts_are_a_bar_over_their_quartiles() -> None:
    """Eleven experts 0, .1, ... 1 in any order: all of it thin, .25 to .75 thick, a dash at .5."""
    spread_out = ExpertSummary((1.0,) * 11, tuple((j * 7 % 11) / 10 for j in range(11)), 0.25)
    base = expert_report(3, 4)
    found = replace(base.projections["Down"], experts=(None, spread_out, None))
    (axes,) = drawn(experts, replace(base, projections={"Down": found})).axes
    thin, thick = (bar.patches[0] for bar in axes.containers)
    assert (thin.get_y(), thin.get_height()) == pytest.approx((0, 1))
    assert (thick.get_y(), thick.get_height()) == pytest.approx((0.25, 0.5))
    assert thin.get_x() + thin.get_width() / 2 == thick.get_x() + thick.get_width() / 2 == pytest.approx(1)
    assert thin.get_width() < thick.get_width() < 1
    (dashes,) = [one for one in axes.collections if isinstance(one, LineCollection)]
    assert dashes.get_segments()[0][:, 1] == pytest.approx([0.5, 0.5])


def test_experts_that_could_not_be_measured_leave_a_gap() -> None:
    unknown = ExpertSummary((None, None), (None, None), None)
    partly = ExpertSummary((1.0, None), (0.5, None), None)
    base = expert_report(3, 4)
    found = replace(base.projections["Gate"], experts=(unknown, None, partly))
    (axes,) = drawn(experts, replace(base, projections={"Gate": found})).axes
    assert offsets(axes, look_of(NAMES)["Gate"][0]) == [(2, 0.5)]
    nothing = replace(found, experts=(unknown, None, unknown))
    assert size_of(draw(replace(base, projections={"Gate": nothing}), EXPERTS))


def test_a_further_stack_has_its_own_lines() -> None:
    report = with_stacks(deep_report(6), "vision")
    short = {"Q": deep_projection("Q", 4)}
    report = replace(report, stacks={"vision": replace(report.stacks["vision"], projections=short)})
    figure = drawn(continuity, report, "vision")
    assert plotted(figure, 0) == [([0.5, 1.5, 2.5], [value("Q", i, "v") for i in range(3)])]
    assert figure.texts[-1].get_text() == "org/deep: vision, layer by layer"
    assert drawn(continuity, report).texts[-1].get_text().startswith("org/deep: decoder, what each layer")
    names = [one.file for one in illustrations(report) if one.stack]
    assert names == ["figures/continuity-vision.png"]
    assert set(names) < files(report.stacks)
    assert size_of(draw(report, illustrations(report)[-1]))


def test_cross_attention_is_not_said_to_read_the_residual_stream() -> None:
    for cross, said in (
        (False, "Readers of the residual stream: input space"),
        (True, "Readers: input space"),
    ):
        report = with_stacks(deep_report(6), "cross", cross=cross)
        assert drawn(continuity, report, "cross").axes[0].get_title(loc="left") == said


def test_the_band_is_that_of_the_smallest_space_shown() -> None:
    base = deep_report(6, names=("Q", "K"))
    narrow = replace(base.projections["K"], shape=(100, 25), null=Spaces(0.16, 0.08))
    for projections in ({"Q": base.projections["Q"], "K": narrow}, {"K": narrow, "Q": base.projections["Q"]}):
        axes = drawn(continuity, replace(base, projections=projections)).axes[0]
        high = axes.transData.inverted().transform(axes.patches[0].get_window_extent())[1, 1]
        assert high == pytest.approx(0.16 + 2 * (1 / 25 - 0.16**2) ** 0.5)


def test_the_figure_over_models_has_a_panel_a_projection_and_a_line_a_model() -> None:
    audited = entries(2, layers=5)
    figure = drawn(models, audited)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [c.heading for c in columns(audited)]
    first = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) > 2]
    assert [list(line.get_ydata()) for line in first] == [
        [value("Q", i, "v") for i in range(4)],
        [value("Q", i, "v") for i in range(5)],
    ]
    assert list(first[0].get_xdata()) == pytest.approx([0.125, 0.375, 0.625, 0.875])


# How they look


def all_on_page(figure: Figure) -> bool:
    """Whether everything that is drawn, ticks and legends too, lies within the figure."""
    drawn_on = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    return bool(
        drawn_on.x0 > -0.01
        and drawn_on.y0 > -0.01
        and drawn_on.x1 < width + 0.01
        and drawn_on.y1 < height + 0.01
    )


PAGES = {
    "6 layers": lambda: deep_report(6),
    "80 layers": lambda: deep_report(80),
    "one projection": lambda: deep_report(12, names=("Q",)),
    "one projection of a long name": lambda: deep_report(12, names=("Q",), model="MODEL-" * 40),
    "a long name": lambda: deep_report(12, model="organisation-with-a-name/" + "model-" * 30),
    "400 layers": lambda: deep_report(400, names=("Q", "Down")),
    "many experts": lambda: expert_report(48, 128),
}


@pytest.mark.parametrize("name", DRAWINGS)
@pytest.mark.parametrize("page", PAGES)
def test_all_text_is_on_the_page_and_readable_at_half_size(name: str, page: str) -> None:
    drawing, *args = DRAWINGS[name]
    report = PAGES[page]()
    if name in names_of(report):
        check_page(drawn(drawing, report, *args))
    else:
        assert name == "experts"
        assert "experts" not in page


def check_page(figure: Figure) -> None:
    assert all_on_page(figure)
    assert min(text.get_fontsize() for text in figure.findobj(Text)) >= 2 * HALF_SIZE


@pytest.mark.parametrize("names", [("Gate", "Up", "Down"), ("Up", "Down"), ("Down",)])
@pytest.mark.parametrize(("layers", "count"), [(3, 4), (94, 16)])
def test_experts_keep_their_text_on_the_page(names: Sequence[str], layers: int, count: int) -> None:
    report = expert_report(layers, count)
    report = replace(report, projections={name: report.projections[name] for name in names})
    figure = drawn(experts, with_stacks(report, "a stack of a name so long that no page has room for it"))
    check_page(figure)
    (key,) = [text for text in figure.texts if "grey" in text.get_text()]
    legend = figure.legends[0].get_window_extent()
    assert not legend.overlaps(key.get_window_extent())
    assert legend.y1 < min(axes.xaxis.label.get_window_extent().y0 for axes in figure.axes)


def test_further_stacks_keep_their_text_on_the_page() -> None:
    name = "a stack of a name so long that no page has room for it"
    check_page(drawn(continuity, with_stacks(expert_report(12, 4), name), name))


def test_a_single_layer_has_its_spectra() -> None:
    single = replace(deep_projection("Q", 1), pairs=(), lag=LayerSpaces((), ()), trajectory=Trajectories())
    report = replace(sample_report(), projections={"Q": single})
    assert names_of(report) == ["spectra"]
    assert size_of(draw(report, SPECTRA))


@pytest.mark.parametrize("count", [1, 2, 6, 30])
def test_the_figure_over_models_keeps_its_text_on_the_page(count: int) -> None:
    figure = drawn(models, entries(count, layers=5))
    assert all_on_page(figure)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == [f"org/model-{i}" for i in range(count)]
    ticks = [text for axes in figure.axes for text in axes.get_xticklabels() if text.get_visible()]
    assert figure.legends[0].get_window_extent().y1 < min(text.get_window_extent().y0 for text in ticks)


def test_the_names_at_the_lines_ends_do_not_touch() -> None:
    report = deep_report(6)
    alike = tuple(pair(i, 0.02, 0.98) for i in range(5))
    together = {name: replace(found, pairs=alike) for name, found in report.projections.items()}
    axes = drawn(continuity, replace(report, projections=together)).axes[0]
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text().strip() in NAMES]
    assert len(boxes) == 6
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


@pytest.mark.parametrize(
    "wanted", [[0.5] * 6, [0.0, 0.01, 0.02, 0.9], [1.0, 0.99, 0.98], [0.2], [0.1, 0.9, 0.5]]
)
def test_labels_are_spread_apart_in_their_order(wanted: list[float]) -> None:
    heights = spread(wanted, 0.05)
    ordered = [height for _, height in sorted(zip(wanted, heights, strict=True))]
    assert ordered == sorted(ordered)
    assert min((b - a for a, b in pairwise(ordered)), default=1) > 0.0499
    assert min(heights) > -1e-6
    assert max(heights) < 1 + 1e-6
    if len(wanted) == 1:
        assert heights == wanted


def test_every_projection_has_a_look_of_its_own_and_keeps_it() -> None:
    looks = look_of(NAMES)
    assert len(set(looks.values())) == len(NAMES)
    assert look_of(["Q", "SharedUp"])["Q"] == looks["Q"]
    others = look_of(["SharedGate", "SharedUp", "SharedDown"])
    assert len({*others.values(), *looks.values()}) == 11


def test_colours_stay_apart_for_the_colour_blind() -> None:
    """In CIELAB, seen as they are and in simulated deuteranopia and protanopia."""
    for sight in (np.eye(3), DEUTERANOPIA, PROTANOPIA):
        seen = [cielab(sight @ linear(to_rgba(hue)[:3])) for hue in HUES]
        for one, other in combinations(range(len(HUES)), 2):
            assert np.linalg.norm(seen[one] - seen[other]) > 15, (HUES[one], HUES[other])


DEUTERANOPIA = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])
PROTANOPIA = np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]])
"""Machado, Oliveira and Fernandes 2009, severity 1, on linear sRGB."""


def linear(srgb: Sequence[float]) -> np.ndarray:
    value = np.array(srgb)
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def cielab(rgb: np.ndarray) -> np.ndarray:
    """Linear sRGB to L*a*b* under D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(to_xyz @ np.clip(rgb, 0, 1) / (0.9505, 1, 1.089))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


# As files


def size_of(png: bytes) -> tuple[int, int]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", png[16:24])


@pytest.mark.parametrize("illustration", ILLUSTRATIONS, ids=lambda one: one.name)
def test_the_same_report_gives_the_same_png_whatever_the_users_own_style(illustration) -> None:
    report = expert_report(7)
    png = draw(report, illustration)
    assert b"atplotlib" not in png, "no version that would make tomorrow's file another one"
    width, height = size_of(png)
    assert 800 <= width <= 1800
    assert 500 <= height <= 1450
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9, "figure.dpi": 40, "axes.facecolor": "red"}):
        assert draw(report, illustration) == png


@pytest.mark.parametrize(
    "name", ["$x^{$", r"\alpha$", "模型/名", "\x1b[31mred", "🤖/🤖", "", "a" * 500], ids=ascii
)
def test_any_name_can_be_drawn(name: str) -> None:
    report = deep_report(5, names=("Q", "O"), model=name)
    for illustration in (illustrations(report)[0], LAG, SPECTRA, TRAJECTORIES["v"]):
        size_of(draw(report, illustration))
    size_of(draw_models([Audited(name, "m", report, fresh=True)]))
