"""Runs in their folders: resumed to the bit, kept apart, audited by the same code."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from toys import THIN, Silent, images, training

from audit import AuditOptions, audit_model
from audit.disk import write_file
from audit.errors import DataError, OutputError
from audit.train.folder import RunFolder
from audit.train.loop import Run
from audit.train.trainer import Training, diverged, train
from audit.train.writing import write


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a run, the lock apart."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != "lock"
    }


@pytest.fixture(params=[1, 64], ids=["alone", "together"])
def size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many runs a batch has at most, as on a CPU and as on a GPU."""
    monkeypatch.setattr("audit.train.trainer.most_together", lambda device: request.param)
    return request.param


TWINS = {"adam": "baseline"}
"""As this reading has it, adam is res-relu by another name."""


class Stopper(Silent):
    """Stops the training after so many steps of its runs."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, run: Run) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def test_a_run_leaves_its_files(tmp_path: Path) -> None:
    train(training(tmp_path, "res-relu"), Silent())
    folder = tmp_path / "res-relu-1"
    assert sorted(contents(folder)) == [
        ".state/0002.safetensors", "config.json", "history.json", "model.safetensors",
    ]  # fmt: skip
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "residual-mlp"
    assert (config["num_hidden_layers"], config["hidden_size"], config["seed"]) == (4, 12, 1)
    history = json.loads((folder / "history.json").read_text())
    assert [one["epoch"] for one in history] == [0, 1, 2]
    assert history[2]["delta"] == pytest.approx(history[2]["Gcum_v1"] - history[2]["W_v1"])
    assert history[2]["ema_0.9_v1"] is not None
    assert "Gcum_v1" not in history[0]


def test_the_same_command_gives_the_same_bytes(tmp_path: Path, size: int) -> None:
    for out in ("a", "b"):
        train(training(tmp_path / out, "res-none-ln", "nores-gelu"), Silent())
    for run in ("res-none-ln-0", "res-none-ln-1", "nores-gelu-0", "nores-gelu-1"):
        assert contents(tmp_path / "a" / run) == contents(tmp_path / "b" / run)


@pytest.mark.parametrize("steps", [1, 13, 14, 20])
def test_stopped_and_gone_on_with_is_the_same_to_the_bit(tmp_path: Path, size: int, steps: int) -> None:
    """6 steps an epoch, told for two runs: within the first and second epoch, and between them."""
    longer = replace(THIN, epochs=3)
    train(training(tmp_path / "whole", "res-gelu", settings=longer), Silent())
    stopped = training(tmp_path / "stopped", "res-gelu", settings=longer)
    with pytest.raises(KeyboardInterrupt):
        train(stopped, Stopper(steps))
    train(stopped, Silent())
    for run in ("res-gelu-0", "res-gelu-1"):
        assert contents(tmp_path / "stopped" / run) == contents(tmp_path / "whole" / run)


def test_trained_further_is_as_trained_at_once(tmp_path: Path, size: int) -> None:
    long = replace(THIN, epochs=4)
    train(training(tmp_path / "once", "res-relu-ln", settings=long), Silent())
    train(training(tmp_path / "twice", "res-relu-ln"), Silent())
    train(training(tmp_path / "twice", "res-relu-ln", settings=long), Silent())
    once, twice = (contents(tmp_path / one / "res-relu-ln-0") for one in ("once", "twice"))
    assert once == twice


@pytest.mark.parametrize("count", range(1, 17))
def test_killed_before_any_of_its_writes_it_goes_on_to_the_same_bits(
    tmp_path: Path, size: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 runs, 2 epochs, 4 files each."""
    train(training(tmp_path / "whole", "res-silu"), Silent())
    written = 0

    def dying(file: Path, content: bytes, *, durable: bool = False) -> None:
        nonlocal written
        written += 1
        if written == count:
            (file.parent / f".{file.name}.x1y2_z3w").write_bytes(content[:9])
            raise KeyboardInterrupt
        write_file(file, content, durable=durable)

    with monkeypatch.context() as patched:
        patched.setattr("audit.train.folder.write_file", dying)
        with pytest.raises(KeyboardInterrupt):
            train(training(tmp_path / "killed", "res-silu"), Silent())
    train(training(tmp_path / "killed", "res-silu"), Silent())
    for run in ("res-silu-0", "res-silu-1"):
        assert contents(tmp_path / "killed" / run) == contents(tmp_path / "whole" / run)


@pytest.mark.parametrize("count", range(1, 7))
def test_a_twin_is_whole_or_made_whole(tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before any of the files that are copied: config, history, weights and state, for two runs."""
    train(training(tmp_path, "res-relu"), Silent())
    copied = 0

    def dying(file: Path, content: bytes, *, durable: bool = False) -> None:
        nonlocal copied
        copied += 1
        if copied == count:
            raise KeyboardInterrupt
        write_file(file, content, durable=durable)

    with monkeypatch.context() as patched:
        patched.setattr("audit.train.folder.write_file", dying)
        with pytest.raises(KeyboardInterrupt):
            train(training(tmp_path, "res-relu", "adam", readings=TWINS), Silent())
    train(training(tmp_path, "res-relu", "adam", readings=TWINS), Silent())
    for seed in (0, 1):
        one, other = (contents(tmp_path / f"{name}-{seed}") for name in ("res-relu", "adam"))
        assert {**one, "config.json": b""} == {**other, "config.json": b""}


def test_lost_weights_are_written_again(tmp_path: Path) -> None:
    train(training(tmp_path, "res-relu"), Silent())
    before = contents(tmp_path / "res-relu-0")
    (tmp_path / "res-relu-0/model.safetensors").unlink()
    train(training(tmp_path, "res-relu"), Silent())
    assert contents(tmp_path / "res-relu-0") == before


def test_a_history_shorter_than_the_states_is_not_gone_on_from(tmp_path: Path) -> None:
    train(training(tmp_path, "res-relu"), Silent())
    before = contents(tmp_path / "res-relu-0")
    file = tmp_path / "res-relu-0/history.json"
    file.write_text(json.dumps(json.loads(file.read_text())[:2]))
    train(training(tmp_path, "res-relu"), Silent())
    assert contents(tmp_path / "res-relu-0") == before


@pytest.mark.parametrize(
    "broken", ["[", "[" * 100_000, "{}", "[1]", '[{"acc": NaN}]', '[{"acc": "high"}]', ""]
)
def test_a_history_that_is_none_is_made_again(tmp_path: Path, broken: str) -> None:
    train(training(tmp_path, "res-relu"), Silent())
    before = contents(tmp_path / "res-relu-0")
    (tmp_path / "res-relu-0/history.json").write_text(broken)
    train(training(tmp_path, "res-relu"), Silent())
    assert contents(tmp_path / "res-relu-0") == before


@pytest.mark.parametrize("broken", ["[", "[" * 100_000, "[]"])
def test_a_config_that_is_none_is_told(tmp_path: Path, broken: str) -> None:
    train(training(tmp_path, "res-relu"), Silent())
    (tmp_path / "res-relu-0/config.json").write_text(broken)
    with pytest.raises(OutputError, match=r"its config\.json is damaged"):
        train(training(tmp_path, "res-relu"), Silent())


def test_a_config_with_another_key_is_of_another_run(tmp_path: Path) -> None:
    train(training(tmp_path, "res-relu"), Silent())
    file = tmp_path / "res-relu-0/config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "dropout": 0.5}))
    with pytest.raises(OutputError, match=r"its dropout is 0\.5, not None"):
        train(training(tmp_path, "res-relu"), Silent())


def test_a_state_of_something_else_is_told(tmp_path: Path) -> None:
    train(training(tmp_path, "res-relu"), Silent())
    save_file({"sum.0": torch.zeros(12, 12)}, tmp_path / "res-relu-0/.state/0002.safetensors")
    with pytest.raises(OutputError, match=r"the state in .*res-relu-0 is of something else"):
        train(training(tmp_path, "res-relu", settings=replace(THIN, epochs=3)), Silent())


def test_a_linked_state_is_none_of_ours(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "res-relu-0").mkdir()
    (tmp_path / "res-relu-0/.state").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match=r"something other than a run \(\.state\)"):
        train(training(tmp_path, "res-relu"), Silent())
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_twin_that_was_trained_for_longer_is_refused(tmp_path: Path) -> None:
    train(training(tmp_path, "adam", settings=replace(THIN, epochs=3), readings=TWINS), Silent())
    with pytest.raises(OutputError, match="adam-0 has been trained for 3 epochs already, not 2"):
        train(training(tmp_path, "res-relu", "adam", readings=TWINS), Silent())


def test_a_copied_run_does_not_count_twice(tmp_path: Path) -> None:
    asked = training(tmp_path, "res-relu")
    train(asked, Silent())
    shutil.copytree(tmp_path / "res-relu-0", tmp_path / "res-relu-0-backup")
    written = write(asked)
    assert [run.seed for run in written.experiment.ablations[0].runs] == [0, 1]
    assert written.left_out == 1


def test_weights_that_are_lost_in_the_last_update_count_as_diverged(tmp_path: Path) -> None:
    asked = training(tmp_path, "res-relu", settings=replace(THIN, epochs=1, batch_size=100, lr=1e38))
    train(asked, Silent())
    history = RunFolder(tmp_path / "res-relu-0", {}).history()
    assert history[1]["loss"] is not None
    assert history[1]["test_loss"] is None
    assert diverged(history) == 1
    assert write(asked).experiment.ablations[0].whole == ()


def test_images_that_are_all_alike_are_told(tmp_path: Path) -> None:
    grey = replace(images(), train_pixels=np.full((100, 9), 7, np.uint8))
    with pytest.raises(DataError, match="all pixels of toy are alike"):
        train(replace(training(tmp_path, "res-relu"), data=grey), Silent())


def test_a_full_disk_asks_for_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Path, content: bytes, *, durable: bool = False) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("audit.train.folder.write_file", full)
    with pytest.raises(OutputError, match="No space left on device: make room and repeat the command, or"):
        train(training(tmp_path, "res-relu"), Silent())


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from dataclasses import replace
from toys import THIN, Silent, training
from audit.train.trainer import train
class Loud(Silent):
    def measured(self, run, values):
        print(values["epoch"], flush=True)
settings = replace(THIN, epochs=60)
train(training(Path(sys.argv[1]), "res-tanh", settings=settings), Loud())
"""


def test_killed_outright_it_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "killed"), str(Path(__file__).parent)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while process.stdout.readline().strip() not in ("7", ""):
        pass
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    settings = replace(THIN, epochs=60)
    killed = training(tmp_path / "killed", "res-tanh", settings=settings)
    assert 7 <= max(killed.folder(killed.runs[0]).kept()) < 60
    train(killed, Silent())
    train(training(tmp_path / "whole", "res-tanh", settings=settings), Silent())
    for run in ("res-tanh-0", "res-tanh-1"):
        assert contents(tmp_path / "killed" / run) == contents(tmp_path / "whole" / run)


def test_what_is_finished_is_left_as_it_is(tmp_path: Path) -> None:
    train(training(tmp_path, "res-relu"), Silent())
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.safetensors")}

    class Nobody(Silent):
        def begin(self, run: Run, epoch: int, steps: int) -> None:
            raise AssertionError(run)

    train(training(tmp_path, "res-relu"), Nobody())
    assert before == {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.safetensors")}
    with pytest.raises(AssertionError):
        train(training(tmp_path, "res-relu", seeds=(0, 1, 2)), Nobody())


def test_a_further_seed_joins_those_that_are_finished(tmp_path: Path, size: int) -> None:
    train(training(tmp_path, "res-relu", seeds=(0,)), Silent())
    train(training(tmp_path, "res-relu", seeds=(0, 1)), Silent())
    assert len(RunFolder(tmp_path / "res-relu-1", {}).history()) == 3


def test_rows_of_one_recipe_are_trained_once(tmp_path: Path) -> None:
    begun: list[str] = []

    class Listening(Silent):
        def begin(self, run: Run, epoch: int, steps: int) -> None:
            begun.append(run.name)

    train(training(tmp_path, "res-relu", "adam", readings=TWINS), Listening())
    assert sorted(begun) == ["res-relu-0", "res-relu-1"]
    one, other = (contents(tmp_path / name) for name in ("res-relu-0", "adam-0"))
    assert json.loads(other.pop("config.json"))["ablation"]["name"] == "adam"
    del one["config.json"]
    assert one == other


def test_a_folder_that_holds_another_run_is_refused(tmp_path: Path) -> None:
    train(training(tmp_path, "res-relu"), Silent())
    before = contents(tmp_path / "res-relu-0")
    other = training(tmp_path, "res-relu", settings=replace(THIN, lr=0.5))
    with pytest.raises(OutputError, match=r"res-relu-0 holds another run: its lr is 0\.001, not 0\.5"):
        train(other, Silent())
    with pytest.raises(OutputError, match="trained for 2 epochs already, not 1"):
        train(training(tmp_path, "res-relu", settings=replace(THIN, epochs=1)), Silent())
    assert contents(tmp_path / "res-relu-0") == before
    train(other, Silent(), fresh=True)
    assert contents(tmp_path / "res-relu-0") != before


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "res-relu-0").mkdir()
    (tmp_path / "res-relu-0/thesis.tex").write_text("\\begin{document}")
    for fresh in (False, True):
        with pytest.raises(OutputError, match=r"something other than a run \(thesis\.tex\)"):
            train(training(tmp_path, "res-relu"), Silent(), fresh=fresh)
    assert [file.name for file in (tmp_path / "res-relu-0").rglob("*")] == ["thesis.tex"]


def test_two_cannot_train_one_run_at_once(tmp_path: Path) -> None:
    asked = training(tmp_path, "res-relu")
    other = pytest.raises(OutputError, match="another process is training")
    with asked.folder(asked.runs[1]).locked(), other:
        train(asked, Silent())


def test_a_damaged_state_is_told(tmp_path: Path) -> None:
    train(training(tmp_path, "res-relu"), Silent())
    (tmp_path / "res-relu-1/.state/0002.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(OutputError, match=r"0002\.safetensors cannot be read.*--fresh"):
        train(training(tmp_path, "res-relu", settings=replace(THIN, epochs=3)), Silent())


def test_a_run_that_diverged_is_recorded_and_not_tried_again(tmp_path: Path, size: int) -> None:
    asked = training(tmp_path, "res-none", settings=replace(THIN, lr=1e30, epochs=4))
    train(asked, Silent())
    history = RunFolder(tmp_path / "res-none-0", {}).history()
    assert diverged(history) == len(history) - 1 < 4
    assert history[-1]["W_v1"] is None
    before = contents(tmp_path / "res-none-0")
    train(asked, Silent())
    assert contents(tmp_path / "res-none-0") == before


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        train(training(tmp_path / "file", "res-relu"), Silent())


@pytest.mark.parametrize("name", ["res-relu", "res-none-ln", "nores-none"])
def test_a_run_is_audited_by_the_same_code(tmp_path: Path, name: str) -> None:
    train(training(tmp_path, name, seeds=(0,)), Silent())
    report = audit_model(str(tmp_path / f"{name}-0"), AuditOptions(full=True))
    last = RunFolder(tmp_path / f"{name}-0", {}).history()[-1]
    assert report.model.family == "residual-mlp"
    assert report.coverage.unknown == ()
    found = report.projections["Up"]
    assert found.wa is not None
    assert found.effective_rank is not None
    told = found.continuity
    assert (told.v1, told.v2, told.u1, told.u2, found.wa.v, found.wa.u) == pytest.approx(
        [last[f"W_{metric}"] for metric in ("v1", "v2", "u1", "u2", "wa_v", "wa_u")], abs=1e-4
    )


def test_the_network_that_is_saved_computes_what_was_trained(tmp_path: Path) -> None:
    asked: Training = training(tmp_path, "res-silu", seeds=(0,))
    train(asked, Silent())
    saved = load_file(tmp_path / "res-silu-0/model.safetensors")
    x, y = asked.data.test(torch.device("cpu"))
    h = x @ saved["embedding.weight"].T + saved["embedding.bias"]
    for layer in range(4):
        h = h + torch.nn.functional.silu(h @ saved[f"layers.{layer}.weight"].T)
    logits = h @ saved["head.weight"].T + saved["head.bias"]
    told = RunFolder(tmp_path / "res-silu-0", {}).history()[-1]["acc"]
    assert told == pytest.approx(float((logits.argmax(-1) == y).float().mean()), abs=0.03)
