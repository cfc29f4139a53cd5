"""Models that transformers has no code for: what is read are the very matrices that were typed."""

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import write_checkpoint
from extraction import differing, extracted, mismatches, plan_of
from forward_pass import Computed
from reported import report_errors
from safetensors.torch import load_file
from typed_by_hand import CHATGLM_6B, TYPED, Typed

from audit.plan import AuditPlan
from registry import Projection, families

Q, K, V, OV = Projection.Q, Projection.K, Projection.V, Projection.OV
O = Projection.O  # noqa: E741 - the field's own name
GATE, UP, DOWN = Projection.GATE, Projection.UP, Projection.DOWN

ALL = {**TYPED, "chatglm, ChatGLM-6B": CHATGLM_6B}


def computed(typed: Typed) -> dict[str, Computed]:
    """The matrices that were typed, by stack."""
    return {name: stack.computed() for name, stack in typed.stacks.items()}


def planned(typed: Typed, folder: Path, **options: Any) -> AuditPlan:
    return plan_of(write_checkpoint(folder, typed.tensors(), typed.config), **options)


@pytest.mark.parametrize("name", TYPED)
def test_each_projection_is_the_matrix_that_was_typed(name: str, tmp_path: Path) -> None:
    plan = planned(TYPED[name], tmp_path / "it")
    assert mismatches(computed(TYPED[name]), plan) == set()
    assert plan.coverage.unknown == ()
    assert plan.findings == ()


@pytest.mark.parametrize("name", TYPED)
def test_the_report_is_what_lapack_gives_for_these_matrices(name: str, tmp_path: Path) -> None:
    assert report_errors(computed(TYPED[name]), planned(TYPED[name], tmp_path / "it")) == []


@pytest.mark.parametrize("name", TYPED)
def test_folding_multiplies_with_the_gain_that_was_typed(name: str, tmp_path: Path) -> None:
    plan = planned(TYPED[name], tmp_path / "it", fold_norm=True)
    assert mismatches(computed(TYPED[name]), plan) == set()
    assert plan.findings == ()


SPLIT = {
    f"{name} {label or ''}": stack
    for name, typed in ALL.items()
    for label, stack in typed.stacks.items()
    if stack.split is not None
}


@pytest.mark.parametrize("name", SPLIT)
def test_the_published_split_gives_what_the_matrices_give(name: str) -> None:
    torch.manual_seed(0)
    stack = SPLIT[name]
    assert stack.split is not None
    for layer in stack.layers():
        x = torch.randn(5, layer.sizes.hidden)
        for projection, made in stack.split(stack.store(layer), layer.sizes, x).items():
            torch.testing.assert_close(made, x @ layer[projection].T)


def test_the_first_chatglm_is_told_apart_by_its_tensors(tmp_path: Path) -> None:
    for fold_norm in (False, True):
        plan = planned(CHATGLM_6B, tmp_path / str(fold_norm), fold_norm=fold_norm)
        assert mismatches(CHATGLM_6B.main.computed(), plan) == set()
        assert plan.coverage.unknown == ()
        assert plan.findings == ()


def test_what_was_typed_is_declared() -> None:
    declared = {model_type for family in families() for model_type in family.model_types}
    assert {str(typed.config["model_type"]) for typed in ALL.values()} <= declared


@pytest.mark.parametrize("name", [name for name in TYPED if ", " not in name])
def test_a_base_model_saved_without_its_head_holds_the_same(name: str, tmp_path: Path) -> None:
    typed = TYPED[name]
    outer = typed.main.prefix.partition(".")[0] + "."
    base = {
        tensor.removeprefix(outer): weight
        for tensor, weight in typed.tensors().items()
        if tensor.startswith(outer)
    }
    plan = plan_of(write_checkpoint(tmp_path / "base", base, typed.config))
    assert mismatches(computed(typed), plan) == set()
    assert plan.coverage.unknown == ()
    assert plan.findings == ()


# ----------------------------------------------------------------------------------------- negative controls

QKV = '["Q", "K", "V"]'
VALUES_FIRST = ((QKV, '["Q", "V", "K"]'),)
QKV_WRONG = {K, V, OV}
UP_FIRST = (('["Gate", "Up"]', '["Up", "Gate"]'),)

LINEARS = (("linear.", "linear_0."), ("linear_v", "linear"), ("linear_0", "linear_v"))

CONTROLS: dict[str, tuple[str, str, tuple[tuple[str, str], ...], set[Projection]]] = {
    "chatglm: K and V swapped": ("chatglm", "chatglm", VALUES_FIRST, QKV_WRONG),
    "chatglm: Gate and Up swapped": ("chatglm", "chatglm", UP_FIRST, {GATE, UP}),
    "internlm2: heads not grouped": (
        "internlm2", "internlm2", (('repeat = "kv_heads"', ""),), {Q, K, V, OV}
    ),
    "internlm2: w1 and w3 swapped": (
        "internlm2", "internlm2", (("w1", "w0"), ("w3", "w1"), ("w0", "w3")), {GATE, UP}
    ),
    "baichuan: K and V swapped": ("baichuan", "baichuan", VALUES_FIRST, QKV_WRONG),
    "qwen: w1 and w2 swapped": ("qwen", "qwen", (("w1", "w0"), ("w2", "w1"), ("w0", "w2")), {GATE, UP}),
    "qwen, Qwen-VL: heads not interleaved": (
        "qwen, Qwen-VL", "qwen", (('repeat = "heads"', ""),), {Q, K, V, OV}
    ),
    "exaone: c_fc_0 and c_fc_1 swapped": (
        "exaone", "exaone", (("c_fc_0", "c_fc"), ("c_fc_1", "c_fc_0"), ('c_fc.', 'c_fc_1.')), {GATE, UP}
    ),
    "phi3small: halves": ("phi3small", "phi3small", (('repeat = "rows"', ""),), {GATE, UP}),
    "phi3small: odd rows activated": ("phi3small", "phi3small", UP_FIRST, {GATE, UP}),
    "phi3small: heads not grouped": (
        "phi3small", "phi3small", (('repeat = "kv_heads"', ""),), {Q, K, V, OV}
    ),
    "openelm: K and V swapped": ("openelm", "openelm", VALUES_FIRST, QKV_WRONG),
    "openelm: Gate and Up swapped": ("openelm", "openelm", UP_FIRST, {GATE, UP}),
    "phi-msft: K and V swapped": ("phi-msft", "phi_msft", VALUES_FIRST, QKV_WRONG),
    "telechat: K and V swapped": ("telechat", "telechat", (('["K", "V"]', '["V", "K"]'),), QKV_WRONG),
    "telechat: heads not interleaved": ("telechat", "telechat", (('repeat = "kv_heads"', ""),), QKV_WRONG),
    "codeshell: K and V swapped": ("codeshell", "codeshell", VALUES_FIRST, QKV_WRONG),
    "jais: K and V swapped": ("jais", "jais", VALUES_FIRST, QKV_WRONG),
    "grok-1: Gate and Up swapped": (
        "grok-1", "grok1", LINEARS, {GATE, UP}
    ),
    "bailing_moe: K and V swapped": ("bailing_moe", "bailing_moe", VALUES_FIRST, QKV_WRONG),
    "hf_olmo: Gate and Up swapped": (
        "hf_olmo", "hf_olmo", (('["Up", "Gate"]', '["Gate", "Up"]'),), {GATE, UP}
    ),
}  # fmt: skip
"""By name: the model, its family, the edits that declare it wrongly, and what must come out wrong."""


@pytest.mark.parametrize("name", CONTROLS)
def test_a_family_declared_wrongly_fails(name: str, tmp_path: Path) -> None:
    model, family, edits, wrong = CONTROLS[name]
    plan = planned(TYPED[model], tmp_path / "it", family_file=edited(family, edits, tmp_path / "wrong.toml"))
    assert {projection for _, projection in mismatches(computed(TYPED[model]), plan)} == wrong


FOLDED_CONTROLS = {
    "orion: an RMSNorm": ("orion", "orion", ('kind = "layer"', 'kind = "rms"'), {Q, K, V, OV, GATE, UP}),
    "arctic: one norm for all": (
        "arctic", "arctic", ('"post_attention_layernorm.weight"]\nkind = "rms"\n\n[ignore]',
        '"residual_layernorm.weight"]\nkind = "rms"\n\n[ignore]'), {GATE, UP}
    ),
    "Yi: ln2 for attention": ("Yi", "yi", ('"ln1.weight"', '"ln2.weight"'), {Q, K, V, OV}),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDED_CONTROLS)
def test_a_norm_declared_wrongly_fails(name: str, tmp_path: Path) -> None:
    model, family, edit, wrong = FOLDED_CONTROLS[name]
    path = edited(family, (edit,), tmp_path / "wrong.toml")
    plan = planned(TYPED[model], tmp_path / "it", family_file=path, fold_norm=True)
    assert {projection for _, projection in mismatches(computed(TYPED[model]), plan)} == wrong


def edited(family: str, edits: tuple[tuple[str, str], ...], path: Path) -> Path:
    text = (resources.files("registry") / "families" / f"{family}.toml").read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return path


# ------------------------------------------------------------------------- a real one of nobody else's names

KWT = """
name = "kwt"
summary = "Keyword Transformer: a post-norm encoder of spectrogram frames"
source = "https://github.com/google-research/google-research/tree/master/kws_streaming"
architectures = ["Keyword Transformer *"]
layers = ["blocks.{layer}."]

[projections]
Q = "attn.q.weight"
K = "attn.k.weight"
V = "attn.v.weight"
O = "attn.o.weight"
Up = "mlp.fc1.weight"
Down = "mlp.fc2.weight"

[config]
layers = ["depth"]
hidden = ["dim"]
heads = ["heads"]

[ignore]
embeddings = ["kws_transformer.dense.*", "pos_emb"]
"""


def test_a_real_checkpoint_is_read_by_a_users_own_declaration(
    real: Callable[[str], Path], tmp_path: Path
) -> None:
    folder, own = real("kwt1"), tmp_path / "kwt.toml"
    own.write_text(KWT)
    plan = plan_of(folder, family_file=own)
    stored = load_file(folder / "model.safetensors")
    names = {Q: "attn.q", K: "attn.k", V: "attn.v", O: "attn.o", UP: "mlp.fc1", DOWN: "mlp.fc2"}
    typed = {
        (projection, layer): stored[f"blocks.{layer}.{name}.weight"]
        for layer in range(12)
        for projection, name in names.items()
    }
    typed |= {(OV, layer): typed[O, layer].double() @ typed[V, layer].double() for layer in range(12)}
    assert differing(typed, extracted(plan)) == set()
    assert plan.coverage.unknown == ()
    assert plan.findings == ()
