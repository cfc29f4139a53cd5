"""Two processes of the CPU that train one model, as launchers start them, against one process."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from test_processes import LAUNCHERS, LEAVING, LIMIT, VARIABLES
from typer.testing import Result

Cli = Callable[..., Result]
LINE = (
    *("train", "--ablation", "tf-silu", "--preset", "tiny", "--steps", "60", "--every", "10"),
    *("--width", "16", "--sequence", "16", "--depth", "3", "--device", "cpu", "-v"),
)  # fmt: skip


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in the environment tells of a launcher."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def started(launcher: str, *args: object) -> subprocess.Popen[str]:
    """`python -m audit` in two processes, in a group of their own."""
    command = [str(part) for part in (*LAUNCHERS[launcher], "-m", "audit", *LINE, *args)]
    settings = {"OMP_NUM_THREADS": "1", "COLUMNS": "80", "HF_HOME": str(Path.cwd()), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | settings | LEAVING,
    )  # fmt: skip


def wait_for_step_20(process: subprocess.Popen[str]) -> None:
    """Until it says that it has been measured there."""
    assert process.stderr is not None
    for line in process.stderr:
        if "step 20:" in line:
            break


def history(out: str) -> list[dict[str, float]]:
    return json.loads(Path(out, "tf-silu-42/history.json").read_text())


def assert_alike(first: list[dict[str, float]], second: list[dict[str, float]]) -> None:
    """The same steps, with the same losses, rates and continuities to float32's tolerance."""
    assert [one["step"] for one in first] == [one["step"] for one in second] == [*range(0, 61, 10)]
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for name in ("loss", "valid_loss", "ppl", "lr"):
            if name in one:
                assert other[name] == pytest.approx(one[name], rel=1e-4), (one["step"], name)
        assert other["Down_u1"] == pytest.approx(one["Down_u1"], abs=0.02), one["step"]


@pytest.mark.drawn
def test_two_processes_make_the_curve_of_one(cli: Cli) -> None:
    process = started("accelerate", "--out", "two")
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, err
    alone = cli(*LINE, "--out", "one")
    assert alone.exit_code == 0, alone.stderr
    assert_alike(history("one"), history("two"))
    assert out.count("1 run of 1 ablation") == 1
    assert err.count("note: 1 run of 60 steps") == 1
    assert "still there" not in err
    assert "s a step on 2 x cpu" in err
    told = json.loads(Path("two/tf-silu-42/pace.json").read_text())
    assert (told["device"], told["steps"]) == ("2 x cpu", 59)


@pytest.mark.drawn
def test_stopped_in_two_processes_it_goes_on_in_one(cli: Cli) -> None:
    longer = ("--steps", "300")
    process = started("torchrun", *longer, "--out", "it")
    wait_for_step_20(process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=LIMIT)
    assert err.count("every step is kept in it; the same command goes on from there") == 1
    assert "still there" not in err
    [state] = Path("it/tf-silu-42/.state").glob("*.safetensors")
    assert 20 <= int(state.stem) < 300
    before = history("it")
    ended = cli(*LINE, *longer, "--out", "it")
    assert ended.exit_code == 0, ended.stderr
    assert "step 20:" not in ended.stderr
    assert cli(*LINE, *longer, "--out", "one").exit_code == 0
    assert history("it")[: len(before)] == before
    for resumed, alone in zip(history("it"), history("one"), strict=True):
        assert resumed["valid_loss"] == pytest.approx(alone["valid_loss"], rel=1e-2), alone["step"]


@pytest.mark.drawn
def test_one_that_ends_by_an_error_leaves_nothing_behind() -> None:
    process = started("torchrun", "--steps", "3000", "--out", "it")
    wait_for_step_20(process)
    Path("it/tf-silu-42").rename("moved")
    Path("it/tf-silu-42").write_text("in the way")
    _, err = process.communicate(timeout=LIMIT)
    assert process.returncode != 0
    assert err.count("error: it/tf-silu-42") == 1
    assert "RuntimeError" not in err
    assert "still there" not in err


@pytest.mark.drawn
@pytest.mark.skipif(sys.platform != "linux", reason="the ranks are found in /proc")
@pytest.mark.parametrize("rank", ["0", "1"])
def test_one_that_is_killed_ends_the_other_which_keeps_what_it_has(cli: Cli, rank: str) -> None:
    """Rank 0 by its last whole step; where it is the one that is killed, by what it last wrote."""
    longer = ("--steps", "400")
    process = started("torchrun", *longer, "--out", "it")
    wait_for_step_20(process)
    [killed] = [
        int(child)
        for children in Path(f"/proc/{process.pid}/task").glob("*/children")
        for child in children.read_text().split()
        if f"RANK={rank}" in Path(f"/proc/{child}/environ").read_text().split("\0")
    ]
    os.kill(killed, signal.SIGKILL)
    _, err = process.communicate(timeout=LIMIT)
    assert process.returncode != 0
    assert "defect" not in err
    kept = "every step is kept in it; the same command goes on from there"
    assert err.count(kept) == (1 if rank == "1" else 0)
    [state] = Path("it/tf-silu-42/.state").glob("*.safetensors")
    step = int(state.stem)
    assert 20 <= step < 400
    ended = cli(*LINE, *longer, "--out", "it")
    assert ended.exit_code == 0, ended.stderr
    assert f"note: tf-silu-42 goes on from step {step}\n" in ended.stderr
    assert [one["step"] for one in history("it")] == [*range(0, 401, 10)]


def test_a_batch_that_two_processes_cannot_share_is_told_once() -> None:
    process = started("torchrun", "--batch-size", "3", "--out", "it")
    _, err = process.communicate(timeout=LIMIT)
    assert process.returncode != 0
    assert err.count("error: a batch of 3 on 2 processes: choose a --batch-size that they divide evenly") == 1
    assert not list(Path("it").glob("tf-*"))
