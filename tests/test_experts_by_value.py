"""Mixtures of experts and latent attention: what is read from a file is what the modules multiply with."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from controls import Control
from extraction import extracted, mismatches, plan_of
from forward_pass import Computed, compute
from reported import report_errors
from safetensors.torch import load_file, save_file
from tiny_experts import EXPERT_TINY, LATENT, SQUARE
from torch import Tensor
from typer.testing import Result

from audit.errors import ConfigError, UnknownFamilyError
from audit.plan import AuditPlan
from registry import Projection, families

Q, K, V = Projection.Q, Projection.K, Projection.V
O, OV = Projection.O, Projection.OV  # noqa: E741 - the field's own name
GATE, UP, DOWN = Projection.GATE, Projection.UP, Projection.DOWN
SHARED_GATE, SHARED_UP = Projection.SHARED_GATE, Projection.SHARED_UP

WEIGHTS = "model.safetensors"

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Saved:
    """A model in a folder, its state_dict in memory, and the matrices its forward pass computes with.

    `base` holds the same without the language model's head.
    """

    folder: Path
    base: Path
    in_memory: Tensors
    computed: Computed


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Saved]:
    """A tiny model by name, saved by transformers in its own way; each is built once."""
    made: dict[str, Saved] = {}

    def save(name: str) -> Saved:
        if name not in made:
            folder, base = (tmp_path_factory.mktemp(part) for part in ("model", "base"))
            tiny = (EXPERT_TINY | SQUARE)[name]
            model = tiny.build()
            model.save_pretrained(folder)
            model.base_model.save_pretrained(base)
            in_memory = {key: tensor.clone() for key, tensor in model.state_dict().items()}
            made[name] = Saved(folder, base, in_memory, compute(tiny, model))
        return made[name]

    return save


def wrong_in(plan: AuditPlan, computed: Computed) -> set[Projection]:
    """The projections of which a matrix is missing, or too many, or has another shape or other values."""
    return {projection for _, projection in mismatches(computed, plan)}


def written(
    source: Path,
    target: Path,
    tensors: Tensors | None = None,
    change: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> Path:
    """A copy of a saved model with other tensors, or with its config.json changed."""
    shutil.copytree(source, target)
    config = target / "config.json"
    config.write_text(json.dumps(change(json.loads(config.read_text()))))
    if tensors is not None:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, target / WEIGHTS)
    return target


def assert_holds(folder: Path, computed: Computed) -> AuditPlan:
    """A folder holds these matrices, and nothing unknown."""
    plan = plan_of(folder)
    assert wrong_in(plan, computed) == set()
    assert plan.coverage.unknown == ()
    assert plan.findings == ()
    return plan


# --------------------------------------------------------------------------------- in all layouts they have


@pytest.mark.parametrize("name", EXPERT_TINY)
def test_each_projection_is_what_the_forward_pass_multiplies_with(
    name: str, saved: Callable[[str], Saved]
) -> None:
    plan = assert_holds(saved(name).folder, saved(name).computed)
    assert [layer.index for layer in plan.main.layers] == [0, 1, 2]


@pytest.mark.parametrize("name", EXPERT_TINY)
def test_the_report_is_what_lapack_gives_for_these_matrices(name: str, saved: Callable[[str], Saved]) -> None:
    assert report_errors(saved(name).computed, plan_of(saved(name).folder)) == []


@pytest.mark.parametrize("name", EXPERT_TINY)
def test_folding_gives_what_readers_do_to_the_stream_before_the_norms_gain(
    name: str, saved: Callable[[str], Saved]
) -> None:
    plan = plan_of(saved(name).folder, fold_norm=True)
    assert wrong_in(plan, saved(name).computed) == set()


@pytest.mark.parametrize("name", EXPERT_TINY)
def test_what_a_model_has_in_memory_holds_the_same(
    name: str, saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    """A trainer's dump of the state_dict keeps the names that transformers 5 has in memory."""
    assert_holds(written(saved(name).folder, tmp_path / "dump", saved(name).in_memory), saved(name).computed)


def test_in_memory_most_experts_are_packed(saved: Callable[[str], Saved]) -> None:
    """Else the test above would show nothing: on disk they lie one by one."""
    packed = [
        name
        for name in EXPERT_TINY
        if any(tensor.endswith(".experts.gate_up_proj") for tensor in saved(name).in_memory)
        and not any(
            tensor.endswith(".experts.gate_up_proj") for tensor in load_file(saved(name).folder / WEIGHTS)
        )
    ]
    assert len(packed) > len(EXPERT_TINY) / 2


@pytest.mark.parametrize("name", EXPERT_TINY)
def test_a_base_model_saved_without_its_head_holds_the_same(name: str, saved: Callable[[str], Saved]) -> None:
    assert_holds(saved(name).base, saved(name).computed)


def test_experts_on_the_hub_lie_transposed_under_the_names_that_transformers_saves(
    saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    model = saved("qwen3_vl_moe_text")
    tensors = load_file(model.folder / WEIGHTS)
    turned = {name: one.transpose(1, 2) if one.dim() == 3 else one for name, one in tensors.items()}
    assert tensors["layers.0.mlp.experts.gate_up_proj"].shape == (4, 40, 24)
    assert turned["layers.0.mlp.experts.gate_up_proj"].shape == (4, 24, 40)
    assert_holds(written(model.folder, tmp_path / "hub", turned), model.computed)


@pytest.mark.parametrize("name", ["deepseek_v3, rotary pairs", "deepseek_v3, Q in one step"])
def test_kimi_k2_is_a_deepseek_v3_by_another_name(
    name: str, saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    folder = written(
        saved(name).folder, tmp_path / "kimi", change=lambda config: config | {"model_type": "kimi_k2"}
    )
    assert_holds(folder, saved(name).computed)


@pytest.mark.parametrize("name", ["deepseek_v3", "glm4_moe", "glm4_moe_lite", "glm_moe_dsa"])
def test_a_layer_that_predicts_further_tokens_is_left_out(
    name: str, saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    tensors = load_file(saved(name).folder / WEIGHTS)
    last = {key: one for key, one in tensors.items() if key.startswith("model.layers.2.")}
    further = {key.replace("layers.2.", "layers.3."): one.clone() for key, one in last.items()}
    further |= {
        f"model.layers.3.{key}": torch.rand(24, 48) for key in ("eh_proj.weight", "embed_tokens.weight")
    }
    further |= {"model.layers.3.shared_head.head.weight": torch.rand(32, 24)}
    further |= {f"model.layers.3.{key}.weight": torch.rand(24) for key in ("enorm", "hnorm")}
    folder = written(saved(name).folder, tmp_path / "more", tensors | further)
    plan = assert_holds(folder, saved(name).computed)
    assert plan.coverage.ignored["layers past the config's count"] == len(further)


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("exaone_moe", "mtp.layers.0."),
        ("mellum", "mtp.layers.0."),
        ("ernie4_5_moe", "model.mtp_block.0."),
        ("mimo_v2_flash", "model.mtp.layers.0."),
    ],
)
def test_modules_that_predict_further_tokens_are_no_layers(
    name: str, prefix: str, saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    tensors = load_file(saved(name).folder / WEIGHTS)
    last = {key: one for key, one in tensors.items() if key.startswith("model.layers.2.self_attn.")}
    further = {key.replace("model.layers.2.", prefix): one.clone() for key, one in last.items()}
    plan = assert_holds(
        written(saved(name).folder, tmp_path / "more", tensors | further), saved(name).computed
    )
    assert plan.coverage.ignored["multi-token prediction"] == len(further)


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
        for name, tiny in EXPERT_TINY.items()
        if type(tiny.config()) in head._model_mapping
    ],
)
def test_another_head_in_the_language_models_place_leaves_nothing_unknown(
    head: Any, name: str, saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    head.from_config(EXPERT_TINY[name].config()).save_pretrained(tmp_path / "it")
    plan = plan_of(tmp_path / "it")
    assert plan.coverage.unknown == ()
    assert plan.findings == ()
    assert extracted(plan).keys() == saved(name).computed.stored.keys()


def test_the_heads_of_each_kind_of_layer_by_the_hubs_keys(
    saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    model = saved("mimo_v2_flash")
    folder = written(
        model.folder, tmp_path / "hub", change=lambda config: config | {"swa_num_key_value_heads": 4}
    )
    assert_holds(folder, model.computed)
    folder = written(
        model.folder, tmp_path / "wrong", change=lambda config: config | {"swa_num_key_value_heads": 2}
    )
    assert wrong_in(plan_of(folder), model.computed) == {OV}


# ------------------------------------------------------------------------------------------ negative controls


SWAPPED = (('["Gate", "Up"]', '["Up", "Gate"]'),)
FFN_READERS = {GATE, UP, SHARED_GATE, SHARED_UP}
DOWN_TURNED = (('order = ["Down"]\nstored = "in_out"', 'order = ["Down"]'),)
W2_TURNED = (('order = ["Down"]\nflat = true\nstored = "in_out"', 'order = ["Down"]\nflat = true'),)

CONTROLS = {
    "qwen3_moe: Gate and Up swapped": Control("qwen3_moe", "qwen3_moe", SWAPPED, {GATE, UP}, in_memory=True),
    "llama4_text: Gate and Up swapped": Control("llama4_text", "llama4_text", SWAPPED, {GATE, UP}),
    "granitemoe: Gate and Up swapped": Control("granitemoe", "granitemoe", SWAPPED, {GATE, UP}),
    "granitemoeshared: the shared expert's swapped": Control(
        "granitemoeshared",
        "granitemoe",
        (('["SharedGate", "SharedUp"]', '["SharedUp", "SharedGate"]'),),
        {SHARED_GATE, SHARED_UP},
    ),
    "mixtral: w1 and w3 swapped": Control(
        "mixtral", "mixtral", (("w1", "w0"), ("w3", "w1"), ("w0", "w3")), {GATE, UP}
    ),
    "gpt_oss: halves": Control("gpt_oss", "gpt_oss", (('repeat = "rows"\n', ""),), {GATE, UP}),
    "openai_privacy_filter: in turn": Control(
        "openai_privacy_filter",
        "openai_privacy_filter",
        (('order = ["Gate", "Up"]\n', 'order = ["Gate", "Up"]\nrepeat = "rows"\n'),),
        {GATE, UP},
    ),
    "gpt_oss: Down not transposed": Control("gpt_oss, square", "gpt_oss", DOWN_TURNED, {DOWN}),
    "llama4_text: Down not transposed": Control("llama4_text, square", "llama4_text", DOWN_TURNED, {DOWN}),
    "dbrx: Down not transposed": Control("dbrx, square", "dbrx", W2_TURNED, {DOWN}),
    "dbrx: K and V swapped": Control("dbrx", "dbrx", (('["Q", "K", "V"]', '["Q", "V", "K"]'),), {K, V, OV}),
    "deepseek_v3: K and V swapped": Control(
        "deepseek_v3", "deepseek_v3", (('["K", "V"]', '["V", "K"]'),), {K, V, OV}
    ),
    "deepseek_v3: all K before all V": Control(
        "deepseek_v3", "deepseek_v3", (('repeat = "heads"\n', ""),), {K, V, OV}
    ),
    "deepseek_v3: the latent's gain left out": Control(
        "deepseek_v3", "deepseek_v3", (('gain = "self_attn.kv_a_layernorm.weight"\n', ""),), {K, V, OV}
    ),
    "deepseek_v3: the gain of Q's latent left out": Control(
        "deepseek_v3", "deepseek_v3", (('gain = "self_attn.q_a_layernorm.weight"\n', ""),), {Q}
    ),
    "afmoe: Llama's norm for the feed-forward block": Control(
        "afmoe", "afmoe", (("pre_mlp_layernorm", "post_attention_layernorm"),), FFN_READERS, fold_norm=True
    ),
    "phimoe: the mean left in": Control(
        "phimoe", "phimoe", (('kind = "layer"', 'kind = "rms"'),), {Q, K, V, OV, GATE, UP}, fold_norm=True
    ),
    "flex_olmo: a norm in front": Control(
        "flex_olmo",
        "flex_olmo",
        (
            (
                "[ignore]",
                '[norms.ffn]\nweight = ["post_feedforward_layernorm.weight"]\nkind = "rms"\n[ignore]',
            ),
        ),
        {GATE, UP},
        fold_norm=True,
    ),
    "mimo_v2_flash: as many heads in every layer": Control(
        "mimo_v2_flash", "mimo_v2_flash", (("times = 2", "times = 1"),), {OV}
    ),
}


@pytest.mark.parametrize("name", CONTROLS)
def test_a_family_declared_wrongly_fails(name: str, saved: Callable[[str], Saved], tmp_path: Path) -> None:
    control = CONTROLS[name]
    model = saved(control.model)
    folder = written(model.folder, tmp_path / "dump", model.in_memory) if control.in_memory else model.folder
    plan = plan_of(folder, fold_norm=control.fold_norm, family_file=control.write(tmp_path / "wrong.toml"))
    assert wrong_in(plan, model.computed) == control.wrong


@pytest.mark.parametrize("name", SQUARE)
def test_square_experts_are_as_declared(name: str, saved: Callable[[str], Saved]) -> None:
    """Else the controls above would show nothing."""
    assert_holds(saved(name).folder, saved(name).computed)


def test_a_transposition_left_out_is_refused_where_the_shape_tells(
    saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    control = Control("llama4_text", "llama4_text", DOWN_TURNED, set())
    said = r"experts\.down_proj writes 44 channels as Down, where config\.json has 24"
    with pytest.raises(ConfigError, match=said):
        plan_of(saved("llama4_text").folder, family_file=control.write(tmp_path / "wrong.toml"))


def test_without_the_base_models_prefix_nothing_is_found(
    saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    control = Control("mixtral", "mixtral", ((', "layers.{layer}."', ""),), set())
    with pytest.raises(UnknownFamilyError, match=r"keeps its tensors as model\.layers\.0\.self_attn"):
        plan_of(saved("mixtral").base, family_file=control.write(tmp_path / "wrong.toml"))


def test_without_the_shared_key_k_is_another(saved: Callable[[str], Saved], tmp_path: Path) -> None:
    model = saved("deepseek_v3")
    rank = LATENT["kv_lora_rank"]
    tensors = {
        name: tensor[:rank] if name.endswith("kv_a_proj_with_mqa.weight") else tensor
        for name, tensor in load_file(model.folder / WEIGHTS).items()
    }
    folder = written(model.folder, tmp_path / "cut", tensors)
    assert wrong_in(plan_of(folder), model.computed) == {K}


# ----------------------------------------------------------------------------------- experts that do not fit


def refused(result: Result, code: int) -> str:
    """The one line of an error, its exit code checked."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


W1 = "model.layers.2.block_sparse_moe.experts.{}.w1.weight"
W2 = "model.layers.1.block_sparse_moe.experts.{}.w2.weight"


def without(*names: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: one for name, one in tensors.items() if not name.endswith(names)}


def shaped(name: str, *shape: int) -> Callable[[Tensors], Tensors]:
    return lambda tensors: tensors | {name: torch.rand(shape)}


BROKEN: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "expert 1 of 4 is missing": (
        without(*(f"2.block_sparse_moe.experts.1.{part}.weight" for part in ("w1", "w2", "w3"))),
        "expert 1 of layer 2 has no Gate, and expert 3 has",
    ),
    "one part of expert 1 is missing": (
        without(W2.format(1)), "expert 1 of layer 1 has no Down, and expert 3 has"
    ),
    "one part of the last expert is missing": (
        without(W2.format(3)), "layer 1 has 3 experts with Down, where config.json gives 4"
    ),
    "the last expert has one part": (
        without(*(f"1.block_sparse_moe.experts.3.{part}.weight" for part in ("w1", "w3"))),
        "layer 1 has 3 experts with Gate, where config.json gives 4",
    ),
    "an expert reads another width": (
        shaped(W1.format(2), 44, 23),
        f"{W1.format(2)} reads 23 channels as Gate, where {W1.format(0)} reads 24",
    ),
    "the first expert reads another width": (
        shaped(W1.format(0), 44, 23),
        f"{W1.format(1)} reads 24 channels as Gate, where {W1.format(0)} reads 23",
    ),
    "an expert writes another width": (
        shaped(W2.format(2), 25, 44),
        f"{W2.format(2)} writes 25 channels as Down, where {W2.format(0)} writes 24",
    ),
    "an expert is wider outside than inside": (
        shaped(W2.format(3), 24, 43),
        f"makes 44 channels as Gate, where {W2.format(3)} reads 43",
    ),
    "an expert has three axes": (
        shaped(W1.format(1), 2, 44, 24),
        f"{W1.format(1)} has shape [2, 44, 24], where a projection is a matrix",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_experts_that_do_not_fit_are_one_clear_line(
    name: str, saved: Callable[[str], Saved], cli: Callable[..., Result], tmp_path: Path
) -> None:
    edit, said = BROKEN[name]
    model = saved("mixtral")
    tensors = load_file(model.folder / WEIGHTS)
    folder = written(model.folder, tmp_path / "broken", edit(tensors))
    assert said in refused(cli(folder), 5)


@pytest.mark.parametrize(("shape", "part"), [((4, 24, 24), "gate_up_proj"), ((4, 24, 24), "down_proj")])
def test_experts_of_which_the_shape_does_not_tell_the_orientation_are_refused(
    shape: tuple[int, ...],
    part: str,
    saved: Callable[[str], Saved],
    cli: Callable[..., Result],
    tmp_path: Path,
) -> None:
    model = saved("qwen3_vl_moe_text")
    tensors = load_file(model.folder / WEIGHTS) | {f"layers.1.mlp.experts.{part}": torch.rand(shape)}
    folder = written(model.folder, tmp_path / "square", tensors)
    said = f"layers.1.mlp.experts.{part} has shape [24, 24], and only one side that is 24 wide would tell"
    assert said in refused(cli(folder), 5)


def test_gpt_oss_in_four_bits_is_refused_as_quantised(
    saved: Callable[[str], Saved], cli: Callable[..., Result], tmp_path: Path
) -> None:
    """As it is published: blocks of 16 bytes, each of two numbers, and a scale for each block."""
    model = saved("gpt_oss")
    tensors = {name: one for name, one in load_file(model.folder / WEIGHTS).items() if one.dim() < 3}
    for layer in range(3):
        for part, rows in (("gate_up_proj", 88), ("down_proj", 24)):
            name = f"model.layers.{layer}.mlp.experts.{part}"
            tensors |= {f"{name}_blocks": torch.zeros(4, rows, 2, 16, dtype=torch.uint8)}
            tensors |= {f"{name}_scales": torch.zeros(4, rows, 2, dtype=torch.uint8)}
    folder = written(
        model.folder,
        tmp_path / "mxfp4",
        tensors,
        lambda config: config | {"quantization_config": {"quant_method": "mxfp4"}},
    )
    line = refused(cli(folder), 3)
    assert (
        "is quantised (mxfp4): model.layers.0.mlp.experts.gate_up_proj_blocks has shape [4, 88, 2, 16]"
        in line
    )
    assert "audit the unquantised model" in line


# ----------------------------------------------------------------------------------- what these tests rest on


def test_every_model_type_of_these_families_is_built_here() -> None:
    built = {tiny.config().model_type for tiny in EXPERT_TINY.values()}
    mine = [set(family.model_types) for family in families() if built & set(family.model_types)]
    assert set().union(*mine) == built | {"kimi_k2"}
