"""Tiny random models of decoders without experts that are not laid out as Llama, GPT-2 or Gemma are."""

from collections.abc import Mapping
from typing import Any

import torch
import transformers as hf
from tiny_models import DECODER, ENCODER, GPT2, NEOX, Tiny, tiny
from torch import Tensor

from registry import Projection

SHORT = {key: value for key, value in DECODER.items() if key != "head_dim"}
"""For models whose heads are hidden / heads wide: 24, 44, 24 and 8."""

CODEGEN = {"n_layer": 3, "n_embd": 32, "n_head": 8, "n_inner": 44, "n_positions": 16, "rotary_dim": 4}
"""CodeGen shares its heads out over four blocks; here two lie in each."""
HALF = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
GPTJ = GPT2 | {"rotary_dim": 4}
NEO = {"num_layers": 3, "hidden_size": 24, "intermediate_size": 44, "num_heads": 3}
NEO |= {"attention_types": [[["global", "local", "global"], 1]], "max_position_embeddings": 16}
OPT = {"num_hidden_layers": 3, "hidden_size": 24, "ffn_dim": 44, "num_attention_heads": 3}
OPT |= {"max_position_embeddings": 16, "word_embed_proj_dim": 24}
XGLM = {"num_layers": 3, "d_model": 24, "ffn_dim": 44, "attention_heads": 3, "max_position_embeddings": 16}
BLOOM = {"n_layer": 3, "hidden_size": 24, "n_head": 3}
MPT = {"n_layers": 3, "d_model": 24, "n_heads": 3, "max_seq_len": 16}
CTRL = {"n_layer": 3, "n_embd": 24, "dff": 44, "n_head": 3, "n_positions": 16}
GRANITE = {"residual_multiplier": 0.22, "embedding_multiplier": 12.0, "attention_multiplier": 0.0078125}
CPM = {"num_hidden_layers": 3, "hidden_size": 24, "dim_ff": 44, "num_attention_heads": 3, "dim_head": 10}
CPM |= {"prompt_length": 1, "prompt_types": 3, "segment_types": 3, "position_bias_num_buckets": 8}

SCALED = {Projection.Q: 8**-0.5}
"""Queries are scaled before they are multiplied with keys, eight channels a head."""


def _tokens(count: int) -> dict[str, Tensor]:
    """So many sequences of one token."""
    return {"input_ids": torch.ones(count, 1, dtype=torch.long)}


def _layered(
    model: type[hf.PreTrainedModel],
    config: type[hf.PreTrainedConfig],
    sizes: Mapping[str, Any] = DECODER,
    **settings: Any,
) -> Tiny:
    """A model with LayerNorm in front."""
    return tiny(model, config, sizes, norm="layer", **settings)


def _stablelm(**settings: Any) -> Tiny:
    return _layered(hf.StableLmForCausalLM, hf.StableLmConfig, SHORT, rope_parameters=HALF, **settings)


DECODER_TINY: Mapping[str, Tiny] = {
    "llama, tied, every head its own key": tiny(
        hf.LlamaForCausalLM,
        hf.LlamaConfig,
        DECODER,
        num_key_value_heads=6,
        tie_word_embeddings=True,
    ),
    "ministral": tiny(hf.MinistralForCausalLM, hf.MinistralConfig, DECODER),
    "ministral3": tiny(hf.Ministral3ForCausalLM, hf.Ministral3Config, DECODER),
    "seed_oss": tiny(hf.SeedOssForCausalLM, hf.SeedOssConfig, DECODER),
    "ernie4_5": tiny(hf.Ernie4_5ForCausalLM, hf.Ernie4_5Config, DECODER, use_bias=True),
    "helium": tiny(hf.HeliumForCausalLM, hf.HeliumConfig, SHORT | {"head_dim": 4}),
    "hunyuan_v1_dense": tiny(hf.HunYuanDenseV1ForCausalLM, hf.HunYuanDenseV1Config, DECODER),
    "cwm": tiny(hf.CwmForCausalLM, hf.CwmConfig, DECODER),
    "iquestcoder": tiny(hf.LlamaForCausalLM, hf.IQuestCoderConfig, DECODER),
    "granite_swa": tiny(
        hf.GraniteSWAForCausalLM, hf.GraniteSWAConfig, DECODER | GRANITE, residual_scale=0.22
    ),
    "hyperclovax": tiny(
        hf.HyperCLOVAXForCausalLM, hf.HyperCLOVAXConfig, DECODER | GRANITE, residual_scale=0.22
    ),
    "bitnet": tiny(hf.BitNetForCausalLM, hf.BitNetConfig, SHORT),
    "vaultgemma": tiny(
        hf.VaultGemmaForCausalLM, hf.VaultGemmaConfig, DECODER, attn_implementation="uncapped"
    ),
    "olmo": tiny(hf.OlmoForCausalLM, hf.OlmoConfig, DECODER, norm=None),
    "olmo3": tiny(hf.Olmo3ForCausalLM, hf.Olmo3Config, DECODER, norm=None),
    "cohere": _layered(hf.CohereForCausalLM, hf.CohereConfig),
    "cohere, normed queries": _layered(hf.CohereForCausalLM, hf.CohereConfig, use_qk_norm=True),
    "cohere2": _layered(hf.Cohere2ForCausalLM, hf.Cohere2Config, sliding_window_pattern=2),
    "stablelm": _stablelm(),
    "stablelm, parallel": _stablelm(use_parallel_residual=True),
    "stablelm, normed heads": _stablelm(qk_layernorm=True, use_qkv_bias=True),
    "glm": tiny(hf.GlmForCausalLM, hf.GlmConfig, DECODER),
    "glm4": tiny(hf.Glm4ForCausalLM, hf.Glm4Config, DECODER),
    "starcoder2": _layered(hf.Starcoder2ForCausalLM, hf.Starcoder2Config),
    "phi": _layered(hf.PhiForCausalLM, hf.PhiConfig),
    "phi, normed queries": _layered(hf.PhiForCausalLM, hf.PhiConfig, SHORT, qk_layernorm=True),
    "arcee": tiny(hf.ArceeForCausalLM, hf.ArceeConfig, DECODER),
    "apertus": tiny(hf.ApertusForCausalLM, hf.ApertusConfig, DECODER),
    "jais2": _layered(hf.Jais2ForCausalLM, hf.Jais2Config),
    "nemotron": _layered(hf.NemotronForCausalLM, hf.NemotronConfig),
    "nanochat": tiny(hf.NanoChatForCausalLM, hf.NanoChatConfig, DECODER, norm=None),
    "gptj": _layered(hf.GPTJForCausalLM, hf.GPTJConfig, GPTJ),
    "codegen": _layered(hf.CodeGenForCausalLM, hf.CodeGenConfig, CODEGEN),
    "gpt_neo": _layered(hf.GPTNeoForCausalLM, hf.GPTNeoConfig, NEO),
    "gpt_neox_japanese": _layered(hf.GPTNeoXJapaneseForCausalLM, hf.GPTNeoXJapaneseConfig, NEOX),
    "gpt_bigcode": _layered(hf.GPTBigCodeForCausalLM, hf.GPTBigCodeConfig, GPT2),
    "gpt_bigcode, every head its own key": _layered(
        hf.GPTBigCodeForCausalLM, hf.GPTBigCodeConfig, GPT2, multi_query=False
    ),
    "opt": _layered(hf.OPTForCausalLM, hf.OPTConfig, OPT, scales=SCALED),
    "opt 350M": tiny(
        hf.OPTForCausalLM,
        hf.OPTConfig,
        OPT | {"word_embed_proj_dim": 16},
        norm=None,
        inputs=_tokens,
        scales=SCALED,
        do_layer_norm_before=False,
    ),
    "xglm": _layered(hf.XGLMForCausalLM, hf.XGLMConfig, XGLM, scales=SCALED),
    "biogpt": _layered(hf.BioGptForCausalLM, hf.BioGptConfig, ENCODER),
    "bloom": _layered(hf.BloomForCausalLM, hf.BloomConfig, BLOOM),
    "mpt": _layered(hf.MptForCausalLM, hf.MptConfig, MPT),
    "openai-gpt": tiny(hf.OpenAIGPTLMHeadModel, hf.OpenAIGPTConfig, GPT2, norm=None),
    "persimmon": _layered(hf.PersimmonForCausalLM, hf.PersimmonConfig, NEOX),
    "ctrl": _layered(hf.CTRLLMHeadModel, hf.CTRLConfig, CTRL),
    "modernbert-decoder": _layered(hf.ModernBertDecoderForCausalLM, hf.ModernBertDecoderConfig, ENCODER),
    "imagegpt": tiny(hf.ImageGPTForCausalImageModeling, hf.ImageGPTConfig, GPT2),
    "cpmant": tiny(hf.CpmAntForCausalLM, hf.CpmAntConfig, CPM, inputs=_tokens),
}
