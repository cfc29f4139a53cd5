"""Tiny random models made of models: a text model beside towers that see or hear."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import chain
from typing import Any, Literal

import torch
import transformers as hf
from forward_pass import Computed, compute
from tiny_models import Tiny
from torch import Tensor, nn

from registry import Projection

Inputs = Callable[[int], dict[str, Tensor]]


@dataclass(frozen=True)
class Part:
    """One sub-model: its path in the model, its stacks by their declared names, and how it is called.

    A stack is the path of a list of layers in the sub-model, as in Tiny's `stacks`; the rest is as in Tiny.
    """

    module: str
    stacks: Mapping[str, str]
    norm: Literal["rms", "layer"] | None = "rms"
    inputs: Inputs | None = None
    scales: Mapping[Projection, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Composite:
    """A model to build, and its sub-models.

    `fixed` are parameters and buffers (globs) whose numbers are not random: rotations, and gates and scales
    that our matrices leave out. `unread` are declared sub-models that no family is known for.
    """

    model: type[hf.PreTrainedModel]
    config: Callable[[], hf.PreTrainedConfig]
    parts: tuple[Part, ...]
    fixed: Mapping[str, float] = field(default_factory=dict)
    unread: frozenset[str] = frozenset()

    def build(self) -> hf.PreTrainedModel:
        """The model, every parameter random: gains and biases around 1, matrices around 0."""
        model = Tiny(self.model, self.config).build()
        with torch.no_grad():
            for name, tensor in chain(model.named_parameters(), model.named_buffers()):
                for glob, value in self.fixed.items():
                    if fnmatchcase(name, glob):
                        tensor.fill_(value)
        return model

    def compute(self, model: nn.Module) -> dict[str, Computed]:
        """What each stack multiplies with, by its declared name; the sub-models are called one by one."""
        return {
            name: compute(
                Tiny(self.model, self.config, norm=part.norm, inputs=part.inputs, scales=part.scales),
                model.get_submodule(part.module),  # type: ignore[arg-type]
                path,
            )
            for part in self.parts
            for name, path in part.stacks.items()
        }


def _random(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def images(tokens: int) -> dict[str, Tensor]:
    """Images of two times two patches."""
    return {"pixel_values": _random(tokens // 4, 3, 8, 8)}


def sounds(tokens: int) -> dict[str, Tensor]:
    """Spectrograms of ten tokens each."""
    return {"input_features": _random(tokens // 10, 8, 20)}


def masked_sounds(tokens: int) -> dict[str, Tensor]:
    """The same, with masks that hide nothing."""
    return sounds(tokens) | {"input_features_mask": torch.ones(tokens // 10, 20, dtype=torch.long)}


def words(tokens: int) -> dict[str, Tensor]:
    """One token each."""
    return {"input_ids": torch.arange(tokens)[:, None] % 64}


def patches(width: int) -> Inputs:
    """One image, as patches of so many numbers."""

    def inputs(tokens: int) -> dict[str, Tensor]:
        assert tokens == 20 * 20
        return {"hidden_states": _random(tokens, width), "grid_thw": torch.tensor([[1, 20, 20]])}

    return inputs


def one_image(tokens: int) -> dict[str, Tensor]:
    """One image of so many patches."""
    assert tokens == 20 * 20
    return {"pixel_values": _random(1, 3, 80, 80), "image_sizes": torch.tensor([[80, 80]])}


TEXT = {"vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "num_hidden_layers": 3}
TEXT |= {"hidden_size": 24, "intermediate_size": 44, "num_attention_heads": 6, "num_key_value_heads": 2}
WIDE = TEXT | {"head_dim": 8}
LLAMA, MISTRAL, QWEN2 = (WIDE | {"model_type": name} for name in ("llama", "mistral", "qwen2"))
COHERE2 = WIDE | {"model_type": "cohere2"}
TOWER = {"hidden_size": 18, "intermediate_size": 30, "num_hidden_layers": 2, "num_attention_heads": 3}
SEEING = TOWER | {"image_size": 8, "patch_size": 4}
CLIP = SEEING | {"model_type": "clip_vision_model"}
SIGLIP = SEEING | {"model_type": "siglip_vision_model"}
PIXTRAL = TOWER | {"model_type": "pixtral", "head_dim": 6, "image_size": 80, "patch_size": 4}
INTERNVL = TOWER | {"model_type": "internvl_vision", "image_size": [8, 8], "patch_size": [4, 4]}
HEARING = {"num_mel_bins": 8, "max_source_positions": 10}
WHISPER = HEARING | {"d_model": 18, "encoder_layers": 2, "encoder_attention_heads": 3, "encoder_ffn_dim": 30}
LANGUAGE = Part("model.language_model", {"text": "layers"})
PARALLEL = Part("model.language_model", {"text": "layers"}, norm="layer")
VISION = Part("model.vision_tower", {"vision": "encoder.layers"}, norm="layer", inputs=images)
PATCHES = Part("model.vision_tower", {"vision": "transformer.layers"}, inputs=one_image)
AUDIO = Part(
    "model.audio_tower", {"audio": "layers"}, norm="layer", inputs=sounds, scales={Projection.Q: 6**-0.5}
)


def _beside(
    model: type[hf.PreTrainedModel],
    config: type[hf.PreTrainedConfig],
    text: Mapping[str, Any],
    vision: Mapping[str, Any],
    parts: tuple[Part, ...] = (LANGUAGE, VISION),
    fixed: Mapping[str, float] | None = None,
    **settings: Any,
) -> Composite:
    return Composite(
        model,
        lambda: config(text_config=dict(text), vision_config=dict(vision), **settings),
        parts,
        fixed or {},
    )


IMAGE = {"image_token_id": 60, "video_token_id": 61, "vision_start_token_id": 62, "vision_end_token_id": 63}
ROPE = {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}}
NARROW_ROPE = TEXT | {"rope_parameters": ROPE["rope_parameters"] | {"mrope_section": [1, 1, 0]}}
HALF = ROPE["rope_parameters"] | {"partial_rotary_factor": 0.5}
GLM_TEXT = TEXT | {"rope_parameters": HALF | {"mrope_section": [1, 0, 0]}}
GLM_WIDE = WIDE | {"rope_parameters": HALF | {"mrope_section": [1, 1, 0]}}
BLOCKS = {"depth": 2, "num_heads": 3, "patch_size": 4, "hidden_size": 12, "out_hidden_size": 24}
BLOCKS |= {"intermediate_size": 30}
QWEN2_VISION = {
    "depth": 2,
    "num_heads": 3,
    "patch_size": 4,
    "hidden_size": 24,
    "embed_dim": 12,
    "mlp_ratio": 2,
}
QWEN2_5_VISION = BLOCKS | {"fullatt_block_indexes": [1], "window_size": 400}
QWEN3_VISION = BLOCKS | {"num_position_embeddings": 16}
DEEP = QWEN3_VISION | {"deepstack_visual_indexes": [0]}
GLM_VISION = BLOCKS | {"image_size": 16, "spatial_merge_size": 2}
MOE = {"moe_intermediate_size": 20, "num_experts": 3, "num_experts_per_tok": 2}
GLM_MOE = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 20, "n_group": 1}
GLM_MOE |= {"topk_group": 1, "first_k_dense_replace": 1}
LINEAR = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 4}
LINEAR |= {
    "linear_value_head_dim": 4,
    "layer_types": ["linear_attention", "full_attention", "full_attention"],
}


def _internvl(norm: Literal["rms", "layer"]) -> Composite:
    vision = Part("model.vision_tower", {"vision": "encoder.layer"}, norm=norm, inputs=images)
    return _beside(
        hf.InternVLForConditionalGeneration,
        hf.InternVLConfig,
        QWEN2,
        INTERNVL | {"norm_type": f"{norm}_norm"},
        (LANGUAGE, vision),
        {"*.lambda_?": 1.0},
    )


def _visual(norm: Literal["rms", "layer"]) -> tuple[Part, ...]:
    """Qwen's way to arrange a text model and a tower."""
    return (LANGUAGE, Part("model.visual", {"vision": "blocks"}, norm=norm, inputs=patches(3 * 2 * 4 * 4)))


def _idefics(
    text: Mapping[str, Any], model: type[hf.PreTrainedModel], config: Any, **settings: Any
) -> Composite:
    parts = (
        Part("model.text_model", {"text": "layers"}),
        Part("model.vision_model", {"vision": "encoder.layers"}, norm="layer", inputs=images),
    )
    return _beside(model, config, text, SEEING, parts, image_token_id=60, **settings)


def _tiles(tokens: int) -> dict[str, Tensor]:
    """Images of two tiles."""
    many = tokens // 10
    ids, mask = torch.full((many, 1), 2), torch.ones(many, 1, 2, dtype=torch.long)
    return {"pixel_values": _random(many, 1, 2, 3, 8, 8), "aspect_ratio_ids": ids, "aspect_ratio_mask": mask}


def _text_and_image(tokens: int) -> dict[str, Tensor]:
    return {"inputs_embeds": _random(tokens, 1, 24), "cross_attention_states": _random(tokens, 1, 24)}


def _queries_and_image(tokens: int) -> dict[str, Any]:
    states = {"query_embeds": _random(tokens, 1, 20), "encoder_hidden_states": _random(tokens, 1, 18)}
    return states | {"query_length": 1}


def _queries_and_no_text(tokens: int) -> dict[str, Any]:
    states = _queries_and_image(tokens)
    none = torch.zeros(tokens, 0, dtype=torch.long)
    states |= {"input_ids": none, "attention_mask": torch.ones(tokens, 1)}
    return {name: value for name, value in states.items() if name != "query_length"}


def _packed(tokens: int) -> dict[str, Tensor]:
    """Images of four by four patches."""
    many = tokens // 16
    shapes, mask = torch.full((many, 2), 4), torch.ones(many, 16, dtype=torch.long)
    return {"pixel_values": _random(many, 16, 48), "spatial_shapes": shapes, "pixel_attention_mask": mask}


def _middle_images(tokens: int) -> dict[str, Tensor]:
    """Images of four times four patches."""
    return {"pixel_values": _random(tokens // 16, 3, 16, 16)}


def _flat_patches(tokens: int) -> dict[str, Tensor]:
    """One image of patches that can be pooled three by three, with their places."""
    places = torch.cartesian_prod(torch.arange(18), torch.arange(24))
    assert len(places) >= tokens
    return {"pixel_values": _random(1, len(places), 48).sigmoid(), "pixel_position_ids": places[None]}


def _naflex_patches(tokens: int) -> dict[str, Tensor]:
    grid = torch.tensor([[1, 20, 20]])
    return {
        "pixel_values": _random(1, tokens, 3, 4, 4),
        "grid_thw": grid,
        "cu_seqlens": torch.tensor([0, tokens]),
    }


def _long_sound(tokens: int) -> dict[str, Tensor]:
    lengths = {"feature_lens": torch.tensor([20] * 40), "aftercnn_lens": torch.tensor([10] * 40)}
    return {"input_features": _random(8, 800), **lengths}


MLLAMA_VISION = {"hidden_size": 18, "attention_heads": 3, "intermediate_size": 30, "num_hidden_layers": 2}
MLLAMA_VISION |= {"num_global_layers": 2, "image_size": 8, "patch_size": 4, "max_num_tiles": 2}
MLLAMA_VISION |= {"vision_output_dim": 36, "intermediate_layers_indices": [0]}
MLLAMA_VISION |= {"supported_aspect_ratios": [[1, 1], [1, 2]]}
LLAMA4_TEXT = WIDE | {"intermediate_size_mlp": 36, "num_local_experts": 3, "interleave_moe_layer_step": 2}
LLAMA4_VISION = SEEING | {
    "hidden_size": 12,
    "intermediate_size": 48,
    "pixel_shuffle_ratio": 0.5,
    "projector_input_dim": 20,
    "projector_output_dim": 20,
}
LLAMA4_VISION |= {"vision_output_dim": 20}
PERSIMMON = {
    key: TEXT[key] for key in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")
}
PERSIMMON |= {"num_attention_heads": 3}
OPT = {"model_type": "opt", "vocab_size": 64, "hidden_size": 24, "ffn_dim": 44, "num_hidden_layers": 3}
OPT |= {"num_attention_heads": 3, "word_embed_proj_dim": 24}
QFORMER = {"hidden_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 26}
QFORMER |= {"encoder_hidden_size": 18, "vocab_size": 64}

GEMMA4 = WIDE | {"vocab_size_per_layer_input": 64, "hidden_size_per_layer_input": 0, "global_head_dim": 12}
GEMMA4 |= {
    "num_kv_shared_layers": 0,
    "layer_types": ["sliding_attention", "full_attention", "full_attention"],
}
GEMMA4_VISION = TOWER | {
    "num_key_value_heads": 3,
    "head_dim": 8,
    "patch_size": 4,
    "position_embedding_size": 32,
}
DRAWING = {"embed_dim": 4, "num_embeddings": 8, "base_channels": 32, "channel_multiplier": [1, 1]}
DRAWING |= {"num_res_blocks": 1, "projection_dim": 24, "image_token_embed_dim": 24, "num_patches": 4}
JANUS = (
    LANGUAGE,
    Part("model.vision_model", {"vision": "encoder.layers"}, norm="layer", inputs=images),
)


GEMMA4_AUDIO = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "output_proj_dims": 20}
GEMMA4_AUDIO |= {"subsampling_conv_channels": [4, 4]}
PHI4_VISION = TOWER | {"image_size": 16, "crop_size": 16, "patch_size": 4}
PHI4_AUDIO = {"hidden_size": 16, "intermediate_size": 20, "num_blocks": 2, "num_attention_heads": 2}
PHI4_AUDIO |= {"ext_pw_out_channel": 16, "nemo_conv_channels": 16, "input_size": 16}
PHI4_AUDIO |= {"depthwise_separable_out_channel": 16}
CONFORMER = {
    "hidden_dim": 18,
    "num_layers": 2,
    "num_heads": 3,
    "dim_head": 6,
    "input_dim": 8,
    "output_dim": 10,
}
QFORMER_STACKS = {"q-former": "encoder.layer", "q-former cross-attention": "encoder.layer cross"}


def _qformer_parts(inputs: Inputs) -> tuple[Part, ...]:
    text = Part(
        "language_model.model.decoder", {"text": "layers"}, norm="layer", scales={Projection.Q: 8**-0.5}
    )
    return (
        text,
        Part("vision_model", {"vision": "encoder.layers"}, norm="layer", inputs=images),
        Part("qformer", QFORMER_STACKS, norm=None, inputs=inputs),
    )


MULTIMODAL: Mapping[str, Composite] = {
    "llava": _beside(hf.LlavaForConditionalGeneration, hf.LlavaConfig, LLAMA, CLIP),
    "llava, Pixtral": _beside(
        hf.LlavaForConditionalGeneration, hf.LlavaConfig, MISTRAL, PIXTRAL, (LANGUAGE, PATCHES)
    ),
    "llava_next": _beside(hf.LlavaNextForConditionalGeneration, hf.LlavaNextConfig, MISTRAL, CLIP),
    "llava_next_video": _beside(
        hf.LlavaNextVideoForConditionalGeneration, hf.LlavaNextVideoConfig, LLAMA, CLIP
    ),
    "llava_onevision": _beside(
        hf.LlavaOnevisionForConditionalGeneration, hf.LlavaOnevisionConfig, QWEN2, SIGLIP
    ),
    "vipllava": _beside(
        hf.VipLlavaForConditionalGeneration, hf.VipLlavaConfig, LLAMA, CLIP, vision_feature_layers=[-1, -2]
    ),
    "video_llava": _beside(
        hf.VideoLlavaForConditionalGeneration,
        hf.VideoLlavaConfig,
        LLAMA,
        CLIP,
        (
            LANGUAGE,
            Part("model.image_tower", {"vision": "encoder.layers"}, norm="layer", inputs=images),
            Part("model.video_tower", {"video": "encoder.layers"}, norm="layer", inputs=images),
        ),
    ),
    "mistral3": _beside(
        hf.Mistral3ForConditionalGeneration, hf.Mistral3Config, MISTRAL, PIXTRAL, (LANGUAGE, PATCHES)
    ),
    "paligemma": _beside(
        hf.PaliGemmaForConditionalGeneration, hf.PaliGemmaConfig, WIDE | {"model_type": "gemma"}, SIGLIP
    ),
    "gemma3": _beside(
        hf.Gemma3ForConditionalGeneration, hf.Gemma3Config, WIDE, SIGLIP, mm_tokens_per_image=4
    ),
    "aya_vision": _beside(
        hf.AyaVisionForConditionalGeneration, hf.AyaVisionConfig, COHERE2, SIGLIP, (PARALLEL, VISION)
    ),
    "cohere2_vision": _beside(
        hf.Cohere2VisionForConditionalGeneration,
        hf.Cohere2VisionConfig,
        COHERE2,
        SIGLIP,
        (PARALLEL, VISION),
        alignment_intermediate_size=40,
    ),
    "internvl": _internvl("layer"),
    "internvl, 6B": _internvl("rms"),
    "qwen2_audio": Composite(
        hf.Qwen2AudioForConditionalGeneration,
        lambda: hf.Qwen2AudioConfig(text_config=dict(QWEN2), audio_config=dict(WHISPER)),
        (LANGUAGE, AUDIO),
    ),
    "voxtral": Composite(
        hf.VoxtralForConditionalGeneration,
        lambda: hf.VoxtralConfig(text_config=dict(LLAMA), audio_config=TOWER | HEARING),
        (LANGUAGE, AUDIO),
    ),
    "qwen2_vl": _beside(
        hf.Qwen2VLForConditionalGeneration,
        hf.Qwen2VLConfig,
        NARROW_ROPE,
        QWEN2_VISION,
        _visual("layer"),
        **IMAGE,
    ),
    "qwen2_5_vl": _beside(
        hf.Qwen2_5_VLForConditionalGeneration,
        hf.Qwen2_5_VLConfig,
        NARROW_ROPE,
        QWEN2_5_VISION,
        _visual("rms"),
        **IMAGE,
    ),
    "qwen3_vl": _beside(
        hf.Qwen3VLForConditionalGeneration, hf.Qwen3VLConfig, WIDE | ROPE, DEEP, _visual("layer"), **IMAGE
    ),
    "qwen3_vl_moe": _beside(
        hf.Qwen3VLMoeForConditionalGeneration,
        hf.Qwen3VLMoeConfig,
        WIDE | ROPE | MOE,
        DEEP,
        _visual("layer"),
        **IMAGE,
    ),
    "qwen3_5": _beside(
        hf.Qwen3_5ForConditionalGeneration,
        hf.Qwen3_5Config,
        WIDE | ROPE | LINEAR,
        QWEN3_VISION,
        _visual("layer"),
        **IMAGE,
    ),
    "qwen3_5_moe": _beside(
        hf.Qwen3_5MoeForConditionalGeneration,
        hf.Qwen3_5MoeConfig,
        WIDE | ROPE | LINEAR | MOE | {"shared_expert_intermediate_size": 36},
        QWEN3_VISION,
        _visual("layer"),
        **IMAGE,
    ),
    "glm4v": _beside(
        hf.Glm4vForConditionalGeneration, hf.Glm4vConfig, GLM_TEXT, GLM_VISION, _visual("rms"), **IMAGE
    ),
    "glm4v_moe": _beside(
        hf.Glm4vMoeForConditionalGeneration,
        hf.Glm4vMoeConfig,
        GLM_WIDE | GLM_MOE,
        GLM_VISION,
        _visual("rms"),
        **IMAGE,
    ),
    "idefics3": _idefics(LLAMA, hf.Idefics3ForConditionalGeneration, hf.Idefics3Config, scale_factor=1),
    "smolvlm": _idefics(LLAMA, hf.SmolVLMForConditionalGeneration, hf.SmolVLMConfig, scale_factor=1),
    "idefics2": _idefics(
        MISTRAL,
        hf.Idefics2ForConditionalGeneration,
        hf.Idefics2Config,
        perceiver_config={
            "hidden_size": 24,
            "resampler_n_latents": 4,
            "resampler_depth": 2,
            "resampler_n_heads": 3,
            "resampler_head_dim": 8,
            "num_key_value_heads": 1,
        },
    ),
    "mllama": _beside(
        hf.MllamaForConditionalGeneration,
        hf.MllamaConfig,
        TEXT | {"cross_attention_layers": [1]},
        MLLAMA_VISION,
        (
            Part("model.language_model", {"text": "layers"}, inputs=_text_and_image),
            Part("model.language_model", {"cross-attention": "layers cross"}, inputs=_text_and_image),
            Part(
                "model.vision_model",
                {"vision": "transformer.layers", "vision global": "global_transformer.layers"},
                norm="layer",
                inputs=_tiles,
            ),
        ),
        {"*gate_attn": 100.0, "*gate_ffn": 100.0, "*attn_gate": 100.0, "*mlp_gate": 100.0},
    ),
    "llama4": _beside(
        hf.Llama4ForConditionalGeneration,
        hf.Llama4Config,
        LLAMA4_TEXT,
        LLAMA4_VISION,
        (
            Part("language_model.model", {"text": "layers"}),
            Part("vision_model", {"vision": "model.layers"}, norm="layer", inputs=images),
        ),
        {"vision_model.rotary_embedding.freqs_ci": 1.0},
    ),
    "fuyu": Composite(
        hf.FuyuForCausalLM,
        lambda: hf.FuyuConfig(
            text_config=PERSIMMON | {"model_type": "persimmon"}, image_size=8, patch_size=4, **PERSIMMON
        ),
        (Part("model.language_model", {"text": "layers"}, norm="layer"),),
    ),
    "blip-2": Composite(
        hf.Blip2ForConditionalGeneration,
        lambda: hf.Blip2Config(
            text_config=dict(OPT), vision_config=dict(SEEING), qformer_config=dict(QFORMER)
        ),
        _qformer_parts(_queries_and_image),
    ),
    "audioflamingo3": Composite(
        hf.AudioFlamingo3ForConditionalGeneration,
        lambda: hf.AudioFlamingo3Config(text_config=dict(QWEN2), audio_config=TOWER | HEARING),
        (LANGUAGE, replace(AUDIO, inputs=masked_sounds)),
    ),
    "lfm2_vl": _beside(
        hf.Lfm2VlForConditionalGeneration,
        hf.Lfm2VlConfig,
        TEXT | {"model_type": "lfm2", "layer_types": ["conv", "full_attention", "full_attention"]},
        TOWER | {"model_type": "siglip2_vision_model", "patch_size": 4, "num_patches": 16},
        (LANGUAGE, Part("model.vision_tower", {"vision": "encoder.layers"}, norm="layer", inputs=_packed)),
        projector_hidden_size=20,
    ),
    "lighton_ocr": _beside(
        hf.LightOnOcrForConditionalGeneration,
        hf.LightOnOcrConfig,
        WIDE | {"model_type": "qwen3"},
        PIXTRAL,
        (LANGUAGE, Part("model.vision_encoder", {"vision": "transformer.layers"}, inputs=one_image)),
    ),
    "shieldgemma2": _beside(
        hf.ShieldGemma2ForImageClassification,
        hf.ShieldGemma2Config,
        WIDE,
        SIGLIP,
        (
            Part("model.model.language_model", {"text": "layers"}),
            Part("model.model.vision_tower", {"vision": "encoder.layers"}, norm="layer", inputs=images),
        ),
        mm_tokens_per_image=4,
    ),
    "instructblip": Composite(
        hf.InstructBlipForConditionalGeneration,
        lambda: hf.InstructBlipConfig(
            text_config=dict(OPT), vision_config=dict(SEEING), qformer_config=dict(QFORMER)
        ),
        _qformer_parts(_queries_and_no_text),
    ),
    "glm46v": _beside(
        hf.Glm46VForConditionalGeneration,
        hf.Glm46VConfig,
        GLM_TEXT | {"model_type": "glm4v_text"},
        GLM_VISION | {"model_type": "glm4v_vision"},
        _visual("rms"),
        **IMAGE,
    ),
    "glm46v, experts": _beside(
        hf.Glm46VForConditionalGeneration,
        hf.Glm46VConfig,
        GLM_WIDE | GLM_MOE | {"model_type": "glm4v_moe_text"},
        GLM_VISION | {"model_type": "glm4v_vision"},
        _visual("rms"),
        **IMAGE,
    ),
    "glm_ocr": _beside(
        hf.GlmOcrForConditionalGeneration, hf.GlmOcrConfig, GLM_WIDE, GLM_VISION, _visual("rms"), **IMAGE
    ),
    "gemma4": Composite(
        hf.Gemma4ForConditionalGeneration,
        lambda: hf.Gemma4Config(
            text_config=dict(GEMMA4), vision_config=dict(GEMMA4_VISION), audio_config=None
        ),
        (
            replace(LANGUAGE, inputs=words),
            Part("model.vision_tower", {"vision": "encoder.layers"}, inputs=_flat_patches),
        ),
        {"*.layer_scalar": 1.0},
    ),
    "ovis2": Composite(
        hf.Ovis2ForConditionalGeneration,
        lambda: hf.Ovis2Config(
            text_config=dict(QWEN2),
            vision_config=SEEING | {"vocab_size": 16, "num_visual_indicator_tokens": 2},
            vocab_size=64,
        ),
        (
            LANGUAGE,
            Part("model.vision_tower.transformer", {"vision": "encoder.layers"}, inputs=images),
        ),
    ),
    "aria": _beside(
        hf.AriaForConditionalGeneration,
        hf.AriaConfig,
        WIDE | {"moe_num_experts": 3, "moe_topk": 2, "moe_num_shared_experts": 2},
        SEEING | {"model_type": "idefics3_vision"},
    ),
    "janus": Composite(
        hf.JanusForConditionalGeneration,
        lambda: hf.JanusConfig(
            text_config=dict(LLAMA),
            vision_config=SEEING | {"mlp_ratio": 2, "projection_dim": 24},
            vq_config=dict(DRAWING),
        ),
        JANUS,
    ),
    "deepseek_vl": _beside(hf.DeepseekVLForConditionalGeneration, hf.DeepseekVLConfig, LLAMA, SIGLIP, JANUS),
    "paddleocr_vl": _beside(
        hf.PaddleOCRVLForConditionalGeneration,
        hf.PaddleOCRVLConfig,
        WIDE | ROPE,
        SEEING | {"hidden_size": 12, "spatial_merge_size": 2},
        (
            LANGUAGE,
            Part(
                "model.visual.vision_model",
                {"vision": "encoder.layers"},
                norm="layer",
                inputs=_naflex_patches,
            ),
        ),
        **IMAGE,
    ),
    "colpali": Composite(
        hf.ColPaliForRetrieval,
        lambda: hf.ColPaliConfig(
            vlm_config=hf.PaliGemmaConfig(
                text_config=WIDE | {"model_type": "gemma"}, vision_config=dict(SIGLIP)
            ),
            embedding_dim=10,
        ),
        (
            Part("vlm.language_model", {"text": "layers"}),
            Part("vlm.vision_tower", {"vision": "encoder.layers"}, norm="layer", inputs=images),
        ),
    ),
    "colqwen2": Composite(
        hf.ColQwen2ForRetrieval,
        lambda: hf.ColQwen2Config(
            vlm_config=hf.Qwen2VLConfig(text_config=dict(NARROW_ROPE), vision_config=dict(QWEN2_VISION)),
            embedding_dim=10,
        ),
        (
            Part("vlm.language_model", {"text": "layers"}),
            Part("vlm.visual", {"vision": "blocks"}, norm="layer", inputs=patches(3 * 2 * 4 * 4)),
        ),
    ),
    "qwen2_5_omni_thinker": Composite(
        hf.Qwen2_5OmniThinkerForConditionalGeneration,
        lambda: hf.Qwen2_5OmniThinkerConfig(
            text_config=dict(NARROW_ROPE),
            vision_config=BLOCKS | {"fullatt_block_indexes": [1], "window_size": 400},
            audio_config=WHISPER | {"output_dim": 24},
        ),
        (
            LANGUAGE,
            Part("model.visual", {"vision": "blocks"}, inputs=patches(3 * 2 * 4 * 4)),
            Part(
                "model.audio_tower",
                {"audio": "layers"},
                norm="layer",
                inputs=_long_sound,
            ),
        ),
    ),
    "gemma4, hearing": Composite(
        hf.Gemma4ForConditionalGeneration,
        lambda: hf.Gemma4Config(
            text_config=dict(GEMMA4), vision_config=dict(GEMMA4_VISION), audio_config=dict(GEMMA4_AUDIO)
        ),
        (
            replace(LANGUAGE, inputs=words),
            Part("model.vision_tower", {"vision": "encoder.layers"}, inputs=_flat_patches),
        ),
        {"*.layer_scalar": 1.0},
        frozenset({"audio"}),
    ),
    "phi4_multimodal": Composite(
        hf.Phi4MultimodalForCausalLM,
        lambda: hf.Phi4MultimodalConfig(
            **TEXT, vision_config=dict(PHI4_VISION), audio_config=dict(PHI4_AUDIO), sliding_window=None
        ),
        (
            Part("model", {"text": "layers"}),
            Part(
                "model.embed_tokens_extend.image_embed.img_processor",
                {"vision": "encoder.layers"},
                norm="layer",
                inputs=_middle_images,
            ),
        ),
        unread=frozenset({"audio"}),
    ),
    "granite_speech": Composite(
        hf.GraniteSpeechForConditionalGeneration,
        lambda: hf.GraniteSpeechConfig(
            text_config=WIDE | {"model_type": "granite"},
            encoder_config=dict(CONFORMER),
            projector_config=QFORMER | {"model_type": "blip_2_qformer"},
        ),
        (
            LANGUAGE,
            Part("model.projector.qformer", QFORMER_STACKS, norm=None, inputs=_queries_and_image),
        ),
        unread=frozenset({"audio"}),
    ),
}
