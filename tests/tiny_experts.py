"""Tiny random models with routed experts or latent attention, by model type and what is special of them."""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import transformers as hf
from tiny_models import DECODER, VOCABULARY, Tiny

from registry import Projection

SHORT: dict[str, Any] = {key: value for key, value in DECODER.items() if key != "head_dim"}
"""For models whose heads are hidden / heads wide: 24, 44, 24 and 8."""

FOUR: dict[str, Any] = {"moe_intermediate_size": 20, "num_experts_per_tok": 2}
"""Experts of 20 channels; a model type says in its own words that there are four."""

DENSE_LATENT: dict[str, Any] = {
    "num_hidden_layers": 3,
    "hidden_size": 24,
    "intermediate_size": 44,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "q_lora_rank": 12,
    "kv_lora_rank": 10,
    "qk_nope_head_dim": 6,
    "qk_rope_head_dim": 4,
    "v_head_dim": 5,
}
"""A head of Q and K is 10 wide, of V 5: 30 and 15 in all; latents of 12 and 10, and a shared key of 4."""

LATENT: dict[str, Any] = (
    DENSE_LATENT | FOUR | {"n_routed_experts": 4, "n_shared_experts": 2, "n_group": 1, "topk_group": 1}
)
LATENT |= {"first_k_dense_replace": 1}
STRAIGHT: dict[str, Any] = {"rope_interleave": False}
"""Rotary channels stay where they are; else each head's even ones come first, of Q as of K."""

INDEXER: dict[str, Any] = {"index_n_heads": 2, "index_head_dim": 7, "index_topk": 4}

SAID = frozenset(field.name for field in fields(Tiny))


def _tiny(
    stem: str, sizes: dict[str, Any], config: str = "Config", model: str = "ForCausalLM", **settings: Any
) -> Tiny:
    """A model of transformers' class of this stem; `settings` are Tiny's fields and the config's."""
    config_class, model_class = getattr(hf, stem + config), getattr(hf, stem + model)
    said = {key: value for key, value in settings.items() if key in SAID}
    rest = {key: value for key, value in settings.items() if key not in SAID}
    return Tiny(model_class, lambda: config_class(**VOCABULARY, **(sizes | rest)), **said)


GRANITE: dict[str, Any] = {"num_local_experts": 4, "residual_multiplier": 0.22, "embedding_multiplier": 12.0}
TEXT: dict[str, Any] = {"config": "TextConfig", "model": "TextModel"}

DBRX: dict[str, Any] = {"d_model": 24, "n_heads": 6, "n_layers": 3, "max_seq_len": 16}
DBRX_ATTENTION: dict[str, Any] = {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 100.0}
DBRX_EXPERTS: dict[str, Any] = {
    "ffn_hidden_size": 44,
    "moe_num_experts": 3,
    "moe_top_k": 2,
    "hidden_size": 24,
}
MROPE: dict[str, Any] = {
    "rope_type": "default",
    "rope_theta": 10000.0,
    "partial_rotary_factor": 0.5,
    "mrope_section": [1, 1, 0],
}

EXPERT_TINY: Mapping[str, Tiny] = {
    "mixtral": _tiny("Mixtral", DECODER, num_local_experts=4),
    "minimax_m2": _tiny("MiniMaxM2", DECODER, num_local_experts=4, num_experts_per_tok=2),
    "phimoe": _tiny("Phimoe", SHORT, num_local_experts=4, norm="layer"),
    "qwen2_moe": _tiny(
        "Qwen2Moe", SHORT, **FOUR, num_experts=4, shared_expert_intermediate_size=28, mlp_only_layers=[1]
    ),
    "qwen3_moe": _tiny("Qwen3Moe", DECODER, **FOUR, num_experts=4),
    "qwen3_moe, one dense": _tiny("Qwen3Moe", DECODER, **FOUR, num_experts=4, mlp_only_layers=[1]),
    "olmoe": _tiny("Olmoe", SHORT, num_experts=4, num_experts_per_tok=2),
    "mellum": _tiny("Mellum", DECODER, **FOUR, num_local_experts=4),
    "qwen3_omni_moe_text": _tiny(
        "Qwen3OmniMoe",
        DECODER,
        **FOUR,
        num_experts=4,
        config="TextConfig",
        model="ThinkerTextModel",
    ),
    "qwen3_vl_moe_text": _tiny("Qwen3VLMoe", DECODER, **FOUR, num_experts=4, **TEXT),
    "flex_olmo": _tiny("FlexOlmo", SHORT, num_experts=4, num_experts_per_tok=2, norm=None),
    "flint": _tiny(
        "Flint", DECODER, **FOUR, num_experts=4, shared_expert_intermediate_size=28, mlp_only_layers=[0]
    ),
    "laguna": _tiny(
        "Laguna",
        DECODER,
        **FOUR,
        num_experts=4,
        shared_expert_intermediate_size=28,
        num_attention_heads_per_layer=[6, 4, 6],
        scales={Projection.O: math.log(2)},  # softplus(0), the gate where nothing is read
    ),
    "glm4_moe": _tiny("Glm4Moe", DECODER, **FOUR, n_routed_experts=4, n_shared_experts=2, use_qk_norm=True),
    "glm4v_moe_text": _tiny(
        "Glm4vMoe", DECODER, **FOUR, n_routed_experts=4, n_shared_experts=2, **TEXT, rope_parameters=MROPE
    ),
    "dots1": _tiny("Dots1", DECODER, **FOUR, n_routed_experts=4, n_shared_experts=2, first_k_dense_replace=1),
    "ernie4_5_moe": _tiny(
        "Ernie4_5_Moe",
        SHORT,
        moe_intermediate_size=20,
        moe_num_experts=4,
        moe_num_shared_experts=2,
        moe_k=2,
        moe_layer_end_index=2,
        use_bias=True,
    ),
    "ernie4_5_moe, none shared": _tiny(
        "Ernie4_5_Moe",
        SHORT,
        moe_intermediate_size=20,
        moe_num_experts=4,
        moe_num_shared_experts=0,
        moe_k=2,
        moe_layer_end_index=2,
    ),
    "exaone_moe": _tiny("ExaoneMoe", DECODER, **FOUR, num_experts=4, num_shared_experts=2),
    "solar_open": _tiny("SolarOpen", DECODER, **FOUR, n_routed_experts=4, n_shared_experts=2),
    "kolibri1": _tiny("Kolibri1", DECODER, **FOUR, num_local_experts=4, shared_expert_intermediate_size=28),
    "hunyuan_v1_moe": _tiny("HunYuanMoEV1", DECODER, num_experts=4, moe_topk=2),
    "hy_v3": _tiny(
        "HYV3", DECODER, **FOUR, num_experts=4, num_shared_experts=2, enable_moe_fp32_combine=False
    ),
    "afmoe": _tiny("Afmoe", DECODER, **FOUR, num_experts=4, num_shared_experts=2, num_dense_layers=1),
    "cohere2_moe": _tiny(
        "Cohere2Moe",
        DECODER,
        num_experts=4,
        num_shared_experts=2,
        norm="layer",
        scales={Projection.SHARED_DOWN: 0.5},  # the mean of routed and shared experts
    ),
    "cohere2_moe, none shared": _tiny("Cohere2Moe", DECODER, num_experts=4, norm="layer"),
    "mimo_v2_flash": _tiny(
        "MiMoV2Flash",
        DECODER | {"num_attention_heads": 8},
        **FOUR,
        n_routed_experts=4,
        v_head_dim=5,
        attention_value_scale=1.0,
        layer_types=["full_attention", "sliding_attention", "full_attention"],
    ),
    "granitemoe": _tiny("GraniteMoe", SHORT | GRANITE, residual_scale=0.22),
    "granitemoeshared": _tiny(
        "GraniteMoeShared", SHORT | GRANITE, shared_intermediate_size=28, residual_scale=0.22
    ),
    "granitemoe_swa": _tiny(
        "GraniteMoeSWA", SHORT | GRANITE, shared_intermediate_size=28, residual_scale=0.22
    ),
    "dbrx": _tiny("Dbrx", DBRX, attn_config=DBRX_ATTENTION, ffn_config=DBRX_EXPERTS, norm="layer"),
    "gpt_oss": _tiny("GptOss", DECODER, num_local_experts=4, num_experts_per_tok=2),
    "openai_privacy_filter": _tiny(
        "OpenAIPrivacyFilter",
        DECODER,
        num_local_experts=4,
        num_experts_per_tok=2,
        model="Model",
        scales={Projection.Q: 8**-0.25, Projection.K: 8**-0.25},
    ),
    "llama4_text": _tiny(
        "Llama4",
        DECODER,
        num_local_experts=4,
        intermediate_size_mlp=52,
        interleave_moe_layer_step=2,
        config="TextConfig",
    ),
    "aria_text": _tiny(
        "Aria",
        DECODER,
        moe_num_experts=4,
        moe_topk=2,
        moe_num_shared_experts=3,
        config="TextConfig",
        model="TextForCausalLM",
    ),
    "deepseek_v2": _tiny("DeepseekV2", LATENT),
    "deepseek_v2, Q in one step": _tiny("DeepseekV2", LATENT, q_lora_rank=None),
    "deepseek_v3": _tiny("DeepseekV3", LATENT, **STRAIGHT),
    "deepseek_v3, Q in one step": _tiny("DeepseekV3", LATENT, **STRAIGHT, q_lora_rank=None),
    "deepseek_v3, rotary pairs": _tiny("DeepseekV3", LATENT, rope_pairs=4),
    "deepseek_v32": _tiny("DeepseekV32", LATENT, **INDEXER, rope_pairs=4, silent=("*Indexer",)),
    "glm4_moe_lite": _tiny("Glm4MoeLite", LATENT, **STRAIGHT),
    "glm_moe_dsa": _tiny("GlmMoeDsa", LATENT, **INDEXER, rope_pairs=4, silent=("*Indexer",)),
    "mistral4": _tiny("Mistral4", LATENT, **STRAIGHT),
    "axk1": _tiny("AXK1", LATENT, **STRAIGHT),
    "minicpm3": _tiny("MiniCPM3", DENSE_LATENT, residual_scale=1.4 / math.sqrt(3)),
    "youtu": _tiny("Youtu", DENSE_LATENT, **STRAIGHT),
}

SQUARE: Mapping[str, Tiny] = {
    "gpt_oss, square": _tiny(
        "GptOss", DECODER | {"intermediate_size": 24}, num_local_experts=4, num_experts_per_tok=2
    ),
    "llama4_text, square": _tiny(
        "Llama4",
        DECODER | {"intermediate_size": 24},
        num_local_experts=4,
        intermediate_size_mlp=52,
        interleave_moe_layer_step=2,
        config="TextConfig",
    ),
    "dbrx, square": _tiny(
        "Dbrx",
        DBRX,
        attn_config=DBRX_ATTENTION,
        ffn_config=DBRX_EXPERTS | {"ffn_hidden_size": 24},
        norm="layer",
    ),
}
"""Experts as wide inside as outside: only a declaration tells how Down is stored."""
