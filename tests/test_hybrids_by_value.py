"""Models whose layers lack projections, or share them.

What a layer has is what its forward pass multiplies with, and what it lacks has its reason.
"""

import json
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import transformers as hf
from block_pass import compute_blocks
from controls import Control
from extraction import differing, extracted, mismatches, plan_of
from forward_pass import Computed, compute, compute_stacks
from reported import report_errors
from safetensors.torch import load_file, save_file
from tiny_hybrids import (
    ATTENTION,
    FEED_FORWARD,
    HYBRIDS,
    KV,
    LENT,
    Hybrid,
    Lacks,
    gemma4_with_towers,
    patches,
    without,
)
from tiny_models import Tiny

from audit.plan import AuditPlan
from registry import FamilyFileError, Projection
from registry.family import parse_family

Q, K, V = Projection.Q, Projection.K, Projection.V
O, OV = Projection.O, Projection.OV  # noqa: E741 - the field's own name
GATE, UP, DOWN = FEED_FORWARD
SHARED_GATE, SHARED_UP = Projection.SHARED_GATE, Projection.SHARED_UP

WEIGHTS = "model.safetensors"
CHUNKED = ("torch_chunk_gated_delta_rule", "chunk_kimi_delta_attention")
"""Linear attention that pads every sequence to 64 tokens; here each is one token long."""


@dataclass(frozen=True)
class Saved:
    """A model in a folder, and by stack the matrices its forward pass computes with."""

    folder: Path
    computed: Mapping[str, Computed]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Saved]:
    """A tiny model by name, saved by transformers in its own way; each is built once."""
    made: dict[str, Saved] = {}

    def save(name: str) -> Saved:
        if name not in made:
            folder = tmp_path_factory.mktemp("model")
            model = HYBRIDS[name].tiny.build()
            model.save_pretrained(folder)
            made[name] = Saved(folder, computed(HYBRIDS[name], model))
        return made[name]

    return save


def computed(hybrid: Hybrid, model: hf.PreTrainedModel) -> dict[str, Computed]:
    """By stack, the main one's under an empty name."""
    modelling = sys.modules[type(model).__module__]
    with ExitStack() as patches:
        for name in CHUNKED:
            if chunked := getattr(modelling, name, None):
                patches.enter_context(patch.object(modelling, name, partial(chunked, chunk_size=1)))
        if hybrid.in_blocks:
            return {"": compute_blocks(hybrid.tiny, model)}
        if hybrid.tiny.stacks:
            return compute_stacks(hybrid.tiny, model)
        return {"": compute(hybrid.tiny, model)}


def wrong(saved: Saved, plan: AuditPlan) -> set[Projection]:
    """The projections in which the audit and the forward pass differ, in any stack."""
    computed = {plan.main.layout.name if name == "" else name: one for name, one in saved.computed.items()}
    return {projection for _, projection in mismatches(computed, plan)}


def lacks(plan: AuditPlan) -> dict[str, Lacks]:
    return {
        stack.name: frozenset((lack.projection, lack.layer, lack.reason or "") for lack in stack.lacks)
        for stack in plan.layout.stacks
    }


def told(plan: AuditPlan) -> set[tuple[str, Projection | None]]:
    return {
        (finding.code, Projection(finding.projection) if finding.projection else None)
        for finding in plan.findings
    }


# -------------------------------------------------------------------------------------- as transformers saves


@pytest.mark.parametrize("name", HYBRIDS)
def test_each_projection_is_what_the_forward_pass_multiplies_with(
    name: str, saved: Callable[[str], Saved]
) -> None:
    plan = plan_of(saved(name).folder)
    assert wrong(saved(name), plan) == set()
    assert plan.coverage.unknown == ()
    assert plan.findings == ()


@pytest.mark.parametrize("name", HYBRIDS)
def test_the_report_is_what_lapack_gives_for_these_matrices(name: str, saved: Callable[[str], Saved]) -> None:
    assert report_errors(saved(name).computed, plan_of(saved(name).folder)) == []


@pytest.mark.parametrize("name", HYBRIDS)
def test_folding_gives_what_readers_do_to_the_stream_before_the_norms_gain(
    name: str, saved: Callable[[str], Saved]
) -> None:
    plan = plan_of(saved(name).folder, fold_norm=True)
    assert wrong(saved(name), plan) == set()
    assert plan.coverage.unknown == ()


@pytest.mark.parametrize("name", HYBRIDS)
def test_what_a_layer_lacks_has_its_reason(name: str, saved: Callable[[str], Saved]) -> None:
    assert lacks(plan_of(saved(name).folder)) == HYBRIDS[name].gaps


@pytest.mark.parametrize("name", HYBRIDS)
def test_a_layer_has_its_true_number(name: str, saved: Callable[[str], Saved]) -> None:
    plan = plan_of(saved(name).folder)
    layers = HYBRIDS[name].tiny.config().num_hidden_layers
    for stack in plan.layout.stacks:
        assert [layer.index for layer in stack.layers] == list(range(layers))
        slots = {(projection, layer.index) for layer in stack.layers for projection in layer.slots}
        assert slots == {key[:2] for key in saved(name).computed[stack.name].stored if key[0] is not OV}


@pytest.mark.parametrize("name", HYBRIDS)
def test_a_base_model_saved_without_its_head_holds_the_same(
    name: str, saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    HYBRIDS[name].tiny.build().base_model.save_pretrained(tmp_path / "base")
    plan = plan_of(tmp_path / "base")
    assert wrong(saved(name), plan) == set()
    assert plan.coverage.unknown == ()


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, hybrid in HYBRIDS.items()
        if type(hybrid.tiny.config()) in hf.AutoModelForSequenceClassification._model_mapping
    ],
)
def test_a_classifiers_head_leaves_nothing_unknown(name: str, tmp_path: Path) -> None:
    model = hf.AutoModelForSequenceClassification.from_config(HYBRIDS[name].tiny.config())
    model.save_pretrained(tmp_path / "it")
    plan = plan_of(tmp_path / "it")
    assert plan.coverage.unknown == ()
    assert plan.findings == ()
    assert lacks(plan) == HYBRIDS[name].gaps


# ---------------------------------------------------------------------- under other names, with other configs


@pytest.mark.parametrize("name", [name for name in HYBRIDS if name != "bailing_hybrid"])
def test_tensors_named_as_in_memory_hold_the_same(
    name: str, saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    HYBRIDS[name].tiny.build().save_pretrained(tmp_path / "dump", save_original_format=False)
    for fold_norm in (False, True):
        plan = plan_of(tmp_path / "dump", fold_norm=fold_norm)
        assert wrong(saved(name), plan) == set()
        assert plan.findings == ()
    assert lacks(plan) == HYBRIDS[name].gaps


def copied(
    source: Path,
    target: Path,
    rename: Callable[[str], str] = str,
    more: Mapping[str, torch.Tensor] | None = None,
    config: Mapping[str, Any] | None = None,
    less: str = "none is named so",
) -> Path:
    """A copy of a saved model: tensors renamed, added, or left out by a part of their name."""
    target.mkdir()
    keys = json.loads((source / "config.json").read_text()) | dict(config or {})
    (target / "config.json").write_text(
        json.dumps({key: value for key, value in keys.items() if value is not None})
    )
    tensors = {
        rename(name): tensor for name, tensor in load_file(source / WEIGHTS).items() if less not in name
    }
    save_file(tensors | dict(more or {}), target / WEIGHTS)
    return target


HUB_NAMES = {
    "kimi_linear": (r"layers\.0\.block_sparse_moe\.", "layers.0.mlp."),
    "nemotron_h": (r"^backbone\.", "model."),
    "olmo_hybrid": (r"layers\.([13])\.feedforward_layer_norm", r"layers.\1.post_attention_layernorm"),
}
"""What save_pretrained of a model that was never loaded names otherwise than the Hub's checkpoints do."""


@pytest.mark.parametrize("fold_norm", [False, True])
@pytest.mark.parametrize("name", HUB_NAMES)
def test_tensors_named_as_on_the_hub_hold_the_same(
    name: str, fold_norm: bool, saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    folder = copied(saved(name).folder, tmp_path / "hub", partial(re.sub, *HUB_NAMES[name]))
    assert load_file(folder / WEIGHTS).keys() != load_file(saved(name).folder / WEIGHTS).keys()
    plan = plan_of(folder, fold_norm=fold_norm)
    assert wrong(saved(name), plan) == set()
    assert plan.findings == ()
    assert lacks(plan) == HYBRIDS[name].gaps


def test_a_norm_of_the_same_name_behind_attention_is_folded_into_nothing(
    saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    """OLMo Hybrid's attention layers call the norm on the output as its linear ones call that in front."""
    names = load_file(saved("olmo_hybrid").folder / WEIGHTS)
    assert "model.layers.1.feedforward_layer_norm.weight" in names
    plan = plan_of(saved("olmo_hybrid").folder, fold_norm=True)
    assert [set(layer.norms) for layer in plan.main.layers] == [{"ffn"}, set(), {"ffn"}, set()]


@pytest.mark.parametrize("name", ["gemma3n_text", "gemma4_text, shared"])
def test_keys_and_values_that_no_forward_pass_reads_are_left_out(
    name: str, saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    layers = [layer for projection, layer, _ in HYBRIDS[name].lacks if projection is K]
    more = {
        f"model.layers.{layer}.self_attn.{which}_proj.weight": torch.rand(16 if layer % 2 == 0 else 20, 24)
        for layer in layers
        for which in "kv"
    }
    plan = plan_of(copied(saved(name).folder, tmp_path / "hub", more=more))
    assert wrong(saved(name), plan) == set()
    assert plan.findings == ()
    assert lacks(plan) == HYBRIDS[name].gaps
    assert plan.coverage.ignored[LENT] == 4


@pytest.mark.parametrize("name", ["gemma4_text", "gemma4_text, K is V", "gemma4_text, shared"])
def test_heads_of_full_attention_are_known_from_keys_of_their_own(
    name: str, saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    """Config.json's on the Hub have these keys, where transformers 5 writes a table of layers."""
    kv_heads = 1 if name == "gemma4_text, K is V" else 2
    keys = {"per_layer_config": None, "global_head_dim": 10, "num_global_key_value_heads": kv_heads}
    plan = plan_of(copied(saved(name).folder, tmp_path / "hub", config=keys))
    assert wrong(saved(name), plan) == set()
    assert plan.findings == ()


def test_key_value_heads_of_their_own_count_only_where_keys_are_values(
    saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    keys = {"per_layer_config": None, "global_head_dim": 10, "num_global_key_value_heads": 1}
    plan = plan_of(copied(saved("gemma4_text").folder, tmp_path / "hub", config=keys))
    assert wrong(saved("gemma4_text"), plan) == set()


def test_experts_in_a_latent_space_are_left_out_with_a_reason(tmp_path: Path) -> None:
    hybrid = HYBRIDS["nemotron_h"]
    config = hybrid.tiny.config()
    config.moe_latent_size = 16
    hybrid.tiny.model(config).save_pretrained(tmp_path / "latent")
    plan = plan_of(tmp_path / "latent")
    latent = without((UP, DOWN), "experts in a latent space, which face no residual stream", 3, 5)
    assert plan.findings == ()
    assert lacks(plan)[""] == hybrid.lacks | latent
    assert plan.main.layers[3].slots.keys() == {Projection.SHARED_UP, Projection.SHARED_DOWN}


# -------------------------------------------------------------------------------------- beside other towers


def test_gemma4_beside_its_vision_tower(saved: Callable[[str], Saved], tmp_path: Path) -> None:
    vision = Tiny(hf.PreTrainedModel, gemma4_with_towers, inputs=patches)
    model = Tiny(hf.Gemma4ForConditionalGeneration, gemma4_with_towers).build()
    model.save_pretrained(tmp_path / "it")
    computed = {
        "text": compute_blocks(HYBRIDS["gemma4_text, shared"].tiny, model.model.language_model),
        "vision": compute(vision, model.model.vision_tower, "encoder.layers"),
    }
    for fold_norm in (False, True):
        plan = plan_of(tmp_path / "it", fold_norm=fold_norm)
        assert mismatches(computed, plan) == set()
        assert told(plan) == {("unread-stack", None)}
    assert lacks(plan) == {"text": HYBRIDS["gemma4_text, shared"].lacks, "vision": frozenset()}
    assert plan.layout.unread.keys() == {"audio"}


TOWERS = {
    "model.vision_tower.timm_model.blocks.0.0.conv_exp.weight": (8, 4, 3, 3),
    "model.vision_tower.timm_model.blocks.3.0.attn.query.proj.weight": (8, 4, 1, 1),
    "model.audio_tower.conformer.0.attention.attn.q_proj.weight": (8, 8),
    "model.embed_vision.embedding_projection.weight": (24, 8),
    "model.embed_audio.embedding.weight": (4, 8),
}
"""Some of what is beside the text model of a Gemma 3n on the Hub."""


def test_gemma3n_beside_its_towers(saved: Callable[[str], Saved], tmp_path: Path) -> None:
    source = saved("gemma3n_text").folder
    text = json.loads((source / "config.json").read_text())
    folder = copied(
        source,
        tmp_path / "it",
        partial(re.sub, r"^model\.", "model.language_model."),
        {name: torch.rand(shape) for name, shape in TOWERS.items()},
        dict.fromkeys(text) | {"model_type": "gemma3n", "text_config": text},
    )
    for fold_norm in (False, True):
        plan = plan_of(folder, fold_norm=fold_norm)
        assert wrong(saved("gemma3n_text"), plan) == set()
        assert told(plan) == {("unread-stack", None)}
    assert lacks(plan) == {"text": HYBRIDS["gemma3n_text"].lacks}


# ------------------------------------------------------------------------------------------- what is missing


GONE = {
    "qwen3_next": ("layers.1.self_attn.v_proj", {V}),
    "jamba": ("layers.3.self_attn", {Q, K, V, O}),
    "bamba": ("layers.2.feed_forward.up_proj", {UP}),
    "lfm2_moe": ("layers.1.self_attn.k_proj", {K}),
    "nemotron_h": ("layers.2.mixer.k_proj", {K}),
    "recurrent_gemma": ("layers.0.mlp_block.down_proj", {DOWN}),
    "falcon_h1": ("layers.0.self_attn.q_proj", {Q}),
    "gemma3n_text": ("layers.2.self_attn.v_proj", {V}),
    "mllama_text_model": ("layers.1.cross_attn.k_proj", {K}),
}
"""A part of the names that are gone, and what is then missing without a reason."""


@pytest.mark.parametrize("name", GONE)
def test_what_is_gone_is_told_beside_what_never_was(
    name: str, saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    part, missing = GONE[name]
    plan = plan_of(copied(saved(name).folder, tmp_path / "less", less=part))
    assert told(plan) == {("missing-projection", projection) for projection in missing}


# ------------------------------------------------------------------------------------- blocks of every kind


def by_architecture_search() -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Config and tensors of a Llama-Nemotron whose layers all differ, typed by hand.

    0 and 5 are whole, with other widths; 1 does not attend, 3 only attends; one map stands in for attention
    in 2, for the feed-forward block in 4.
    """
    generator = torch.Generator().manual_seed(0)

    def linear(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) / 10

    tensors = {"model.embed_tokens.weight": linear(32, 24), "model.norm.weight": torch.ones(24)}
    tensors["lm_head.weight"] = linear(32, 24)
    for layer, kv_heads in {0: 2, 3: 1, 4: 2, 5: 3}.items():
        rows = {"q_proj": 24, "k_proj": 4 * kv_heads, "v_proj": 4 * kv_heads, "o_proj": 24}
        tensors |= {
            f"model.layers.{layer}.self_attn.{name}.weight": linear(n, 24) for name, n in rows.items()
        }
    tensors["model.layers.2.self_attn.linear_attn.weight"] = linear(24, 24)
    for layer, width in {0: 44, 1: 12, 2: 44, 5: 60}.items():
        shapes = {"gate_proj": (width, 24), "up_proj": (width, 24), "down_proj": (24, width)}
        tensors |= {f"model.layers.{layer}.mlp.{name}.weight": linear(*one) for name, one in shapes.items()}
    tensors["model.layers.4.mlp.linear_mlp.weight"] = linear(24, 24)
    for layer in range(6):
        if layer != 1:
            tensors[f"model.layers.{layer}.input_layernorm.weight"] = linear(24)
        if layer != 3:
            tensors[f"model.layers.{layer}.post_attention_layernorm.weight"] = linear(24)
    config = {"model_type": "nemotron-nas", "num_hidden_layers": 6, "hidden_size": 24}
    return config | {"num_attention_heads": 6, "num_key_value_heads": None}, tensors


def test_layers_found_by_architecture_search_say_what_they_lack(tmp_path: Path) -> None:
    config, tensors = by_architecture_search()
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(tensors, tmp_path / WEIGHTS)
    plan = plan_of(tmp_path)
    names = {Q: "self_attn.q_proj", K: "self_attn.k_proj", V: "self_attn.v_proj", O: "self_attn.o_proj"}
    names |= {GATE: "mlp.gate_proj", UP: "mlp.up_proj", DOWN: "mlp.down_proj"}
    expected = {
        (projection, layer): tensors[f"model.layers.{layer}.{name}.weight"].double()
        for projection, name in names.items()
        for layer in range(6)
        if f"model.layers.{layer}.{name}.weight" in tensors
    }
    for layer, kv_heads in {0: 2, 3: 1, 4: 2, 5: 3}.items():
        value, output = expected[V, layer], expected[O, layer]
        heads = [value[4 * kv : 4 * kv + 4] for kv in (head * kv_heads // 6 for head in range(6))]
        expected[OV, layer] = output @ torch.cat(heads)
    assert differing(expected, extracted(plan)) == set()
    assert plan.findings == ()
    assert lacks(plan) == {
        "": without(ATTENTION, "no attention", 1)
        | without(ATTENTION, "one linear map in place of attention", 2)
        | without(FEED_FORWARD, "no feed-forward block", 3)
        | without(FEED_FORWARD, "one linear map in place of the feed-forward block", 4)
    }


# ------------------------------------------------------------------------------------------ negative controls


GATE_FIRST, UP_FIRST = '["Gate", "Up"]', '["Up", "Gate"]'
PLAIN_Q = ("[projections]\n", '[projections]\nQ = "self_attn.q_proj.weight"\n')
GATED_Q = '[[fused]]\ntensor = "self_attn.q_proj.weight"\norder = ["Q", "-"]\nrepeat = "heads"\n'
READERS = frozenset({Q, K, V, OV, GATE, UP})
CONTROLS = {
    "qwen3_next: the gate taken for queries": Control(
        "qwen3_next", "qwen3_next", (PLAIN_Q, (GATED_Q, "")), frozenset({Q})
    ),
    "qwen3_next: all queries before all gates": Control(
        "qwen3_next", "qwen3_next", ((GATED_Q, GATED_Q.replace("heads", "once")),), frozenset({Q})
    ),
    "qwen3_next: gates before queries": Control(
        "qwen3_next", "qwen3_next", (('["Q", "-"]', '["-", "Q"]'),), frozenset({Q})
    ),
    "qwen3_5_text: the gain taken as w": Control(
        "qwen3_5_text", "qwen3_next", (('gain = "1+w"', 'gain = "w"'),), READERS, fold_norm=True
    ),
    "granitemoehybrid: up before gate in the shared block": Control(
        "granitemoehybrid",
        "granitemoehybrid",
        (('["SharedGate", "SharedUp"]', '["SharedUp", "SharedGate"]'),),
        frozenset({SHARED_GATE, SHARED_UP}),
    ),
    "granitemoehybrid, dense: up before gate": Control(
        "granitemoehybrid, dense", "granitemoehybrid", ((GATE_FIRST, UP_FIRST),), frozenset({GATE, UP})
    ),
    "lfm2: w1 taken for up": Control(
        "lfm2",
        "lfm2",
        (
            ('Gate = "feed_forward.w1', 'Up = "feed_forward.w1'),
            ('Up = "feed_forward.w3', 'Gate = "feed_forward.w3'),
        ),
        frozenset({GATE, UP}),
    ),
    "kimi_linear: values before keys": Control(
        "kimi_linear", "kimi_linear", (('["K", "V"]', '["V", "K"]'),), frozenset({K, V, OV})
    ),
    "kimi_linear: no norm in the latent": Control(
        "kimi_linear",
        "kimi_linear",
        (('gain = "self_attn.kv_a_layernorm.weight"\n', ""),),
        frozenset({K, V, OV}),
    ),
    "gemma4_text: experts behind the dense block's norm": Control(
        "gemma4_text, experts",
        "gemma4",
        (("pre_feedforward_layernorm_2", "pre_feedforward_layernorm"),),
        frozenset({GATE, UP}),
        fold_norm=True,
    ),
    "olmo_hybrid: a norm in front in every layer": Control(
        "olmo_hybrid",
        "olmo_hybrid",
        (('where = "linear_attn.A_log"\n', ""),),
        frozenset({GATE, UP}),
        fold_norm=True,
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
    assert wrong(saved(control.model), plan) == control.wrong


def undeclared(family: str, table: str, path: Path) -> Path:
    """A family's file without its tables of this name."""
    text = (resources.files("registry") / "families" / f"{family}.toml").read_text()
    shorter = re.sub(rf"\[\[{table}\]\]\n(?:[^\[\n].*\n)+\n", "", text)
    assert shorter != text
    path.write_text(shorter)
    return path


UNEXPLAINED = {
    "qwen3_next": ("qwen3_next", True),
    "olmo_hybrid": ("olmo_hybrid", True),
    "minimax": ("minimax", True),
    "jamba": ("jamba", True),
    "bamba": ("jamba", True),
    "granitemoehybrid": ("granitemoehybrid", True),
    "lfm2": ("lfm2", True),
    "recurrent_gemma": ("recurrent_gemma", True),
    "mllama_text_model": ("mllama_text", False),
}
"""By model its family, and whether what stands in for attention has matrices that then are unknown."""


@pytest.mark.parametrize("name", UNEXPLAINED)
def test_without_the_rule_of_what_is_there_instead_attention_is_missing(
    name: str, saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    family, unknown = UNEXPLAINED[name]
    plan = plan_of(saved(name).folder, family_file=undeclared(family, "instead", tmp_path / "wrong.toml"))
    missing: set[tuple[str, Projection | None]] = {
        ("missing-projection", projection) for projection in ATTENTION
    }
    assert told(plan) == missing | ({("unknown-tensor", None)} if unknown else set())


@pytest.mark.parametrize(("name", "family"), [("gemma3n_text", "gemma3n"), ("gemma4_text, shared", "gemma4")])
def test_without_the_rule_of_what_is_not_used_it_is_missing(
    name: str, family: str, saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    plan = plan_of(saved(name).folder, family_file=undeclared(family, "unused", tmp_path / "wrong.toml"))
    assert told(plan) == {("missing-projection", projection) for projection in KV}


@pytest.mark.parametrize("name", ["kimi_linear", "bailing_hybrid"])
def test_without_the_rule_linear_attentions_matrices_pass_for_queries(
    name: str, saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    """They have the same names."""
    plan = plan_of(saved(name).folder, family_file=undeclared(name, "instead", tmp_path / "wrong.toml"))
    assert {Q, O} <= wrong(saved(name), plan)
    assert {("unknown-tensor", None), ("missing-projection", K), ("missing-projection", V)} <= told(plan)


def test_what_is_there_instead_must_be_told_by_something() -> None:
    text = (resources.files("registry") / "families" / "jamba.toml").read_text()
    vague = text.replace('where = ["mamba.A_log"]\n', "")
    assert vague != text
    with pytest.raises(FamilyFileError, match="`where` or `without` must tell which layers have it"):
        parse_family(vague, "vague.toml")
