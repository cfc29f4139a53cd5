"""Tiny random models in which some layers lack projections, or share them, by model type.

What each layer lacks, and why, is typed by hand, from the configs in this file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import transformers as hf
from tiny_models import DECODER, VOCABULARY, Tiny
from torch import Tensor

from registry import Projection

SHORT = {key: value for key, value in DECODER.items() if key != "head_dim"}
"""For models whose heads are hidden / heads wide: 24, 44, 24 and 8."""

TURNS = {"num_hidden_layers": 4, "layer_types": ["linear_attention", "full_attention"] * 2}
"""Attention in layers 1 and 3."""

DELTA_NET = {"linear_num_key_heads": 2, "linear_num_value_heads": 4}
DELTA_NET |= {"linear_key_head_dim": 6, "linear_value_head_dim": 10}
MAMBA = {"mamba_d_state": 6}
MAMBA2 = MAMBA | {"mamba_n_heads": 4, "mamba_expand": 2, "mamba_n_groups": 1, "mamba_chunk_size": 4}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 20}
QWEN = DECODER | DELTA_NET | TURNS
QWEN_EXPERTS = QWEN | EXPERTS | {"num_experts": 3, "shared_expert_intermediate_size": 28}
LATENT = {
    "hidden_size": 24,
    "intermediate_size": 44,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "kv_lora_rank": 10,
    "qk_nope_head_dim": 6,
    "qk_rope_head_dim": 4,
    "v_head_dim": 7,
    "n_shared_experts": 2,
}
"""A head of Q and K is 10 wide, of V 7: 30 and 21 in all; a latent 10 wide, and 4 channels of shared key."""

LATENT |= EXPERTS | TURNS
KIMI = LATENT | {"num_local_experts": 3, "linear_head_dim": 5, "linear_num_heads": 3}
BAILING = LATENT | {"num_local_experts": 4, "first_k_dense_replace": 1, "head_dim": 5}
BAILING |= {"n_group": 2, "topk_group": 2}
GRANITE = SHORT | MAMBA2 | TURNS | {"shared_intermediate_size": 28, "residual_multiplier": 0.22}
LFM2 = SHORT | {"num_hidden_layers": 4, "layer_types": ["conv", "full_attention"] * 2, "block_multiple_of": 4}
LFM2_MOE = EXPERTS | {"num_experts": 3, "num_dense_layers": 1}
NEMOTRON = {key: value for key, value in DECODER.items() if key != "num_hidden_layers"}
NEMOTRON |= {"n_routed_experts": 3, "moe_shared_expert_intermediate_size": 28} | EXPERTS
NEMOTRON |= {"mamba_num_heads": 4, "mamba_head_dim": 12, "ssm_state_size": 6, "n_groups": 1, "chunk_size": 4}
MIXERS = ["linear_attention", "mlp", "full_attention", "moe", "full_attention", "moe"]
FALCON = {
    "mamba_d_ssm": 40,
    "key_multiplier": 0.5,
    "attention_in_multiplier": 1.25,
    "attention_out_multiplier": 0.75,
    "mlp_multipliers": [0.8, 0.6],
}
FALCON_SCALES = {
    Projection.Q: 1.25,
    Projection.K: 1.25 * 0.5,
    Projection.V: 1.25,
    Projection.O: 0.75,
    Projection.GATE: 0.8,
    Projection.DOWN: 0.6,
}
PER_LAYER = {"hidden_size_per_layer_input": 10, "vocab_size_per_layer_input": 64, "vocab_size": 64}
GEMMA3N = DECODER | PER_LAYER | {"laurel_rank": 3, "altup_num_inputs": 3, "num_kv_shared_layers": 2}
GEMMA3N |= {
    "num_hidden_layers": 5,
    "layer_types": [*["sliding_attention", "full_attention"] * 2, "full_attention"],
}
GEMMA4 = DECODER | {"num_hidden_layers": 4, "layer_types": ["sliding_attention", "full_attention"] * 2}
GEMMA4 |= {"global_head_dim": 10, "hidden_size_per_layer_input": 0}
GEMMA4_SHARED = GEMMA4 | PER_LAYER | {"num_kv_shared_layers": 2, "num_hidden_layers": 6}
GEMMA4_SHARED |= {"layer_types": ["sliding_attention", "full_attention"] * 3}

Lacks = frozenset[tuple[Projection, int, str]]

ATTENTION = (Projection.Q, Projection.K, Projection.V, Projection.O)
KV = (Projection.K, Projection.V)
FEED_FORWARD = (Projection.GATE, Projection.UP, Projection.DOWN)
SHARED = (Projection.SHARED_GATE, Projection.SHARED_UP, Projection.SHARED_DOWN)
NO_EXPERTS = "the layer has no experts"
DELTA = "linear attention (Gated DeltaNet) in its place"
KDA = "linear attention (KDA) in its place"
LIGHTNING = "lightning attention in its place"
A_MAMBA = "a Mamba layer"
CONVOLUTION = "a short convolution in its place"
RECURRENT = "a recurrent block (RG-LRU) in its place"
LENT = "uses the keys and values of an earlier layer"


def without(projections: tuple[Projection, ...], reason: str, *layers: int) -> Lacks:
    """Each of the projections, in each of the layers, for the same reason."""
    return frozenset((name, layer, reason) for name in projections for layer in layers)


@dataclass(frozen=True)
class Hybrid:
    """A model to build, and what the layers of each of its stacks lack.

    With `in_blocks` its layers do more with their blocks than add up what these write, so that the blocks are
    looked at one by one.
    """

    tiny: Tiny
    lacks: Lacks = frozenset()
    lacks_in: Mapping[str, Lacks] | None = None
    in_blocks: bool = False

    @property
    def gaps(self) -> dict[str, Lacks]:
        """By stack, the main one's under an empty name."""
        return {"": self.lacks, **(self.lacks_in or {})}


class OpenGates(Tiny):
    """Mllama with its scalar gates wide open: their tanh is 1."""

    def build(self) -> hf.PreTrainedModel:
        model = super().build()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.shape == (1,):
                    parameter.fill_(30.0)
        return model


def _tiny(
    stem: str,
    sizes: Mapping[str, Any],
    *,
    config: str = "{}Config",
    tiny: type[Tiny] = Tiny,
    about: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Tiny:
    """A causal language model of transformers' class of this stem; `about` are fields of Tiny."""
    config_class = getattr(hf, config.format(stem))
    model_class = getattr(hf, f"{stem}ForCausalLM")
    return tiny(model_class, lambda: config_class(**(VOCABULARY | sizes | settings)), **(about or {}))


def _tokens(count: int) -> dict[str, Any]:
    return {"input_ids": torch.arange(count).remainder(64)[:, None], "use_cache": False}


def _beside_an_image(count: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(2)

    def random() -> Tensor:
        return torch.randn(count, 1, 24, generator=generator, dtype=torch.float64)

    return {"inputs_embeds": random(), "cross_attention_states": random(), "use_cache": False}


def gemma4_with_towers() -> hf.Gemma4Config:
    """Gemma 4's text model with shared keys and values, a vision and an audio tower."""
    vision = {"hidden_size": 20, "intermediate_size": 28, "num_hidden_layers": 2, "patch_size": 4}
    vision |= {
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "position_embedding_size": 16,
    }
    audio = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "output_proj_dims": 12}
    return hf.Gemma4Config(
        text_config=VOCABULARY | GEMMA4_SHARED | {"use_double_wide_mlp": True},
        vision_config=vision,
        audio_config=audio | {"subsampling_conv_channels": [4, 2]},
    )


def patches(count: int) -> dict[str, Tensor]:
    """Images of nine patches."""
    generator = torch.Generator().manual_seed(2)
    places = torch.cartesian_prod(torch.arange(3), torch.arange(3)).expand(count // 9 + 1, 9, 2)
    pixels = torch.rand(*places.shape[:2], 48, generator=generator, dtype=torch.float64)
    return {"pixel_values": pixels, "pixel_position_ids": places}


HYBRIDS: Mapping[str, Hybrid] = {
    "qwen3_next": Hybrid(
        _tiny("Qwen3Next", QWEN_EXPERTS, mlp_only_layers=[0]),
        without(ATTENTION, DELTA, 0, 2) | without(SHARED, NO_EXPERTS, 0),
    ),
    "qwen3_5_text": Hybrid(
        _tiny("Qwen3_5", QWEN, config="{}TextConfig"),
        without(ATTENTION, DELTA, 0, 2),
    ),
    "qwen3_5_moe_text": Hybrid(
        _tiny("Qwen3_5Moe", QWEN_EXPERTS, config="{}TextConfig"),
        without(ATTENTION, DELTA, 0, 2),
    ),
    "olmo_hybrid": Hybrid(_tiny("OlmoHybrid", QWEN), without(ATTENTION, DELTA, 0, 2)),
    "kimi_linear": Hybrid(
        _tiny("KimiLinear", KIMI, about={"silent": ("*DeltaAttention",)}),
        without(ATTENTION, KDA, 0, 2) | without(SHARED, NO_EXPERTS, 0),
    ),
    "bailing_hybrid": Hybrid(
        _tiny("BailingHybrid", BAILING, about={"silent": ("*DeltaAttention",), "rope_pairs": 4}),
        without(ATTENTION, KDA, 0, 2) | without(SHARED, NO_EXPERTS, 0),
    ),
    "minimax": Hybrid(
        _tiny("MiniMax", DECODER | TURNS, num_local_experts=3, full_attn_alpha_factor=3.5),
        without(ATTENTION, LIGHTNING, 0, 2),
    ),
    "jamba": Hybrid(
        _tiny(
            "Jamba",
            SHORT | MAMBA,
            num_hidden_layers=4,
            num_experts=3,
            attn_layer_period=2,
            attn_layer_offset=1,
            expert_layer_period=3,
            expert_layer_offset=1,
        ),
        without(ATTENTION, A_MAMBA, 0, 2),
    ),
    "bamba": Hybrid(
        _tiny(
            "Bamba",
            SHORT | MAMBA2,
            num_hidden_layers=4,
            attn_layer_indices=[1, 3],
            about={"silent": ("*Mixer",)},
        ),
        without(ATTENTION, A_MAMBA, 0, 2),
    ),
    "granitemoehybrid": Hybrid(
        _tiny(
            "GraniteMoeHybrid",
            GRANITE,
            num_local_experts=3,
            about={"silent": ("*MambaLayer",), "residual_scale": 0.22},
        ),
        without(ATTENTION, A_MAMBA, 0, 2),
    ),
    "granitemoehybrid, dense": Hybrid(
        _tiny(
            "GraniteMoeHybrid",
            GRANITE,
            num_local_experts=0,
            about={"silent": ("*MambaLayer",), "residual_scale": 0.22},
        ),
        without(ATTENTION, A_MAMBA, 0, 2),
    ),
    "lfm2": Hybrid(_tiny("Lfm2", LFM2), without(ATTENTION, CONVOLUTION, 0, 2)),
    "lfm2_moe": Hybrid(_tiny("Lfm2Moe", LFM2 | LFM2_MOE), without(ATTENTION, CONVOLUTION, 0, 2)),
    "lfm3": Hybrid(_tiny("Lfm3", LFM2, head_dim=8), without(ATTENTION, CONVOLUTION, 0, 2)),
    "recurrent_gemma": Hybrid(
        _tiny(
            "RecurrentGemma", SHORT, num_hidden_layers=4, block_types=["recurrent", "attention"], lru_width=30
        ),
        without(ATTENTION, RECURRENT, 0, 2),
    ),
    "nemotron_h": Hybrid(
        _tiny("NemotronH", NEMOTRON, layers_block_type=MIXERS),
        without((*ATTENTION, *FEED_FORWARD[1:], *SHARED[1:]), A_MAMBA, 0)
        | without((*FEED_FORWARD[1:], *SHARED[1:]), "a layer of attention alone", 2, 4)
        | without(ATTENTION, "a feed-forward layer without attention", 1, 3, 5)
        | without(SHARED[1:], NO_EXPERTS, 1),
    ),
    "falcon_h1": Hybrid(
        _tiny("FalconH1", DECODER | MAMBA2 | FALCON, about={"silent": ("*Mixer",), "scales": FALCON_SCALES})
    ),
    "gemma3n_text": Hybrid(
        _tiny("Gemma3n", GEMMA3N, config="{}TextConfig", about={"inputs": _tokens}),
        without(KV, LENT, 3, 4),
        in_blocks=True,
    ),
    "gemma4_text": Hybrid(_tiny("Gemma4", GEMMA4, config="{}TextConfig")),
    "gemma4_text, K is V": Hybrid(
        _tiny("Gemma4", GEMMA4, config="{}TextConfig", attention_k_eq_v=True, num_global_key_value_heads=1),
    ),
    "gemma4_text, experts": Hybrid(
        _tiny(
            "Gemma4",
            GEMMA4 | {"moe_intermediate_size": 20},
            config="{}TextConfig",
            enable_moe_block=True,
            num_experts=3,
            top_k_experts=2,
        ),
    ),
    "gemma4_text, shared": Hybrid(
        _tiny(
            "Gemma4",
            GEMMA4_SHARED,
            config="{}TextConfig",
            use_double_wide_mlp=True,
            about={"inputs": _tokens},
        ),
        without(KV, LENT, 4, 5),
        in_blocks=True,
    ),
    "gemma4_unified_text": Hybrid(
        _tiny(
            "Gemma4Unified",
            GEMMA4,
            config="{}TextConfig",
            attention_k_eq_v=True,
            num_global_key_value_heads=1,
        ),
    ),
    "mllama_text_model": Hybrid(
        _tiny(
            "Mllama",
            SHORT,
            config="{}TextConfig",
            num_hidden_layers=5,
            cross_attention_layers=[1, 3],
            tiny=OpenGates,
            about={
                "inputs": _beside_an_image,
                "stacks": {"": "model.layers", "cross-attention": "model.layers cross"},
            },
        ),
        without(ATTENTION, "cross-attention in its place", 1, 3),
        {"cross-attention": without(ATTENTION, "a layer of self-attention", 0, 2, 4)},
    ),
}
