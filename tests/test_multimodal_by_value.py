"""Models made of models: each stack gives the very matrices that its module multiplies with."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from checkpoints import write_checkpoint
from extraction import differing, extracted, mismatches, plan_of
from forward_pass import Computed, compute
from reported import report_errors
from safetensors.torch import load_file
from tiny_models import Tiny
from tiny_multimodal import MULTIMODAL, NARROW_ROPE, ROPE, WIDE
from torch import Tensor

from registry import Projection, families
from registry.family import parse_family

K, V, OV = Projection.K, Projection.V, Projection.OV

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Saved:
    """A model in a folder, what its module holds, and the matrices its stacks compute with."""

    folder: Path
    state: Mapping[str, Tensor]
    computed: dict[str, Computed]
    unread: frozenset[str]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What transformers saved."""
        return load_file(self.folder / WEIGHTS)

    @property
    def config(self) -> dict[str, Any]:
        """What config.json says."""
        return json.loads((self.folder / "config.json").read_text())


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Saved]:
    """A tiny model by name, saved by transformers in its own way; each is built once."""
    made: dict[str, Saved] = {}

    def save(name: str) -> Saved:
        if name not in made:
            folder = tmp_path_factory.mktemp("model")
            model = MULTIMODAL[name].build()
            model.save_pretrained(folder)
            state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
            made[name] = Saved(folder, state, MULTIMODAL[name].compute(model), MULTIMODAL[name].unread)
        return made[name]

    return save


def assert_the_same(saved: Saved, folder: Path, *, fold_norm: bool = False) -> None:
    """Every stack is there, and right; nothing is to be said but that some are not read."""
    plan = plan_of(folder, fold_norm=fold_norm)
    assert mismatches(saved.computed, plan) == set()
    assert plan.coverage.unknown == ()
    assert plan.layout.unread.keys() == saved.unread
    assert {(finding.code, finding.stack) for finding in plan.findings} == {
        ("unread-stack", name) for name in saved.unread
    }


@pytest.mark.parametrize("name", MULTIMODAL)
def test_each_projection_of_each_stack_is_what_its_forward_pass_multiplies_with(
    name: str, saved: Callable[[str], Saved]
) -> None:
    assert_the_same(saved(name), saved(name).folder)


@pytest.mark.parametrize("name", MULTIMODAL)
def test_the_report_is_what_lapack_gives_for_these_matrices(name: str, saved: Callable[[str], Saved]) -> None:
    assert report_errors(saved(name).computed, plan_of(saved(name).folder)) == []


@pytest.mark.parametrize("name", MULTIMODAL)
def test_folding_gives_what_readers_do_to_the_stream_before_the_norms_gain(
    name: str, saved: Callable[[str], Saved]
) -> None:
    assert_the_same(saved(name), saved(name).folder, fold_norm=True)


# ----------------------------------------------------------------------------------------- under other names


@pytest.mark.parametrize("name", MULTIMODAL)
def test_a_dump_of_the_state_in_memory_holds_the_same(
    name: str, saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    """Trainers write the names that transformers has in memory since 4.52: model.language_model.layers."""
    assert_the_same(saved(name), write_checkpoint(tmp_path / "dump", saved(name).state, saved(name).config))


TOWERS = ("vision_tower.", "image_tower.", "video_tower.", "audio_tower.", "vision_model.", "visual.")
INNER = {tower: f"{tower}vision_model." for tower in TOWERS[:3]}
LANGUAGE = {"language_model.model.": "model.language_model.", "language_model.lm_head.": "lm_head."}
LANGUAGE |= {f"model.{part}.": f"model.language_model.{part}." for part in ("layers", "embed_tokens", "norm")}
LANGUAGE |= {"multi_modal_projector.": "model.multi_modal_projector."}
NAMES: Mapping[str, Mapping[str, str]] = {
    "on the Hub": INNER,
    "4.52": LANGUAGE | {tower: f"model.{tower}" for tower in TOWERS},
    "4.52, of the Hub's towers": LANGUAGE | {tower: f"model.{inner}" for tower, inner in INNER.items()},
    "of the base model": {"model.": ""},
}
CLIP_TOWERS = ["llava", "llava_next", "llava_onevision", "video_llava", "paligemma", "gemma3", "aya_vision"]
OTHERS = [
    "llava, Pixtral",
    "mistral3",
    "mllama",
    "llama4",
    "qwen2_vl",
    "qwen2_5_vl",
    "qwen2_audio",
    "voxtral",
]
BASES = [
    "qwen3_vl",
    "qwen3_vl_moe",
    "qwen3_5",
    "glm4v",
    "glm4v_moe",
    "idefics2",
    "idefics3",
    "smolvlm",
    "gemma4",
]
RENAMED = [(name, names) for name in CLIP_TOWERS for names in ("on the Hub", "4.52, of the Hub's towers")]
RENAMED += [(name, "4.52") for name in OTHERS]
RENAMED += [(name, "of the base model") for name in BASES]


def renamed(tensors: Mapping[str, Tensor], prefixes: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors with the first of these prefixes that they have replaced."""

    def rename(name: str) -> str:
        old = next((old for old in prefixes if name.startswith(old)), None)
        return name if old is None else prefixes[old] + name.removeprefix(old)

    return {rename(name): tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize(("name", "names"), RENAMED)
def test_every_prefix_that_a_model_was_published_with_is_known(
    name: str, names: str, saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    tensors = renamed(saved(name).tensors, NAMES[names])
    assert tensors.keys() != saved(name).tensors.keys()
    assert_the_same(saved(name), write_checkpoint(tmp_path / "it", tensors, saved(name).config))


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl"])
def test_qwens_first_configs_are_flat(name: str, saved: Callable[[str], Saved], tmp_path: Path) -> None:
    config = saved(name).config
    text = config.pop("text_config")
    flat = text | config | {"vision_config": config["vision_config"] | {"model_type": name}}
    assert_the_same(saved(name), write_checkpoint(tmp_path / "it", saved(name).tensors, flat))


INTERNVL = {"attention.projection_layer.": "attn.proj.", "layernorm_before.": "norm1.", "lambda_1": "ls1"}
INTERNVL |= {"layernorm_after.": "norm2.", "lambda_2": "ls2", "encoder.layer.": "encoder.layers."}
INTERNVL |= {"vision_tower.": "vision_model.", "multi_modal_projector.layer_norm.": "mlp1.0."}
INTERNVL |= {"multi_modal_projector.linear_": "mlp1."}


def in_internvls_own_code(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """InternViT has Q, K and V in one tensor, one after the other."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        hit = re.fullmatch(r"(vision_tower\..*)attention\.([qkv])_proj\.(weight|bias)", name)
        if hit and hit[2] == "q":
            parts = [tensors[f"{hit[1]}attention.{part}_proj.{hit[3]}"] for part in "qkv"]
            name, tensor = f"{hit[1]}attn.qkv.{hit[3]}", torch.cat(parts)
        if hit is None or hit[2] == "q":
            for old, new in INTERNVL.items():
                name = name.replace(old, new)
            found[name] = tensor
    return found


@pytest.mark.parametrize("fold_norm", [False, True])
@pytest.mark.parametrize("name", ["internvl", "internvl, 6B"])
def test_internvl_in_its_own_code(
    name: str, fold_norm: bool, saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    config = saved(name).config
    config |= {"model_type": "internvl_chat", "llm_config": config.pop("text_config")}
    config["vision_config"]["model_type"] = "intern_vit_6b"
    tensors = in_internvls_own_code(saved(name).tensors)
    assert_the_same(saved(name), write_checkpoint(tmp_path / "it", tensors, config), fold_norm=fold_norm)


def test_phi_4_multimodal_as_microsoft_published_it(saved: Callable[[str], Saved], tmp_path: Path) -> None:
    """Projections are wrapped, for adapters that lie beside them; the config tells nothing of the tower."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in saved("phi4_multimodal").tensors.items():
        if hit := re.fullmatch(r"(model\.layers\..*_proj)\.weight", name):
            tensors[f"{hit[1]}.base_layer.weight"] = tensor
            for adapter in ("vision", "speech"):
                tensors[f"{hit[1]}.lora_A.{adapter}.weight"] = torch.ones(4, tensor.shape[1])
                tensors[f"{hit[1]}.lora_B.{adapter}.weight"] = torch.ones(tensor.shape[0], 4)
        else:
            for old, new in PHI4MM.items():
                name = name.replace(old, new)
            tensors[name] = tensor
    tensors["model.embed_tokens_extend.image_embed.glb_GN"] = torch.ones(1, 1, 18)
    config = {"model_type": "phi4mm"} | {
        name: value for name, value in saved("phi4_multimodal").config.items() if name in NARROW_ROPE
    }
    folder = write_checkpoint(tmp_path / "it", tensors, config)
    assert_the_same(saved("phi4_multimodal"), folder)
    assert_the_same(saved("phi4_multimodal"), folder, fold_norm=True)


PHI4MM = {"img_projection_down": "img_projection.0", "img_projection_up": "img_projection.2"}
PHI4MM |= {"global_img_feature_extensor": "glb_GN", "sub_img_feature_extensor": "sub_GN"}
PHI4MM |= {f"down_proj_for_{kind}": f"audio_projection.{kind}.2" for kind in ("speech", "vision_speech")}
PHI4MM |= {f"up_proj_for_{kind}": f"audio_projection.{kind}.0" for kind in ("speech", "vision_speech")}


def test_phi_3_vision_has_clips_tower_among_its_embeddings(
    saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    old, new = "model.embed_tokens_extend.image_embed.", "model.vision_embed_tokens."
    names = {f"{old}img_processor.": f"{new}img_processor.vision_model."}
    names |= {old + before: new + after for before, after in PHI4MM.items()}
    stored = saved("phi4_multimodal").tensors
    tensors = renamed({name: one for name, one in stored.items() if "audio_embed" not in name}, names)
    config = saved("phi4_multimodal").config
    config = {name: config[name] for name in NARROW_ROPE if name in config} | {"model_type": "phi3_v"}
    seeing = replace(saved("phi4_multimodal"), unread=frozenset())
    assert_the_same(seeing, write_checkpoint(tmp_path / "it", tensors, config))


def test_minicpm_v_and_o(saved: Callable[[str], Saved], tmp_path: Path) -> None:
    names = {"language_model.": "llm.", "vision_tower.": "vpm.", "audio_tower.": "apm."}
    names |= {"multi_modal_projector.": "resampler."}
    seeing, hearing = saved("llava_onevision"), saved("qwen2_audio")
    config = seeing.config
    config = config["text_config"] | {"model_type": "minicpmv", "vision_config": config["vision_config"]}
    tensors = renamed(seeing.tensors, names)
    assert_the_same(seeing, write_checkpoint(tmp_path / "v", tensors, config))
    apm = {name: one for name, one in hearing.tensors.items() if name.startswith("audio_tower.")}
    tensors |= renamed(apm, names) | {"tts.emb_text.weight": torch.ones(9, 8)}
    config |= {"model_type": "minicpmo", "audio_config": hearing.config["audio_config"]}
    both = replace(seeing, computed=seeing.computed | {"audio": hearing.computed["audio"]})
    assert_the_same(both, write_checkpoint(tmp_path / "o", tensors, config))


# ------------------------------------------------------------------------- models too large to be built here


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under one more prefix."""
    return {prefix + name: tensor for name, tensor in tensors.items()}


def test_qwen_omni_talks_with_a_second_model(saved: Callable[[str], Saved], tmp_path: Path) -> None:
    thinker = saved("qwen2_5_omni_thinker")
    text = NARROW_ROPE | ROPE | {"head_dim": 8, "embedding_size": 20, "num_hidden_layers": 2}
    tiny = Tiny(
        hf.Qwen2_5OmniTalkerForConditionalGeneration,
        lambda: hf.Qwen2_5OmniTalkerConfig(**text),
    )
    model = tiny.build()
    model.save_pretrained(tmp_path / "talker")
    talker = json.loads((tmp_path / "talker" / "config.json").read_text())
    tensors = under("thinker.", thinker.tensors) | under("talker.", load_file(tmp_path / "talker" / WEIGHTS))
    tensors |= {"token2wav.code2wav_dit_model.input_embed.proj.weight": torch.ones(8, 8)}
    config = {"model_type": "qwen2_5_omni", "thinker_config": thinker.config, "talker_config": talker}
    talking = {"talker": compute(tiny, model.model)}
    whole = replace(thinker, computed=thinker.computed | talking)
    assert_the_same(whole, write_checkpoint(tmp_path / "whole", tensors, config))


def test_gemma3ns_text_model_is_read_beside_towers_that_are_no_transformers(tmp_path: Path) -> None:
    text = WIDE | {"vocab_size_per_layer_input": 64, "hidden_size_per_layer_input": 4, "laurel_rank": 4}
    text |= {"num_kv_shared_layers": 1, "altup_num_inputs": 2, "intermediate_size": [44] * 3}
    text |= {"layer_types": ["sliding_attention", "full_attention", "full_attention"]}
    model = Tiny(hf.Gemma3nForCausalLM, lambda: hf.Gemma3nTextConfig(**text)).build()
    model.save_pretrained(tmp_path / "text")
    alone = plan_of(tmp_path / "text")
    stored = load_file(tmp_path / "text" / WEIGHTS)
    tensors = renamed(stored, {"model.": "model.language_model."})
    tensors |= {
        "model.vision_tower.timm_model.conv_stem.conv.weight": torch.ones(4, 3, 3, 3),
        "model.audio_tower.conformer.0.attention.attn.q_proj.weight": torch.ones(16, 16),
        "model.embed_vision.embedding_projection.weight": torch.ones(24, 18),
        "model.embed_audio.embedding.weight": torch.ones(4, 16),
    }
    config = {
        "model_type": "gemma3n",
        "text_config": json.loads((tmp_path / "text" / "config.json").read_text()),
        "vision_config": {"model_type": "gemma3n_vision", "hidden_size": 18},
        "audio_config": {"model_type": "gemma3n_audio", "hidden_size": 16},
    }
    plan = plan_of(write_checkpoint(tmp_path / "whole", tensors, config))
    assert differing(extracted(alone), extracted(plan)) == set()
    assert plan.coverage.unknown == ()
    assert [(finding.code, finding.stack) for finding in plan.findings] == [("unread-stack", "audio")]


# ----------------------------------------------------------------------------------- beside what is not read


def test_a_tower_of_an_unknown_type_is_not_read_and_the_text_model_is(
    saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    config = saved("llava").config
    config["vision_config"]["model_type"] = "eye_of_newt"
    plan = plan_of(write_checkpoint(tmp_path / "it", saved("llava").tensors, config))
    assert mismatches({"text": saved("llava").computed["text"]}, plan) == set()
    assert plan.coverage.unknown == ()
    assert plan.layout.unread == {"vision": "model_type 'eye_of_newt' is unknown"}
    assert [(finding.code, finding.stack) for finding in plan.findings] == [("unread-stack", "vision")]


def test_a_tower_that_contradicts_its_config_is_not_read_and_the_text_model_is(
    saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    config = saved("llava").config
    config["vision_config"]["hidden_size"] = 19
    plan = plan_of(write_checkpoint(tmp_path / "it", saved("llava").tensors, config))
    assert mismatches({"text": saved("llava").computed["text"]}, plan) == set()
    assert [(finding.code, finding.stack) for finding in plan.findings] == [("unread-stack", "vision")]


def test_a_checkpoint_of_the_text_model_alone_has_no_tower(
    saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    tensors = {
        name: one for name, one in saved("llava").tensors.items() if name.startswith("language_model.")
    }
    folder = write_checkpoint(tmp_path / "it", tensors, saved("llava").config)
    text = replace(saved("llava"), computed={"text": saved("llava").computed["text"]})
    assert_the_same(text, folder)


# ----------------------------------------------------------------------------------------- negative controls

VALUES_FIRST = ('["Q", "K", "V"]', '["Q", "V", "K"]')
ATTENTION = {Projection.Q, K, V, OV}
CONTROLS = {
    "qwen2_vl: K and V swapped": ("qwen2_vl", "qwen2_vl_vision", VALUES_FIRST, "vision", {K, V, OV}),
    "qwen2_5_vl: K and V swapped": ("qwen2_5_vl", "qwen2_5_vl_vision", VALUES_FIRST, "vision", {K, V, OV}),
    "qwen2_5_vl: LayerNorm": (
        "qwen2_5_vl", "qwen2_5_vl_vision", ('kind = "rms"', 'kind = "layer"'), "vision",
        ATTENTION | {Projection.GATE, Projection.UP},
    ),
    "gemma3: the gain taken as w": (
        "gemma3", "gemma3_text", ('gain = "1+w"', 'gain = "w"'), "text",
        ATTENTION | {Projection.GATE, Projection.UP},
    ),
    "internvl, 6B: LayerNorm": (
        "internvl, 6B", "internvl_vision", ('kind = "by_bias"', 'kind = "layer"'), "vision",
        ATTENTION | {Projection.UP},
    ),
    "mllama: the global layers' norms swapped": (
        "mllama", "mllama_vision", ('"post_attention_layernorm.weight"', '"input_layernorm.weight"'),
        "vision global", {Projection.UP},
    ),
}  # fmt: skip
"""By name: a model, a family in it, the edit that declares it wrongly, a stack, what is wrong there."""


@pytest.mark.parametrize("name", CONTROLS)
def test_a_family_declared_wrongly_fails(
    name: str, saved: Callable[[str], Saved], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, family, (old, new), stack, wrong = CONTROLS[name]
    text = (resources.files("registry") / "families" / f"{family}.toml").read_text()
    assert old in text
    others = tuple(one for one in families() if one.name != family)
    edited = parse_family(text.replace(old, new), "it")
    monkeypatch.setattr("audit.understanding.families", lambda: (*others, edited))
    found = mismatches(saved(model).computed, plan_of(saved(model).folder, fold_norm=True))
    assert {projection for where, projection in found if where == stack} == wrong
