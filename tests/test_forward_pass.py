"""What the matrices of a forward pass rest on: they are the parameters, where these are taken by hand."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import transformers as hf
from affine import recover, recover_any, residue
from calls import Attention, by_token
from forward_pass import Matrices, compute, compute_stacks
from tiny_models import DECODER, GPT2, VOCABULARY, Tiny
from torch import Tensor, nn

from registry import Projection

Q, K, V = Projection.Q, Projection.K, Projection.V
O, OV = Projection.O, Projection.OV  # noqa: E741 - the field's own name
GATE, UP, DOWN = Projection.GATE, Projection.UP, Projection.DOWN
SHARED_GATE, SHARED_UP, SHARED_DOWN = Projection.SHARED_GATE, Projection.SHARED_UP, Projection.SHARED_DOWN
ATTENTION = {Q, K, V, O, OV}

ERROR = 1e-9
"""Everything is in float64 here."""

LAYER = 1
WORDS = VOCABULARY | DECODER
SMALL = {key: value for key, value in WORDS.items() if key != "head_dim"}
EXPERTS = {"moe_intermediate_size": 20, "num_experts": 4, "num_experts_per_tok": 2}
T5 = {"vocab_size": 32, "d_model": 24, "d_kv": 10, "d_ff": 44, "num_layers": 2, "num_heads": 3}
LATENT = SMALL | {
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "moe_intermediate_size": 20,
    "n_routed_experts": 4,
    "n_group": 1,
    "topk_group": 1,
    "num_experts_per_tok": 2,
    "q_lora_rank": 12,
    "kv_lora_rank": 10,
    "qk_nope_head_dim": 6,
    "qk_rope_head_dim": 4,
    "v_head_dim": 5,
}
SPECTRUM = {"num_mel_bins": 8, "max_source_positions": 3, "max_target_positions": 8, "d_model": 24}
WHISPER = VOCABULARY | SPECTRUM | {"encoder_layers": 2, "decoder_layers": 3, "encoder_ffn_dim": 44}
WHISPER |= {"decoder_ffn_dim": 52, "encoder_attention_heads": 3, "decoder_attention_heads": 2}


def weight(module: nn.Module, path: str) -> Tensor:
    """A parameter in float64: [out, in] but for GPT-2's Conv1D."""
    return module.get_parameter(f"{path}.weight").detach().double()


def linears(**paths: str) -> Callable[[nn.Module], dict[Any, Tensor]]:
    """Projections, by field name, that are one parameter of the layer each."""
    return lambda layer: {Projection[name]: weight(layer, path) for name, path in paths.items()}


def experts(*names: str, stored: Callable[[nn.Module, int, str], Tensor]) -> Callable[[nn.Module], Any]:
    """Each of four experts' projections, by field name."""
    return lambda layer: {(Projection[name], e): stored(layer, e, name) for name in names for e in range(4)}


@dataclass(frozen=True)
class Case:
    """A model, the list of its layers, and some of one layer's projections taken by hand."""

    tiny: Tiny
    layers: str
    expected: Callable[[nn.Module], dict[Any, Tensor]]
    stack: str | None = None


def tiny(model: Any, config: Any, sizes: Mapping[str, Any], **fields: Any) -> Tiny:
    return Tiny(model, lambda: config(**sizes), **fields)


def split_halves(layer: nn.Module, expert: int, name: str) -> Tensor:
    """Of Mixtral's and Qwen's experts: gate above up, [out, in]."""
    if name == "DOWN":
        return layer.get_parameter("mlp.experts.down_proj")[expert]
    gate, up = layer.get_parameter("mlp.experts.gate_up_proj")[expert].chunk(2)
    return gate if name == "GATE" else up


def alternating(layer: nn.Module, expert: int, name: str) -> Tensor:
    """Of GPT-OSS's experts: [in, out], gate and up column by column."""
    if name == "DOWN":
        return layer.get_parameter("mlp.experts.down_proj")[expert].T
    return layer.get_parameter("mlp.experts.gate_up_proj")[expert].T[0 if name == "GATE" else 1 :: 2]


def transposed_halves(layer: nn.Module, expert: int, name: str) -> Tensor:
    """Of Llama 4's experts: [in, out], gate beside up."""
    if name == "DOWN":
        return layer.get_parameter("feed_forward.experts.down_proj")[expert].T
    gate, up = layer.get_parameter("feed_forward.experts.gate_up_proj")[expert].T.chunk(2)
    return gate if name == "GATE" else up


def flat(layer: nn.Module, expert: int, name: str) -> Tensor:
    """Of DBRX's experts: one below the other."""
    whole = layer.get_parameter("ffn.experts.mlp." + {"GATE": "w1", "UP": "v1", "DOWN": "w2"}[name])
    matrix = whole.reshape(4, -1, whole.shape[1])[expert]
    return matrix.T if name == "DOWN" else matrix


def of_a_gated_query(layer: nn.Module) -> dict[Any, Tensor]:
    """Q of Qwen3-Next: each head's rows stand above those of its output gate."""
    heads = weight(layer, "self_attn.q_proj").reshape(6, 2, 8, -1)
    return {Q: heads[:, 0].flatten(0, 1), O: weight(layer, "self_attn.o_proj")}


def of_a_latent(layer: nn.Module) -> dict[Any, Tensor]:
    """Q, K and V of DeepSeek-V3, multiplied out: a head of Q and K is its own rows above its rotary ones."""
    gain = weight(layer, "self_attn.kv_a_layernorm")
    down, rotary = weight(layer, "self_attn.kv_a_proj_with_mqa").split([10, 4])
    own, value = weight(layer, "self_attn.kv_b_proj").reshape(3, 11, 10).split([6, 5], dim=1)
    key = torch.cat([own @ (gain[:, None] * down), rotary.expand(3, -1, -1)], dim=1)
    query = weight(layer, "self_attn.q_b_proj") * weight(layer, "self_attn.q_a_layernorm")
    return {
        Q: query @ weight(layer, "self_attn.q_a_proj"),
        K: key.flatten(0, 1),
        V: (value @ (gain[:, None] * down)).flatten(0, 1),
    }


def of_grouped_heads(layer: nn.Module) -> dict[Any, Tensor]:
    """OV of Llama: three heads of queries read each head of values."""
    output = weight(layer, "self_attn.o_proj").reshape(24, 2, 3, 8)
    value = weight(layer, "self_attn.v_proj").reshape(2, 8, 24)
    return {OV: torch.einsum("okgd,kdi->oi", output, value)}


def conv1d(layer: nn.Module) -> dict[Any, Tensor]:
    """GPT-2's, stored [in, out]."""
    query, key, value = weight(layer, "attn.c_attn").T.chunk(3)
    return {Q: query, K: key, V: value, O: weight(layer, "attn.c_proj").T, UP: weight(layer, "mlp.c_fc").T}


def translation(tokens: int) -> dict[str, Tensor]:
    return {"input_ids": torch.ones(tokens, 2).long(), "decoder_input_ids": torch.ones(tokens, 1).long()}


def speech(tokens: int) -> dict[str, Tensor]:
    """Three encoded tokens for each that is decoded."""
    spectra = torch.rand(tokens, 8, 6, dtype=torch.float64)
    return {"input_features": spectra, "decoder_input_ids": torch.ones(tokens, 1).long()}


def images(tokens: int) -> dict[str, Tensor]:
    return {"pixel_values": torch.rand(tokens // 4, 3, 8, 8, dtype=torch.float64)}


GATED = {"GATE": "mlp.gate_proj", "UP": "mlp.up_proj", "DOWN": "mlp.down_proj"}
ALL = ("GATE", "UP", "DOWN")
LLAMA = tiny(hf.LlamaForCausalLM, hf.LlamaConfig, WORDS)
MIXTRAL = tiny(hf.MixtralForCausalLM, hf.MixtralConfig, WORDS | {"num_local_experts": 4})
SEQ2SEQ = tiny(hf.T5ForConditionalGeneration, hf.T5Config, T5, inputs=translation)
HEARING = tiny(hf.WhisperForConditionalGeneration, hf.WhisperConfig, WHISPER, inputs=speech, norm="layer")
IMAGE = {"hidden_size": 24, "intermediate_size": 44, "num_hidden_layers": 2, "num_attention_heads": 3}
IMAGE |= {"image_size": 8, "patch_size": 4}
DBRX = VOCABULARY | {"d_model": 24, "n_heads": 6, "n_layers": 2, "max_seq_len": 8}
DBRX |= {"attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0}}
DBRX |= {"ffn_config": {"ffn_hidden_size": 20, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": 24}}
LLAMA4 = {"num_local_experts": 4, "moe_layers": [0, 1], "intermediate_size_mlp": 52}
HYBRID = EXPERTS | {
    "linear_num_value_heads": 2,
    "linear_num_key_heads": 1,
    "linear_key_head_dim": 4,
    "linear_value_head_dim": 6,
    "shared_expert_intermediate_size": 28,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
}

CASES = {
    "SDPA": Case(LLAMA, "model.layers", linears(Q="self_attn.q_proj", K="self_attn.k_proj", **GATED)),
    "grouped heads": Case(LLAMA, "model.layers", of_grouped_heads),
    "matrix products and softmax": Case(
        tiny(
            hf.GPTJForCausalLM,
            hf.GPTJConfig,
            VOCABULARY | {"n_embd": 24, "n_head": 3, "n_layer": 2, "n_inner": 44, "rotary_dim": 4},
            norm="layer",
        ),
        "transformer.h",
        linears(Q="attn.q_proj", K="attn.k_proj", V="attn.v_proj", O="attn.out_proj", UP="mlp.fc_in"),
    ),
    "Conv1D, by the eager function": Case(
        tiny(
            hf.GPT2LMHeadModel,
            hf.GPT2Config,
            VOCABULARY | GPT2 | {"attn_implementation": "eager"},
            norm="layer",
        ),
        "transformer.h",
        conv1d,
    ),
    "experts, gate above up": Case(MIXTRAL, "model.layers", experts(*ALL, stored=split_halves)),
    "experts, gate and up alternate": Case(
        tiny(hf.GptOssForCausalLM, hf.GptOssConfig, WORDS | {"num_local_experts": 4}),
        "model.layers",
        experts(*ALL, stored=alternating),
    ),
    "experts, input times score": Case(
        tiny(hf.Llama4ForCausalLM, hf.Llama4TextConfig, WORDS | LLAMA4),
        "model.layers",
        experts(*ALL, stored=transposed_halves),
    ),
    "experts, flat": Case(
        tiny(hf.DbrxForCausalLM, hf.DbrxConfig, DBRX, norm="layer"),
        "transformer.blocks",
        experts(*ALL, stored=flat),
    ),
    "a gated shared expert": Case(
        tiny(
            hf.Qwen2MoeForCausalLM,
            hf.Qwen2MoeConfig,
            SMALL | EXPERTS | {"shared_expert_intermediate_size": 28},
        ),
        "model.layers",
        linears(
            SHARED_GATE="mlp.shared_expert.gate_proj",
            SHARED_UP="mlp.shared_expert.up_proj",
            SHARED_DOWN="mlp.shared_expert.down_proj",
        ),
    ),
    "an output gate": Case(
        tiny(hf.Qwen3NextForCausalLM, hf.Qwen3NextConfig, WORDS | HYBRID), "model.layers", of_a_gated_query
    ),
    "a latent, rotary rows in pairs": Case(
        tiny(hf.DeepseekV3ForCausalLM, hf.DeepseekV3Config, LATENT, rope_pairs=4), "model.layers", of_a_latent
    ),
    "a latent, rotary rows in halves": Case(
        tiny(hf.DeepseekV3ForCausalLM, hf.DeepseekV3Config, LATENT | {"rope_interleave": False}),
        "model.layers",
        of_a_latent,
    ),
    "an encoder": Case(
        SEQ2SEQ,
        "encoder.block",
        linears(
            Q="layer.0.SelfAttention.q", UP="layer.1.DenseReluDense.wi", DOWN="layer.1.DenseReluDense.wo"
        ),
        "encoder.block",
    ),
    "a decoder": Case(
        SEQ2SEQ,
        "decoder.block",
        linears(V="layer.0.SelfAttention.v", O="layer.0.SelfAttention.o", UP="layer.2.DenseReluDense.wi"),
        "decoder.block",
    ),
    "cross-attention": Case(
        SEQ2SEQ,
        "decoder.block",
        linears(
            Q="layer.1.EncDecAttention.q",
            K="layer.1.EncDecAttention.k",
            V="layer.1.EncDecAttention.v",
            O="layer.1.EncDecAttention.o",
        ),
        "decoder.block cross",
    ),
    "cross-attention to more tokens": Case(
        replace(HEARING, scales={Q: 12**-0.5}),
        "model.decoder.layers",
        lambda layer: {
            Q: weight(layer, "encoder_attn.q_proj"),
            OV: weight(layer, "encoder_attn.out_proj") @ weight(layer, "encoder_attn.v_proj"),
        },
        "model.decoder.layers cross",
    ),
    "a vision tower": Case(
        tiny(hf.SiglipVisionModel, hf.SiglipVisionConfig, IMAGE, inputs=images, norm="layer"),
        "encoder.layers",
        linears(Q="self_attn.q_proj", O="self_attn.out_proj", UP="mlp.fc1", DOWN="mlp.fc2"),
    ),
}


def in_layer(found: Matrices) -> dict[Any, Tensor]:
    """One layer's, by projection, of experts also by number."""
    return {
        key[0] if len(key) == 2 else (key[0], key[2]): one for key, one in found.items() if key[1] == LAYER
    }


@pytest.mark.parametrize("name", CASES)
def test_what_is_recovered_is_the_parameter(name: str) -> None:
    case = CASES[name]
    model = case.tiny.build()
    found = in_layer(compute(case.tiny, model, case.stack).stored)
    for key, matrix in case.expected(model.get_submodule(case.layers)[LAYER]).items():
        assert found[key].shape == matrix.shape, key
        assert (found[key] - matrix).abs().max() < ERROR, key


@pytest.mark.parametrize(
    ("kind", "gain"), [("rms", lambda g: torch.diag(g)), ("layer", lambda g: torch.diag(g) - g[:, None] / 24)]
)
def test_the_norm_in_front_is_taken_in_with_its_gain_and_mean(
    kind: str, gain: Callable[[Tensor], Tensor]
) -> None:
    if kind == "rms":
        case, paths = MIXTRAL, ("model.layers", "input_layernorm", "self_attn.q_proj")
    else:
        case, paths = HEARING, ("model.decoder.layers", "self_attn_layer_norm", "self_attn.v_proj")
    model = case.build()
    folded = in_layer(compute(case, model, paths[0]).folded)
    layer = model.get_submodule(paths[0])[LAYER]
    expected = weight(layer, paths[2]) @ gain(weight(layer, paths[1]))
    found = folded[Q if kind == "rms" else V]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_experts_read_the_norms_output_too() -> None:
    model = MIXTRAL.build()
    folded = in_layer(compute(MIXTRAL, model).folded)
    layer = model.get_submodule("model.layers")[LAYER]
    for name in ("GATE", "UP"):
        expected = split_halves(layer, 2, name) * weight(layer, "post_attention_layernorm")
        torch.testing.assert_close(folded[Projection[name], 2], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(folded[DOWN, 2], split_halves(layer, 2, "DOWN"))


def test_layers_have_what_they_have() -> None:
    sizes = WORDS | {"layer_types": ["conv", "full_attention", "conv"], "block_auto_adjust_ff_dim": False}
    hybrid = tiny(hf.Lfm2ForCausalLM, hf.Lfm2Config, sizes)
    found = compute(hybrid, hybrid.build()).stored
    assert {key[1] for key in found if key[0] in ATTENTION} == {1}
    assert {key[1] for key in found if key[0] is UP} == {0, 1, 2}


def test_a_layer_may_be_attention_or_a_feed_forward_block_only() -> None:
    sizes = WORDS | {"layers_block_type": ["mlp", "attention", "mamba", "mlp"], "mamba_num_heads": 4}
    sizes |= {"mamba_head_dim": 6, "n_groups": 1, "ssm_state_size": 4, "chunk_size": 2}
    hybrid = tiny(hf.NemotronHForCausalLM, hf.NemotronHConfig, sizes)
    found = compute(hybrid, hybrid.build()).stored
    kinds = {layer: {key[0] for key in found if key[1] == layer} for layer in range(4)}
    assert kinds == {0: {UP, DOWN}, 1: ATTENTION, 2: set(), 3: {UP, DOWN}}


def test_heads_copied_for_a_group_count_once() -> None:
    query, own = torch.randn(5, 6, 3, 8), torch.randn(5, 2, 3, 8)
    copied = own.repeat_interleave(3, dim=1)
    call = Attention((), (), query, copied, copied, by_token(query), by_token(query))
    assert torch.equal(call.made()[K], by_token(own))
    assert torch.equal(call.made()[Q], by_token(query))


def test_stacks_come_under_their_declared_names() -> None:
    named = replace(SEQ2SEQ, stacks={"": "decoder.block", "encoder": "encoder.block"})
    found = compute_stacks(named, named.build())
    assert found.keys() == {"", "encoder"}
    assert not torch.equal(found[""].stored[Q, 0], found["encoder"].stored[Q, 0])


# --------------------------------------------------------------------------------------- what must not pass


def test_several_stacks_must_be_told_apart() -> None:
    with pytest.raises(AssertionError, match="which of these is the stack"):
        compute(SEQ2SEQ, SEQ2SEQ.build())


class Bent(nn.Module):
    """A map that is not linear, around one that is."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, states: Tensor) -> Tensor:
        return self.inner(states).tanh()


def test_a_projection_that_is_not_linear_is_refused() -> None:
    model = LLAMA.build()
    layer = model.get_submodule("model.layers")[LAYER]
    layer.self_attn.q_proj = Bent(layer.self_attn.q_proj)
    with pytest.raises(AssertionError, match="nothing that was given determines what was made"):
        compute(LLAMA, model)


class Scaled(nn.Module):
    """A norm, and a number by which its output is multiplied."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, states: Tensor) -> Tensor:
        return 2.5 * self.norm(states)


def test_a_norm_is_found_behind_a_factor() -> None:
    model = LLAMA.build()
    layer = model.get_submodule("model.layers")[LAYER]
    layer.input_layernorm = Scaled(layer.input_layernorm)
    expected = weight(layer, "self_attn.k_proj") * weight(layer, "input_layernorm.norm")
    known = replace(LLAMA, scales=dict.fromkeys((Q, K, V), 2.5))
    for case, factor in ((LLAMA, 2.5), (known, 1)):
        folded = in_layer(compute(case, model).folded)
        torch.testing.assert_close(folded[K], factor * expected, rtol=0, atol=1e-5)


class Hidden(nn.Module):
    """Something in front that is no norm."""

    def forward(self, states: Tensor) -> Tensor:
        return states.tanh()


def test_something_in_front_that_is_no_norm_is_refused() -> None:
    model = LLAMA.build()
    model.get_submodule("model.layers")[LAYER].input_layernorm = Hidden()
    with pytest.raises(AssertionError, match="something other than a norm is in front"):
        compute(LLAMA, model)


def test_experts_in_another_order_are_others() -> None:
    model = MIXTRAL.build()
    layer = model.get_submodule("model.layers")[LAYER]
    before = split_halves(layer, 0, "UP").double()
    with torch.no_grad():
        layer.mlp.experts.gate_up_proj.copy_(layer.mlp.experts.gate_up_proj.roll(1, 0))
    found = in_layer(compute(MIXTRAL, model).stored)
    assert (found[UP, 0] - before).abs().max() > 0.1
    assert (found[UP, 1] - before).abs().max() < ERROR


def test_rotary_rows_in_pairs_are_not_in_halves() -> None:
    case = CASES["a latent, rotary rows in pairs"]
    model = case.tiny.build()
    found = in_layer(compute(replace(case.tiny, rope_pairs=0), model).stored)
    expected = of_a_latent(model.get_submodule("model.layers")[LAYER])
    assert {key for key in (Q, K, V) if (found[key] - expected[key]).abs().max() > 0.01} == {Q, K}


def test_a_map_is_recovered_from_the_first_that_determines_it() -> None:
    torch.manual_seed(0)
    given, other = torch.randn(2, 50, 7, dtype=torch.float64)
    matrix = torch.randn(5, 7, dtype=torch.float64)
    read, found = recover_any([other, given], given @ matrix.T)
    assert read is given
    torch.testing.assert_close(found, matrix)
    assert residue(given, given @ matrix.T) < ERROR
    assert residue(other, given @ matrix.T) > 0.1
    with pytest.raises(AssertionError, match="too few rows"):
        residue(given[:8], other[:8])
    with pytest.raises(AssertionError, match="not close"):
        recover(other, given @ matrix.T)
