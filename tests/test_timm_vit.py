"""timm's Vision Transformers: the matrices extracted are those that timm's code multiplies with.

timm is no dependency: what its Block (timm/models/vision_transformer.py), Attention and Mlp do is written
out here by hand, and so are the tensors' names.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from affine import recover
from checkpoints import write_checkpoint
from forward_pass import Matrices
from reference import Truth, truth
from safetensors.torch import load_file
from test_families_by_value import COMPUTED_ERROR, Control, differing, extracted, plan_of
from tiny_models import TIMM, VIT
from torch import Tensor

from audit import AuditOptions, audit_model
from audit.errors import ConfigError
from registry import Layout, Miss, Projection, families, match
from reports.model import Report

Q, K, V = Projection.Q, Projection.K, Projection.V
O, OV = Projection.O, Projection.OV  # noqa: E741 - the field's own name
UP, DOWN = Projection.UP, Projection.DOWN

REAL = "vit-tiny-in1k"
REAL_LAYERS, REAL_HEADS = 12, 3
LAPACK_ERROR = 1e-4


@dataclass(frozen=True)
class Block:
    """One block of timm's, by hand: x + ls1(attn(norm1(x))), then x + ls2(mlp(norm2(x)))."""

    tensors: Mapping[str, Tensor]
    heads: int

    def states(self, read: Tensor) -> Tensor:
        """Q, K and V, [3, batch, heads, tokens, width], of what attention reads."""
        batch, tokens, channels = read.shape
        qkv = self._linear("attn.qkv", read)
        return qkv.reshape(batch, tokens, 3, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)

    def attention(self, read: Tensor) -> Tensor:
        query, key, value = self.states(read)
        query, key = self._norm("attn.q_norm", query), self._norm("attn.k_norm", key)
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        return self._linear("attn.proj", (scores.softmax(-1) @ value).transpose(1, 2).reshape(read.shape))

    def into_attention(self, stream: Tensor) -> Tensor:
        return self._norm("norm1", stream)

    def into_mlp(self, stream: Tensor) -> Tensor:
        return self._norm("norm2", stream)

    def output(self, heads_gave: Tensor) -> Tensor:
        return self._linear("attn.proj", heads_gave)

    def up(self, read: Tensor) -> Tensor:
        return self._linear("mlp.fc1", read)

    def down(self, activated: Tensor) -> Tensor:
        return self._linear("mlp.fc2", activated)

    def _linear(self, name: str, read: Tensor) -> Tensor:
        return F.linear(read, self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias"))

    def _norm(self, name: str, read: Tensor) -> Tensor:
        if f"{name}.weight" not in self.tensors:
            return read
        gain, shift = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return F.layer_norm(read, gain.shape, gain, shift, eps=1e-6)


def blocks(tensors: Mapping[str, Tensor], layers: int, heads: int) -> Iterator[Block]:
    for layer in range(layers):
        at = f"blocks.{layer}."
        yield Block({n.removeprefix(at): t.double() for n, t in tensors.items() if n.startswith(at)}, heads)


def made_of_identity(apply: Callable[[Tensor], Tensor], width: int) -> Tensor:
    """The matrix [out, in] of an affine map of rows, from what it makes of the identity and of zero."""
    return (apply(torch.eye(width, dtype=torch.float64)) - apply(torch.zeros(1, width).double())).T


def readers(block: Block) -> dict[Projection, Callable[[Tensor], Tensor]]:
    """What each reader makes of rows, its heads side by side."""

    def part(index: int) -> Callable[[Tensor], Tensor]:
        return lambda rows: block.states(rows[None])[index, 0].transpose(0, 1).flatten(1)

    return {Q: part(0), K: part(1), V: part(2), UP: block.up}


def multiplied(block: Block) -> dict[Projection, Tensor]:
    """Every matrix a block multiplies with; OV is attention over a single token, which sees only itself."""
    width = block.tensors["norm1.weight"].shape[0]
    inner = block.tensors["mlp.fc1.bias"].shape[0]
    found = {name: made_of_identity(apply, width) for name, apply in readers(block).items()}
    found[O] = made_of_identity(block.output, width)
    found[OV] = made_of_identity(lambda rows: block.attention(rows[:, None])[:, 0], width)
    return found | {DOWN: made_of_identity(block.down, inner)}


def folded(block: Block) -> dict[Projection, Tensor]:
    """The readers as maps of the stream, once that is divided by its standard deviation."""
    width = block.tensors["norm1.weight"].shape[0]
    stream = torch.randn(4 * width, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    divided = stream / stream.var(-1, keepdim=True, correction=0).sqrt()
    found = {}
    for name, apply in readers(block).items():
        normed = block.into_mlp(stream) if name is UP else block.into_attention(stream)
        found[name] = recover(divided, apply(normed))
    gain = recover(divided, block.into_attention(stream))
    return multiplied(block) | found | {OV: multiplied(block)[OV] @ gain}


def by_layer(
    parts: Callable[[Block], dict[Projection, Tensor]], tensors: Mapping[str, Tensor], layers: int, heads: int
) -> Matrices:
    found = enumerate(blocks(tensors, layers, heads))
    return {(name, i): matrix for i, block in found for name, matrix in parts(block).items()}


def tiny(parts: Callable[[Block], dict[Projection, Tensor]], name: str) -> Matrices:
    return by_layer(parts, TIMM[name].build(), VIT["layers"], VIT["heads"])


def hub_config(name: str) -> dict[str, Any]:
    """What timm writes beside its weights: no model type, no depth, no heads."""
    return {
        "architecture": name,
        "num_classes": 10,
        "num_features": 24,
        "pretrained_cfg": {"tag": "augreg_in21k", "input_size": [3, 8, 8], "classifier": "head"},
    }


def saved(folder: Path, name: str, **changes: object) -> Path:
    return write_checkpoint(folder, TIMM[name].build(), hub_config(name) | changes)


# ------------------------------------------------------------------------------------------- as on the Hub


@pytest.mark.parametrize("name", TIMM)
def test_each_projection_is_what_timms_code_multiplies_with(name: str, tmp_path: Path) -> None:
    plan = plan_of(saved(tmp_path / "m", name))
    assert differing(tiny(multiplied, name), extracted(plan)) == set()
    assert plan.coverage.unknown == ()
    assert plan.findings == ()
    assert (plan.layout.family, plan.layout.model_type) == ("timm_vit", None)
    assert {layer.heads for layer in plan.main.layers} == {None}
    assert plan.main.layout.hidden_size == VIT["width"]


@pytest.mark.parametrize("name", TIMM)
def test_folding_gives_what_readers_do_to_the_stream_before_the_norms_gain(name: str, tmp_path: Path) -> None:
    plan = plan_of(saved(tmp_path / "m", name), fold_norm=True)
    assert differing(tiny(folded, name), extracted(plan), COMPUTED_ERROR) == set()


def test_sizes_in_the_config_change_nothing_and_are_heeded(tmp_path: Path) -> None:
    name = "vit_tiny_patch16_224"
    sizes = {"embed_dim": 24, "num_heads": 3}
    plan = plan_of(saved(tmp_path / "m", name, **sizes, depth=3))
    assert differing(tiny(multiplied, name), extracted(plan)) == set()
    assert {layer.heads and layer.heads.count for layer in plan.main.layers} == {3}
    fewer = plan_of(saved(tmp_path / "fewer", name, **sizes, depth=2))
    assert [layer.index for layer in fewer.main.layers] == [0, 1]


def test_without_a_config_the_names_are_enough(tmp_path: Path) -> None:
    name = "vit_tiny_patch16_224"
    plan = plan_of(write_checkpoint(tmp_path / "m", TIMM[name].build()))
    assert plan.layout.family == "timm_vit"
    assert differing(tiny(multiplied, name), extracted(plan)) == set()


# ------------------------------------------------------------------------------------------- real weights


def test_real_weights_are_the_ones_the_forward_pass_multiplies_with(real: Callable[[str], Path]) -> None:
    plan = plan_of(real(REAL))
    tensors = load_file(real(REAL) / "model.safetensors")
    expected = by_layer(multiplied, tensors, REAL_LAYERS, REAL_HEADS)
    assert differing(expected, extracted(plan)) == set()


def test_the_composite_is_the_sum_over_heads_of_o_times_v(real: Callable[[str], Path]) -> None:
    found = extracted(plan_of(real(REAL)))
    tensors = load_file(real(REAL) / "model.safetensors")
    for layer in range(REAL_LAYERS):
        value = tensors[f"blocks.{layer}.attn.qkv.weight"].double()[2 * 192 :]
        output = tensors[f"blocks.{layer}.attn.proj.weight"].double()
        heads = [slice(start, start + 64) for start in (0, 64, 128)]
        summed = sum(output[:, head] @ value[head] for head in heads)
        torch.testing.assert_close(found[OV, layer].double(), summed, rtol=0, atol=1e-5)


def test_folding_real_weights_is_w_times_gain_times_centring(real: Callable[[str], Path]) -> None:
    found = extracted(plan_of(real(REAL), fold_norm=True))
    tensors = load_file(real(REAL) / "model.safetensors")
    centring = torch.eye(192).double() - 1 / 192
    for layer in range(REAL_LAYERS):
        at = f"blocks.{layer}."
        gain = {n: tensors[f"{at}{n}.weight"].double() for n in ("norm1", "norm2")}
        parts = dict(zip((Q, K, V), tensors[f"{at}attn.qkv.weight"].double().split(192), strict=True))
        expected = {name: weight * gain["norm1"] @ centring for name, weight in parts.items()}
        expected[UP] = tensors[f"{at}mlp.fc1.weight"].double() * gain["norm2"] @ centring
        for name, matrix in expected.items():
            torch.testing.assert_close(found[name, layer].double(), matrix, rtol=0, atol=1e-5)


def test_every_real_tensor_is_accounted_for(real: Callable[[str], Path]) -> None:
    coverage = plan_of(real(REAL)).coverage
    assert coverage.audited == 4 * REAL_LAYERS
    assert coverage.unknown == ()
    assert coverage.ignored == {
        "biases": 4 * REAL_LAYERS + 2 * REAL_LAYERS + 1,
        "norms and scales": 2 * REAL_LAYERS + 1,
        "embeddings": 4,
        "output head": 2,
    }
    tensors = load_file(real(REAL) / "model.safetensors")
    assert coverage.audited + sum(coverage.ignored.values()) == len(tensors) == 152


# ---------------------------------------------------------------------- real weights against float64 LAPACK


@cache
def _truths(folder: Path) -> dict[str, Truth]:
    tensors = {name: t.double().numpy() for name, t in load_file(folder / "model.safetensors").items()}
    found: dict[str, list[np.ndarray]] = {name: [] for name in ("Q", "K", "V", "O", "OV", "Up", "Down")}
    for layer in range(REAL_LAYERS):
        at = f"blocks.{layer}."
        query, key, value = np.split(tensors[f"{at}attn.qkv.weight"], 3)
        output = tensors[f"{at}attn.proj.weight"]
        up, down = tensors[f"{at}mlp.fc1.weight"], tensors[f"{at}mlp.fc2.weight"]
        for name, matrix in zip(found, (query, key, value, output, output @ value, up, down), strict=True):
            found[name].append(matrix)
    return {name: truth(matrices) for name, matrices in found.items()}


@cache
def _report(folder: Path, full: bool) -> Report:
    return audit_model(str(folder), AuditOptions(full=full, device="cpu"))


@pytest.mark.parametrize("full", [False, True], ids=["leading", "full"])
def test_real_weights_measure_as_lapack_does(full: bool, real: Callable[[str], Path]) -> None:
    report, truths = _report(real(REAL), full), _truths(real(REAL))
    assert set(report.projections) == set(truths)
    assert report.model.family == "timm_vit"
    assert report.model.model_type is None
    for name, expected in truths.items():
        found = report.projections[name]
        pairs = zip(found.pairs, expected.pairs_v1, expected.pairs_u1, expected.degenerate, strict=True)
        for pair, v1, u1, degenerate in pairs:
            assert pair.degenerate == degenerate, (name, pair.layers)
            assert abs(pair.v1 - v1) <= pair.bound_v1, (name, pair.layers)
            assert abs(pair.u1 - u1) <= pair.bound_u1, (name, pair.layers)
        assert found.continuity.v1 == pytest.approx(expected.v1, abs=LAPACK_ERROR), name
        assert found.continuity.u1 == pytest.approx(expected.u1, abs=LAPACK_ERROR), name
        assert found.evr3.v == pytest.approx(expected.evr3_v, abs=LAPACK_ERROR), name
        for sigma, known in zip(found.sigma, expected.sigma, strict=True):
            assert sigma == pytest.approx(known, rel=1e-5), name


# ------------------------------------------------------------------------------------------ negative controls


ORDER = '["Q", "K", "V"]'
READERS = {Q, K, V, OV, UP}


def control(*edits: tuple[str, str], wrong: set[Projection], fold_norm: bool = False) -> Control:
    return Control("vit_tiny_patch16_224", "timm_vit", edits, wrong, fold_norm)


CONTROLS = {
    "K and V swapped": control((ORDER, '["Q", "V", "K"]'), wrong={K, V, OV}),
    "Q and K swapped": control((ORDER, '["K", "Q", "V"]'), wrong={Q, K}),
    "Q and V swapped": control((ORDER, '["V", "K", "Q"]'), wrong={Q, V, OV}),
    "head by head": control((ORDER, f"{ORDER}\nrepeat = 3"), wrong={Q, K, V, OV}),
    "the mean left in": control(('kind = "layer"', 'kind = "rms"'), wrong=READERS, fold_norm=True),
    "the gain taken as 1 + w": control(
        ('kind = "layer"', 'kind = "layer"\ngain = "1+w"'), wrong=READERS, fold_norm=True
    ),
    "one norm for both blocks": control(("norm2.weight", "norm1.weight"), wrong={UP}, fold_norm=True),
    "norms behind the blocks": control(("norm1.weight", "none"), wrong={Q, K, V, OV}, fold_norm=True),
}


@pytest.mark.parametrize("name", CONTROLS)
def test_the_family_declared_wrongly_fails(name: str, tmp_path: Path) -> None:
    tried = CONTROLS[name]
    plan = plan_of(
        saved(tmp_path / "m", tried.model),
        fold_norm=tried.fold_norm,
        family_file=tried.write(tmp_path / "wrong.toml"),
    )
    if tried.fold_norm:
        wrong = differing(tiny(folded, tried.model), extracted(plan), COMPUTED_ERROR)
    else:
        wrong = differing(tiny(multiplied, tried.model), extracted(plan))
    assert wrong == tried.wrong


def test_up_and_down_swapped_are_refused_by_the_norm_in_front(tmp_path: Path) -> None:
    swapped = control(("fc1", "fc3"), ("fc2", "fc1"), ("fc3", "fc2"), wrong={UP, DOWN})
    with pytest.raises(ConfigError, match=r"norm2\.weight has shape \[24\], where blocks\.0\.mlp\.fc2"):
        plan_of(saved(tmp_path / "m", swapped.model), family_file=swapped.write(tmp_path / "wrong.toml"))


# ------------------------------------------------------------------------------ whose names, and whose not

CLAIMED = """
vit_tiny_patch16_224 vit_tiny_patch16_384 vit_small_patch32_224 vit_small_patch8_224 vit_base_patch8_224
vit_base_patch16_224 vit_base_patch16_224_miil vit_base_patch16_224_in21k vit_base_patch16_224_dino
vit_base_patch32_384 vit_large_patch14_224 vit_huge_patch14_224 vit_giant_patch14_224 vit_gigantic_patch14_224
vit_small_patch16_36x1_224 vit_intern300m_patch14_448 vit_base_patch32_plus_256 vit_base_patch16_plus_240
vit_xsmall_patch16_clip_224 vit_base_patch16_plus_clip_240 vit_huge_patch14_clip_quickgelu_378
vit_giantopt_patch16_siglip_gap_384 vit_so400m_patch14_siglip_384 vit_huge_patch14_gap_224
vit_medium_patch16_gap_240 vit_wee_patch16_reg1_gap_256 vit_little_patch16_reg4_gap_256
vit_mediumd_patch16_reg4_gap_384 vit_betwixt_patch16_reg4_gap_256 vit_base_patch16_reg4_gap_256
vit_so150m_patch16_reg4_map_256 vit_so150m2_patch16_reg1_gap_448 vit_small_patch14_dinov2
vit_large_patch14_dinov2 vit_base_patch14_reg4_dinov2 vit_so400m_patch14_reg1_tipsv2 vit_huge_patch16_radio_v4
vit_tiny_r_s16_p8_224 vit_small_r26_s32_384 vit_large_r50_s32_224 vit_base_r50_s16_384 vit_base_resnet50d_224
vit_base_mci_224 flexivit_large deit_base_patch16_384 deit_tiny_distilled_patch16_224 deit3_huge_patch14_224
"""
"""Pre-norm blocks of LayerNorm, fused qkv and an ungated MLP, in timm 1.0.31."""

NOT_CLAIMED = {
    "norms behind the blocks": "vit_base_patch16_rpn_224",
    "Gate and Up in fc1": """
        vit_giant_patch14_dinov2 vit_giant_patch14_reg4_dinov2 vit_giant_patch14_reg1_tipsv2""",
    "differential attention": "vit_dwee_patch16_reg1_gap_256 vit_dlittle_patch16_reg1_gap_256",
    "attention and MLP in parallel": """
        vit_base_patch16_xp_224 vit_large_patch14_xp_224 vit_huge_patch14_xp_224 vit_small_patch16_18x2_224
        vit_base_patch16_18x2_224 vit_pwee_patch16_reg1_gap_256 vit_dpwee_patch16_reg1_gap_256""",
    "blocks of eva.py": """
        vit_small_patch16_rope_224 vit_base_patch16_rope_mixed_ape_224 vit_medium_patch16_rope_reg1_gap_256
        vit_base_patch16_dinov3 vit_small_plus_patch16_dinov3_qkvb vit_7b_patch16_dinov3
        vit_giant_patch16_lingbot vit_5b_patch16_sapiens2 vit_base_patch16_sapiens2
        vit_pe_core_base_patch16_224 vit_pe_lang_large_patch14_448 vit_pe_spatial_tiny_patch16_512
        eva02_tiny_patch14_224 eva_giant_patch14_clip_224""",
    "blocks of vision_transformer_relpos.py": """
        vit_relpos_base_patch16_224 vit_relpos_base_patch16_plus_240 vit_relpos_small_patch16_rpn_224
        vit_srelpos_small_patch16_224""",
    "others": """
        samvit_base_patch16 vitamin_small_224 beit_base_patch16_224 beit3_base_patch16_224 cait_s24_224
        xcit_nano_12_p16_224 aimv2_large_patch14_224 naflexvit_base_patch16_gap efficientvit_b0 levit_128
        mobilevit_s maxvit_tiny_tf_224 tiny_vit_5m_224 crossvit_9_240 convit_tiny gcvit_tiny resnet50""",
}


@pytest.mark.parametrize("name", CLAIMED.split())
def test_a_name_of_this_layout_is_claimed(name: str) -> None:
    assert [family.name for family in families() if family.claims(name)] == ["timm_vit"]


@pytest.mark.parametrize("name", [name for names in NOT_CLAIMED.values() for name in names.split()])
def test_a_name_of_another_layout_is_not(name: str) -> None:
    assert not any(family.claims(name) for family in families())


NAME = "vit_huge_patch14_224"
GATED = {"unpacked": ({"fc1_g": 44, "fc1_x": 44}, "no tensor is named blocks.{layer}.mlp.fc1.weight")}
GATED |= {"packed": ({"fc1": 88}, "makes 88 channels as Up, where blocks.0.mlp.fc2.weight reads 44")}


@pytest.mark.parametrize("kind", GATED)
def test_a_model_made_with_a_gate_under_a_name_without_one_is_a_miss(kind: str) -> None:
    """`timm.create_model(name, mlp_layer=SwiGLU)` keeps the name."""
    parts, said = GATED[kind]
    shapes = {n: tuple(t.shape) for n, t in TIMM["vit_tiny_patch16_224"].build().items() if ".fc1." not in n}
    shapes |= {f"blocks.{i}.mlp.{n}.weight": (rows, 24) for i in range(3) for n, rows in parts.items()}
    for config in (hub_config(NAME), None):
        assert isinstance(match(shapes, config, families()), Miss)
    found = match(shapes, hub_config(NAME), families())
    assert isinstance(found, Miss)
    assert said in found.reason
    assert "timm_vit" in " ".join((found.reason, *found.nearest))


def test_a_name_that_is_not_claimed_can_be_read_by_naming_the_family() -> None:
    shapes = {n: tuple(t.shape) for n, t in TIMM["vit_tiny_patch16_224"].build().items()}
    config = hub_config("eva_large_patch14_196")
    found = match(shapes, config, families())
    assert isinstance(found, Miss)
    assert found.reason == "architecture 'eva_large_patch14_196' is unknown"
    assert found.nearest[0] == "timm_vit (all its tensors are here)"
    assert isinstance(match(shapes, config, families(), chosen="timm_vit"), Layout)
