"""Ablations that break a share of the symmetry: what sets them apart, their table, and where it is drawn."""

from pathlib import Path

import pytest
from toys import Silent, training

from audit.train.ablations import ABLATIONS
from audit.train.trainer import train
from audit.train.writing import write
from reports.training.figures import draw
from reports.training.markdown import picture_lines, to_markdown
from reports.training.model import AblationRuns, Experiment, RunHistory
from reports.training.pictures import SHARES
from reports.training.pictures.shares import by_share


def runs(name: str, share: float | None, *v1: float | None) -> AblationRuns:
    """An ablation whose seeds end with these values of v1; None diverged."""
    histories = tuple(
        RunHistory(seed, ({"W_v1": 0.1}, {"W_v1": value, "acc": 0.5}), 1 if value is None else None)
        for seed, value in enumerate(v1)
    )
    return AblationRuns(name, "something", histories, share)


def experiment(*ablations: AblationRuns) -> Experiment:
    return Experiment("toy", {}, None, 0.05, ablations)


FEW = (runs("half", 0.5, 0.6, 0.8), runs("other", None, 0.3), runs("none", 0.0, 0.2))
ENOUGH = (*FEW, runs("all", 1.0, 0.9, None), runs("all again", 1.0, 0.1), runs("lost", 0.25, None))


def test_only_what_differs_by_its_share_alone_has_one() -> None:
    told = {one.name: one.broken for one in ABLATIONS if one.broken is not None}
    assert told == {
        "res-none": 0.0,
        "res-partial-0.1": 0.1,
        "res-partial-0.25": 0.25,
        "res-partial-0.5": 0.5,
        "res-partial-0.75": 0.75,
        "res-partial-0.9": 0.9,
        "res-relu": 1.0,
    }


def test_a_curve_takes_three_shares_each_once_and_those_that_did_not_diverge() -> None:
    assert by_share(experiment(*FEW)) == ()
    assert [one.name for one in by_share(experiment(*ENOUGH))] == ["none", "half", "all"]


def test_the_table_is_in_order_of_the_share() -> None:
    assert list(picture_lines(SHARES, experiment(*FEW))) == []
    lines = list(picture_lines(SHARES, experiment(*ENOUGH)))
    assert lines[3] == "![How much of the symmetry must be broken](figures/shares.png)"
    assert lines[-3:] == [
        "| 0% | none | .200 | – | – | – | .500 |",
        "| 50% | half | .700 ± .141 | – | – | – | .500 ± .000 |",
        "| 100% | all | .900 | – | – | – | .500 |",
    ]


@pytest.mark.drawn
def test_it_is_drawn_where_there_is_something_to_draw() -> None:
    drawn = draw(SHARES, experiment(*ENOUGH))
    assert drawn.startswith(b"\x89PNG")
    assert drawn == draw(SHARES, experiment(*ENOUGH))
    assert drawn != draw(SHARES, experiment(*ENOUGH[:3], runs("all", 1.0, 0.7)))


@pytest.mark.parametrize(
    ("names", "there"),
    [(("res-none", "res-relu"), False), (("res-none", "res-partial-0.5", "res-relu"), True)],
)
def test_a_report_has_the_curve_where_there_is_one(
    tmp_path: Path, names: tuple[str, ...], there: bool
) -> None:
    work = training(tmp_path / "runs", *names)
    train(work, Silent())
    found = write(work).experiment
    assert (tmp_path / "runs/figures/shares.png").exists() is there
    assert ("figures/shares.png" in (tmp_path / "runs/report.md").read_text()) is there
    assert ("How much of the symmetry" in to_markdown(found)) is there
