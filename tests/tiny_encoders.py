"""Tiny random encoders, encoder-decoders, vision and speech towers, by model type."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
import torch.nn.functional as F
import transformers as hf
from tiny_models import VOCABULARY, Tiny
from torch import Tensor, nn
from transformers.models.esm import modeling_esm

from registry import Projection

Inputs = Callable[[int], dict[str, Tensor]]
Norm = Literal["rms", "layer"] | None

NARROW = {Projection.Q: 8**-0.5}
"""Where the states of Q, of heads of 8, are scaled before they meet those of K."""

SIZES = {"hidden_size": 24, "intermediate_size": 44, "num_hidden_layers": 3, "num_attention_heads": 3}
TEXT = VOCABULARY | SIZES | {"max_position_embeddings": 20}
PIXELS = {"image_size": 8, "patch_size": 4}
IMAGE = SIZES | PIXELS
WIDER = {"hidden_size": 30, "intermediate_size": 50, "num_hidden_layers": 4, "num_attention_heads": 5}
"""A vision tower beside a text model of other sizes."""
WIDER_IMAGE = WIDER | PIXELS

SEQ2SEQ = VOCABULARY | {
    "decoder_start_token_id": 2,
    "d_model": 24,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 3,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 44,
    "decoder_ffn_dim": 52,
}
T5 = {"vocab_size": 32, "d_model": 24, "d_kv": 10, "d_ff": 44, "num_layers": 2, "num_decoder_layers": 3}
T5 |= {"num_heads": 3, "decoder_start_token_id": 0}
GEMMA = {"vocab_size": 32, "hidden_size": 24, "intermediate_size": 44, "num_hidden_layers": 2, "head_dim": 8}
GEMMA |= {"num_attention_heads": 6, "num_key_value_heads": 2}
SOUND = SIZES | {
    "vocab_size": 12,
    "conv_dim": (8, 8),
    "conv_stride": (2, 2),
    "conv_kernel": (3, 3),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "num_codevectors_per_group": 4,
    "codevector_dim": 8,
    "proj_codevector_dim": 8,
}
DECODER = {"decoder_hidden_size": 20, "decoder_intermediate_size": 36, "decoder_num_hidden_layers": 2}
DECODER |= {"decoder_num_attention_heads": 2}


def words(tokens: int) -> dict[str, Tensor]:
    """One token each, at position 0, where a rotary embedding does nothing."""
    return {"input_ids": torch.full((tokens, 1), 3)}


def translation(tokens: int) -> dict[str, Tensor]:
    """As many texts as answers, one token each."""
    return words(tokens) | {"decoder_input_ids": torch.full((tokens, 1), 4)}


def images(tokens: int) -> dict[str, Tensor]:
    """Of four patches each."""
    return {"pixel_values": torch.rand(tokens // 4, 3, 8, 8, dtype=torch.float64)}


def captioned(tokens: int) -> dict[str, Tensor]:
    """Five words for each image."""
    batch = tokens // 4
    return {"input_ids": torch.full((batch, 5), 3)} | images(tokens)


def pages(tokens: int) -> dict[str, Tensor]:
    """A word and four patches each, and as many tokens to decode."""
    batch = tokens // 5
    boxes = {"bbox": torch.zeros(batch, 1, 4, dtype=torch.float64)}
    return words(batch) | images(4 * batch) | boxes | {"decoder_input_ids": torch.full((batch, 5), 4)}


def videos(tokens: int) -> dict[str, Tensor]:
    """Of four frames each."""
    return {"pixel_values": torch.rand(tokens // 8, 4, 3, 8, 8, dtype=torch.float64)}


def masked_videos(tokens: int) -> dict[str, Tensor]:
    """Half of the patches of each are to be restored."""
    mask = torch.arange(8).ge(4).expand(tokens // 4, 8)
    return {"pixel_values": torch.rand(tokens // 4, 4, 3, 8, 8, dtype=torch.float64), "bool_masked_pos": mask}


def sounds(tokens: int) -> dict[str, Tensor]:
    """Waves of two tokens each."""
    return {"input_values": torch.rand(tokens // 2, 11, dtype=torch.float64)}


def spectra(tokens: int) -> dict[str, Tensor]:
    """Mel spectra of six tokens each, for Whisper's encoder."""
    return {"input_features": torch.rand(-(-tokens // 6), 8, 12, dtype=torch.float64)}


def features(tokens: int) -> dict[str, Tensor]:
    """Ten numbers of each moment."""
    return {"input_features": torch.rand(tokens, 1, 10, dtype=torch.float64)}


def transcribed(tokens: int) -> dict[str, Tensor]:
    """As many tokens as there are of sound."""
    return spectra(tokens) | {"decoder_input_ids": torch.full((-(-tokens // 6), 6), 4)}


# ----------------------------------------------------------------------- what would disturb the watching


@dataclass(frozen=True)
class Adjusted(Tiny):
    """A model that is changed once it is built, where watching it needs that.

    `hushed` are globs on the paths of modules that are no concern of the test's, and give zeros.
    """

    adjust: Callable[[nn.Module], object] | None = None
    hushed: tuple[str, ...] = ()

    def build(self) -> hf.PreTrainedModel:
        """The model, every parameter random but what `adjust` sets."""
        model = super().build()
        for path, module in model.named_modules():
            if any(fnmatchcase(path, glob) for glob in self.hushed):
                module.__class__ = type("Hushed", (type(module),), {})
        with torch.no_grad():
            if self.adjust is not None:
                self.adjust(model)
        return model


def _unscaled(model: nn.Module) -> None:
    """BEiT scales what its blocks write, channel by channel: here by ones."""
    for name, parameter in model.named_parameters():
        if name.endswith((".lambda_1", ".lambda_2")):
            parameter.fill_(1)


def _unrotated(model: nn.Module) -> None:
    """RoFormer's table of sines and cosines is a parameter: here no position is rotated."""
    for module in model.modules():
        if type(module).__name__ == "RoFormerSinusoidalPositionalEmbedding":
            sines, cosines = module.weight.chunk(2, dim=-1)
            sines.fill_(0)
            cosines.fill_(1)


def _with_torchs_gelu(_: nn.Module) -> None:
    """ESM writes the same function out, which is not seen as one."""
    modeling_esm.gelu = F.gelu


def _without_windows(model: nn.Module) -> None:
    """Longformer's chunked products of queries and keys, and of weights and values, as one attention."""
    for module in model.modules():
        if hasattr(module, "_sliding_chunks_query_key_matmul"):
            _attend_whole(module)


def _attend_whole(module: nn.Module) -> None:
    chunked = module._sliding_chunks_query_key_matmul
    states: list[Tensor] = []

    def scores(query: Tensor, key: Tensor, window: int) -> Tensor:
        if query.shape[-1] == module.head_dim:  # the other call is about the mask
            states[:] = [query.transpose(1, 2), key.transpose(1, 2)]
        return chunked(query, key, window)

    def attend(_: Tensor, value: Tensor, window: int) -> Tensor:
        return F.scaled_dot_product_attention(*states, value.transpose(1, 2)).transpose(1, 2)

    module._sliding_chunks_query_key_matmul = scores
    module._sliding_chunks_matmul_attn_probs_value = attend


# ---------------------------------------------------------------------------------------------- builders


def _tiny(
    model: str,
    config: str,
    sizes: Mapping[str, Any],
    *,
    norm: Norm = None,
    inputs: Inputs = words,
    stacks: Mapping[str, str] | None = None,
    scales: Mapping[Projection, float] | None = None,
    adjust: Callable[[nn.Module], object] | None = None,
    hushed: tuple[str, ...] = (),
    **settings: Any,
) -> Tiny:
    """By names of transformers' classes; without `stacks` there is one only."""
    return Adjusted(
        getattr(hf, model),
        lambda: getattr(hf, config)(**(sizes | settings)),
        norm=norm,
        inputs=inputs,
        stacks=stacks or {},
        scales=scales or {},
        silent=("Hushed",),
        adjust=adjust,
        hushed=hushed,
    )


def _text(name: str, head: str = "ForMaskedLM", **settings: Any) -> Tiny:
    return _tiny(name + head, f"{name}Config", TEXT, **settings)


def _image(name: str, head: str = "Model", **settings: Any) -> Tiny:
    settings = {"norm": "layer", "inputs": images} | settings
    return _tiny(name + head, f"{name}Config", IMAGE, **settings)


def _stacks(prefix: str, layers: str = "layers") -> dict[str, str]:
    """The three stacks of an encoder-decoder."""
    return {
        "": f"{prefix}decoder.{layers}",
        "cross-attention": f"{prefix}decoder.{layers} cross",
        "encoder": f"{prefix}encoder.{layers}",
    }


def _seq2seq(name: str, head: str = "ForConditionalGeneration", **settings: Any) -> Tiny:
    settings = {"inputs": translation, "stacks": _stacks("model."), "max_position_embeddings": 20} | settings
    return _tiny(name + head, f"{name}Config", SEQ2SEQ, **settings)


def _t5(name: str, head: str = "ForConditionalGeneration", **settings: Any) -> Tiny:
    settings = {"norm": "rms", "inputs": translation, "stacks": _stacks("", "block")} | settings
    return _tiny(name + head, f"{name}Config", T5, **settings)


def _sound(name: str, head: str = "ForCTC", **settings: Any) -> Tiny:
    return _tiny(name + head, f"{name}Config", SOUND, inputs=sounds, **settings)


def _conformer(name: str, stack: str, *hushed: str, **settings: Any) -> Tiny:
    """A layer has two feed-forward blocks, of which one is watched at a time; each counts half."""
    return _tiny(
        f"{name}ForCTC",
        f"{name}Config",
        SOUND | {"conv_depthwise_kernel_size": 3, "hidden_act": "gelu"},
        norm="layer",
        stacks={stack: f"{name.lower()}.encoder.layers".replace("wav2vec2", "wav2vec2_")},
        scales={Projection.DOWN: 0.5},
        hushed=("*.conv_module", *hushed),
        **settings,
    )


def _pair(name: str, head: str = "Model", *, prefix: str = "", **settings: Any) -> Tiny:
    """A text tower beside a vision tower."""
    text = TEXT | {"projection_dim": 14, "projection_size": 30}
    stacks = {"text": f"{prefix}text_model.encoder.layers", "vision": f"{prefix}vision_model.encoder.layers"}
    settings = {"norm": "layer", "inputs": captioned, "stacks": stacks} | settings
    return _tiny(
        name + head, f"{name}Config", {"text_config": text, "vision_config": WIDER_IMAGE}, **settings
    )


XMOD = {"languages": ["en_XX", "fr_XX"], "default_language": "en_XX", "adapter_reduction_factor": 3}
XMOD |= {"hushed": ("*.adapter_modules.*",)}

ENCODERS: Mapping[str, Tiny] = {
    "bert": _text("Bert"),
    "roberta": _text("Roberta"),
    "xlm-roberta": _text("XLMRoberta"),
    "camembert": _text("Camembert"),
    "electra": _text("Electra", "ForPreTraining", embedding_size=10),
    "electra, a generator": _text("Electra", embedding_size=10),
    "ernie": _text("Ernie", use_task_id=True),
    "data2vec-text": _text("Data2VecText"),
    "dpr, of questions": _text("DPR", "QuestionEncoder", projection_dim=14),
    "dpr, a reader": _text("DPR", "Reader"),
    "dpr, of contexts": _text("DPR", "ContextEncoder"),
    "big_bird": _text("BigBird", attention_type="original_full"),
    "layoutlm": _text("LayoutLM"),
    "layoutlmv3": _text(
        "LayoutLMv3",
        "ForTokenClassification",
        coordinate_size=4,
        shape_size=4,
        max_2d_position_embeddings=16,
        input_size=8,
        patch_size=4,
        scales=NARROW,
    ),
    "markuplm": _text("MarkupLM", "ForTokenClassification", max_depth=4, xpath_unit_hidden_size=5),
    "luke": _text("Luke", entity_vocab_size=9, entity_emb_size=10),
    "roformer": _text("RoFormer", embedding_size=10, adjust=_unrotated),
    "rembert": _text("RemBert", input_embedding_size=10, output_embedding_size=12),
    "roc_bert": _text(
        "RoCBert",
        pronunciation_vocab_size=9,
        pronunciation_embed_dim=4,
        shape_vocab_size=9,
        shape_embed_dim=5,
    ),
    "splinter": _text("Splinter", "ForQuestionAnswering"),
    "tapas": _text("Tapas", type_vocab_sizes=[3, 4, 4, 2, 4, 4, 4]),
    "nystromformer": _text(
        "Nystromformer",
        segment_means_seq_len=1,
        num_landmarks=1,
        scales={Projection.Q: 8**-0.25, Projection.K: 8**-0.25},
    ),
    "longformer": _text("Longformer", attention_window=4, scales=NARROW, adjust=_without_windows),
    "bert-generation": _text("BertGeneration", "Encoder"),
    "clap_text_model": _tiny("ClapTextModel", "ClapTextConfig", TEXT),
    "chinese_clip_text_model": _tiny("ChineseCLIPTextModel", "ChineseCLIPTextConfig", TEXT),
    "altclip_text_model": _tiny("AltCLIPTextModel", "AltCLIPTextConfig", TEXT, project_dim=14),
    "xmod": _text("Xmod", **XMOD),
    "xmod, pre-norm": _text("Xmod", norm="layer", pre_norm=True, **XMOD),
    "esm": _text(
        "Esm",
        norm="layer",
        mask_token_id=5,
        position_embedding_type="rotary",
        scales=NARROW,
        adjust=_with_torchs_gelu,
    ),
    "xlm-roberta-xl": _text("XLMRobertaXL", norm="layer"),
    "roberta-prelayernorm": _text("RobertaPreLayerNorm", norm="layer"),
    "megatron-bert": _text("MegatronBert", norm="layer"),
    "distilbert": _tiny(
        "DistilBertForMaskedLM",
        "DistilBertConfig",
        {"vocab_size": 32, "dim": 24, "hidden_dim": 44, "n_layers": 3, "n_heads": 3},
    ),
    "albert": _text(
        "Albert",
        "ForPreTraining",
        embedding_size=10,
        num_hidden_layers=4,
        num_hidden_groups=2,
        stacks={"": "albert.encoder.albert_layer_groups"},
    ),
    "deberta": _text(
        "Deberta",
        relative_attention=True,
        pos_att_type=["c2p", "p2c"],
        type_vocab_size=0,
        scales={Projection.Q: 24**-0.5},
    ),
    "deberta-v2": _text(
        "DebertaV2",
        relative_attention=True,
        pos_att_type=["c2p", "p2c"],
        position_buckets=4,
        share_att_key=True,
        norm_rel_ebd="layer_norm",
        scales={Projection.K: 24**-0.5},
        position_biased_input=False,
    ),
    "deberta-v2, xxlarge": _text(
        "DebertaV2",
        "Model",
        relative_attention=True,
        pos_att_type=["c2p", "p2c"],
        conv_kernel_size=3,
        conv_act="gelu",
        scales={Projection.K: 24**-0.5},
    ),
    "mpnet": _text("MPNet"),
    "modernbert": _text("ModernBert", norm="layer", cls_token_id=1, sep_token_id=2),
    "modernbert-decoder": _text(
        "ModernBertDecoder", "ForCausalLM", norm="layer", cls_token_id=1, sep_token_id=2
    ),
    "nomic_bert": _text("NomicBert", head_dim=8),
    "gte": _text("Gte"),
    "jina_embeddings_v3": _text("JinaEmbeddingsV3"),
}

ENCODER_DECODERS: Mapping[str, Tiny] = {
    "t5": _t5("T5"),
    "t5, gated": _t5("T5", feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "t5, an encoder": _t5("T5", "EncoderModel", inputs=words, stacks={"encoder": "encoder.block"}),
    "mt5": _t5("MT5", feed_forward_proj="gated-gelu"),
    "mt5, an encoder": _t5("MT5", "EncoderModel", inputs=words, stacks={"encoder": "encoder.block"}),
    "umt5": _t5("UMT5", feed_forward_proj="gated-gelu"),
    "udop": _t5("Udop", inputs=pages, image_size=8, patch_size=4),
    "pop2piano": _t5("Pop2Piano", feed_forward_proj="gated-gelu"),
    "t5gemma": _tiny(
        "T5GemmaForConditionalGeneration",
        "T5GemmaConfig",
        {"encoder": GEMMA, "decoder": GEMMA | {"num_hidden_layers": 3, "intermediate_size": 52}},
        norm="rms",
        inputs=lambda tokens: translation(2 * tokens),
        stacks=_stacks("model."),
        vocab_size=32,
    ),
    "bart": _seq2seq("Bart"),
    "marian": _seq2seq("Marian", "MTModel"),
    "blenderbot-small": _seq2seq("BlenderbotSmall"),
    "plbart": _seq2seq("PLBart"),
    "led": _seq2seq(
        "LED",
        stacks=_stacks("led."),
        attention_window=4,
        decoder_attention_heads=3,
        scales=NARROW,
        adjust=_without_windows,
    ),
    "mbart": _seq2seq("MBart", norm="layer"),
    "pegasus": _seq2seq("Pegasus", norm="layer"),
    "bigbird_pegasus": _seq2seq("BigBirdPegasus", norm="layer", attention_type="original_full"),
    "m2m_100": _seq2seq("M2M100", norm="layer"),
    "blenderbot": _seq2seq("Blenderbot", norm="layer"),
    "whisper": _tiny(
        "WhisperForConditionalGeneration",
        "WhisperConfig",
        SEQ2SEQ,
        norm="layer",
        inputs=transcribed,
        stacks=_stacks("model."),
        scales=NARROW,
        decoder_attention_heads=3,
        num_mel_bins=8,
        max_source_positions=6,
        max_target_positions=12,
    ),
    "speech_to_text": _tiny(
        "Speech2TextForConditionalGeneration",
        "Speech2TextConfig",
        SEQ2SEQ,
        norm="layer",
        inputs=lambda tokens: {
            "input_features": torch.rand(tokens // 2, 4, 8, dtype=torch.float64),
            "decoder_input_ids": torch.full((tokens // 2, 2), 4),
        },
        stacks=_stacks("model."),
        input_feat_per_channel=8,
        max_source_positions=16,
        max_target_positions=12,
        conv_channels=10,
        conv_kernel_sizes=(3,),
        num_conv_layers=1,
    ),
    "moonshine": _tiny(
        "MoonshineForConditionalGeneration",
        "MoonshineConfig",
        VOCABULARY | {"hidden_size": 24, "intermediate_size": 44, "encoder_num_hidden_layers": 2},
        norm="layer",
        inputs=lambda tokens: {
            "input_values": torch.rand(tokens, 1000, dtype=torch.float64),
            "decoder_input_ids": torch.full((tokens, 1), 4),
        },
        stacks=_stacks("model."),
        decoder_num_hidden_layers=3,
        encoder_num_attention_heads=3,
        decoder_num_attention_heads=2,
    ),
    "trocr": _tiny(
        "TrOCRForCausalLM",
        "TrOCRConfig",
        {"vocab_size": 32, "d_model": 24, "decoder_layers": 3, "decoder_attention_heads": 3},
        inputs=lambda tokens: (
            words(tokens) | {"encoder_hidden_states": torch.rand(tokens, 1, 30, dtype=torch.float64)}
        ),
        stacks={"": "model.decoder.layers", "cross-attention": "model.decoder.layers cross"},
        scales=NARROW,
        decoder_ffn_dim=44,
        max_position_embeddings=20,
        cross_attention_hidden_size=30,
    ),
    "musicgen_decoder": _tiny(
        "MusicgenForCausalLM",
        "MusicgenDecoderConfig",
        {
            "vocab_size": 32,
            "hidden_size": 24,
            "ffn_dim": 44,
            "num_hidden_layers": 3,
            "num_attention_heads": 3,
        },
        norm="layer",
        inputs=lambda tokens: {
            "input_ids": torch.full((2 * tokens, 1), 3),
            "encoder_hidden_states": torch.rand(tokens, 1, 24, dtype=torch.float64),
        },
        stacks={"": "model.decoder.layers", "cross-attention": "model.decoder.layers cross"},
        num_codebooks=2,
        max_position_embeddings=20,
    ),
    "vision-encoder-decoder": _tiny(
        "VisionEncoderDecoderModel",
        "VisionEncoderDecoderConfig",
        {
            "encoder": IMAGE | {"model_type": "vit"},
            "decoder": {"model_type": "trocr", "vocab_size": 32, "d_model": 20, "decoder_layers": 3}
            | {"decoder_attention_heads": 2, "decoder_ffn_dim": 44, "cross_attention_hidden_size": 24},
        },
        inputs=lambda tokens: images(tokens) | {"decoder_input_ids": torch.full((tokens // 4, 5), 4)},
        scales={Projection.Q: 10**-0.5},
        stacks={
            "decoder": "decoder.model.decoder.layers",
            "cross-attention": "decoder.model.decoder.layers cross",
        },
    ),
    "vision-encoder-decoder, the encoder": _tiny(
        "VisionEncoderDecoderModel",
        "VisionEncoderDecoderConfig",
        {
            "encoder": IMAGE | {"model_type": "vit"},
            "decoder": TEXT | {"model_type": "bert", "is_decoder": True, "add_cross_attention": True},
        },
        norm="layer",
        inputs=lambda tokens: images(tokens) | {"decoder_input_ids": torch.full((tokens // 4, 5), 4)},
        stacks={"encoder": "encoder.layers"},
    ),
    "speech-encoder-decoder": _tiny(
        "SpeechEncoderDecoderModel",
        "SpeechEncoderDecoderConfig",
        {
            "encoder": SOUND | {"model_type": "wav2vec2"},
            "decoder": TEXT | {"model_type": "bert", "is_decoder": True, "add_cross_attention": True},
        },
        inputs=lambda tokens: sounds(tokens) | {"decoder_input_ids": torch.full((tokens // 2, 2), 4)},
        stacks={
            "decoder": "decoder.bert.encoder.layer",
            "cross-attention": "decoder.bert.encoder.layer cross",
            "encoder": "encoder.encoder.layers",
        },
    ),
    "encoder-decoder": _tiny(
        "EncoderDecoderModel",
        "EncoderDecoderConfig",
        {
            "encoder": TEXT | {"model_type": "bert"},
            "decoder": TEXT
            | {"model_type": "bert", "num_hidden_layers": 2, "is_decoder": True, "add_cross_attention": True},
        },
        inputs=translation,
        stacks={
            "decoder": "decoder.bert.encoder.layer",
            "cross-attention": "decoder.bert.encoder.layer cross",
            "encoder": "encoder.encoder.layer",
        },
    ),
}

PATCHES = {"patch_size": 4, "num_patches": 4}


def patches(tokens: int) -> dict[str, Tensor]:
    """Four of each image, as SigLIP 2 takes them."""
    count = tokens // 4
    return {
        "pixel_values": torch.rand(count, 4, 48, dtype=torch.float64),
        "pixel_attention_mask": torch.ones(count, 4, dtype=torch.long),
        "spatial_shapes": torch.full((count, 2), 2),
    }


def _dual(norm: Norm, stacks: Mapping[str, str]) -> Tiny:
    """Of two stacks with norms in other places, one."""
    sizes = {
        "vision_config": WIDER_IMAGE | {"model_type": "clip_vision_model"},
        "text_config": TEXT | {"model_type": "bert"},
    }
    name = "VisionTextDualEncoder"
    return _tiny(f"{name}Model", f"{name}Config", sizes, norm=norm, inputs=captioned, stacks=stacks)


def _git(norm: Norm, stacks: Mapping[str, str]) -> Tiny:
    sizes = TEXT | {"vision_config": WIDER_IMAGE}
    return _tiny("GitForCausalLM", "GitConfig", sizes, norm=norm, inputs=captioned, stacks=stacks)


def _blip(norm: Norm, stacks: Mapping[str, str], head: str = "ForConditionalGeneration") -> Tiny:
    sizes = {"text_config": TEXT | {"encoder_hidden_size": 30}, "vision_config": WIDER_IMAGE}
    return _tiny(f"Blip{head}", "BlipConfig", sizes, norm=norm, inputs=captioned, stacks=stacks)


VISION: Mapping[str, Tiny] = {
    "vit": _image("ViT", "ForImageClassification"),
    "deit": _image("DeiT", "ForImageClassificationWithTeacher"),
    "beit": _image("Beit", "ForImageClassification", use_relative_position_bias=True, adjust=_unscaled),
    "data2vec-vision": _image("Data2VecVision", "ForImageClassification", adjust=_unscaled),
    "ijepa": _image("IJepa"),
    "vit_msn": _image("ViTMSN"),
    "vit_mae": _image(
        "ViTMAE",
        "ForPreTraining",
        stacks={"": "vit.layers", "decoder": "decoder.decoder_layers"},
        inputs=lambda tokens: images(2 * tokens),
        **DECODER,
    ),
    "yolos": _image("Yolos", image_size=[8, 8], num_detection_tokens=2),
    "vilt": _tiny("ViltModel", "ViltConfig", TEXT | PIXELS, norm="layer", inputs=captioned),
    "dpt": _image("DPT"),
    "dinov2": _tiny("Dinov2Model", "Dinov2Config", IMAGE, norm="layer", inputs=images, mlp_ratio=2),
    "dinov2, gated": _tiny(
        "Dinov2ForImageClassification",
        "Dinov2Config",
        IMAGE,
        norm="layer",
        inputs=images,
        mlp_ratio=2,
        use_swiglu_ffn=True,
    ),
    "dinov2_with_registers": _tiny(
        "Dinov2WithRegistersModel",
        "Dinov2WithRegistersConfig",
        IMAGE,
        norm="layer",
        inputs=images,
        mlp_ratio=2,
    ),
    "dinov3_vit": _image("DINOv3ViT"),
    "dinov3_vit, gated": _image("DINOv3ViT", use_gated_mlp=True),
    "pixtral": _tiny(
        "PixtralVisionModel", "PixtralVisionConfig", IMAGE, norm="rms", inputs=images, head_dim=8
    ),
    "blip_vision_model": _tiny("BlipVisionModel", "BlipVisionConfig", IMAGE, norm="layer", inputs=images),
    "blip_2_vision_model": _tiny("Blip2VisionModel", "Blip2VisionConfig", IMAGE, norm="layer", inputs=images),
    "instructblip_vision_model": _tiny(
        "InstructBlipVisionModel", "InstructBlipVisionConfig", IMAGE, norm="layer", inputs=images
    ),
    "mlcd_vision_model": _tiny("MLCDVisionModel", "MLCDVisionConfig", IMAGE, norm="layer", inputs=images),
    "depth_anything": Tiny(
        hf.DepthAnythingForDepthEstimation,
        lambda: hf.DepthAnythingConfig(
            backbone_config=hf.Dinov2Config(
                **IMAGE, mlp_ratio=2, out_indices=[0, 1, 2, 3], reshape_hidden_states=False
            ),
            patch_size=4,
            reassemble_hidden_size=24,
            neck_hidden_sizes=[4, 4, 4, 4],
            fusion_hidden_size=8,
        ),
        norm="layer",
        inputs=images,
        stacks={"backbone": "backbone.encoder.layer"},
    ),
    "vivit": _tiny(
        "VivitForVideoClassification",
        "VivitConfig",
        SIZES,
        norm="layer",
        inputs=videos,
        image_size=8,
        num_frames=4,
        tubelet_size=[2, 4, 4],
    ),
    "videomae": _image("VideoMAE", "ForVideoClassification", inputs=videos, num_frames=4),
    "videomae, restoring": _image(
        "VideoMAE",
        "ForPreTraining",
        inputs=masked_videos,
        stacks={"": "videomae.encoder.layer", "decoder": "decoder.decoder_layers"},
        num_frames=4,
        **DECODER,
    ),
    "vjepa2": _tiny(
        "VJEPA2Model",
        "VJEPA2Config",
        IMAGE,
        norm="layer",
        inputs=lambda tokens: {"pixel_values_videos": videos(8 * tokens)["pixel_values"][:, :2, :, :4, :4]},
        stacks={"": "encoder.layer", "predictor": "predictor.layer"},
        crop_size=4,
        frames_per_clip=2,
        pred_hidden_size=20,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=2,
    ),
    "clip_text_model": _tiny("CLIPTextModel", "CLIPTextConfig", TEXT, norm="layer"),
    "clip_text_model, projected": _tiny("CLIPTextModelWithProjection", "CLIPTextConfig", TEXT, norm="layer"),
    "siglip_text_model": _tiny("SiglipTextModel", "SiglipTextConfig", TEXT, norm="layer"),
    "siglip2_vision_model": _tiny(
        "Siglip2VisionModel", "Siglip2VisionConfig", SIZES, norm="layer", inputs=patches, **PATCHES
    ),
    "siglip2": _tiny(
        "Siglip2Model",
        "Siglip2Config",
        {"text_config": TEXT | {"projection_size": 30}, "vision_config": WIDER | PATCHES},
        norm="layer",
        inputs=lambda tokens: patches(tokens) | {"input_ids": torch.full((tokens // 4, 5), 3)},
        stacks={"text": "text_model.encoder.layers", "vision": "vision_model.encoder.layers"},
    ),
    "vision-text-dual-encoder, the text": _dual(None, {"text": "text_model.encoder.layer"}),
    "vision-text-dual-encoder, the images": _dual("layer", {"vision": "vision_model.encoder.layers"}),
    "git, the text": _git(None, {"text": "git.encoder.layer"}),
    "git, the images": _git("layer", {"vision": "git.image_encoder.vision_model.encoder.layers"}),
    "blip, the text": _blip(
        None,
        {
            "text": "text_decoder.bert.encoder.layer",
            "cross-attention": "text_decoder.bert.encoder.layer cross",
        },
    ),
    "blip, the images": _blip("layer", {"vision": "vision_model.encoder.layers"}),
    "blip, a retriever": _blip(
        None,
        {"text-encoder": "text_encoder.encoder.layer", "cross-attention": "text_encoder.encoder.layer cross"},
        "ForImageTextRetrieval",
    ),
    "siglip2_text_model": _tiny("Siglip2TextModel", "Siglip2TextConfig", TEXT, norm="layer"),
    "clip_vision_model": _tiny("CLIPVisionModel", "CLIPVisionConfig", IMAGE, norm="layer", inputs=images),
    "siglip_vision_model": _tiny(
        "SiglipVisionModel", "SiglipVisionConfig", IMAGE, norm="layer", inputs=images
    ),
    "clip": _pair("CLIP"),
    "siglip": _pair("Siglip"),
    "siglip, a classifier": _pair(
        "Siglip", "ForImageClassification", inputs=images, stacks={"vision": "vision_model.encoder.layers"}
    ),
    "metaclip_2": _pair("MetaClip2"),
    "clipseg": _pair(
        "CLIPSeg",
        "ForImageSegmentation",
        prefix="clip.",
        extract_layers=[1, 2],
        reduce_dim=8,
        projection_dim=14,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=20,
    ),
    "owlvit": _pair("OwlViT"),
    "owlv2": _pair("Owlv2"),
    "chinese_clip, the text": _pair("ChineseCLIP", norm=None, stacks={"text": "text_model.encoder.layer"}),
    "chinese_clip, the images": _pair("ChineseCLIP", stacks={"vision": "vision_model.encoder.layers"}),
    "altclip, the text": _pair("AltCLIP", norm=None, stacks={"text": "text_model.roberta.encoder.layers"}),
    "altclip, the images": _pair("AltCLIP", stacks={"vision": "vision_model.encoder.layers"}),
}

SPEECH: Mapping[str, Tiny] = {
    "wav2vec2": _sound("Wav2Vec2"),
    "wav2vec2, pre-norm": _sound("Wav2Vec2", "ForPreTraining", norm="layer", do_stable_layer_norm=True),
    "hubert": _sound("Hubert"),
    "hubert, pre-norm": _sound("Hubert", norm="layer", do_stable_layer_norm=True),
    "wavlm": _sound("WavLM"),
    "wavlm, pre-norm": _sound("WavLM", norm="layer", do_stable_layer_norm=True),
    "data2vec-audio": _sound("Data2VecAudio"),
    "unispeech": _sound("UniSpeech"),
    "unispeech-sat": _sound("UniSpeechSat"),
    "sew": _sound("SEW", squeeze_factor=1),
    "audio-spectrogram-transformer": _tiny(
        "ASTForAudioClassification",
        "ASTConfig",
        SIZES,
        norm="layer",
        inputs=lambda tokens: {"input_values": torch.rand(tokens // 8, 16, 8, dtype=torch.float64)},
        max_length=16,
        num_mel_bins=8,
        patch_size=4,
        time_stride=4,
        frequency_stride=4,
    ),
    "wav2vec2-bert": _conformer(
        "Wav2Vec2Bert", "", "*.ffn1", inputs=features, feature_projection_input_dim=10
    ),
    "wav2vec2-bert, in front": _conformer(
        "Wav2Vec2Bert", "first-ffn", "*.ffn2", "*.self_attn", inputs=features, feature_projection_input_dim=10
    ),
    "wav2vec2-conformer": _conformer("Wav2Vec2Conformer", "", "*.ffn1", inputs=sounds),
    "wav2vec2-conformer, in front": _conformer(
        "Wav2Vec2Conformer", "first-ffn", "*.ffn2", "*.self_attn", inputs=sounds
    ),
    "qwen2_audio_encoder": _tiny(
        "Qwen2AudioEncoder",
        "Qwen2AudioEncoderConfig",
        {"d_model": 24, "encoder_layers": 3, "encoder_attention_heads": 3, "encoder_ffn_dim": 44},
        norm="layer",
        inputs=spectra,
        scales=NARROW,
        num_mel_bins=8,
        max_source_positions=6,
    ),
    "voxtral_encoder": _tiny(
        "VoxtralEncoder",
        "VoxtralEncoderConfig",
        SIZES,
        norm="layer",
        inputs=spectra,
        scales=NARROW,
        num_mel_bins=8,
        max_source_positions=6,
    ),
    "audioflamingo3_encoder": _tiny(
        "AudioFlamingo3Encoder",
        "AudioFlamingo3EncoderConfig",
        SIZES,
        norm="layer",
        inputs=lambda tokens: spectra(tokens) | {"input_features_mask": torch.ones(-(-tokens // 6), 12)},
        scales=NARROW,
        num_mel_bins=8,
        max_source_positions=6,
    ),
}

TINY: Mapping[str, Tiny] = ENCODERS | ENCODER_DECODERS | VISION | SPEECH
"""By a name that begins with the model type."""
