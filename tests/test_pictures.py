"""The figures that have a claim each: their numbers against runs typed by hand, and what is drawn of them."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from click.testing import Result
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from audit.errors import OutputError
from reports.figures.style import STYLE
from reports.training.drawings import DRAWINGS
from reports.training.figures import draw, files_of, pictured
from reports.training.markdown import picture_lines
from reports.training.model import (
    AblationRuns,
    Condition,
    Experiment,
    PublishedCell,
    PublishedTable,
    RunHistory,
    Values,
)
from reports.training.pictures import (
    PHASES,
    PICTURES,
    PRECEDENCE,
    RANK,
    SHARES,
    SUMMARY,
    THRESHOLD,
    Picture,
)

Cli = Callable[..., Result]
TITLES = {
    SUMMARY: "figure-1", PHASES: "figure-2", PRECEDENCE: "figure-12", RANK: "figure-13", SHARES: "shares",
    THRESHOLD: "threshold",
}  # fmt: skip


def run(seed: int, *entries: Values, diverged: int | None = None) -> RunHistory:
    """A run that was measured so, before the first update first."""
    told = tuple({"epoch": epoch, **values} for epoch, values in enumerate(entries))
    return RunHistory(seed, told, diverged)


def of(
    name: str, *runs: RunHistory, condition: Condition | None = None, share: float | None = None
) -> AblationRuns:
    return AblationRuns(name, "something", runs, share, condition)


def experiment(*ablations: AblationRuns, dataset: str = "toys", **more: object) -> Experiment:
    return Experiment(dataset, {"epochs": 2}, None, 0.05, ablations, **more)  # type: ignore[arg-type]


def ended(seed: int, gradient: float, total: float, weight: float, diverged: int | None = None) -> RunHistory:
    return run(seed, {"W_v1": 0.05}, {"G_v1": gradient, "Gcum_v1": total, "W_v1": weight}, diverged=diverged)


BOTH, BLIND, CUT = Condition(True, True), Condition(True, False), Condition(False, True)
SUMMED = experiment(
    of("cut", ended(0, 0.1, 0.2, 0.3), condition=CUT),
    of("other", ended(0, 1, 1, 1)),
    of("both", ended(0, 0.8, 0.9, 0.7), ended(1, 0.6, 0.9, 0.9), ended(2, 0, 0, 0, 1), condition=BOTH),
    of("blind", ended(0, 0.9, 0.8, 0.2), condition=BLIND),
    of("both too", ended(0, 0.5, 0.7, 0.6), condition=BOTH),
    of("lost", ended(0, 1, 1, 1, 1), condition=BOTH),
    tables=(PublishedTable(1, "t", "s", ("W_v1",), {"both": {"W_v1": PublishedCell(0.95, None)}}),),
)


def test_the_summary_has_the_ablations_of_the_two_conditions_in_groups() -> None:
    rows = SUMMARY.rows(SUMMED)
    assert [row["ablation"] for row in rows][::3] == ["both", "both too", "blind", "cut"]
    assert rows[2] == {
        "ablation": "both", "residual": True, "breaks_symmetry": True, "metric": "W_v1",
        "mean": pytest.approx(0.8), "lowest": 0.7, "highest": 0.9, "seeds": 2, "published": 0.95,
    }  # fmt: skip
    assert [row["published"] for row in rows if row["ablation"] == "blind"] == [None] * 3


def test_the_summary_comes_to_the_range_of_each_group() -> None:
    both, blind, cut = SUMMARY.found(SUMMED)
    assert both["ablations"] == 2
    assert (both["W_v1 lowest mean"], both["W_v1 mean"], both["W_v1 highest mean"]) == pytest.approx(
        (0.6, 0.7, 0.8)
    )
    assert both["G_v1 mean"] == pytest.approx(0.6)
    assert (blind["W_v1 mean"], cut["W_v1 mean"]) == (0.2, 0.3)
    assert SUMMARY.rows(experiment(*SUMMED.ablations[:3])) == (), "two ablations are no summary"


def moments(weights: Sequence[float], gradients: Sequence[float], accuracy: Sequence[float]) -> list[Values]:
    return [{"W_v1": 0.05, "G_v1": 0.999}] + [
        {"W_v1": w, "G_v1": g, "acc": a} for w, g, a in zip(weights, gradients, accuracy, strict=True)
    ]


FORMED = moments([0.3, 0.9, 0.44, 0.2, 0.3], [0.99, 0.98, 0.97, 0.9, 0.4], [0.8, 0.9, 0.85, 0.5, 0.95])
KEPT = moments([0.4, 0.9, 0.9, 0.9, 0.9], [0.9] * 5, [0.8, 0.9, 0.95, 0.96, 0.97])
PHASED = experiment(
    of("res-relu-init-0.0001", run(0, *KEPT)),
    of("res-none-init-0.0001", run(0, *FORMED), run(1, *KEPT, diverged=5)),
)


def test_the_phases_are_told_epoch_by_epoch() -> None:
    rows = PHASES.rows(PHASED)
    assert [(row["ablation"], row["epoch"]) for row in rows] == [
        (name, epoch) for name in ("res-none-init-0.0001", "res-relu-init-0.0001") for epoch in range(6)
    ]
    assert rows[3] == {
        "ablation": "res-none-init-0.0001", "seed": 0, "epoch": 3, "W_v1": 0.44, "G_v1": 0.97, "acc": 0.85
    }  # fmt: skip
    assert PHASES.rows(experiment(PHASED.ablations[0])) == (), "one alone shows nothing"


def test_the_weights_lose_their_direction_before_the_gradients_do() -> None:
    lost, kept = PHASES.found(PHASED)
    assert (lost["W_v1 highest"], lost["W_v1 highest in epoch"], lost["W_v1 lost in epoch"]) == (0.9, 2, 3)
    assert (lost["G_v1 highest"], lost["G_v1 lost in epoch"], lost["G_v1 at the end"]) == (0.99, 5, 0.4)
    assert (lost["acc lowest after its first peak"], lost["in epoch"], lost["acc at the end"]) == (
        0.5,
        4,
        0.95,
    )
    assert (kept["W_v1 lost in epoch"], kept["G_v1 lost in epoch"], kept["in epoch"]) == (None, None, None)


def averaged(v1: float, *averages: float) -> Values:
    names = ("ema_0_v1", "ema_0.9_v1", "ema_1_v1")
    return {
        "W_v1": v1,
        "G_v1": 0.9,
        "Gcum_v1": 0.95,
        **dict(zip(names, averages, strict=False)),
        "ema_1_u1": 0.3,
    }


PRECEDED = experiment(
    of("res-relu", run(0, {"W_v1": 0.05, "G_v1": 0.94, "ema_0_v1": 0.06}, averaged(0.5, 0.3, 0.4, 0.6)),
       run(1, {"W_v1": 0.07, "G_v1": 0.96, "ema_0_v1": 0.04}, averaged(0.7, 0.5, 0.6, 0.8))),
)  # fmt: skip


def test_gradients_stand_beside_weights_and_averages_in_order_of_their_length() -> None:
    rows = PRECEDENCE.rows(PRECEDED)
    assert list(dict.fromkeys(row["metric"] for row in rows)) == [
        "G_v1", "Gcum_v1", "W_v1", "ema_0_v1", "ema_0.9_v1", "ema_1_v1"
    ]  # fmt: skip
    assert rows[0] == {
        "epoch": 0,
        "metric": "G_v1",
        "mean": pytest.approx(0.95),
        "lowest": 0.94,
        "highest": 0.96,
    }
    found = {row["metric"]: row for row in PRECEDENCE.found(PRECEDED)}
    assert found["W_v1"]["before the first update"] == pytest.approx(0.06)
    assert found["ema_1_v1"]["at the end"] == pytest.approx(0.7)
    assert found["ema_1_v1"]["before the first update"] is None
    assert PRECEDENCE.rows(experiment(of("res-none", *PRECEDED.ablations[0].runs))) == ()


def ranked(seed: int, rank: float, v1: float) -> RunHistory:
    return run(seed, {}, {"G_erank": rank, "W_v1": v1, "acc": 0.9})


OTHER = experiment(
    of("res-relu", ranked(0, 5, 0.85), ranked(1, 9, 0.7)), of("res-gelu", ranked(0, 1, 1)), dataset="others"
)
RANKED = experiment(
    of("res-relu", ranked(0, 2, 0.95), ranked(1, 3, 0.93)),
    of("res-none", ranked(0, 4, 0.2), run(1, {}, {"W_v1": 0.3})),
    beside=(OTHER,),
)


def test_ranks_are_told_run_by_run_of_every_data_set() -> None:
    rows = RANK.rows(RANKED)
    assert [(row["dataset"], row["ablation"], row["G_erank"], row["W_v1"]) for row in rows] == [
        ("toys", "res-relu", 2, 0.95), ("toys", "res-relu", 3, 0.93), ("toys", "res-none", 4, 0.2),
        ("others", "res-relu", 5, 0.85), ("others", "res-relu", 9, 0.7),
    ]  # fmt: skip
    relu, none = RANK.found(RANKED)
    assert (relu["data sets"], relu["runs"], relu["G_erank lowest"], relu["G_erank highest"]) == (2, 4, 2, 9)
    assert relu["correlation"] == pytest.approx(np.corrcoef([2, 3, 5, 9], [0.95, 0.93, 0.85, 0.7])[0, 1])
    assert none["correlation"] is None
    assert RANK.rows(OTHER) == (), "one architecture is no comparison"


def spiked(spike: float | None, kept: float, moved: float, weight: float) -> Values:
    return {"spike": spike, "kept_v1": kept, "kept_u1": kept, "dW_v1": moved, "W_v1": weight}


SPIKED = experiment(
    of("slow", run(0, spiked(None, 0, 0, 0.05), spiked(0.5, 0.1, 0.9, 0.05), spiked(2, 0.8, 0.9, 0.7)),
       run(1, spiked(None, 0, 0, 0.05), spiked(1.25, 0.5, 0.8, 0.3), spiked(4, 0.9, 0.8, 0.75))),
    of("without", run(0, {"W_v1": 0.1})),
)  # fmt: skip


def test_the_threshold_stands_beside_what_theory_predicts() -> None:
    rows = THRESHOLD.rows(SPIKED)
    assert [row["predicted_kept_v1"] for row in rows] == pytest.approx([0, 0.75**0.5, 0.6, (15 / 16) ** 0.5])
    assert [row["predicted_W_v1"] for row in rows] == pytest.approx(
        [0, 0.9 * 0.75, 0.8 * 0.36, 0.8 * 15 / 16]
    )
    (slow,) = THRESHOLD.found(SPIKED)
    assert slow["first epoch above 1"] == 1
    assert (slow["spike"], slow["W_v1"]) == pytest.approx((3, 0.725))
    off = [abs(0.8 - 0.75**0.5), abs(0.9 - (15 / 16) ** 0.5)]
    assert slow["mean error well above 1"] == pytest.approx(sum(off) / 2)


SHARED = experiment(
    *(of(f"s{share}", run(0, {}, {"W_v1": share}), share=share) for share in (0.0, 0.5, 1.0)),
)
SAMPLES: dict[Picture, Experiment] = {
    SUMMARY: SUMMED, PHASES: PHASED, PRECEDENCE: PRECEDED, RANK: RANKED, SHARES: SHARED, THRESHOLD: SPIKED,
}  # fmt: skip
EACH = pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.illustration.name)


@EACH
def test_an_experiment_without_its_runs_has_no_such_picture(picture: Picture) -> None:
    for bare in (experiment(), experiment(of("res-relu", run(0, {"W_v1": 0.1}, diverged=1)))):
        assert picture.rows(bare) == ()
        assert picture.found(bare) == ()
        assert list(picture_lines(picture, bare)) == []
    assert pictured(SAMPLES[picture]) == (picture,)


@EACH
def test_the_numbers_as_json_and_csv_are_those_that_are_drawn(picture: Picture) -> None:
    sample, name = SAMPLES[picture], TITLES[picture]
    files = files_of(sample)
    assert files.keys() == {f"figures/{name}.{kind}" for kind in ("png", "json", "csv")}
    told = json.loads(files[f"figures/{name}.json"](sample))
    rows = [dict(row) for row in picture.rows(sample)]
    assert told["rows"] == rows
    assert told["dataset"] == "toys"
    assert len(told["found"]) == len(picture.found(sample)) > 0
    number = name.removeprefix("figure-")
    assert told["figure"] == (int(number) if number.isdecimal() else None)
    table = list(csv.DictReader(io.StringIO(files[f"figures/{name}.csv"](sample).decode())))
    assert [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows] == table


@EACH
def test_the_report_links_it_and_says_what_it_comes_to(picture: Picture) -> None:
    lines = list(picture_lines(picture, SAMPLES[picture]))
    prefix = f"Figure {picture.number}: " if picture.number else ""
    assert lines[1] == f"## {prefix}{picture.illustration.title}"
    assert lines[3] == f"![{picture.illustration.title}](figures/{TITLES[picture]}.png)"
    assert lines[5] == picture.illustration.caption
    table = lines[7:]
    assert len(table) == 2 + len(picture.found(SAMPLES[picture]))
    assert len({line.count("|") for line in table}) == 1


def on_page(picture: Picture, sample: Experiment) -> Figure:
    with mpl.style.context(["default", STYLE]):
        figure = Figure()
        FigureCanvasAgg(figure)
        DRAWINGS[picture](figure, sample)
        figure.canvas.draw()
    return figure


def unseen(axes: Axes) -> Iterator[Text]:
    """The labels of ticks that lie outside a panel's range, which are not drawn."""
    for axis, ends in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        low, high = sorted(ends)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low <= tick.get_loc() <= high:
                yield from (tick.label1, tick.label2)


@EACH
def test_the_drawing_keeps_its_text_on_the_page_and_apart(picture: Picture) -> None:
    figure = on_page(picture, SAMPLES[picture])
    page = figure.bbox
    hidden = {text for axes in figure.axes for text in unseen(axes)}
    shown = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    boxes = {text: text.get_window_extent() for text in shown if text not in hidden}
    assert min(text.get_fontsize() for text in boxes) >= 9
    for text, box in boxes.items():
        assert page.x0 <= box.x0, text
        assert box.x1 <= page.x1, text
        assert page.y0 <= box.y0, text
        assert box.y1 <= page.y1, text
    assert not [(a, b) for (a, one), (b, two) in combinations(boxes.items(), 2) if one.overlaps(two)]


def points_of(figure: Figure) -> set[tuple[float, float]]:
    """Every point of every line of every panel."""
    return {
        (round(float(x), 6), round(float(y), 6))
        for axes in figure.axes
        for line in axes.lines
        for x, y in np.atleast_2d(line.get_xydata())
    }


@EACH
def test_every_number_is_in_the_drawing(picture: Picture) -> None:
    across, upwards = {
        SUMMARY: ("mean", None), PHASES: ("epoch", "W_v1"), PRECEDENCE: ("epoch", "mean"),
        RANK: ("G_erank", "W_v1"), SHARES: ("share", "W_v1"), THRESHOLD: ("predicted_W_v1", "W_v1"),
    }[picture]  # fmt: skip
    points = points_of(on_page(picture, SAMPLES[picture]))
    for row in picture.rows(SAMPLES[picture]):
        x = round(float(row[across] or 0), 6)
        if upwards is None:
            assert x in {point[0] for point in points}
        else:
            assert (x, round(float(row[upwards] or 0), 6)) in points


@pytest.mark.drawn
@EACH
def test_the_same_numbers_give_the_same_png(picture: Picture) -> None:
    png = draw(picture, SAMPLES[picture])
    assert png.startswith(b"\x89PNG")
    assert png == draw(picture, SAMPLES[picture])


# The command

SMALL = ("--dataset", "digits", "--width", "8", "--depth", "3", "--epochs", "2", "--seeds", "2")


@pytest.mark.parametrize(
    ("number", "names"),
    [
        (2, {"res-none-init-0.0001", "res-relu-init-0.0001"}),
        (12, {"res-relu"}),
        (13, {"res-relu", "res-none", "nores-relu"}),
    ],
)
def test_a_figure_trains_its_runs_and_no_others_and_none_again(
    cli: Cli, tmp_path: Path, number: int, names: set[str]
) -> None:
    out = tmp_path / "it"
    result = cli("train", "--figure", number, *SMALL, "--out", out, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout).keys() == names
    for kind in ("png", "json", "csv"):
        assert (out / f"figures/figure-{number}.{kind}").is_file()
    before = {file: file.stat().st_mtime_ns for file in out.glob("*/*.safetensors")}
    numbers = (out / f"figures/figure-{number}.json").read_bytes()
    (out / f"figures/figure-{number}.json").unlink()
    again = cli("train", "--figure", number, *SMALL, "--out", out)
    assert again.exit_code == 0
    assert f"figures/figure-{number}.png" in again.stderr
    assert before == {file: file.stat().st_mtime_ns for file in out.glob("*/*.safetensors")}
    assert (out / f"figures/figure-{number}.json").read_bytes() == numbers


def test_the_first_figure_is_of_the_first_table(cli: Cli, tmp_path: Path) -> None:
    result = cli("train", "--figure", "1", *SMALL[:-1], "1", "--out", tmp_path / "it", "--json")
    of_table = cli("train", "--table", "1", *SMALL[:-1], "1", "--out", tmp_path / "it", "--json")
    assert json.loads(result.stdout).keys() == json.loads(of_table.stdout).keys()
    assert (tmp_path / "it/figures/figure-1.csv").is_file()


def elsewhere(first: Path, second: Path) -> None:
    """The runs in a folder once more, as if they were on other images."""
    for config in first.glob("*/config.json"):
        told = json.loads(config.read_text())
        where = second / config.parent.name
        where.mkdir(parents=True)
        (where / "config.json").write_text(json.dumps(told | {"dataset": "elsewhere", "dataset_sha256": "0"}))
        (where / "history.json").write_bytes((config.parent / "history.json").read_bytes())


def test_runs_on_other_images_stand_beside_these(cli: Cli, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert cli("train", "--figure", "13", *SMALL, "--out", first).exit_code == 0
    elsewhere(first, second)
    result = cli("train", "--figure", "13", *SMALL, "--out", first, "--beside", second)
    assert result.exit_code == 0, result.stderr
    rows = list(csv.DictReader((first / "figures/figure-13.csv").read_text().splitlines()))
    assert [row["dataset"] for row in rows] == ["digits"] * 6 + ["elsewhere"] * 6


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (("--figure", "3"), "--figure 3: choose 1, 2, 12, 13"),
        (("--figure", "2", "--figure", "1"), "Figure 2 takes 50 epochs, the others do not"),
        (("--figure", "2", "--table", "1"), "Figure 2 takes 50 epochs, the others do not"),
        (("--figure", "1", "--ablation", "tf-silu"), "is a toy MLP"),
        (("--figure", "1", "--preset", "tiny"), "is a toy MLP"),
        (("--ablation", "res-relu", "--reading", "radial=tanh"), "radial=tanh is about none of these"),
        (("--ablation", "tf-silu", "--beside", "."), "--beside is the toy MLP's"),
        (("--ablation", "tf-silu", "--reading", "radial=tanh"), "--reading is the toy MLP's"),
    ],
)
def test_a_bad_request_is_one_line(cli: Cli, line: tuple[str, ...], told: str) -> None:
    result = cli("train", *line, "--dataset", "digits")
    assert result.exit_code == 2
    assert told in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_folder_beside_must_hold_runs_like_these(cli: Cli, tmp_path: Path) -> None:
    first, empty = tmp_path / "first", tmp_path / "empty"
    empty.mkdir()
    cli("train", "--ablation", "res-relu", *SMALL, "--out", first)
    line = ("train", "--ablation", "res-relu", *SMALL, "--out", first, "--beside")
    for folder, told in (
        (tmp_path / "gone", "holds no toy MLP"), (empty, "holds no toy MLP"), (first, "on the same images"),
    ):  # fmt: skip
        result = cli(*line, folder)
        assert result.exit_code == OutputError.exit_code, result.stderr
        assert told in result.stderr
        assert str(folder) in result.stderr
    for config in first.glob("*/config.json"):
        config.write_text(config.read_text().replace('"dataset_sha256": "', '"dataset_sha256": "0'))
    other = cli("train", "--ablation", "res-relu", *SMALL[:-4], "--epochs", "3", "--seeds", "2",
                "--out", tmp_path / "third", "--beside", first)  # fmt: skip
    assert other.exit_code == OutputError.exit_code
    assert "holds no finished run of these settings" in other.stderr


def test_a_folder_beside_that_cannot_be_read_is_told(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    real = Path.iterdir

    def shut(folder: Path) -> Iterator[Path]:
        if folder == locked:
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(Path, "iterdir", shut)
    line = ("train", "--ablation", "res-relu", *SMALL, "--out", tmp_path / "it", "--beside", locked)
    result = cli(*line)
    assert result.exit_code == OutputError.exit_code
    assert f"{locked} cannot be read: Permission denied" in result.stderr
    assert not (tmp_path / "it/report.md").exists()


def test_the_same_images_do_not_count_twice(cli: Cli, tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    cli("train", "--ablation", "res-relu", *SMALL, "--out", first)
    for folder in (second, third):
        elsewhere(first, folder)
    line = ("train", "--ablation", "res-relu", *SMALL, "--out", first)
    for others in ((second, second), (second, third)):
        result = cli(*line, "--beside", others[0], "--beside", others[1])
        assert result.exit_code == OutputError.exit_code
        assert f"{others[1]} are on the same images" in result.stderr


def test_a_damaged_run_beside_is_told(cli: Cli, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    cli("train", "--figure", "13", *SMALL, "--out", first)
    elsewhere(first, second)
    (second / "res-none-1/history.json").write_text("{")
    result = cli("train", "--figure", "13", *SMALL, "--out", first, "--beside", second)
    assert result.exit_code == 0
    assert f"1 run in {second} is unfinished or trained otherwise: left out" in result.stderr


def test_a_file_that_cannot_be_written_is_named_and_no_other_is(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "it/figures/figure-12.png").mkdir(parents=True)
    result = cli("train", "--figure", "12", *SMALL, "--out", tmp_path / "it")
    assert result.exit_code == OutputError.exit_code
    assert "figure-12.png cannot be written" in result.stderr


def test_a_figure_whose_runs_diverged_is_not_drawn_and_that_is_told(cli: Cli, tmp_path: Path) -> None:
    result = cli("train", "--figure", "12", *SMALL, "--lr", "1e30", "--out", tmp_path / "it")
    assert result.exit_code == 0
    assert "Figure 12 has nothing to show" in result.stderr
    assert not (tmp_path / "it/figures/figure-12.png").exists()
