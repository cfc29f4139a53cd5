"""docs/reproduction says what its data say: every number follows from the histories, none is typed in."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import fmean

import docs_runs
import pytest
import search

from audit.train.readings import QUESTIONS
from reports.training.comparison import Group, Verdict, compare, once, scores
from reports.training.document import results, results_csv, to_json
from reports.training.figures import files_of
from reports.training.markdown import picture_lines, to_markdown
from reports.training.measured import measured as measured_of
from reports.training.model import Experiment
from reports.training.notation import decimal, spread
from reports.training.pictures import PHASES, PICTURES, SHARES, THRESHOLD
from reports.training.pictures.shares import by_share
from reports.training.pictures.threshold import WELL_ABOVE

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "reproduction.md").read_text()
FOLDER = DOCS / "reproduction"


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    """The experiment, put together again from its histories."""
    return docs_runs.reproduction()


@pytest.fixture(scope="module")
def partial() -> Experiment:
    """The same with the ablations that break a share of the symmetry."""
    return docs_runs.shares()


def test_every_row_has_three_seeds_of_twenty_epochs(experiment: Experiment) -> None:
    rows = {row for table in experiment.tables for row in table.rows}
    assert {ablation.name for ablation in experiment.ablations} == rows
    for ablation in experiment.ablations:
        assert [run.seed for run in ablation.runs] == [0, 1, 2]
        assert {len(run.entries) for run in ablation.runs} == {21}


def test_results_and_report_follow_from_the_histories(experiment: Experiment) -> None:
    assert (FOLDER / "results.json").read_text() == to_json(experiment)
    assert (FOLDER / "results.csv").read_text() == results_csv(experiment)
    report = (FOLDER / "report.md").read_text()
    assert report.startswith(to_markdown(experiment).rstrip())


def test_the_page_tells_the_scores(experiment: Experiment) -> None:
    page = " ".join((DOCS / "reproduction.md").read_text().split())
    found = scores(compare(experiment))
    scored, minibatch = found[Group.SCORED], found[Group.MINIBATCH]
    assert f"{scored.agree} of {scored.of} scored cells ({100 * scored.agree / scored.of:.1f} %)" in page
    assert f"{minibatch.of - minibatch.agree} of {minibatch.of} cells differ" in page


def test_the_page_tells_what_rounding_moves(experiment: Experiment) -> None:
    page = " ".join(PAGE.split())
    assert f"and with those it was {scores(compare(docs_runs.before()))[Group.SCORED].agree}." in page

    def apart(runs: Experiment) -> set[tuple[str, str]]:
        return {
            (one.ablation, one.metric)
            for one in once(compare(runs))
            if one.group is Group.SCORED and one.verdict is Verdict.DIFFERS
        }

    now, then = apart(experiment), apart(docs_runs.before())
    assert (len(now & then), len(now)) == (10, 12)
    assert "Ten of the twelve that differ did so then too." in page


@pytest.mark.parametrize("name", docs_runs.drawn())
def test_the_figures_numbers_follow_from_the_histories(name: str) -> None:
    experiment, stems = docs_runs.drawn()[name]
    files = files_of(experiment)
    for stem in stems:
        for kind in ("json", "csv"):
            assert (FOLDER / f"figures/{stem}.{kind}").read_bytes() == files[f"figures/{stem}.{kind}"](
                experiment
            )
        assert (FOLDER / f"figures/{stem}.png").read_bytes().startswith(b"\x89PNG")
        assert f"reproduction/figures/{stem}.png" in PAGE


def test_what_is_taken_fits_best() -> None:
    """In cells that agree, and in their distance, but for one question that seeds decide."""
    for question, about in QUESTIONS.items():
        names = search.ranked(question)
        agreeing = {name: agree / of for name in names for agree, of, _ in [search.fit(question, name)]}
        if question != "radial":
            assert agreeing[about.usual] == max(agreeing.values()), question
            assert names[0] == about.usual
        assert {*about.answers} <= {*names}


def test_the_accuracy_tells_the_radial_function() -> None:
    wanted = search.published("res-radial")["acc"].mean
    seeds: dict[str, list[float]] = {}
    for (question, name, _, _), values in search.found().items():
        if question == "radial":
            seeds.setdefault(name, []).append(values["acc"])
    among = {name for name, of in seeds.items() if min(of) <= wanted <= max(of)}
    assert among == {QUESTIONS["radial"].usual}
    near = ("soft", "sigmoid", "tanh")
    assert [len(seeds[name]) for name in near] == [6, 6, 6]
    apart = [search.scatter("radial", name, "res-radial") for name in near]
    assert min(apart) == apart[0]
    assert "that is {:.0f} for it, {:.0f} for the sigmoid and {:.0f}".format(*apart) in " ".join(PAGE.split())


def test_the_page_has_the_fit_of_every_answer() -> None:
    lines = [line for line in search.tables() if line]
    assert [line for line in lines if line not in PAGE] == []
    assert len(lines) > 30


def listed(values: Iterable[object]) -> str:
    """`.989, .993, .971`, `10, 9, 10`."""
    return ", ".join(number(one) if isinstance(one, float) else str(one) for one in values)


def test_the_page_tells_the_course_of_figure_2() -> None:
    found = PHASES.found(docs_runs.phases())
    none, relu = found[:3], found[3:]
    runs = [run.entries for ablation in docs_runs.phases().ablations for run in ablation.runs]
    told = PAGE.replace(" and ", ", ")
    assert f"| {listed(run[1]['W_v1'] for run in runs[:3])} |" in told
    for metric in ("W_v1", "G_v1"):
        assert f"in epochs {listed(one[f'{metric} lost in epoch'] for one in none)} |" in told
    assert f"| {listed(run[15]['W_v1'] for run in runs[:3])} |" in told
    assert f"v1 ends at {listed(one['W_v1 at the end'] for one in none)} |" in told
    at_the_end, at_first = ([run[at]["W_v1"] for run in runs[3:]] for at in (-1, 1))
    assert f"| {listed(at_the_end)} at the end, from {listed(at_first)} |" in told
    assert {one["W_v1 lost in epoch"] for one in relu} == {None}
    dips = [min(range(11, 16), key=lambda at, run=run: run[at]["acc"]) for run in runs[:3]]
    before = listed(run[at - 1]["acc"] for run, at in zip(runs, dips, strict=False))
    lowest = listed(run[at]["acc"] for run, at in zip(runs, dips, strict=False))
    assert f"| to {lowest} in epochs {listed(dips)}, from {before} an epoch before |" in told
    later = [min(range(25, 51), key=lambda at, run=run: run[at]["acc"]) for run in runs[:3]]
    assert f"a second dip, in epochs {listed(later)}" in told
    assert f"up to {listed(max(one['acc'] for one in run[15:]) for run in runs[:3])};" in told


def test_the_page_has_the_bands_of_figure_13(experiment: Experiment) -> None:
    everything = (experiment, *experiment.beside)

    def line(words: str, name: str, metric: str) -> str:
        cells = (spread(measured_of(one.ablation(name), metric)) for one in everything)
        return f"| {words} | {' | '.join(cells)} |"

    for name in ("res-relu", "res-none", "nores-relu"):
        assert line(name, name, "W_v1") in PAGE
    assert line("effective rank of the gradient, res-relu", "res-relu", "G_erank") in PAGE


def test_the_page_has_the_threshold(experiment: Experiment) -> None:
    found = {row["ablation"]: row for row in THRESHOLD.found(experiment)}
    columns = ("spike", "predicted_kept_v1", "kept_v1", "predicted_W_v1", "W_v1")
    for name, row in found.items():
        assert f"| {name} | {' | '.join(decimal(row[column]) for column in columns)} |" in PAGE
    well_above = [row["ablation"] for row in THRESHOLD.rows(experiment) if row["spike"] >= WELL_ABOVE]
    always_above = {name for name in found if well_above.count(name) == 60}
    on_the_curve = {name for name in always_above if found[name]["mean error well above 1"] < 0.001}
    assert on_the_curve == {"res-gelu", "res-silu", "res-relu"}
    off = [abs(row["W_v1"] - row["predicted_W_v1"]) for row in found.values() if row["spike"] > 1]
    assert len(off) == 15
    assert max(off) < 0.04
    without = [row for name, row in found.items() if name.startswith("nores-")]
    moved = listed(row["dW_v1"] for row in without)
    assert f"v1 of ΔW is {moved} from layer to layer" in " ".join(PAGE.split()).replace(" and ", ", ")
    assert min(row["kept_v1"] for row in without) == pytest.approx(0.960, abs=5e-4)
    crossings = [
        found[f"nonadaptive-init-{std}"]["first epoch above 1"] for std in ("0.005", "0.001", "0.0001")
    ]
    assert crossings == [4, 4, 5]
    names = ("res-none", "res-radial", "res-relu")
    ranks = [measured_of(experiment.ablation(name), "dW_erank").mean for name in names]
    told = "(their effective rank is {:.0f} and {:.0f} of 256, that of res-relu's {:.0f})"
    assert told.format(*ranks) in PAGE


def test_the_page_counts_the_cells_of_adam_and_of_layernorm(experiment: Experiment) -> None:
    page = " ".join(PAGE.split())
    unknown = scores(compare(experiment))[Group.UNKNOWN]
    assert f"{unknown.agree} of {unknown.of} cells agree. It counts apart." in page
    (agree, of, _), (other, _, _) = (search.fit("layernorm", one) for one in search.ranked("layernorm")[:2])
    assert f"{agree} of {of} cells, the next place {other}." in page
    others = search.ranked("adam")[1:]
    assert len(others) == 17
    assert max(search.fit("adam", one)[0] for one in others) == 4
    assert "of the next best of seventeen others 4." in page


def test_the_page_has_the_curve_of_the_symmetry_broken(partial: Experiment) -> None:
    assert {one.share: len(one.whole) for one in by_share(partial)} == dict.fromkeys(
        (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0), 3
    )
    lines = list(picture_lines(SHARES, partial))
    page = (DOCS / "reproduction.md").read_text()
    assert all(line in page for line in lines[lines.index("") :] if line.startswith("|"))


def test_numbers_on_the_page_are_measured_or_published(experiment: Experiment, partial: Experiment) -> None:
    """Each `.ddd` is a mean or a seed's value after the last epoch, a published one, or of those tried."""
    everything = (
        *measured(experiment), *published(experiment), *tried(experiment), *measured(partial), *further()
    )  # fmt: skip
    known = {number(value) for value in (*everything, *deviations(partial))}
    told = set(re.findall(r"(?<![\d.])\.\d{3}(?!\d)", (DOCS / "reproduction.md").read_text()))
    assert len(told) > 40
    assert told - known == set()


def further() -> Iterator[float]:
    """Figure 2's runs at every epoch, those on other images, the answers tried, and what figures come to."""
    for ablation in docs_runs.phases().ablations:
        for run in ablation.runs:
            for values in run.entries:
                yield from (one for name in ("W_v1", "G_v1", "acc") if (one := values.get(name)) is not None)
    for other in docs_runs.reproduction().beside:
        yield from measured(other)
    for values in search.found().values():
        yield from values.values()
    for question in QUESTIONS:
        for name in search.ranked(question):
            for means in search.means(question, name).values():
                yield from means.values()
    for picture in PICTURES:
        for row in picture.found(docs_runs.reproduction()):
            yield from (value for value in row.values() if isinstance(value, float))


def deviations(experiment: Experiment) -> Iterator[float]:
    for metrics in results(experiment).values():
        yield from (found["std"] for found in metrics.values() if found["std"] is not None)


def number(value: float) -> str:
    return f"{abs(value):.3f}".removeprefix("0")


def measured(experiment: Experiment) -> Iterator[float]:
    for metrics in results(experiment).values():
        for found in metrics.values():
            yield from (value for value in (found["mean"], *found["seeds"]) if value is not None)


def published(experiment: Experiment) -> Iterator[float]:
    for table in experiment.tables:
        for row in table.rows.values():
            yield from (cell.mean for cell in row.values())


def tried(experiment: Experiment) -> Iterator[float]:
    """Means over seeds: of every epoch, of the last five, and of the best."""
    for ablation in experiment.ablations:
        for metric in ("acc", "G_v1", "Gcum_v1", "W_v1", "W_u1", "W_wa_v"):
            seeds = [[one[metric] for one in run.entries[1:]] for run in ablation.runs]
            yield from map(fmean, zip(*seeds, strict=True))
            yield fmean(fmean(values[-5:]) for values in seeds)
            yield fmean(map(max, seeds))
