"""Which published values stand beside which runs of the transformer, and where its numbers come from."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers_at_work import BY_NAME, CPU

from audit.train.text import Tokens
from audit.train.transformer.config import config_of
from audit.train.transformer.machine import Machine
from audit.train.transformer.settings import Run, Settings
from audit.train.transformer.trainer import Training
from audit.train.transformer.writing import write

PAPER = Settings()
IDS = np.zeros(400, np.uint16)


def text(dataset: str, vocabulary: int) -> Tokens:
    return Tokens(dataset, "gpt2_bpe", vocabulary, "e" * 64, IDS, IDS[:200])


def finished(out: Path, tokens: Tokens, settings: Settings, name: str = "tf-silu") -> Training:
    """A folder with a finished run, as the trainer leaves it, but for the weights."""
    run = Run(BY_NAME[name], 42)
    folder = out / run.name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config_of(run, tokens, settings)))
    last = {"step": settings.steps, "loss": 3.7, "valid_loss": 3.7, "ppl": 40.4, "Q_v1": 0.41, "K_v1": 0.6}
    (folder / "history.json").write_text(json.dumps([{"step": 0, "valid_loss": 10.8, "ppl": 5e4}, last]))
    return Training((run,), tokens, settings, out, Machine(CPU))


def test_table_2_stands_beside_the_papers_text_and_settings(tmp_path: Path) -> None:
    training = finished(tmp_path, text("wikitext-103", 50257), PAPER)
    [table] = write(training).experiment.tables
    assert table.number == 2
    assert "ppl" in table.columns
    assert table.rows["tf-silu"]["ppl"].mean == 41.9
    report = (tmp_path / "report.md").read_text()
    assert "The settings are those of the published runs, as far as they are known." in report
    assert ".405" in report  # Q v1 of Res+SiLU+Norm, as the paper prints it


def test_beside_another_text_it_stands_without_perplexities(tmp_path: Path) -> None:
    training = finished(tmp_path, text("prose", 50257), PAPER)
    [table] = write(training).experiment.tables
    assert "ppl" not in table.columns
    assert all("ppl" not in row for row in table.rows.values())
    report = (tmp_path / "report.md").read_text()
    assert ".405" in report
    assert "41.9" not in report


@pytest.mark.parametrize(
    ("vocabulary", "settings", "said"),
    [
        (257, PAPER, "No published table is about this data set."),
        (50257, replace(PAPER, steps=1000), "The settings are not the paper's: steps 1000 instead of 10000."),
        (50257, replace(PAPER, width=64), "The settings are not the paper's: width 64 instead of 256."),
    ],
)
def test_beside_other_tokens_or_settings_it_does_not_stand(
    tmp_path: Path, vocabulary: int, settings: Settings, said: str
) -> None:
    training = finished(tmp_path, text("wikitext-103", vocabulary), settings)
    assert write(training).experiment.tables == ()
    report = (tmp_path / "report.md").read_text()
    assert said in report
    assert ".405" not in report


def test_what_the_paper_leaves_open_is_no_other_setting(tmp_path: Path) -> None:
    settings = replace(
        PAPER, lr=5e-4, warmup=100, schedule="constant", weight_decay=0.0, clip_norm=None, every=50
    )
    training = finished(tmp_path, text("wikitext-103", 50257), settings)
    assert write(training).experiment.as_published is None


@pytest.mark.parametrize(
    ("precision", "device", "said"),
    [
        # 10 steps of 128 x 128 tokens in 2 s; 6 x (34124544 - 50257 x 256) + 12 x 8 x 128 x 256 a token
        ("bf16", "NVIDIA H100 80GB HBM3", "81,920 tokens a second on NVIDIA H100 80GB HBM3, 1% of the peak"),
        ("fp32", "NVIDIA H100 80GB HBM3", "81,920 tokens a second on NVIDIA H100 80GB HBM3 |"),
        ("bf16", "cpu", "81,920 tokens a second on cpu |"),
    ],
)
def test_a_gpus_speed_is_told_as_a_share_of_its_peak(
    tmp_path: Path, precision: str, device: str, said: str
) -> None:
    settings = replace(PAPER, precision=precision)  # type: ignore[arg-type]
    training = finished(tmp_path, text("prose", 50257), settings)
    (tmp_path / "tf-silu-42/pace.json").write_text(
        json.dumps({"device": device, "steps": 10, "seconds": 2.0})
    )
    write(training)
    assert f"| speed of tf-silu-42 | {said}" in (tmp_path / "report.md").read_text()


def test_the_share_is_of_the_processes_that_trained(tmp_path: Path) -> None:
    """Whoever writes the report: 8 processes, 10 steps in .02 s, 8.2 million tokens a second of 131 MFLOP."""
    training = finished(tmp_path, text("prose", 50257), replace(PAPER, precision="bf16"))
    told = {"device": "8 x NVIDIA H100 80GB HBM3", "steps": 10, "seconds": 0.02, "processes": 8}
    (tmp_path / "tf-silu-42/pace.json").write_text(json.dumps(told))
    write(training)
    assert (
        "8,192,000 tokens a second on 8 x NVIDIA H100 80GB HBM3, 14% of the peak"
        in (tmp_path / "report.md").read_text()
    )


@pytest.mark.parametrize("pace", ["{}", "[", '{"device": 3, "steps": "x", "seconds": null}', ""])
def test_a_pace_that_is_none_is_not_told(tmp_path: Path, pace: str) -> None:
    training = finished(tmp_path, text("prose", 50257), PAPER)
    (tmp_path / "tf-silu-42/pace.json").write_text(pace)
    write(training)
    assert "speed of" not in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    "history", ["[", "[]", '[{"step": 0}]', '[{"step": 0}, {"step": 500, "loss": 3.0, "valid_loss": 3.0}]']
)
def test_a_run_that_is_not_finished_is_left_out(tmp_path: Path, history: str) -> None:
    training = finished(tmp_path, text("prose", 50257), PAPER)
    (tmp_path / "tf-silu-42/history.json").write_text(history)
    written = write(training)
    assert (written.left_out, written.experiment.ablations) == (1, ())


def test_a_foreign_checkpoint_in_the_folder_is_no_run(tmp_path: Path) -> None:
    training = finished(tmp_path, text("prose", 50257), PAPER)
    (tmp_path / "a-llama").mkdir()
    (tmp_path / "a-llama/config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 64}))
    written = write(training)
    assert (written.left_out, len(written.experiment.ablations)) == (0, 1)
