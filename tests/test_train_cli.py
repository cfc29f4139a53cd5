"""`gcont-audit train` as a user meets it."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev

import pytest
from typer.testing import Result

from audit.train.ablations import ABLATIONS as TOY
from audit.train.ablations import FIGURES
from audit.train.datasets import DATASETS
from audit.train.transformer.ablations import ABLATIONS as TRANSFORMER
from registry.experiments import published_tables

Cli = Callable[..., Result]
ABLATIONS = (*TOY, *TRANSFORMER)
SMALL = ("--dataset", "digits", "--width", "8", "--depth", "3", "--epochs", "2", "--seeds", "2")


def test_the_list_says_what_each_isolates(cli: Cli) -> None:
    result = cli("train", "--list")
    assert result.exit_code == 0
    assert all(one.name in result.stdout for one in ABLATIONS)
    assert max(map(len, result.stdout.splitlines())) <= 80
    told = json.loads(cli("train", "--list", "--json").stdout)
    assert [one["name"] for one in told] == [one.name for one in ABLATIONS]
    assert told[2]["isolates"] == ABLATIONS[2].isolates


def test_every_row_of_the_papers_tables_can_be_trained() -> None:
    rows = {row for table in published_tables() for row in table.rows if table.number != 2}
    further = {*FIGURES[2].names}
    assert rows == {one.name for one in TOY if one.share == 1} - further
    transformers = {row for table in published_tables() for row in table.rows if table.number == 2}
    assert transformers - {"llama-3.1-8b"} == {one.name for one in TRANSFORMER[:6]}


@pytest.mark.drawn
def test_training_prints_a_table_and_writes_a_report(cli: Cli, tmp_path: Path) -> None:
    result = cli(
        "train", "--ablation", "res-relu", "--ablation", "nores-none", *SMALL, "--out", tmp_path / "it"
    )
    assert result.exit_code == 0, result.stderr
    assert "res-relu" in result.stdout
    assert "nores-none" in result.stdout
    assert "Written to" in result.stderr
    written = {
        file.relative_to(tmp_path / "it").as_posix() for file in (tmp_path / "it").iterdir() if file.is_file()
    }
    assert written == {"report.md", "results.csv", "results.json", "histories.csv"}
    assert "width 8, depth 3, gradient averages 0.9, 0.99, 0.999." in (tmp_path / "it/report.md").read_text()
    assert (tmp_path / "it/figures/continuity.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "it/nores-none-1/model.safetensors").is_file()
    assert (
        "The settings are not the paper's: epochs 2 instead of 20, width 8 instead of 256"
        in (tmp_path / "it/report.md").read_text()
    )


def test_results_are_means_over_the_seeds_histories(cli: Cli, tmp_path: Path) -> None:
    result = cli("train", "--ablation", "res-tanh", *SMALL, "--out", tmp_path / "it", "--json")
    told = json.loads(result.stdout)
    assert told == json.loads((tmp_path / "it/results.json").read_text())
    last = [json.loads((tmp_path / f"it/res-tanh-{seed}/history.json").read_text())[-1] for seed in (0, 1)]
    for metric in ("acc", "W_v1", "W_wa_u", "G_u2", "Gcum_v1"):
        values = [one[metric] for one in last]
        assert told["res-tanh"][metric]["seeds"] == values
        assert told["res-tanh"][metric]["mean"] == pytest.approx(fmean(values))
        assert told["res-tanh"][metric]["std"] == pytest.approx(stdev(values))
    with (tmp_path / "it/histories.csv").open() as opened:
        rows = list(csv.DictReader(opened))
    assert {(row["seed"], row["epoch"]) for row in rows} == {(s, e) for s in "01" for e in "012"}


def test_a_second_call_adds_to_the_report_and_trains_nothing_again(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "it"
    cli("train", "--ablation", "res-relu", *SMALL, "--out", out)
    before = (out / "res-relu-0/model.safetensors").stat().st_mtime_ns
    result = cli("train", "--ablation", "res-gelu", *SMALL, "--out", out, "--json")
    assert json.loads(result.stdout).keys() == {"res-gelu", "res-relu"}
    assert (out / "res-relu-0/model.safetensors").stat().st_mtime_ns == before


def test_runs_trained_otherwise_are_left_out(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "it"
    cli("train", "--ablation", "res-relu", *SMALL, "--out", out)
    result = cli("train", "--ablation", "res-gelu", *SMALL, "--lr", "0.01", "--out", out, "--json")
    assert json.loads(result.stdout).keys() == {"res-gelu"}
    assert "2 runs in" in result.stderr
    assert "left out" in result.stderr


def test_a_diverged_run_is_told_and_averaged_with_none(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "it"
    result = cli("train", "--ablation", "nores-none", *SMALL, "--lr", "1e30", "--out", out)
    assert result.exit_code == 0, result.stderr
    assert "loss no longer finite in epoch 1" in result.stdout
    told = json.loads((out / "results.json").read_text())["nores-none"]
    assert told["W_v1"]["mean"] is None


def test_quiet_says_nothing_but_the_result(cli: Cli, tmp_path: Path) -> None:
    result = cli("train", "--ablation", "res-relu", *SMALL, "--out", tmp_path / "it", "-q")
    assert result.stderr == ""
    assert "res-relu" in result.stdout


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (("--ablation", "res-rellu"), "there is no ablation 'res-rellu': did you mean res-relu"),
        (("--ablation", "zzz"), "`gcont-audit train --list` shows them"),
        (("--table", "7"), "--table 7: choose 1, 2, 3, 4, 5"),
        ((), "nothing to train: name an --ablation, a --table, a --figure or --all"),
        (("--all", "--seeds", "0"), "--seeds '0': choose 1 to 100"),
        (("--all", "--seeds", "a,b"), "--seeds 'a,b': give a count"),
        (("--all", "--dataset", "minst"), "there is no data set 'minst': did you mean mnist"),
        (("--all", "--data", "nowhere"), "nowhere"),
        (("--all", "--device", "tpu"), "--device 'tpu'"),
        (("--all", "--lr", "nan"), "--lr nan"),
        (("--all", "--lr", "0"), "--lr 0"),
    ],
)
def test_a_bad_request_is_one_line_and_exit_code_2(cli: Cli, line: tuple[str, ...], told: str) -> None:
    result = cli("train", *line)
    assert result.exit_code == 2
    assert told in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_batch_larger_than_the_data_is_refused(cli: Cli, tmp_path: Path) -> None:
    result = cli("train", "--ablation", "res-relu", *SMALL, "--batch-size", "2000", "--out", tmp_path / "it")
    assert result.exit_code == 2
    assert "--batch-size 2000: digits has 1437 training images" in result.stderr


def test_seeds_are_a_count_or_a_list(cli: Cli, tmp_path: Path) -> None:
    small = SMALL[:-2]
    cli("train", "--ablation", "res-relu", *small, "--seeds", "4,7", "--out", tmp_path / "list")
    cli("train", "--ablation", "res-relu", *small, "--seeds", "5,", "--out", tmp_path / "one")
    names = [sorted(path.name for path in (tmp_path / out).glob("res-*")) for out in ("list", "one")]
    assert names == [["res-relu-4", "res-relu-7"], ["res-relu-5"]]


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop_it_keeps_what_is_whole(cli: Cli, tmp_path: Path, stop: signal.Signals) -> None:
    line = [
        "--ablation",
        "res-relu",
        *SMALL[:-4],
        "--epochs",
        "120",
        "--seeds",
        "1",
        "--out",
        str(tmp_path / "it"),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "audit", "train", *line, "-v"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stderr is not None
    for told in process.stderr:
        if "epoch 3" in told:
            break
    process.send_signal(stop)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "finished epochs are kept in" in rest
    assert "Traceback" not in rest
    assert not (tmp_path / "it/report.md").exists()
    result = cli("train", *line, "-v")
    assert result.exit_code == 0
    assert "res-relu-0, epoch 1:" not in result.stderr
    assert "res-relu-0, epoch 120:" in result.stderr


def published_numbers() -> set[str]:
    """The published means, as the reports write them."""
    return {
        f"{cell.mean:.3f}".lstrip("0")
        for table in published_tables()
        for row in table.rows.values()
        for cell in row.values()
    }


@pytest.fixture
def mnist() -> Path:
    """The folder of MNIST's files."""
    root = os.environ.get("GCONT_TEST_DATA")
    if not root or not (Path(root) / "mnist").is_dir():
        pytest.skip("GCONT_TEST_DATA names no folder that holds mnist/")
    return Path(root) / "mnist"


def test_published_values_stand_beside_mnist_only(cli: Cli, tmp_path: Path, mnist: Path) -> None:
    thin = ("--width", "8", "--depth", "3", "--epochs", "1", "--seeds", "1", "--ablation", "res-relu")
    cli("train", *thin, "--data", mnist, "--out", tmp_path / "mnist")
    text = (tmp_path / "mnist/report.md").read_text()
    assert "Table 5" in text
    assert ".959 ± .001" in text
    assert "without a verdict" in text
    fashion = cli("train", *thin, "--dataset", "fashion-mnist", "--data", mnist.parent / "fashion_mnist",
                  "--out", tmp_path / "fashion")  # fmt: skip
    assert fashion.exit_code == 0, fashion.stderr
    other = (tmp_path / "fashion/report.md").read_text() + fashion.stdout
    assert "Table 5" not in other
    assert ".959 ± .001" not in other


def test_other_files_under_mnists_names_are_refused(cli: Cli, tmp_path: Path, mnist: Path) -> None:
    result = cli("train", "--ablation", "res-relu", "--data", mnist.parent / "fashion_mnist")
    assert result.exit_code == 2
    assert "fashion_mnist holds is fashion-mnist: ask for --dataset fashion-mnist" in result.stderr


def test_the_help_names_every_data_set(cli: Cli) -> None:
    told = cli("train", "--help").stdout
    assert all(one.name in told for one in DATASETS)
