"""What the paper leaves open: every answer can be asked for, is trained, and is told by the runs."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from toys import THIN, Silent, images, training

from audit.errors import UsageError
from audit.train.ablations import ABLATIONS, Ablation, ablation
from audit.train.loop import Run
from audit.train.readings import QUESTIONS, parsed, read
from audit.train.trainer import config_of, train
from audit.train.writing import write

Cli = Callable[..., Result]
SMALL = ("--dataset", "digits", "--width", "8", "--depth", "3", "--epochs", "2", "--seeds", "1")
ANSWERS = [(name, answer) for name, question in QUESTIONS.items() for answer in question.answers]


def about(name: str) -> list[Ablation]:
    """The ablations that a question is about."""
    return [one for one in ABLATIONS if QUESTIONS[name].is_about(one)]


def test_questions_are_about_the_rows_that_depend_on_them() -> None:
    names = ("radial", "layernorm", "adam", "nonadaptive")
    assert {name: [one.name for one in about(name)] for name in names} == {
        "radial": ["res-radial"],
        "layernorm": ["res-none-ln", "res-relu-ln"],
        "adam": ["adam"],
        "nonadaptive": [
            "adam-nonadaptive", "nonadaptive-init-0.005", "nonadaptive-init-0.001", "nonadaptive-init-0.0001"
        ],
    }  # fmt: skip
    assert about("momentum") == about("nonadaptive")
    assert {one.init_std for one in about("init")} == {0.005, 0.001, 0.0001}


@pytest.mark.parametrize(("name", "answer"), ANSWERS)
def test_every_answer_but_the_first_makes_another_run(name: str, answer: str) -> None:
    for one in ABLATIONS:
        changed = read(one, {name: answer}) != one
        assert changed == (QUESTIONS[name].is_about(one) and answer != QUESTIONS[name].usual)
    configs = {json.dumps(config_of(Run(read(about(name)[0], {name: one}), 0), images(), THIN)) for one in
               QUESTIONS[name].answers}  # fmt: skip
    assert len(configs) == len(QUESTIONS[name].answers)


@pytest.mark.parametrize(("name", "answer"), ANSWERS)
def test_every_answer_trains(tmp_path: Path, name: str, answer: str) -> None:
    one = about(name)[0]
    work = training(tmp_path, one.name, seeds=(0,), readings=parsed([f"{name}={answer}"]))
    train(work, Silent())
    (found,) = write(work).experiment.ablations
    assert found.whole[0].last["W_v1"] is not None


def test_what_is_usual_is_no_reading() -> None:
    assert parsed([f"{name}={question.usual}" for name, question in QUESTIONS.items()]) == {}
    assert parsed(["radial=tanh", "layernorm=sum", "radial=tanh"]) == {"radial": "tanh"}


@pytest.mark.parametrize(
    ("told", "hint"),
    [
        (["radial=cosh"], "choose radial= one of soft, sigmoid, tanh, unit"),
        (["radial"], "choose radial= one of"),
        (["layrnorm=sum"], "did you mean layernorm=...?"),
        (["=tanh"], "choose one of"),
        ([""], "choose one of"),
        (["radial=tanh", "radial=unit"], "keep one of them"),
    ],
)
def test_another_answer_is_refused_in_a_line(told: list[str], hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(told)
    assert hint in caught.value.hint


def test_runs_read_otherwise_are_other_runs(cli: Cli, tmp_path: Path) -> None:
    line = ("train", "--ablation", "res-radial", "--ablation", "res-relu", *SMALL)
    first, second = tmp_path / "first", tmp_path / "second"
    assert cli(*line, "--out", first).exit_code == 0
    other = cli(*line, "--reading", "radial=unit", "--out", second)
    assert other.exit_code == 0, other.stderr
    assert "reading radial=unit" in (second / "report.md").read_text()
    assert "reading" not in (first / "report.md").read_text().split("## ")[0]
    refused = cli(*line, "--reading", "radial=unit", "--out", first)
    assert refused.exit_code != 0
    assert "its activation is 'radial', not 'radial-unit'" in refused.stderr
    for run, same in (("res-radial-0", False), ("res-relu-0", True)):
        states = [(out / run / "model.safetensors").read_bytes() for out in (first, second)]
        assert (states[0] == states[1]) is same


def test_the_usual_folder_tells_the_reading(cli: Cli) -> None:
    assert cli("train", "--ablation", "res-radial", *SMALL, "--reading", "radial=unit").exit_code == 0
    assert Path("gcont-runs/digits-radial-unit/res-radial-0/config.json").is_file()


def test_the_list_has_every_answer(cli: Cli) -> None:
    told = cli("train", "--list").stdout
    for name, answer in ANSWERS:
        assert f"{name}={answer}" in told
    assert ablation("res-radial").activation == "radial"
