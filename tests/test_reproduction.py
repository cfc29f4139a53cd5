"""docs/reproduction says what its data say: every number follows from the histories, none is typed in."""

import re
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import docs_runs
import pytest

from reports.training.comparison import Group, compare, scores
from reports.training.document import results, results_csv, to_json
from reports.training.markdown import picture_lines, to_markdown
from reports.training.model import Experiment
from reports.training.pictures import SHARES
from reports.training.pictures.shares import by_share

DOCS = Path(__file__).parents[1] / "docs"
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


def test_the_page_has_the_curve_of_the_symmetry_broken(partial: Experiment) -> None:
    assert {one.share: len(one.whole) for one in by_share(partial)} == dict.fromkeys(
        (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0), 3
    )
    lines = list(picture_lines(SHARES, partial))
    page = (DOCS / "reproduction.md").read_text()
    assert all(line in page for line in lines[lines.index("") :] if line.startswith("|"))


def test_numbers_on_the_page_are_measured_or_published(experiment: Experiment, partial: Experiment) -> None:
    """Each `.ddd` is a mean or a seed's value after the last epoch, a published one, or of those tried."""
    everything = (*measured(experiment), *published(experiment), *tried(experiment), *measured(partial))
    known = {number(value) for value in (*everything, *deviations(partial))}
    told = set(re.findall(r"(?<![\d.])\.\d{3}(?!\d)", (DOCS / "reproduction.md").read_text()))
    assert len(told) > 40
    assert told - known == set()


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
