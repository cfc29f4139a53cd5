"""`gcont-audit train` of small transformers as a user meets it."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import Result

from audit.cli.experiments.bars import lasting
from audit.cli.experiments.transformer import Asked
from audit.train.text import DATASETS
from audit.train.transformer.ablations import ABLATIONS
from audit.train.transformer.settings import PRESETS

Cli = Callable[..., Result]
THIN = (
    *("--preset", "tiny", "--steps", "6", "--every", "3", "--width", "8", "--depth", "2"),
    *("--sequence", "8", "--batch-size", "4", "--device", "cpu"),
)  # fmt: skip


@pytest.fixture
def prose(tmp_path: Path) -> Path:
    """A folder with a text of one's own."""
    folder = tmp_path / "prose"
    folder.mkdir()
    for name, count in (("train.txt", 60), ("valid.txt", 20)):
        (folder / name).write_text(
            "".join(f"Line {i} says that {i * i} is {i} squared.\n" for i in range(count))
        )
    return folder


def names_in(folder: Path) -> set[str]:
    """The files and folders in a folder, hidden ones apart."""
    return {file.name for file in folder.iterdir() if not file.name.startswith(".")}


@pytest.mark.drawn
def test_training_says_the_cost_prints_a_table_and_writes_a_report(
    cli: Cli, tmp_path: Path, prose: Path
) -> None:
    out = tmp_path / "it"
    result = cli(
        "train", "--ablation", "tf-silu", "--ablation", "tf-nonorm", *THIN, "--data", prose, "--out", out
    )
    assert result.exit_code == 0, result.stderr
    # 2 x 257 x 8 for the embeddings, 2 x (4 x 8 x 8 + 3 x 8 x 32) for the layers, 5 gains of 8
    assert 2 * 257 * 8 + 2 * (4 * 8 * 8 + 3 * 8 * 32) + 5 * 8 == 6200
    assert "note: 2 runs of 6 steps: 6.2k parameters, 192 tokens a run out of" in result.stderr
    assert re.search(
        r"note: \S+ s a step on cpu, [\d,]+ tokens a second: about 0 s for 2 runs", result.stderr
    )
    assert "2 runs of 2 ablations on prose" in result.stdout
    assert names_in(out) == {
        "tf-silu-42", "tf-nonorm-42", "audits", "figures", "report.md", "results.csv", "results.json",
        "histories.csv",
    }  # fmt: skip
    assert names_in(out / "figures") == {"projections.png", "growth.png"}
    for run in ("tf-silu-42", "tf-nonorm-42"):
        assert (out / "audits" / run / "report.md").is_file()
        assert f"- [{run}](audits/{run}/report.md)" in (out / "report.md").read_text()
    report = (out / "report.md").read_text()
    assert "tokenizer bytes, vocabulary 257" in report
    assert "| tf-silu has | 6,200 parameters |" in report
    assert re.search(r"\| speed of tf-silu-42 \| [\d,]+ tokens a second on cpu \|", report)
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert (result.stdout + report).count("Table 2") == 0


def test_a_second_call_trains_and_audits_nothing_again(cli: Cli, tmp_path: Path, prose: Path) -> None:
    out = tmp_path / "it"
    line = ("train", *THIN, "--data", prose, "--out", out)
    assert cli(*line, "--ablation", "tf-silu").exit_code == 0
    files = [out / "tf-silu-42/model.safetensors", out / "audits/tf-silu-42/audit.json"]
    before = [file.stat().st_mtime_ns for file in files]
    result = cli(*line, "--ablation", "tf-silu", "--ablation", "tf-gqa", "--json")
    assert json.loads(result.stdout).keys() == {"tf-silu", "tf-gqa"}
    assert [file.stat().st_mtime_ns for file in files] == before


def test_runs_trained_otherwise_are_left_out(cli: Cli, tmp_path: Path, prose: Path) -> None:
    line = ("train", *THIN, "--data", prose, "--out", tmp_path / "it", "--json")
    cli(*line, "--ablation", "tf-silu")
    result = cli(*line, "--ablation", "tf-relu", "--clip-norm", "0", "--schedule", "constant")
    assert json.loads(result.stdout).keys() == {"tf-relu"}
    assert f"note: 1 run in {tmp_path / 'it'} is unfinished or trained otherwise" in result.stderr
    config = json.loads((tmp_path / "it/tf-relu-42/config.json").read_text())
    assert config["training"]["clip_norm"] is None
    assert config["training"]["schedule"] == "constant"


def test_a_diverged_run_is_a_result(cli: Cli, tmp_path: Path, prose: Path) -> None:
    out = tmp_path / "it"
    line = ("--lr", "1e12", "--clip-norm", "0", "--warmup", "0", "--data", prose, "--out", out)
    result = cli("train", "--ablation", "tf-nonorm", *THIN, *line)
    assert result.exit_code == 0, result.stderr
    assert "tf-nonorm, seed 42: loss no longer finite in step" in result.stdout
    assert "✓ Without RMSNorm training diverges." in result.stdout
    assert json.loads((out / "results.json").read_text())["tf-nonorm"]["ppl"]["mean"] is None


def test_the_first_seed_is_the_papers(cli: Cli, tmp_path: Path, prose: Path) -> None:
    line = ("train", "--ablation", "tf-silu", *THIN, "--data", prose)
    cli(*line, "--out", tmp_path / "it", "-q")
    cli(*line, "--out", tmp_path / "it", "-q", "--seeds", "2")
    assert {path.name for path in (tmp_path / "it").glob("tf-*")} == {"tf-silu-42", "tf-silu-0", "tf-silu-1"}


def test_all_with_a_preset_is_every_transformer(cli: Cli, tmp_path: Path, prose: Path) -> None:
    result = cli("train", "--all", *THIN, "--data", prose, "--out", tmp_path / "it", "-q", "--json")
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    assert list(json.loads(result.stdout)) == [one.name for one in ABLATIONS]


def test_table_2_is_the_papers_six(cli: Cli, tmp_path: Path, prose: Path) -> None:
    result = cli("train", "--table", "2", *THIN, "--data", prose, "--out", tmp_path / "it", "--json")
    assert list(json.loads(result.stdout)) == [one.name for one in ABLATIONS[:6]]


def test_the_folder_is_named_after_the_text_and_the_preset(
    cli: Cli, prose: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("train", "--ablation", "tf-silu", *THIN, "--data", prose, "-q").exit_code == 0
    assert (tmp_path / "gcont-runs/prose-tiny/report.md").is_file()
    assert list((tmp_path / "gcont-runs/prose-tiny/.tokens").glob("*.train.npy"))


SILU = ("--ablation", "tf-silu")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (("--ablation", "tf-sillu"), "there is no ablation 'tf-sillu': did you mean tf-silu"),
        ((*SILU, "--preset", "huge"), "there is no preset 'huge': choose paper, small, tiny"),
        ((*SILU, "--ablation", "res-relu"), "res-relu is a toy MLP, tf-silu a transformer: train them by"),
        (("--table", "2", "--table", "5"), "is a toy MLP, tf-gelu a transformer: train them by separate"),
        (("--ablation", "res-relu", "--preset", "tiny"), "res-relu is a toy MLP: leave out what is for"),
        (("--ablation", "res-relu", "--steps", "9"), "--steps is the transformer's, and these are toy MLPs"),
        (("--table", "1", "--weight-decay", "0"), "--weight-decay is the transformer's"),
        ((*SILU, "--epochs", "9"), "--epochs is the toy MLP's; a transformer has --steps: leave"),
        (("--preset", "tiny"), "nothing to train: name an --ablation, a --table, a --figure or --all"),
        ((*SILU, "--preset", "tiny", "--dataset", "wikitxt-2"), "did you mean wikitext-2"),
        ((*SILU, "--preset", "tiny", "--dataset", "mnist"), "there is no text 'mnist': there are stdlib"),
        ((*SILU, "--preset", "tiny", "--data", "nowhere"), "nowhere"),
        ((*SILU, "--preset", "tiny", "--width", "12"), "--width 12: the model has 4 heads of an even size"),
        ((*SILU, "--preset", "tiny", "--schedule", "linear"), "--schedule 'linear': choose cosine or"),
        ((*SILU, "--preset", "tiny", "--precision", "fp8"), "--precision 'fp8': choose fp32 or bf16"),
        ((*SILU, "--preset", "tiny", "--compile", "yes"), "--compile 'yes': choose on or off"),
        ((*SILU, "--preset", "tiny", "--clip-norm", "-1"), "--clip-norm -1: choose a number from 0 on"),
        ((*SILU, "--preset", "tiny", "--weight-decay", "nan"), "--weight-decay nan: choose a number from 0"),
        ((*SILU, "--preset", "tiny", "--lr", "inf"), "--lr inf: choose a number above 0"),
        ((*SILU, "--preset", "tiny", "--tokenizer", "nowhere"), "nowhere"),
        ((*SILU, "--preset", "tiny", "--warmup", "401"), "--warmup 401: there are 400 steps: choose as many"),
        (("--table", "2", "--dataset", "digits"), "there is no text 'digits'"),
    ],
)  # fmt: skip
def test_a_bad_request_is_one_line_and_exit_code_2(cli: Cli, line: tuple[str, ...], told: str) -> None:
    result = cli("train", *line)
    assert result.exit_code == 2
    assert told in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not Path("gcont-runs").exists() or not list(Path("gcont-runs").rglob("tf-*"))


def test_a_model_that_no_memory_holds_is_refused(cli: Cli, tmp_path: Path, prose: Path) -> None:
    """16 bytes a parameter: 8 layers of 4 x 32768^2 + 12 x 32768^2 are 137 billion."""
    line = ("--preset", "tiny", "--width", "32768", "--data", prose, "--out", tmp_path / "it")
    result = cli("train", *SILU, *line)
    assert result.exit_code == 2
    assert "error: tf-silu-42 takes 2.2 TB of memory at least, and there are" in result.stderr
    assert "choose a smaller --micro-batch, --width or --depth" in result.stderr


@pytest.mark.parametrize("kind", [("tf-silu", *THIN), ("res-relu", "--dataset", "digits")])
def test_runs_go_into_no_run_and_into_no_file(
    cli: Cli, tmp_path: Path, prose: Path, kind: tuple[str, ...]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text("{}")
    (tmp_path / "file").write_text("")
    for out, told in (("run", "is a checkpoint itself"), ("file", "is no folder")):
        data = ("--data", prose) if kind[0] == "tf-silu" else ()
        result = cli("train", "--ablation", *kind, *data, "--out", tmp_path / out)
        assert result.exit_code == 2
        assert f"{tmp_path / out} {told}: name another place with --out" in result.stderr
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["config.json"]


def test_a_text_of_one_file_says_what_it_is_validated_on(cli: Cli, tmp_path: Path, prose: Path) -> None:
    (prose / "valid.txt").unlink()
    result = cli("train", *SILU, *THIN, "--data", prose, "--out", tmp_path / "it")
    assert result.exit_code == 0, result.stderr
    assert "note: prose: the last twentieth of train.txt is for validation" in result.stderr
    assert "(the last twentieth of train.txt is for validation)" in (tmp_path / "it/report.md").read_text()


@pytest.mark.parametrize("content", [None, b"\x09\x00\x00"])
def test_a_finished_run_that_is_not_whole_is_trained_again_and_says_so(
    cli: Cli, tmp_path: Path, prose: Path, content: bytes | None
) -> None:
    line = ("train", *SILU, *THIN, "--data", prose, "--out", tmp_path / "it")
    cli(*line)
    weights = tmp_path / "it/tf-silu-42/model.safetensors"
    before = weights.read_bytes()
    weights.unlink()
    if content is not None:
        weights.write_bytes(content)
    result = cli(*line)
    assert "note: tf-silu-42 is trained again: not all that it had come to is there" in result.stderr
    assert weights.read_bytes() == before
    assert "trained again" not in cli(*line).stderr


def test_a_text_too_short_for_a_window_is_told(cli: Cli, tmp_path: Path, prose: Path) -> None:
    line = ("--preset", "tiny", "--sequence", "9999", "--data", prose, "--out", tmp_path / "it")
    result = cli("train", *SILU, *line)
    assert result.exit_code == 2
    assert re.search(
        r"error: prose has \d+ training tokens, a window 10000: choose a shorter --sequence", result.stderr
    )


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop_it_keeps_every_step(
    cli: Cli, tmp_path: Path, prose: Path, stop: signal.Signals
) -> None:
    out = tmp_path / "it"
    line = ["train", *SILU, *THIN, "--steps", "400", "--data", str(prose), "--out", str(out), "-v"]
    process = subprocess.Popen(
        [sys.executable, "-m", "audit", *line], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stderr is not None
    for told in process.stderr:
        if "step 30:" in told:
            break
    process.send_signal(stop)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"every step is kept in {out}; the same command goes on from there" in rest
    assert "Traceback" not in rest
    assert not (out / "report.md").exists()
    result = cli(*line)
    assert result.exit_code == 0
    assert re.search(r"note: tf-silu-42 goes on from step \d+\n", result.stderr)
    assert "tf-silu-42, step 30:" not in result.stderr
    assert "tf-silu-42, step 400:" in result.stderr


def test_the_help_names_every_text_and_preset(cli: Cli) -> None:
    told = cli("train", "--help").stdout
    assert all(name in told for name in (*DATASETS, *PRESETS))


def test_the_helps_defaults_are_those_of_the_papers_preset(cli: Cli) -> None:
    told = " ".join(cli("train", "--help").stdout.replace("│", " ").split())
    paper = PRESETS["paper"].settings
    for option, value in {
        "--batch-size": paper.batch_size, "--lr": paper.lr, "--width": paper.width, "--steps": paper.steps,
        "--every": paper.every, "--sequence": paper.sequence, "--weight-decay": paper.weight_decay,
        "--clip-norm": f"{paper.clip_norm:g}",
    }.items():  # fmt: skip
        assert re.search(rf"{option} (?:(?! --).)*Default: {value}\.", told), option


def asked(**changes: object) -> Asked:
    """What a command line says that names the preset tiny and nothing else."""
    told = {
        "names": ("tf-silu",), "seeds": (42,), "preset": "tiny", "dataset": None, "data": None,
        "tokenizer": None, "device": "cpu", "out": None, "micro_batch": None, "compiled": None,
        "precision": None, "changes": {},
    }  # fmt: skip
    return Asked(**{**told, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("supported", "named", "precision"),
    [(True, None, "bf16"), (False, None, "fp32"), (True, "fp32", "fp32"), (False, "bf16", "bf16")],
)
def test_a_gpu_computes_in_bf16_where_it_can(
    monkeypatch: pytest.MonkeyPatch, supported: bool, named: str | None, precision: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    assert asked(precision=named).settings(torch.device("cuda")).precision == precision
    assert asked(precision=named).settings(torch.device("cpu")).precision == (named or "fp32")


def test_a_gpu_compiles_and_a_cpu_does_not_unless_told() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert [asked().is_compiled(device) for device in (cpu, cuda)] == [False, True]
    assert [asked(compiled="on").is_compiled(cpu), asked(compiled="off").is_compiled(cuda)] == [True, False]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (89, "89 s"), (420, "7 min"), (11_520, "3.2 h"), (440_640, "5.1 days")],
)
def test_a_time_is_told_in_the_unit_that_suits_it(seconds: float, words: str) -> None:
    assert lasting(seconds) == words
