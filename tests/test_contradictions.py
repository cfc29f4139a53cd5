"""Checkpoints and configs that fit the declaration one by one and contradict each other: no silent number."""

import json

import pytest
import torch
from checkpoints import HIDDEN, KV, llama_config, llama_tensors, write_checkpoint, write_llama
from test_mixture import DEEPSEEK, deepseek

PHI3 = llama_config(model_type="phi3", num_attention_heads=4, num_key_value_heads=2)


def phi3() -> dict[str, torch.Tensor]:
    """The tiny llama with Q, K, V in one tensor and Gate, Up in another."""
    tensors = llama_tensors()
    for layer in range(3):
        at = f"model.layers.{layer}."
        parts = [tensors.pop(f"{at}self_attn.{part}_proj.weight") for part in "qkv"]
        tensors[f"{at}self_attn.qkv_proj.weight"] = torch.cat(parts)
        parts = [tensors.pop(f"{at}mlp.{part}_proj.weight") for part in ("gate", "up")]
        tensors[f"{at}mlp.gate_up_proj.weight"] = torch.cat(parts)
    return tensors


def test_heads_that_would_split_a_fused_tensor_wrongly(cli, tmp_path):
    """6 heads over 1 of width 4 have 32 rows as well as 4 over 2 have."""
    assert cli(write_checkpoint(tmp_path / "right", phi3(), PHI3)).exit_code == 0
    wrong = PHI3 | {"num_attention_heads": 6, "num_key_value_heads": 1, "head_dim": 4}
    for options in ((), ("--only", "q,k,v")):
        result = cli(write_checkpoint(tmp_path / "wrong", phi3(), wrong), *options)
        assert result.exit_code == 5
        assert "o_proj.weight reads 16 channels, where config.json gives 6 heads of width 4" in result.stderr
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("changes", [{"v_head_dim": 4}, {"num_attention_heads": 1}])
def test_heads_that_would_split_a_latents_keys_from_its_values_wrongly(cli, tmp_path, changes):
    result = cli(write_checkpoint(tmp_path / "deepseek", deepseek(), DEEPSEEK | changes))
    assert result.exit_code == 5
    assert "cannot be split by them" in result.stderr


@pytest.mark.parametrize("shape", [(HIDDEN - 2,), (1,), (1, HIDDEN)])
def test_a_norm_of_another_width(cli, tmp_path, shape):
    planted = {"model.layers.1.input_layernorm.weight": torch.ones(shape)}
    result = cli(write_llama(tmp_path / "llama", planted=planted), "--fold-norm")
    assert result.exit_code == 5
    assert f"input_layernorm.weight has shape {list(shape)}" in result.stderr


def test_a_layer_without_its_norm_is_told_where_norms_are_folded(cli, tmp_path):
    tensors = llama_tensors()
    del tensors["model.layers.1.post_attention_layernorm.weight"]
    folder = write_checkpoint(tmp_path / "llama", tensors, llama_config())
    assert cli(folder, "--strict").exit_code == 0
    folded = cli(folder, "--fold-norm", "--json")
    assert [(one["code"], one["message"]) for one in json.loads(folded.stdout)["findings"]] == [
        ("missing-norm", "the norm in front of ffn is missing in layer 1: not folded")
    ]
    assert cli(folder, "--fold-norm", "--strict").exit_code == 3


@pytest.mark.parametrize(("part", "rows", "wanted"), [("q", 2 * HIDDEN, HIDDEN), ("k", 2 * KV, KV)])
def test_more_rows_than_the_heads_make(cli, audited, tmp_path, part, rows, wanted):
    planted = {f"model.layers.{i}.self_attn.{part}_proj.weight": torch.randn(rows, HIDDEN) for i in range(3)}
    folder = write_llama(tmp_path / "llama", planted=planted)
    (finding,) = audited(folder)["findings"]
    assert finding["code"] == "odd-heads"
    assert finding["message"] == (
        f"{part.upper()} has {rows} rows in layers 0-2, where config.json's heads make {wanted}"
    )
    assert cli(folder, "--strict").exit_code == 3


def test_layers_that_the_config_does_not_count(cli, audited, tmp_path):
    folder = write_llama(tmp_path / "llama", 5, config=llama_config(3))
    (finding,) = audited(folder)["findings"]
    assert (finding["code"], finding["message"]) == (
        "extra-layer",
        "layers 3-4: past config.json's count, and left out",
    )
    assert cli(folder, "--strict").exit_code == 3


def test_a_last_layer_of_another_kind_is_none_of_them(cli, audited, tmp_path):
    """As DeepSeek's, that predicts a further token."""
    planted = {"model.layers.3.eh_proj.weight": torch.ones(HIDDEN, 2 * HIDDEN)}
    folder = write_llama(tmp_path / "llama", 4, config=llama_config(3), planted=planted)
    assert audited(folder)["findings"] == []
    assert cli(folder, "--strict").exit_code == 0


def test_two_families_are_one_too_many(cli, llama, tmp_path):
    result = cli(llama, "--family", "llama", "--family-file", tmp_path / "mine.toml")
    assert result.exit_code == 2
    assert "both name a family" in result.stderr
