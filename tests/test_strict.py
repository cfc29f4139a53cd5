"""--strict: the report is written, and gaps in it make the exit code 3; coverage tells each tensor's fate."""

import json
from pathlib import Path

import pytest
import torch
from checkpoints import HIDDEN, llama_config, llama_tensors, write_checkpoint, write_llama

INSIDE = {"model.layers.1.self_attn.extra.weight": torch.ones(3, 4)}
OUTSIDE = {"model.something.weight": torch.ones(3, 4)}


def is_report(folder: Path) -> bool:
    return json.loads((folder / "audit.json").read_text())["schema"] == "gcont-audit/1"


def test_a_matrix_in_a_layer_that_no_rule_claims(cli, tmp_path):
    folder = write_llama(tmp_path / "llama", planted=INSIDE)
    result = cli(folder, "--strict", "--out", "out")
    assert result.exit_code == 3
    assert result.stderr == (
        f"error: {folder}: model.layers.1.self_attn.extra.weight matches no rule: "
        "the report is written, and tells the rest\n"
    )
    assert is_report(Path("out"))
    assert "v1 (input)" in result.stdout

    lenient = cli(folder, "--json")
    assert lenient.exit_code == 0
    report = json.loads(lenient.stdout)
    assert report["coverage"]["unknown_in_layers"] == list(INSIDE)
    assert report["findings"][0]["code"] == "unknown-tensor"
    assert report["findings"][0]["message"] == (
        "model.layers.1.self_attn.extra.weight [3, 4] in a layer matches no rule of llama"
    )


def test_a_matrix_outside_the_layers_is_a_finding_only(cli, audited, tmp_path):
    folder = write_llama(tmp_path / "llama", planted=OUTSIDE)
    assert cli(folder, "--strict").exit_code == 0
    report = audited(folder)
    assert report["coverage"]["unknown"] == list(OUTSIDE)
    assert report["coverage"]["unknown_in_layers"] == []
    assert [finding["code"] for finding in report["findings"]] == ["unknown-tensor"]


def test_a_missing_projection(cli, tmp_path):
    tensors = llama_tensors()
    del tensors["model.layers.1.self_attn.k_proj.weight"]
    result = cli(write_checkpoint(tmp_path / "llama", tensors, llama_config()), "--strict", "--out", "out")
    assert result.exit_code == 3
    assert "K is missing in layer 1: the checkpoint has no such tensor" in result.stderr
    assert is_report(Path("out"))


def test_a_stack_that_is_not_read(cli, audited, tmp_path):
    tensors = {f"language_model.{name}": tensor for name, tensor in llama_tensors().items()}
    tensors["vision_tower.blocks.0.mix.weight"] = torch.ones(4, 4)
    config = {
        "model_type": "llava",
        "text_config": llama_config(),
        "vision_config": {"model_type": "nobody_knows"},
    }
    folder = write_checkpoint(tmp_path / "llava", tensors, config)
    report = audited(folder)
    assert report["model"]["hidden_size"] == HIDDEN
    assert [(one["code"], one["message"]) for one in report["findings"]] == [
        ("unread-stack", "vision is not read: model_type 'nobody_knows' is unknown")
    ]
    assert report["coverage"]["unknown"] == []
    assert report["coverage"]["ignored"]["vision, not read: model_type 'nobody_knows' is unknown"] == 1
    result = cli(folder, "--strict")
    assert result.exit_code == 3
    assert "vision is not read" in result.stderr


def test_several_gaps_are_counted(cli, tmp_path):
    more = {f"model.layers.{layer}.odd.weight": torch.ones(2, 2) for layer in range(3)}
    result = cli(write_llama(tmp_path / "llama", planted=more), "--strict")
    assert result.exit_code == 3
    assert "model.layers.0.odd.weight matches no rule (and 2 more)" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_nothing_is_missing(cli, llama):
    assert cli(llama, "--strict").exit_code == 0


@pytest.mark.parametrize("options", [(), ("--layers", "0"), ("--only", "q"), ("--fold-norm",)])
def test_every_tensor_is_counted_once(audited, tmp_path, options):
    folder = write_llama(tmp_path / "llama", planted=INSIDE | OUTSIDE)
    coverage = audited(folder, *options)["coverage"]
    total = coverage["audited"] + sum(coverage["ignored"].values()) + len(coverage["unknown"])
    assert total == len(llama_tensors() | INSIDE | OUTSIDE)
