"""Every declared family gives the very matrices that its transformers modules multiply with.

Of the families that timm's names tell, test_timm_vit.py shows the same.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from affine import recover
from controls import Control
from extraction import COMPUTED_ERROR, differing, extracted, plan_of
from forward_pass import Computed, composites, compute
from layer_pass import random_stream, watch
from reported import report_errors
from safetensors.torch import load_file, save_file
from tiny_decoders import DECODER_TINY
from tiny_models import TIMM, TINY, VOCABULARY, gemma3_with_vision

from audit.checkpoint import open_checkpoint
from audit.errors import ConfigError
from registry import STORED, Projection, families

Q, K, V = Projection.Q, Projection.K, Projection.V
O, OV = Projection.O, Projection.OV  # noqa: E741 - the field's own name
GATE, UP, DOWN = Projection.GATE, Projection.UP, Projection.DOWN

MODELS = TINY | DECODER_TINY

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Saved:
    """A model in a folder, and the matrices its forward pass computes with."""

    folder: Path
    computed: Computed


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Saved]:
    """A tiny model by name, saved by transformers in its own way; each is built once."""
    made: dict[str, Saved] = {}

    def save(name: str) -> Saved:
        if name not in made:
            folder = tmp_path_factory.mktemp("model")
            model = MODELS[name].build()
            model.save_pretrained(folder)
            made[name] = Saved(folder, compute(MODELS[name], model))
        return made[name]

    return save


# -------------------------------------------------------------------------------------- as transformers saves


def test_every_family_of_timms_is_built_there() -> None:
    """By the globs: each family that has any claims a model of TIMM, and each of TIMM is of one family."""
    claims = {name: {family.name for family in families() if family.claims(name)} for name in TIMM}
    assert all(len(found) == 1 for found in claims.values())
    assert set().union(*claims.values()) == {family.name for family in families() if family.architectures}


@pytest.mark.parametrize("name", MODELS)
def test_each_projection_is_what_the_forward_pass_multiplies_with(
    name: str, saved: Callable[[str], Saved]
) -> None:
    plan = plan_of(saved(name).folder)
    assert differing(saved(name).computed.stored, extracted(plan)) == set()
    assert plan.coverage.unknown == ()
    assert plan.findings == ()
    assert [layer.index for layer in plan.main.layers] == list(range(len(plan.main.layers)))


@pytest.mark.parametrize("name", MODELS)
def test_the_report_is_what_lapack_gives_for_these_matrices(name: str, saved: Callable[[str], Saved]) -> None:
    assert report_errors(saved(name).computed, plan_of(saved(name).folder)) == []


@pytest.mark.parametrize("name", MODELS)
def test_folding_gives_what_readers_do_to_the_stream_before_the_norms_gain(
    name: str, saved: Callable[[str], Saved]
) -> None:
    plan = plan_of(saved(name).folder, fold_norm=True)
    assert differing(saved(name).computed.folded, extracted(plan), COMPUTED_ERROR) == set()
    assert plan.coverage.unknown == ()
    assert plan.findings == ()


@pytest.mark.parametrize("name", MODELS)
def test_a_base_model_saved_without_its_head_holds_the_same(
    name: str, saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    MODELS[name].build().base_model.save_pretrained(tmp_path / "base")
    plan = plan_of(tmp_path / "base")
    assert differing(saved(name).computed.stored, extracted(plan)) == set()
    assert plan.coverage.unknown == ()


@pytest.mark.parametrize(
    ("name", "prefix"), [("llama", "model."), ("gpt2", "transformer."), ("bert", "bert.")]
)
def test_a_base_models_tensors_have_no_prefix(name: str, prefix: str, tmp_path: Path) -> None:
    model = MODELS[name].build()
    model.save_pretrained(tmp_path / "whole")
    model.base_model.save_pretrained(tmp_path / "base")
    whole, base = (open_checkpoint(str(tmp_path / part)).tensors for part in ("whole", "base"))
    assert {prefix + tensor for tensor in base} & whole.keys()
    assert not any(tensor.startswith(prefix) for tensor in base)


HEADS = (
    hf.AutoModelForSequenceClassification,
    hf.AutoModelForTokenClassification,
    hf.AutoModelForQuestionAnswering,
)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (head, name)
        for head in HEADS
        for name, tiny in MODELS.items()
        if type(tiny.config()) in head._model_mapping
    ],
)
def test_another_head_in_the_language_models_place_leaves_nothing_unknown(
    head: Any, name: str, saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    head.from_config(MODELS[name].config()).save_pretrained(tmp_path / "it")
    plan = plan_of(tmp_path / "it")
    assert plan.coverage.unknown == ()
    assert plan.findings == ()
    assert extracted(plan).keys() == saved(name).computed.stored.keys()


@pytest.mark.parametrize("name", ["llama", "gpt2", "falcon 40B", "gemma3"])
def test_shards_with_an_index_hold_the_same(name: str, saved: Callable[[str], Saved], tmp_path: Path) -> None:
    MODELS[name].build().save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    plan = plan_of(tmp_path / "shards")
    assert (tmp_path / "shards" / f"{WEIGHTS}.index.json").is_file()
    assert len(plan.checkpoint.files) > 3
    assert differing(saved(name).computed.stored, extracted(plan)) == set()
    assert plan.coverage.unknown == ()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "phi3"])
def test_every_dtype_is_read_exactly(
    name: str, dtype: torch.dtype, saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    MODELS[name].build().to(dtype).save_pretrained(tmp_path / "rounded")
    plan = plan_of(tmp_path / "rounded")
    found, whole = extracted(plan), extracted(plan_of(saved(name).folder))
    assert plan.stored_dtypes == ({"float16": "F16", "bfloat16": "BF16", "float64": "F64"}[str(dtype)[6:]],)
    assert found.keys() == whole.keys()
    for key, matrix in found.items():
        if key[0] in STORED:
            assert matrix.dtype is torch.promote_types(dtype, torch.float32)  # that of the arithmetic
            assert torch.equal(matrix, whole[key].to(dtype).to(matrix.dtype))


# ------------------------------------------------------------------------------------------ under other names


def rewritten(source: Path, target: Path, rename: Callable[[str], str]) -> Path:
    """A copy of a saved model with its tensors renamed."""
    target.mkdir()
    shutil.copy(source / "config.json", target)
    save_file(
        {rename(name): tensor for name, tensor in load_file(source / WEIGHTS).items()}, target / WEIGHTS
    )
    return target


WRAPPERS = ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "base_model.model."]


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3", "bert"])
def test_wrappers_prefixes_are_seen_through(
    name: str, wrapper: str, saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    plan = plan_of(rewritten(saved(name).folder, tmp_path / "wrapped", lambda tensor: wrapper + tensor))
    assert differing(saved(name).computed.stored, extracted(plan)) == set()
    assert plan.coverage.unknown == ()
    assert plan.findings == ()


BUFFERS = {
    "llama": {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.rand(4)},
    "gpt2": {
        "transformer.h.0.attn.bias": torch.ones(1, 1, 16, 16, dtype=torch.bool),
        "transformer.h.0.attn.masked_bias": torch.tensor(-1e4),
    },
    "gpt_neox": {
        "gpt_neox.layers.0.attention.bias": torch.ones(1, 1, 16, 16, dtype=torch.uint8),
        "gpt_neox.layers.0.attention.masked_bias": torch.tensor(-1e9),
        "gpt_neox.layers.0.attention.rotary_emb.inv_freq": torch.rand(1),
    },
    "gptj": {
        "transformer.h.0.attn.bias": torch.ones(1, 1, 16, 16, dtype=torch.bool),
        "transformer.h.0.attn.masked_bias": torch.tensor(-1e9),
    },
    "codegen": {"transformer.h.0.attn.causal_mask": torch.ones(1, 1, 16, 16, dtype=torch.bool)},
    "gpt_neo": {
        "transformer.h.0.attn.attention.bias": torch.ones(1, 1, 16, 16, dtype=torch.bool),
        "transformer.h.0.attn.attention.masked_bias": torch.tensor(-1e9),
    },
    "gpt_bigcode": {"transformer.h.0.attn.bias": torch.ones(1, 1, 16, 16, dtype=torch.bool)},
    "openai-gpt": {"transformer.h.0.attn.bias": torch.ones(1, 1, 16, 16)},
    "imagegpt": {"transformer.h.0.attn.bias": torch.ones(1, 1, 16, 16, dtype=torch.bool)},
    "xglm": {"model.embed_positions.weights": torch.rand(18, 24)},
    "bert": {"bert.embeddings.position_ids": torch.arange(16).expand(1, -1).contiguous()},
    "roberta": {"roberta.embeddings.position_ids": torch.arange(16).expand(1, -1).contiguous()},
}


@pytest.mark.parametrize("name", BUFFERS)
def test_buffers_that_older_checkpoints_carry_are_known(
    name: str, saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    folder = shutil.copytree(saved(name).folder, tmp_path / "older")
    save_file(load_file(folder / WEIGHTS) | BUFFERS[name], folder / WEIGHTS)
    plan = plan_of(folder)
    assert differing(saved(name).computed.stored, extracted(plan)) == set()
    assert plan.coverage.unknown == ()
    assert plan.findings == ()


GEMMA3_NAMES = {
    "as on the Hub": {"vision_tower.": "vision_tower.vision_model."},
    "as transformers 4.52 saves": {
        "language_model.model.": "model.language_model.",
        "vision_tower.": "model.vision_tower.vision_model.",
        "multi_modal_projector.": "model.multi_modal_projector.",
    },
}


@pytest.mark.parametrize("names", GEMMA3_NAMES)
def test_gemma3_beside_its_vision_tower_under_every_prefix(
    names: str, saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    def rename(tensor: str) -> str:
        for old, new in GEMMA3_NAMES[names].items():
            if tensor.startswith(old):
                return new + tensor.removeprefix(old)
        return tensor

    folder = rewritten(saved("gemma3").folder, tmp_path / "renamed", rename)
    plan = plan_of(folder)
    prefixes = tuple(GEMMA3_NAMES[names].values())
    assert all(any(tensor.startswith(prefix) for tensor in plan.checkpoint.tensors) for prefix in prefixes)
    assert differing(saved("gemma3").computed.stored, extracted(plan)) == set()
    assert plan.coverage.unknown == ()
    assert plan.findings == ()


# ----------------------------------------------------------------------- under other, or missing, config keys


def configured(source: Path, target: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    """A copy of a saved model with its config.json changed."""
    shutil.copytree(source, target)
    config = target / "config.json"
    config.write_text(json.dumps(change(json.loads(config.read_text()))))
    return target


@pytest.mark.parametrize("name", ["falcon 40B", "falcon 7B", "falcon RW"])
def test_falcons_first_configs_have_other_keys(
    name: str, saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    first = {"num_hidden_layers": "n_layer", "num_attention_heads": "n_head", "num_kv_heads": "n_head_kv"}
    folder = configured(
        saved(name).folder,
        tmp_path / "first",
        lambda config: {first.get(key, key): value for key, value in config.items()},
    )
    assert differing(saved(name).computed.stored, extracted(plan_of(folder))) == set()


NARROW = VOCABULARY | {"hidden_size": 16, "intermediate_size": 44, "num_hidden_layers": 1}
DEFAULT_HEADS: dict[str, Callable[[], hf.PreTrainedConfig]] = {
    "gemma": lambda: hf.GemmaConfig(**NARROW),
    "gemma2": lambda: hf.Gemma2Config(**NARROW, attn_implementation="uncapped"),
    "gemma3_text": lambda: hf.Gemma3TextConfig(**NARROW),
    "gemma3": lambda: gemma3_with_vision(NARROW),
}


def without_heads(config: dict[str, Any]) -> dict[str, Any]:
    """What save_pretrained wrote when it left out the class's defaults, in the text model's config too."""
    left_out = ("num_attention_heads", "num_key_value_heads", "head_dim")
    return {
        key: without_heads(value) if key == "text_config" else value
        for key, value in config.items()
        if key not in left_out
    }


@pytest.mark.parametrize("name", DEFAULT_HEADS)
def test_heads_that_a_config_leaves_out_are_the_models_defaults(name: str, tmp_path: Path) -> None:
    tiny = replace(MODELS[name], config=DEFAULT_HEADS[name])
    model = tiny.build()
    model.save_pretrained(tmp_path / "whole")
    plan = plan_of(configured(tmp_path / "whole", tmp_path / "short", without_heads))
    found = {key: matrix for key, matrix in extracted(plan).items() if key[0] is OV}
    assert differing(composites(tiny, model.double()), found) == set()
    assert plan.findings == ()


# ------------------------------------------------------------------------------------------ negative controls


FUSED = '["Q", "K", "V"]'
VALUES_FIRST = ((FUSED, '["Q", "V", "K"]'),)
READERS = {Q, K, V, OV, UP}
WIDER_HEADS = (
    "[config]\nheads = [{value = 3}]\nkv_heads = [{value = 1}]\nhead_dim = [{value = 16}]\n\n[ignore]"
)
BLOCKS = (('repeat = "heads"', 'repeat = "once"'),)
NORM_IN_FRONT = '[norms.ffn]\nweight = ["post_feedforward_layernorm.weight"]\nkind = "rms"\n\n[projections]'

CONTROLS = {
    "gpt_neox: K and V swapped": Control("gpt_neox", "gpt_neox", VALUES_FIRST, {K, V, OV}),
    "phi3: K and V swapped": Control("phi3", "phi3", VALUES_FIRST, {K, V, OV}),
    "falcon 40B: K and V swapped": Control("falcon 40B", "falcon", VALUES_FIRST, {K, V, OV}),
    "falcon 11B: K and V swapped": Control("falcon 11B", "falcon", VALUES_FIRST, {K, V, OV}),
    "falcon 7B: K and V swapped": Control("falcon 7B", "falcon", VALUES_FIRST, {K, V, OV}),
    "falcon RW: K and V swapped": Control("falcon RW", "falcon", VALUES_FIRST, {K, V, OV}),
    "gpt2: K and V swapped": Control("gpt2", "gpt2", VALUES_FIRST, {K, V, OV}),
    "bert: Q and K swapped": Control(
        "bert",
        "bert",
        (("self.query", "self.swap"), ("self.key", "self.query"), ("self.swap", "self.key")),
        {Q, K},
    ),
    "phi3: Gate and Up swapped": Control("phi3", "phi3", (('["Gate", "Up"]', '["Up", "Gate"]'),), {GATE, UP}),
    "llama: Gate and Up swapped": Control(
        "llama",
        "llama",
        (('Gate = "mlp.gate_proj', 'Up = "mlp.gate_proj'), ('Up = "mlp.up_', 'Gate = "mlp.up_')),
        {GATE, UP},
    ),
    "gpt_neox: heads not interleaved": Control(
        "gpt_neox", "gpt_neox", (('repeat = "heads"', 'repeat = "once"'),), {Q, K, V, OV}
    ),
    "falcon 40B: heads not grouped": Control(
        "falcon 40B", "falcon", (('repeat = "kv_heads"', 'repeat = "once"'),), {Q, K, V, OV}
    ),
    "falcon RW: heads not interleaved": Control(
        "falcon RW", "falcon", (('repeat = "kv_heads"', 'repeat = "once"'),), {Q, K, V, OV}
    ),
    "gpt2: taken as [out, in]": Control(
        "gpt2, square",
        "gpt2",
        (('stored = "in_out"\n', ""), (FUSED, f'{FUSED}\nstored = "in_out"')),
        {O, OV, UP, DOWN},
    ),
    "llama: fewer, wider heads": Control(
        "llama",
        "llama",
        (("[ignore]", WIDER_HEADS),),
        {OV},
    ),
    "gemma: the gain taken as w": Control(
        "gemma", "gemma", (('gain = "1+w"', 'gain = "w"'),), READERS | {GATE}, fold_norm=True
    ),
    "llama: the gain taken as 1 + w": Control(
        "llama", "llama", (('kind = "rms"', 'kind = "rms"\ngain = "1+w"'),), READERS | {GATE}, fold_norm=True
    ),
    "gpt2: the mean left in": Control(
        "gpt2", "gpt2", (('kind = "layer"', 'kind = "rms"'),), READERS, fold_norm=True
    ),
    "gemma2: Llama's norm for the feed-forward block": Control(
        "gemma2",
        "gemma2",
        (("pre_feedforward_layernorm", "post_attention_layernorm"),),
        {GATE, UP},
        fold_norm=True,
    ),
    "falcon 40B: one norm for both blocks": Control(
        "falcon 40B", "falcon", (("ln_mlp", "ln_attn"),), {UP}, fold_norm=True
    ),
    "falcon RW: one norm for both blocks": Control(
        "falcon RW", "falcon", (('"post_attention_layernorm.weight", ', ""),), {UP}, fold_norm=True
    ),
    "codegen: Q, K, V as they stand elsewhere": Control(
        "codegen", "codegen", (('["Q", "V", "K"]', FUSED),), {K, V, OV}
    ),
    "codegen: one block": Control("codegen", "codegen", (("repeat = 4\n", ""),), {Q, K, V, OV}),
    "codegen: heads interleaved": Control(
        "codegen", "codegen", (("repeat = 4", 'repeat = "heads"'),), {Q, K, V, OV}
    ),
    "bloom: heads not interleaved": Control("bloom", "bloom", BLOCKS, {Q, K, V, OV}),
    "bloom: K and V swapped": Control("bloom", "bloom", VALUES_FIRST, {K, V, OV}),
    "persimmon: heads not interleaved": Control("persimmon", "persimmon", BLOCKS, {Q, K, V, OV}),
    "gpt_neox_japanese: heads not interleaved": Control(
        "gpt_neox_japanese", "gpt_neox", BLOCKS, {Q, K, V, OV}
    ),
    "gpt_bigcode: K and V swapped": Control("gpt_bigcode", "gpt_bigcode", VALUES_FIRST, {K, V, OV}),
    "gpt_bigcode: heads in blocks though each has its own key": Control(
        "gpt_bigcode, every head its own key",
        "gpt_bigcode",
        (('repeat = "kv_heads"', 'repeat = "once"'),),
        {Q, K, V, OV},
    ),
    "mpt: heads interleaved": Control("mpt", "mpt", ((FUSED, f'{FUSED}\nrepeat = "heads"'),), {Q, K, V, OV}),
    "openai-gpt: K and V swapped": Control("openai-gpt", "openai_gpt", VALUES_FIRST, {K, V, OV}),
    "glm: Gate and Up swapped": Control("glm", "glm", (('["Gate", "Up"]', '["Up", "Gate"]'),), {GATE, UP}),
    "modernbert-decoder: Gate and Up swapped": Control(
        "modernbert-decoder", "modernbert_decoder", (('["Gate", "Up"]', '["Up", "Gate"]'),), {GATE, UP}
    ),
    "cpmant: Gate and Up swapped": Control(
        "cpmant",
        "cpmant",
        (("w_0", "w_x"), ("w_1", "w_0"), ("w_x", "w_1")),
        {GATE, UP},
    ),
    "starcoder2: the mean left in": Control(
        "starcoder2", "starcoder2", (('kind = "layer"', 'kind = "rms"'),), READERS, fold_norm=True
    ),
    "imagegpt: the mean taken off": Control(
        "imagegpt", "imagegpt", (('kind = "rms"', 'kind = "layer"'),), READERS, fold_norm=True
    ),
    "nemotron: the gain taken as w": Control(
        "nemotron", "nemotron", (('gain = "1+w"', 'gain = "w"'),), READERS, fold_norm=True
    ),
    "stablelm: one norm for both blocks": Control(
        "stablelm", "stablelm", (('"post_attention_layernorm.weight", ', ""),), {GATE, UP}, fold_norm=True
    ),
    "stablelm, parallel: no norm in front of the feed-forward block": Control(
        "stablelm, parallel",
        "stablelm",
        ((', "input_layernorm.weight"]', "]"),),
        {GATE, UP},
        fold_norm=True,
    ),
    "glm4: the norm on attention's output for the feed-forward block": Control(
        "glm4", "glm", (('"post_attention_', '"post_self_attn_'),), {GATE, UP}, fold_norm=True
    ),
    "hyperclovax: the norm on attention's output for the feed-forward block": Control(
        "hyperclovax",
        "hyperclovax",
        (("post_attention_layernorm.weight", "post_norm1.weight"),),
        {GATE, UP},
        fold_norm=True,
    ),
    "opt 350M: norms in front": Control(
        "opt 350M", "opt", (('when = "do_layer_norm_before"\n', ""),), READERS, fold_norm=True
    ),
    "opt: no norms in front": Control(
        "opt", "opt", (('"do_layer_norm_before"', '"do_layer_norm_after"'),), READERS, fold_norm=True
    ),
    "openai-gpt: a norm in front": Control(
        "openai-gpt",
        "openai_gpt",
        (("[projections]", '[norms.ffn]\nweight = ["ln_2.weight"]\nkind = "layer"\n\n[projections]'),),
        {UP},
        fold_norm=True,
    ),
    "olmo2: a norm in front": Control(
        "olmo2", "olmo2", (("[projections]", NORM_IN_FRONT),), {GATE, UP}, fold_norm=True
    ),
}


@pytest.mark.parametrize("name", CONTROLS)
def test_a_family_declared_wrongly_fails(name: str, saved: Callable[[str], Saved], tmp_path: Path) -> None:
    control = CONTROLS[name]
    plan = plan_of(
        saved(control.model).folder,
        fold_norm=control.fold_norm,
        family_file=control.write(tmp_path / "wrong.toml"),
    )
    computed = saved(control.model).computed
    if control.fold_norm:
        wrong = differing(computed.folded, extracted(plan), COMPUTED_ERROR)
    else:
        wrong = differing(computed.stored, extracted(plan))
    assert wrong == control.wrong


def test_an_orientation_that_cannot_be_is_refused(saved: Callable[[str], Saved], tmp_path: Path) -> None:
    control = Control("gpt2", "gpt2", (('stored = "in_out"\n', ""),), set())
    with pytest.raises(ConfigError, match=r"c_fc\.weight reads 44 channels as Up, where config\.json has 24"):
        plan_of(saved("gpt2").folder, family_file=control.write(tmp_path / "wrong.toml"))


# ----------------------------------------------------------------------------------- what these tests rest on


@pytest.mark.parametrize("name", ["olmo2", "exaone4"])
def test_what_is_read_without_a_norm_in_front_is_no_norms_output(name: str) -> None:
    model = MODELS[name].build().double()
    seen = watch(model, random_stream(model))
    for call in (*seen.attentions, *seen.feed_forwards):
        with pytest.raises(LookupError):
            seen.before_norm(call.read)


@pytest.mark.parametrize("name", ["bert", "roberta", "xlm-roberta", "camembert"])
def test_what_an_encoders_attention_reads_is_the_stream_it_writes_to(
    name: str, saved: Callable[[str], Saved]
) -> None:
    model = MODELS[name].build().double()
    seen = watch(model, random_stream(model))
    for layer, (attention, feed) in enumerate(zip(seen.attentions, seen.feed_forwards, strict=True)):
        added = (seen.before_norm(feed.read) - attention.read).flatten(1)
        bias = added - attention.gave.flatten(1) @ saved(name).computed.stored[O, layer].T
        torch.testing.assert_close(bias, bias[:1].expand_as(bias))


def test_a_map_is_recovered_only_where_there_is_one() -> None:
    torch.manual_seed(0)
    given, matrix = torch.randn(50, 7, dtype=torch.float64), torch.randn(5, 7, dtype=torch.float64)
    torch.testing.assert_close(recover(given, given @ matrix.T + 3), matrix)
    with pytest.raises(AssertionError, match="not close"):
        recover(given, (given @ matrix.T).relu())
    with pytest.raises(AssertionError, match="do not span"):
        recover(given - given.mean(1, keepdim=True), given @ matrix.T)
