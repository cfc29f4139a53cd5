"""Tiny random models of every model type and, of timm's, of every kind of tensor the registry knows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import transformers as hf
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from registry import Projection

VOCABULARY = {"vocab_size": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
LAYERS = {"num_hidden_layers": 3}
DECODER = LAYERS | {
    "hidden_size": 24,
    "intermediate_size": 44,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
"""No two of hidden, ffn, query and key-value widths agree: 24, 44, 48 and 16."""
ENCODER = LAYERS | {"hidden_size": 24, "intermediate_size": 44, "num_attention_heads": 3}
ENCODER |= {"max_position_embeddings": 16}
GPT2 = {"n_layer": 3, "n_embd": 24, "n_inner": 44, "n_head": 3, "n_positions": 16}
NEOX = LAYERS | {"hidden_size": 48, "intermediate_size": 100, "num_attention_heads": 6}
FALCON = LAYERS | {"hidden_size": 48, "ffn_hidden_size": 100, "num_attention_heads": 6}


@dataclass(frozen=True)
class Tiny:
    """A model to build, and what its source code says of it.

    `norm` is the norm whose output attention and the feed-forward block read; `residual_scale` is what
    a block's output is multiplied with before it joins the residual stream, `scales` what a projection's
    output is. `inputs` makes what the model is called with, of so many tokens, where embeddings alone will
    not do. `stacks` maps each declared stack to the path of its list of layers in the model, followed by
    " cross" where it is the cross-attention in them. `silent` are classes (globs) of modules that hold no
    projections, and give zeros. `rope_pairs` are the last rows of a head of Q and K that are stored in
    pairs and used in halves.
    """

    model: type[hf.PreTrainedModel]
    config: Callable[[], hf.PreTrainedConfig]
    norm: Literal["rms", "layer"] | None = "rms"
    residual_scale: float = 1.0
    scales: Mapping[Projection, float] = field(default_factory=dict)
    inputs: Callable[[int], dict[str, Tensor]] | None = None
    stacks: Mapping[str, str] = field(default_factory=dict)
    silent: tuple[str, ...] = ()
    rope_pairs: int = 0

    def build(self) -> hf.PreTrainedModel:
        """The model, every parameter random: gains and biases around 1, matrices around 0."""
        torch.manual_seed(0)
        model = self.model(self.config()).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.uniform_(0.5, 1.5)
                else:
                    parameter.normal_(0, 0.1)
        return model


def tiny(
    model: type[hf.PreTrainedModel],
    config: type[hf.PreTrainedConfig],
    sizes: Mapping[str, Any],
    *,
    norm: Literal["rms", "layer"] | None = "rms",
    residual_scale: float = 1.0,
    inputs: Callable[[int], dict[str, Tensor]] | None = None,
    scales: Mapping[Projection, float] | None = None,
    **settings: Any,
) -> Tiny:
    """A model of these sizes, changed by further settings of its config."""
    return Tiny(
        model,
        lambda: config(**VOCABULARY, **(sizes | settings)),
        norm,
        residual_scale,
        scales or {},
        inputs,
    )


def _falcon(**settings: Any) -> Tiny:
    return tiny(hf.FalconForCausalLM, hf.FalconConfig, FALCON, norm="layer", **settings)


def gemma3_with_vision(text: Mapping[str, Any] = DECODER) -> hf.Gemma3Config:
    """A Gemma 3 config of a text model with these settings and a vision tower."""
    vision = {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"model_type": "siglip_vision_model", "image_size": 8, "patch_size": 4}
    return hf.Gemma3Config(
        text_config=VOCABULARY | text,
        vision_config=vision,
        mm_tokens_per_image=4,
        boi_token_index=29,
        eoi_token_index=30,
        image_token_index=31,
    )


def _uncapped(*args: Any, softcap: float, **kwargs: Any) -> tuple[Tensor, None]:
    """Attention without Gemma 2's cap on the scores, which SDPA cannot apply, and one token does not feel."""
    return sdpa_attention_forward(*args, **kwargs)


hf.AttentionInterface.register("uncapped", _uncapped)

TINY: Mapping[str, Tiny] = {
    "llama": tiny(hf.LlamaForCausalLM, hf.LlamaConfig, DECODER),
    "llama, biased": tiny(hf.LlamaForCausalLM, hf.LlamaConfig, DECODER, attention_bias=True, mlp_bias=True),
    "mistral, 11 layers": tiny(hf.MistralForCausalLM, hf.MistralConfig, DECODER, num_hidden_layers=11),
    "qwen2": tiny(hf.Qwen2ForCausalLM, hf.Qwen2Config, DECODER),
    "qwen3": tiny(hf.Qwen3ForCausalLM, hf.Qwen3Config, DECODER),
    "smollm3": tiny(hf.SmolLM3ForCausalLM, hf.SmolLM3Config, DECODER, no_rope_layers=[1, 0, 1]),
    "granite": tiny(
        hf.GraniteForCausalLM,
        hf.GraniteConfig,
        DECODER,
        residual_scale=0.22,
        residual_multiplier=0.22,
        embedding_multiplier=12.0,
        attention_multiplier=0.0078125,
        logits_scaling=8.0,
    ),
    "gemma": tiny(hf.GemmaForCausalLM, hf.GemmaConfig, DECODER),
    "gemma2": tiny(hf.Gemma2ForCausalLM, hf.Gemma2Config, DECODER, attn_implementation="uncapped"),
    "gemma3_text": tiny(hf.Gemma3ForCausalLM, hf.Gemma3TextConfig, DECODER, sliding_window_pattern=2),
    "gemma3": Tiny(hf.Gemma3ForConditionalGeneration, gemma3_with_vision),
    "olmo2": tiny(hf.Olmo2ForCausalLM, hf.Olmo2Config, DECODER, norm=None),
    "exaone4": tiny(hf.Exaone4ForCausalLM, hf.Exaone4Config, DECODER, norm=None, sliding_window_pattern=2),
    "phi3": tiny(hf.Phi3ForCausalLM, hf.Phi3Config, DECODER),
    "gpt2": tiny(hf.GPT2LMHeadModel, hf.GPT2Config, GPT2, norm="layer"),
    "gpt2, square": tiny(hf.GPT2LMHeadModel, hf.GPT2Config, GPT2, norm="layer", n_inner=24),
    "gpt_neox": tiny(hf.GPTNeoXForCausalLM, hf.GPTNeoXConfig, NEOX, norm="layer"),
    "gpt_neox, sequential": tiny(
        hf.GPTNeoXForCausalLM, hf.GPTNeoXConfig, NEOX, norm="layer", use_parallel_residual=False
    ),
    "falcon 40B": _falcon(new_decoder_architecture=True, num_kv_heads=2),
    "falcon 11B": _falcon(new_decoder_architecture=True, num_kv_heads=2, num_ln_in_parallel_attn=1),
    "falcon 7B": _falcon(multi_query=True),
    "falcon RW": _falcon(multi_query=False, parallel_attn=False, alibi=True, bias=True),
    "bert": tiny(hf.BertForMaskedLM, hf.BertConfig, ENCODER, norm=None),
    "roberta": tiny(hf.RobertaForMaskedLM, hf.RobertaConfig, ENCODER, norm=None),
    "xlm-roberta": tiny(hf.XLMRobertaForMaskedLM, hf.XLMRobertaConfig, ENCODER, norm=None),
    "camembert": tiny(hf.CamembertForMaskedLM, hf.CamembertConfig, ENCODER, norm=None),
}


VIT = {"width": 24, "inner": 44, "heads": 3, "layers": 3}
"""A timm model's sizes; no config.json of timm's own tells them."""


@dataclass(frozen=True)
class TinyTimm:
    """The tensors of a Vision Transformer that timm saves, typed by hand.

    `around` are those outside the blocks, patch embedding and last norm apart, of this model only.
    """

    around: Mapping[str, tuple[int, ...]]
    qkv_bias: bool = True
    layer_scale: bool = False
    qk_norm: bool = False

    def build(self) -> dict[str, Tensor]:
        """Every tensor random: gains and biases around 1, all others around 0."""
        generator = torch.Generator().manual_seed(0)
        return {
            name: torch.rand(shape, generator=generator) + 0.5
            if len(shape) == 1
            else torch.randn(shape, generator=generator) / 10
            for name, shape in self._shapes().items()
        }

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        width = VIT["width"]
        shapes = {"patch_embed.proj.weight": (width, 3, 4, 4), "patch_embed.proj.bias": (width,)}
        for layer in range(VIT["layers"]):
            shapes |= {f"blocks.{layer}.{name}": shape for name, shape in self._block().items()}
        return shapes | {"norm.weight": (width,), "norm.bias": (width,)} | dict(self.around)

    def _block(self) -> dict[str, tuple[int, ...]]:
        width, inner, head = VIT["width"], VIT["inner"], VIT["width"] // VIT["heads"]
        shapes: dict[str, tuple[int, ...]] = {
            "attn.qkv.weight": (3 * width, width),
            "attn.proj.weight": (width, width),
            "mlp.fc1.weight": (inner, width),
            "mlp.fc2.weight": (width, inner),
        }
        vectors = {"norm1.weight": width, "norm1.bias": width, "norm2.weight": width, "norm2.bias": width}
        vectors |= {"attn.proj.bias": width, "mlp.fc1.bias": inner, "mlp.fc2.bias": width}
        if self.qkv_bias:
            vectors |= {"attn.qkv.bias": 3 * width}
        if self.layer_scale:
            vectors |= {"ls1.gamma": width, "ls2.gamma": width}
        if self.qk_norm:
            vectors |= {f"attn.{part}_norm.{kind}": head for part in "qk" for kind in ("weight", "bias")}
        return shapes | {name: (length,) for name, length in vectors.items()}


TOKENS = {"cls_token": (1, 1, 24), "pos_embed": (1, 5, 24)}
HEAD = {"head.weight": (10, 24), "head.bias": (10,)}
POOL = {"attn_pool.latent": (1, 1, 24), "attn_pool.norm.weight": (24,), "attn_pool.norm.bias": (24,)}
POOL |= {f"attn_pool.{name}.weight": (24, 24) for name in ("q", "proj")}
POOL |= {"attn_pool.kv.weight": (48, 24), "attn_pool.kv.bias": (48,)}
POOL |= {"attn_pool.mlp.fc1.weight": (44, 24), "attn_pool.mlp.fc2.weight": (24, 44)}

TIMM: Mapping[str, TinyTimm] = {
    "vit_tiny_patch16_224": TinyTimm(TOKENS | HEAD),
    "vit_base_patch16_224_in21k": TinyTimm(TOKENS | HEAD | {"pre_logits.fc.weight": (24, 24)}),
    "vit_base_patch16_384": TinyTimm(TOKENS | HEAD, qk_norm=True),
    "vit_base_patch16_clip_224": TinyTimm(TOKENS | HEAD | {"norm_pre.weight": (24,), "norm_pre.bias": (24,)}),
    "vit_base_patch16_siglip_224": TinyTimm({"pos_embed": (1, 4, 24)} | POOL),
    "vit_medium_patch16_gap_256": TinyTimm(
        {"pos_embed": (1, 4, 24), "fc_norm.weight": (24,)} | HEAD, qkv_bias=False, layer_scale=True
    ),
    "vit_small_patch14_reg4_dinov2": TinyTimm(TOKENS | {"reg_token": (1, 4, 24)}, layer_scale=True),
    "deit_tiny_distilled_patch16_224": TinyTimm(
        TOKENS | HEAD | {"dist_token": (1, 1, 24), "head_dist.weight": (10, 24)}
    ),
    "deit3_small_patch16_224": TinyTimm(TOKENS | HEAD, layer_scale=True),
}
"""By the name that timm writes as config.json's `architecture`."""
