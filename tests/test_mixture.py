"""Whole audits of mixtures of experts and low-rank projections, typed by hand, against float64 LAPACK."""

import json
import weakref
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import reference
import torch
from checkpoints import write_checkpoint
from safetensors.torch import load_file
from torch import Tensor

from audit.checkpoint import TensorReader
from registry import Read

HIDDEN, INNER, EXPERTS, LAYERS = 24, 10, 4, 6
HEADS, NOPE, ROPE, VALUE, RANK, Q_RANK = 3, 5, 4, 6, 7, 9
DENSE = 2
"""The first layers of the DeepSeek-like model have no experts."""

MIXTRAL = {
    "model_type": "mixtral", "num_hidden_layers": LAYERS, "hidden_size": HIDDEN, "num_attention_heads": 4,
    "num_key_value_heads": 2, "num_local_experts": EXPERTS,
}  # fmt: skip
DEEPSEEK = {
    "model_type": "deepseek_v3", "num_hidden_layers": LAYERS, "hidden_size": HIDDEN, "kv_lora_rank": RANK,
    "num_attention_heads": HEADS, "num_key_value_heads": HEADS, "n_routed_experts": EXPERTS,
    "qk_nope_head_dim": NOPE, "qk_rope_head_dim": ROPE, "v_head_dim": VALUE, "q_lora_rank": Q_RANK,
}  # fmt: skip


EMPTY = "experts that hold next to nothing"


def random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mixtral() -> dict[str, Tensor]:
    """Random tensors under the names of the Hub, with a direction that runs through all but V and O."""
    generator = random(0)
    common = torch.randn(HIDDEN, generator=generator)

    def reader(rows: int) -> Tensor:
        noise = torch.randn(rows, HIDDEN, generator=generator)
        return noise + torch.outer(torch.randn(rows, generator=generator), common)

    tensors = {}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        tensors |= {
            f"{prefix}self_attn.{part}_proj.weight": reader(rows) for part, rows in (("q", 24), ("k", 12))
        }
        tensors[f"{prefix}self_attn.v_proj.weight"] = torch.randn(12, HIDDEN, generator=generator)
        tensors[f"{prefix}self_attn.o_proj.weight"] = torch.randn(HIDDEN, 24, generator=generator)
        tensors[f"{prefix}block_sparse_moe.gate.weight"] = reader(EXPERTS)
        for expert in range(EXPERTS):
            at = f"{prefix}block_sparse_moe.experts.{expert}."
            tensors |= {f"{at}w1.weight": reader(INNER), f"{at}w3.weight": reader(INNER)}
            tensors[f"{at}w2.weight"] = reader(INNER).T.contiguous()
    return tensors


def of_experts(tensors: Mapping[str, Tensor], layer: int, name: str) -> list[np.ndarray]:
    return [
        tensors[f"model.layers.{layer}.block_sparse_moe.experts.{expert}.{name}.weight"].double().numpy()
        for expert in range(EXPERTS)
    ]


@pytest.fixture(scope="module")
def mixture() -> dict[str, Tensor]:
    return mixtral()


@pytest.mark.parametrize("full", [False, True])
def test_a_mixtures_report_is_that_of_its_stacked_experts(mixture, audited, tmp_path, full):
    folder = write_checkpoint(tmp_path / "mixture", mixture, MIXTRAL)
    report = audited(folder, *(["--full"] if full else []))
    for name, stored, axis in (("Gate", "w1", 0), ("Up", "w3", 0), ("Down", "w2", 1)):
        stacks = [np.concatenate(of_experts(mixture, layer, stored), axis=axis) for layer in range(LAYERS)]
        expected, found = reference.truth(stacks), report["projections"][name]
        facing, other = ("u", "v") if axis else ("v", "u")
        assert found["shape"] == list(stacks[0].shape)
        assert found["continuity"][f"{facing}1"] == pytest.approx(getattr(expected, f"{facing}1"), abs=1e-5)
        assert found["continuity"][f"{facing}2"] == pytest.approx(getattr(expected, f"{facing}2"), abs=1e-4)
        assert [pair[f"{facing}1"] for pair in found["pairs"]] == pytest.approx(
            getattr(expected, f"pairs_{facing}1"), abs=1e-5
        )
        assert found["stable_rank"] == pytest.approx(expected.stable_rank, rel=1e-6)
        assert np.array(found["sigma"]) == pytest.approx(np.array(expected.sigma), rel=1e-5)
        assert found["evr3"][facing] == pytest.approx(getattr(expected, f"evr3_{facing}"), abs=1e-5)
        assert found["continuity"][f"{other}1"] is None
        assert found["null"][other] is None
        assert found["evr3"][other] is None
        assert "order" in found["unmeasured"][other]
        if full:
            assert found["wa"][facing] == pytest.approx(getattr(expected, f"wa_{facing}"), abs=1e-5)
            assert found["wa"][other] is None
            assert found["effective_rank"] == pytest.approx(expected.effective_rank, rel=1e-5)
    assert report["findings"] == []
    assert report["coverage"]["ignored"] == {"routers": LAYERS}
    assert report["coverage"]["audited"] == len(mixture) - LAYERS


def test_each_expert_stands_beside_its_stack(mixture, audited, tmp_path):
    report = audited(write_checkpoint(tmp_path / "mixture", mixture, MIXTRAL), "--only", "up,down,q")
    assert report["projections"]["Q"]["experts"] is None
    for name, stored, side in (("Up", "w3", 2), ("Down", "w2", 0)):
        for layer, summary in enumerate(report["projections"][name]["experts"]):
            matrices = of_experts(mixture, layer, stored)
            factors = [np.linalg.svd(matrix) for matrix in matrices]
            stack = np.linalg.svd(np.concatenate(matrices, axis=0 if side else 1))[side]
            leading = [factor[side][0] if side else factor[side][:, 0] for factor in factors]
            stack_leading = stack[0] if side else stack[:, 0]
            assert summary["sigma1"] == pytest.approx([factor[1][0] for factor in factors], rel=1e-5)
            assert summary["with_stack"] == pytest.approx(
                [abs(one @ stack_leading) for one in leading], abs=1e-5
            )
            between = [abs(one @ other) for i, one in enumerate(leading) for other in leading[:i]]
            assert summary["between"] == pytest.approx(np.mean(between), abs=1e-5)


def test_experts_in_another_order_give_the_same_report(mixture, audited, tmp_path):
    order = [2, 0, 3, 1]
    shuffled = {
        name.replace(f"experts.{i}.", f"experts.{order[i]}.") if f"experts.{i}." in name else name: tensor
        for name, tensor in mixture.items()
        for i in ([int(name.split("experts.")[1].split(".")[0])] if "experts." in name else [0])
    }
    first, second = (
        audited(write_checkpoint(tmp_path / str(i), tensors, MIXTRAL))
        for i, tensors in enumerate((mixture, shuffled))
    )
    for name in ("Gate", "Up", "Down"):
        one, other = first["projections"][name], second["projections"][name]
        assert one["experts"] != other["experts"]
        for key in ("v1", "u1"):
            assert one["continuity"][key] == pytest.approx(other["continuity"][key], abs=1e-9)


def test_dead_and_doubled_experts_are_found(mixture, audited, tmp_path):
    at = "model.layers.3.block_sparse_moe.experts."
    planted = {
        f"{at}1.w1.weight": torch.zeros(INNER, HIDDEN),
        f"{at}0.w3.weight": mixture[f"{at}0.w3.weight"] * 1e-6,
        f"{at}3.w2.weight": mixture[f"{at}2.w2.weight"].clone(),
    }
    report = audited(write_checkpoint(tmp_path / "mixture", mixture | planted, MIXTRAL))
    assert [(one["code"], one["projection"], one["layer"], one["message"]) for one in report["findings"]] == [
        (
            "dead-expert",
            "Gate",
            3,
            f"Gate of layer 3 has {EMPTY}: expert 1 (1 of 4)",
        ),
        ("dead-expert", "Up", 3, f"Up of layer 3 has {EMPTY}: expert 0 (1 of 4)"),
        ("duplicate-expert", "Down", 3, "Down of layer 3: expert 3 is identical to expert 2"),
    ]
    assert report["projections"]["Gate"]["experts"][3]["with_stack"][1] is None


def test_an_expert_turned_round_is_no_duplicate(mixture, audited, tmp_path):
    at = "model.layers.3.block_sparse_moe.experts."
    planted = {f"{at}3.w2.weight": -mixture[f"{at}2.w2.weight"]}
    assert audited(write_checkpoint(tmp_path / "mixture", mixture | planted, MIXTRAL))["findings"] == []


def test_a_broken_expert_is_named(mixture, audited, tmp_path):
    name = "model.layers.1.block_sparse_moe.experts.2.w1.weight"
    broken = mixture[name].clone()
    broken[3, 3] = float("nan")
    report = audited(write_checkpoint(tmp_path / "mixture", mixture | {name: broken}, MIXTRAL))
    (finding,) = report["findings"]
    assert finding["code"] == "nan"
    assert finding["message"] == "Gate of layer 1 holds NaN (expert 2): not measured"
    assert report["projections"]["Gate"]["pairs"][0]["v1"] is None
    assert report["projections"]["Gate"]["continuity"]["v1"] is not None


def test_a_doubled_layer_of_experts_is_found(mixture, audited, tmp_path):
    doubled = {
        name.replace("layers.2.", "layers.4."): tensor.clone()
        for name, tensor in mixture.items()
        if "layers.2." in name
    }
    report = audited(write_checkpoint(tmp_path / "mixture", mixture | doubled, MIXTRAL))
    assert [(one["code"], one["layer"]) for one in report["findings"]] == [("duplicate-layer", 4)]


def test_one_expert_is_in_memory_at_a_time(mixture, cli, tmp_path, monkeypatch):
    """Of all that the reader gave, what is still alive whenever the next expert is asked for."""
    read, alive, most = TensorReader.read, weakref.WeakSet(), []

    def watched(self: TensorReader, one: Read) -> Tensor:
        most.append(sum(tensor.numel() == INNER * HIDDEN for tensor in alive))
        tensor = read(self, one)
        alive.add(tensor)
        return tensor

    monkeypatch.setattr(TensorReader, "read", watched)
    folder = write_checkpoint(tmp_path / "mixture", {k: v.double() for k, v in mixture.items()}, MIXTRAL)
    assert cli(folder, "--only", "gate,up,down").exit_code == 0
    assert len(most) >= LAYERS * EXPERTS * 3 * 3  # to look at, at least one step, to certify
    assert max(most) <= 2


def test_the_vectors_of_experts_are_written_in_the_space_that_is_defined(mixture, audited, tmp_path):
    audited(write_checkpoint(tmp_path / "mixture", mixture, MIXTRAL), "--out", tmp_path / "out")
    vectors = load_file(tmp_path / "out" / "vectors.safetensors")
    assert vectors["Gate.0.v"].shape == (2, HIDDEN)
    assert vectors["Down.0.u"].shape == (2, HIDDEN)
    assert "Gate.0.u" not in vectors
    assert "Down.0.v" not in vectors
    assert json.loads((tmp_path / "out" / "audit.json").read_text())["schema"] == "gcont-audit/1"


# -------------------------------------------------------------------------------- low rank, dense, shared


def deepseek() -> dict[str, Tensor]:
    """As DeepSeek-V3 names them: latent attention, dense layers, then experts."""
    generator = random(1)

    def matrix(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    tensors = {"model.embed_tokens.weight": matrix(30, HIDDEN), "lm_head.weight": matrix(30, HIDDEN)}
    for layer in range(LAYERS):
        prefix, attn = f"model.layers.{layer}.", f"model.layers.{layer}.self_attn."
        tensors |= {
            f"{attn}q_a_proj.weight": matrix(Q_RANK, HIDDEN),
            f"{attn}q_a_layernorm.weight": matrix(Q_RANK),
            f"{attn}q_b_proj.weight": matrix(HEADS * (NOPE + ROPE), Q_RANK),
            f"{attn}kv_a_proj_with_mqa.weight": matrix(RANK + ROPE, HIDDEN),
            f"{attn}kv_a_layernorm.weight": matrix(RANK),
            f"{attn}kv_b_proj.weight": matrix(HEADS * (NOPE + VALUE), RANK),
            f"{attn}o_proj.weight": matrix(HIDDEN, HEADS * VALUE),
            f"{prefix}input_layernorm.weight": matrix(HIDDEN),
            f"{prefix}post_attention_layernorm.weight": matrix(HIDDEN),
        }
        if layer < DENSE:
            places = {"mlp.": 32}
        else:
            tensors[f"{prefix}mlp.gate.weight"] = matrix(EXPERTS, HIDDEN)
            tensors[f"{prefix}mlp.gate.e_score_correction_bias"] = matrix(EXPERTS)
            places = {"mlp.shared_experts.": 14} | {f"mlp.experts.{e}.": INNER for e in range(EXPERTS)}
        for place, inner in places.items():
            tensors |= {
                f"{prefix}{place}{part}_proj.weight": matrix(inner, HIDDEN) for part in ("gate", "up")
            }
            tensors[f"{prefix}{place}down_proj.weight"] = matrix(HIDDEN, inner)
    return tensors


LATENT = (
    "q_a_proj",
    "q_a_layernorm",
    "q_b_proj",
    "kv_a_proj_with_mqa",
    "kv_a_layernorm",
    "kv_b_proj",
    "o_proj",
)


def attention_of(tensors: Mapping[str, Tensor], layer: int) -> dict[str, np.ndarray]:
    """Q, K, V and OV of a layer, multiplied out head by head as the model computes them."""
    part = {
        name: tensors[f"model.layers.{layer}.self_attn.{name}.weight"].double().numpy() for name in LATENT
    }
    latent, key = part["kv_a_proj_with_mqa"][:RANK], part["kv_a_proj_with_mqa"][RANK:]
    latent = part["kv_a_layernorm"][:, None] * latent
    heads = np.split(part["kv_b_proj"], HEADS)
    keys = [np.concatenate([head[:NOPE] @ latent, key]) for head in heads]
    values = np.concatenate([head[NOPE:] @ latent for head in heads])
    return {
        "Q": part["q_b_proj"] @ (part["q_a_layernorm"][:, None] * part["q_a_proj"]),
        "K": np.concatenate(keys),
        "V": values,
        "O": part["o_proj"],
        "OV": part["o_proj"] @ values,
    }


def test_low_rank_projections_are_the_products_of_their_factors(audited, tmp_path):
    tensors = deepseek()
    report = audited(write_checkpoint(tmp_path / "deepseek", tensors, DEEPSEEK), "--full")
    layers = [attention_of(tensors, layer) for layer in range(LAYERS)]
    for name in ("Q", "K", "V", "O", "OV"):
        expected, found = reference.truth([layer[name] for layer in layers]), report["projections"][name]
        assert found["shape"] == list(layers[0][name].shape)
        for key in ("v1", "u1", "v2", "u2"):
            assert found["continuity"][key] == pytest.approx(getattr(expected, key), abs=1e-4)
        assert np.array(found["sigma"]) == pytest.approx(np.array(expected.sigma), rel=1e-5)
        assert found["effective_rank"] == pytest.approx(expected.effective_rank, rel=1e-4)
    assert report["findings"] == []
    assert report["coverage"]["unknown"] == []


def test_dense_and_expert_layers_are_one_series(audited, tmp_path):
    tensors = deepseek()
    report = audited(write_checkpoint(tmp_path / "deepseek", tensors, DEEPSEEK))

    def readers(layer: int) -> np.ndarray:
        if layer < DENSE:
            return tensors[f"model.layers.{layer}.mlp.up_proj.weight"].double().numpy()
        names = [f"model.layers.{layer}.mlp.experts.{e}.up_proj.weight" for e in range(EXPERTS)]
        return np.concatenate([tensors[name].double().numpy() for name in names])

    leading = [np.linalg.svd(readers(layer)) for layer in range(LAYERS)]
    found = report["projections"]["Up"]
    assert [pair["layers"] for pair in found["pairs"]] == [[i, i + 1] for i in range(LAYERS - 1)]
    assert [pair["v1"] for pair in found["pairs"]] == pytest.approx(
        [abs(a[2][0] @ b[2][0]) for a, b in pairwise(leading)], abs=1e-5
    )
    own = leading[0][0][:, 0] @ leading[1][0][:, 0]
    assert [pair["u1"] for pair in found["pairs"]] == [pytest.approx(abs(own), abs=1e-5), *[None] * 4]
    assert [summary is None for summary in found["experts"]] == [True] * DENSE + [False] * (LAYERS - DENSE)

    shared = report["projections"]["SharedUp"]
    assert shared["layers"] == list(range(DENSE, LAYERS))
    assert shared["unmeasured"]["layers 0-1"] == "the layer has no experts"
    matrices = [
        tensors[f"model.layers.{layer}.mlp.shared_experts.up_proj.weight"].double().numpy()
        for layer in range(DENSE, LAYERS)
    ]
    assert shared["continuity"]["v1"] == pytest.approx(reference.truth(matrices).v1, abs=1e-5)


def test_folding_takes_the_norms_gain_into_experts_and_low_rank_products(audited, tmp_path):
    tensors = deepseek()
    folder: Path = write_checkpoint(tmp_path / "deepseek", tensors, DEEPSEEK)
    report = audited(folder, "--fold-norm")
    gains = [
        tensors[f"model.layers.{layer}.{norm}_layernorm.weight"].double().numpy()
        for norm in ("input", "post_attention")
        for layer in range(LAYERS)
    ]
    keys = [attention_of(tensors, layer)["K"] * gains[layer] for layer in range(LAYERS)]
    assert report["projections"]["K"]["continuity"]["v1"] == pytest.approx(reference.truth(keys).v1, abs=1e-5)
    gates = []
    for layer in range(DENSE, LAYERS):
        names = [f"model.layers.{layer}.mlp.experts.{e}.gate_proj.weight" for e in range(EXPERTS)]
        stack = np.concatenate([tensors[name].double().numpy() for name in names])
        gates.append(stack * gains[LAYERS + layer])
    pairs = report["projections"]["Gate"]["pairs"][DENSE:]
    assert [pair["v1"] for pair in pairs] == pytest.approx(reference.truth(gates).pairs_v1, abs=1e-5)


def test_experts_that_are_not_all_there_are_missed(mixture, cli, tmp_path):
    without = {
        name: tensor for name, tensor in mixture.items() if "layers.4.block_sparse_moe.experts.3." not in name
    }
    result = cli(write_checkpoint(tmp_path / "mixture", without, MIXTRAL))
    assert result.exit_code == 5
    assert "layer 4 has 3 experts with Gate, where config.json gives 4" in result.stderr
