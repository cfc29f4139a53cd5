"""`batch`: several models in one go, what fails costs the others nothing, what is done is left as it is."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import llama_config, write_llama
from hub_server import HubServer, client_of

import audit.cli.auditing
from audit.batch import plan_jobs
from audit.checkpoint import TensorReader
from reports.comparison import Audited, Cell, Column, Failed, cell, columns, to_json
from reports.index import to_markdown

from sample_report import pair, sample_report  # isort: skip

PAGE = """<!-- gcont-audit batch -->

# Geometric continuity of 1 model

![Continuity over depth, model by model](index.png)

*Each panel is a projection in a space that faces the residual stream, each line a model: |cos| between adjacent layers over relative depth. Dotted: what random directions give.*

| model | layers | width | Q v1 | V v1 | O u1 | null | as expected | findings | settings |
|:--|--:|--:|--:|--:|--:|--:|--:|--:|:--|
| [org/na\\*me?\\[2J](org--name/report.md) | 3 | 100 | **0.75** | **0.50** | **0.88** | 0.080 | 2 of 3 | 1 / 10 / 0 | --full, --layers 0:3, --only Q,V,O |
| gone\\|model | – | – | – | – | – | – | – | – | **failed**: there is no model gone\\|model on the Hub |

Mean |cos| between the leading singular vectors of adjacent layers; bold where it is moderate or strong. null: what random directions of that width give. As expected: of the projections, how many are continuous as arXiv:2605.04971 has it. Findings: errors / warnings / notes, told in each report.
"""  # noqa: E501

ENTRIES = (
    Audited("org/name", "org--name", sample_report(), fresh=True),
    Failed("gone|model", "there is no model gone|model on the Hub", 4),
)


def test_the_page_is_this_document() -> None:
    assert to_markdown(ENTRIES) == PAGE
    assert [column.heading for column in columns(ENTRIES)] == ["Q v1", "V v1", "O u1"]


def test_only_moderate_continuity_and_more_is_bold() -> None:
    """With a null of .08, moderate begins at .264; over forty pairs less is weak, but more than chance."""
    report = sample_report()
    pairs = tuple(pair(i, 0.26, 0.26) for i in range(40))
    found = replace(report.projections["Q"], pairs=pairs)
    for value, strong in ((0.263, False), (0.265, True)):
        changed = replace(found, continuity=replace(found.continuity, v1=value))
        shown = cell(replace(report, projections={"Q": changed}), Column("Q", "v"))
        assert (shown.text, shown.strong) == (f"{value:.2f}", strong)
    assert cell(report, Column("Gate", "v")) == Cell("–", strong=False)


def test_a_page_without_any_report_has_no_picture() -> None:
    page = to_markdown(ENTRIES[1:])
    assert "index.png" not in page
    assert "| model | layers | width | null | as expected | findings | settings |" in page


def test_the_json_tells_each_outcome() -> None:
    value = json.loads(to_json(ENTRIES))
    assert value["schema"] == "gcont-audit-batch/1"
    assert [one["outcome"] for one in value["models"]] == ["audited", "failed"]
    assert value["models"][0]["continuity"]["O"] == {"v1": 0.0625, "u1": 0.875, "v2": 0.25, "u2": 0.125}
    assert value["models"][1]["exit_code"] == 4


# A batch


@pytest.fixture
def four(tmp_path: Path) -> list[Path]:
    """Four checkpoints, the third of them cut short."""
    folders = [write_llama(tmp_path / name, layers=4 + i) for i, name in enumerate("abcd")]
    file = folders[2] / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    return folders


def outcomes(result) -> dict[str, str]:
    return {Path(one["name"]).name: one["outcome"] for one in json.loads(result.stdout)["models"]}


def test_the_broken_one_is_told_and_costs_the_others_nothing(cli, four):
    result = cli("batch", *four)
    assert result.exit_code == 1
    assert sorted(os.listdir("gcont-reports")) == ["a", "b", "d", "index.md", "index.png"]
    page = Path("gcont-reports/index.md").read_text()
    assert "[b](b/report.md)" in page
    assert f"| {four[2]} |" in page.replace("\\", "")
    assert "**failed**: model.safetensors is truncated" in page
    error = result.stderr.splitlines()[-1]
    assert error.startswith(f"error: 1 of 4 models failed: {four[2]}: run the same line again")
    assert f"note: {four[2]} failed: model.safetensors is truncated" in result.stderr
    for name in "abd":
        assert sorted(os.listdir(f"gcont-reports/{name}"))[:2] == ["audit.json", "figures"]
        assert name in result.stdout


def test_a_rerun_does_only_what_is_not_done(cli, four, monkeypatch):
    assert outcomes(cli("batch", *four, "--json")) == dict.fromkeys("abd", "audited") | {"c": "failed"}
    kept = {name: Path(f"gcont-reports/{name}/audit.json").read_bytes() for name in "abd"}
    write_llama(four[2], layers=6)
    result = cli("batch", *four, "--json")
    assert result.exit_code == 0, result.stderr
    assert outcomes(result) == dict.fromkeys("abd", "unchanged") | {"c": "audited"}
    assert kept == {name: Path(f"gcont-reports/{name}/audit.json").read_bytes() for name in "abd"}
    assert Path("gcont-reports/index.md").read_text().count("/report.md)") == 4
    monkeypatch.setattr(TensorReader, "read", lambda *_: pytest.fail("a weight was read"))
    assert set(outcomes(cli("batch", *four, "--json")).values()) == {"unchanged"}


@pytest.mark.parametrize("options", [["--full"], ["--fold-norm"], ["--only", "q"], ["--layers", "0:3"]])
def test_other_settings_are_another_report(cli, four, options):
    assert cli("batch", four[0]).exit_code == 0
    assert outcomes(cli("batch", four[0], *options, "--json")) == {"a": "audited"}
    assert outcomes(cli("batch", four[0], *options, "--json")) == {"a": "unchanged"}


def spoil_json(folder: Path, model: Path) -> None:
    (folder / "audit.json").write_text("{}")


def lose_vectors(folder: Path, model: Path) -> None:
    (folder / "vectors.safetensors").unlink()


def other_version(folder: Path, model: Path) -> None:
    text = (folder / "audit.json").read_text()
    (folder / "audit.json").write_text(text.replace('"tool_version": "', '"tool_version": "0'))


def other_heads(folder: Path, model: Path) -> None:
    """The weights are the same; how OV is made of them is not."""
    write_llama(model, layers=4, config=llama_config(4, num_attention_heads=2))


def other_weights(folder: Path, model: Path) -> None:
    """Of the same shapes and size: only the content tells."""
    planted = {"model.layers.0.self_attn.q_proj.weight": torch.eye(16)}
    write_llama(model, layers=4, planted=planted)


@pytest.mark.parametrize("change", [spoil_json, lose_vectors, other_heads, other_version, other_weights])
def test_what_is_no_longer_the_same_is_done_again(cli, four, change):
    assert cli("batch", four[0]).exit_code == 0
    change(Path("gcont-reports/a"), four[0])
    if change is spoil_json:  # no report any more, so not ours to replace
        assert outcomes(cli("batch", four[0], "--json")) == {"a": "failed"}
        assert Path("gcont-reports/a/audit.json").read_text() == "{}"
        return
    assert outcomes(cli("batch", four[0], "--json")) == {"a": "audited"}


@pytest.mark.parametrize("lost", ["report.md", "figures/lag.png"])
def test_what_is_lost_of_a_report_is_drawn_again_without_the_weights(cli, four, monkeypatch, lost):
    assert cli("batch", four[0]).exit_code == 0
    page = Path("gcont-reports/a/report.md").read_bytes()
    Path("gcont-reports/a", lost).unlink()
    monkeypatch.setattr(TensorReader, "read", lambda *_: pytest.fail("a weight was read"))
    assert outcomes(cli("batch", four[0], "--json")) == {"a": "unchanged"}
    assert Path("gcont-reports/a", lost).is_file()
    assert Path("gcont-reports/a/report.md").read_bytes() == page


def test_a_full_report_is_not_replaced_by_a_lesser_one(cli, four):
    assert cli("batch", four[0], "--full").exit_code == 0
    assert outcomes(cli("batch", four[0], "--json")) == {"a": "unchanged"}
    assert json.loads(Path("gcont-reports/a/audit.json").read_text())["settings"]["full"]
    again = cli("batch", four[0], "--full", "--only", "q")
    assert f"{four[0]} had changed, or the settings or the version: audited again" in again.stderr


def test_the_page_is_over_every_report_in_the_folder(cli, four):
    assert cli("batch", four[0], "--only", "q").exit_code == 0
    result = cli("batch", four[1])
    assert result.exit_code == 0
    page = Path("gcont-reports/index.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| [")]
    assert [row.split("]")[0] for row in rows] == ["| [b", "| [a"]
    assert rows[1].endswith("| --only Q |")
    assert not [line for line in result.stdout.splitlines() if line.startswith(" a ")], "not asked for"


def test_a_reader_who_has_enough_does_not_hide_the_failure(four, tmp_path):
    """`batch ... | true`"""
    command = [sys.executable, "-m", "audit", "batch", str(four[0]), str(four[2])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        stderr = process.stderr.read()
    assert process.returncode == 1
    assert stderr.splitlines()[-1].startswith("error: 1 of 2 models failed")


def test_a_defect_in_one_model_is_told_and_the_rest_goes_on(cli, four, monkeypatch):
    real = audit.cli.auditing.find

    def find(model, *args, **kwargs):
        if model == str(four[0]):
            raise ZeroDivisionError("by us")
        return real(model, *args, **kwargs)

    monkeypatch.setattr(audit.cli.auditing, "find", find)
    result = cli("batch", four[0], four[1], "--json")
    assert result.exit_code == 1
    failed, fine = json.loads(result.stdout)["models"]
    assert (failed["exit_code"], fine["outcome"]) == (70, "audited")
    assert failed["error"] == "ZeroDivisionError: by us: a defect in gcont-audit"
    assert "Traceback" not in result.stderr
    assert "Traceback" in cli("batch", four[0], "-vv").stderr


def test_ctrl_c_keeps_what_is_done_and_says_so(cli, four, monkeypatch):
    assert cli("batch", four[3]).exit_code == 0
    real = audit.cli.auditing.find

    def find(model, *args, **kwargs):
        if model == str(four[1]):
            raise KeyboardInterrupt
        return real(model, *args, **kwargs)

    monkeypatch.setattr(audit.cli.auditing, "find", find)
    result = cli("batch", four[0], four[1], four[3])
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.splitlines()[-1] == (
        "error: stopped by Ctrl-C: 1 of 3 models are done; the same command goes on from there"
    )
    assert sorted(os.listdir("gcont-reports")) == ["a", "d", "index.md", "index.png"]
    page = Path("gcont-reports/index.md").read_text()
    assert "[a](a/report.md)" in page
    assert "[d](d/report.md)" in page, "what was not reached is still there"
    monkeypatch.undo()


# Which models


def test_without_names_it_is_the_papers_five_and_all_makes_six(cli, monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(
        "audit.batch.attempt", lambda job, *_, **__: asked.append(job.model) or Failed(job.name, "no", 4)
    )
    assert cli("batch").exit_code == 1
    five = [
        "openai-community/gpt2-xl", "Qwen/Qwen3-8B", "google/gemma-3-12b-pt",
        "LGAI-EXAONE/EXAONE-4.0-32B", "meta-llama/Llama-3.1-70B",
    ]  # fmt: skip
    assert asked == five
    asked.clear()
    cli("batch", "--all")
    assert sorted(asked) == sorted([*five, "meta-llama/Llama-3.1-8B"])
    asked.clear()
    cli("batch", "GPT2-XL", "some/model")
    assert asked == [five[0], "some/model"]


def test_models_can_be_listed_in_a_file(cli, four):
    sharp = four[1].rename(four[1].parent / "b#1")
    text = f"\ufeff{four[0]}  # the first\r\n# ours\r\n\r\n{sharp}\r\n{four[0]}\r\n"
    Path("list.txt").write_bytes(text.encode())
    assert outcomes(cli("batch", "--from", "list.txt", "--json")) == {"a": "audited", "b#1": "audited"}
    assert "](b%231/report.md)" in Path("gcont-reports/index.md").read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "list.txt cannot be read: No such file or directory"),
        (b"# nothing\n\n", "list.txt names no model"),
        (b"\xff\xfe", "list.txt is no text file"),
    ],
)
def test_a_list_that_is_none_is_told(cli, text, said):
    if text is not None:
        Path("list.txt").write_bytes(text)
    result = cli("batch", "--from", "list.txt")
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_two_models_for_one_folder_are_refused_before_the_work(cli, four, tmp_path, monkeypatch):
    other = write_llama(tmp_path / "elsewhere/a")
    monkeypatch.setattr(TensorReader, "read", lambda *_: pytest.fail("a weight was read"))
    result = cli("batch", four[0], other)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{four[0]} and {other} would both be written to gcont-reports/a" in result.stderr
    same = plan_jobs([str(four[0]), f"{four[0]}/"], Path("out"))
    assert [job.folder for job in same] == [Path("out/a")]


def test_an_empty_name_is_no_model(cli):
    result = cli("batch", "")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "a model's name is empty" in result.stderr


def test_a_single_models_report_takes_no_batch(cli, four):
    assert cli(four[0], "--out", "out").exit_code == 0
    result = cli("batch", four[1], "--out", "out")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "out is a single model's report" in result.stderr


@pytest.mark.parametrize("place", ["file", "file/below", "noted", "pictured"])
def test_a_place_that_cannot_take_the_page_is_refused_before_the_work(cli, four, monkeypatch, place):
    Path("file").write_text("mine")
    Path("noted").mkdir()
    Path("noted/index.md").write_text("# my notes\n")
    Path("pictured").mkdir()
    Path("pictured/index.png").write_text("my picture")
    monkeypatch.setattr(TensorReader, "read", lambda *_: pytest.fail("a weight was read"))
    result = cli("batch", four[0], "--out", place)
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert Path("noted/index.md").read_text() == "# my notes\n"
    assert Path("pictured/index.png").read_text() == "my picture"
    assert sorted(os.listdir()) == ["file", "noted", "pictured"]


# On the Hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub on loopback with one small model, and this process's client pointed at it."""
    with HubServer() as server, client_of(server, tmp_path, monkeypatch):
        server.add("org/tiny", write_llama(tmp_path / "repo"))
        yield server


def test_a_hub_model_is_done_until_its_commit_changes(cli, hub, tmp_path):
    def run() -> dict[str, Any]:
        result = cli("batch", "org/tiny", "org/none", "--json")
        assert result.exit_code == 1
        tiny, none = json.loads(result.stdout)["models"]
        assert (none["outcome"], none["exit_code"]) == ("failed", 4)
        return tiny

    assert run()["outcome"] == "audited"
    hub.requests.clear()
    assert run()["outcome"] == "unchanged"
    assert sum(request.sent for request in hub.requests if request.storage) < 200_000
    planted = {"model.layers.0.self_attn.q_proj.weight": torch.eye(16)}
    hub.add("org/tiny", write_llama(tmp_path / "changed", planted=planted))
    assert run()["outcome"] == "audited"


@pytest.mark.drawn
def test_real_checkpoints_with_one_broken_among_them(cli, real, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_bytes((real("tiny1m") / "config.json").read_bytes())
    (broken / "model.safetensors").write_bytes((real("tiny1m") / "model.safetensors").read_bytes()[:100_000])
    names = [real("stories15M"), broken, real("stories260K"), real("vit-tiny-in1k")]
    result = cli("batch", *names)
    assert result.exit_code == 1
    page = Path("gcont-reports/index.md").read_text()
    assert [line.split("]")[0] for line in page.splitlines() if line.startswith("| [")] == [
        "| [stories15M", "| [stories260K", "| [vit-tiny-in1k",
    ]  # fmt: skip
    assert Path("gcont-reports/index.png").read_bytes().startswith(b"\x89PNG")
    assert len(os.listdir("gcont-reports/vit-tiny-in1k/figures")) == 5
    again = cli("batch", *names, "--json")
    assert outcomes(again) == dict.fromkeys(["stories15M", "stories260K", "vit-tiny-in1k"], "unchanged") | {
        "broken": "failed"
    }
