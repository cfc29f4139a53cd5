"""docs/transformers.md says what its data say: every number follows from the histories, none is typed in."""

import re
from pathlib import Path

import pytest
from histories import ablations_in

from audit.continuity import null_mean
from audit.train.transformer.ablations import ABLATIONS
from audit.train.transformer.settings import PRESETS
from registry.experiments import published_tables
from reports.training.document import results, results_csv, to_json
from reports.training.model import Experiment
from reports.training.transformer.claims import PREDICTED, PUBLISHED, Outcome
from reports.training.transformer.markdown import to_markdown

DOCS = Path(__file__).parents[1] / "docs"
FOLDER = DOCS / "reproduction" / "transformers"
TINY = PRESETS["tiny"].settings


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    """The experiment, put together again from histories.csv."""
    ablations = ablations_in(FOLDER / "histories.csv", ABLATIONS, "step")
    return Experiment("stdlib", {}, None, null_mean(TINY.width), ablations, axis="step")


def test_every_ablation_has_two_seeds_of_every_step(experiment: Experiment) -> None:
    for ablation in experiment.ablations:
        assert [run.seed for run in ablation.runs] == [42, 43]
        for run in ablation.runs:
            assert [entry["step"] for entry in run.entries] == [*range(0, 401, 25)]


def test_results_and_tables_follow_from_the_histories(experiment: Experiment) -> None:
    assert (FOLDER / "results.json").read_text() == to_json(experiment)
    assert (FOLDER / "results.csv").read_text() == results_csv(experiment)
    ours, theirs = (
        text.split("## The claims, one by one")[1].split("## How to read this")[0]
        for text in (to_markdown(experiment), (FOLDER / "report.md").read_text())
    )
    assert ours == theirs


def test_the_report_is_of_the_preset() -> None:
    report = (FOLDER / "report.md").read_text()
    for name, value in {"steps": TINY.steps, "width": TINY.width, "lr": TINY.lr, "every": TINY.every}.items():
        assert re.search(rf"\b{name} {value}\b", report), name
    for ablation in ABLATIONS:
        for seed in (42, 43):
            assert f"[{ablation.name}-{seed}](audits/{ablation.name}-{seed}/report.md)" in report
            assert (FOLDER / "audits" / f"{ablation.name}-{seed}" / "report.md").is_file()


def test_the_page_tells_how_many_claims_hold(experiment: Experiment) -> None:
    page = " ".join((DOCS / "transformers.md").read_text().split())
    for claims in (PUBLISHED, PREDICTED):
        outcomes = [claim.judged(experiment).outcome for claim in claims]
        assert Outcome.NOT_MEASURED not in outcomes
        assert f"{outcomes.count(Outcome.HOLDS)} of {len(outcomes)}" in page


def test_numbers_on_the_page_are_measured_or_published(experiment: Experiment) -> None:
    """Each `.dd` is a mean or a seed's value after the last step, or a published one."""
    known = {f"{value:.2f}"[1:] for value in measured(experiment)}
    known |= {f"{cell.mean:.2f}"[1:] for row in table_2().values() for cell in row.values()}
    known |= {f"{null_mean(TINY.width):.2f}"[1:]}
    told = set(re.findall(r"(?<![\d.])\.\d{2}(?!\d)", (DOCS / "transformers.md").read_text()))
    assert len(told) > 15
    assert told - known == set()


def measured(experiment: Experiment) -> set[float]:
    return {
        value
        for metrics in results(experiment).values()
        for found in metrics.values()
        for value in (found["mean"], *found["seeds"])
        if value is not None and value < 1
    }


def table_2():
    [table] = [one for one in published_tables() if one.number == 2]
    return table.rows
