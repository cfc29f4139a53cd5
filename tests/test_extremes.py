"""Weights at the edges of what numbers can hold: scale changes nothing but sigma, and rank is respected."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from reference import LLAMA
from safetensors.torch import save_file

from audit import AuditOptions, audit_model
from reports.model import Report

HIDDEN, FFN, HEADS, KV, LAYERS = 16, 24, 4, 2, 5
SHAPES = {
    "Q": (HIDDEN, HIDDEN),
    "K": (HIDDEN * KV // HEADS, HIDDEN),
    "V": (HIDDEN * KV // HEADS, HIDDEN),
    "O": (HIDDEN, HIDDEN),
    "Gate": (FFN, HIDDEN),
    "Up": (FFN, HIDDEN),
    "Down": (HIDDEN, FFN),
}
Fill = Callable[[int, int], torch.Tensor]


def audited(folder: Path, fill: Fill, full: bool) -> Report:
    torch.manual_seed(0)
    tensors = {
        LLAMA[name].format(layer): fill(*shape).contiguous()
        for layer in range(LAYERS)
        for name, shape in SHAPES.items()
    }
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    config = {
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return audit_model(str(folder), AuditOptions(full=full, device="cpu"))


@pytest.mark.parametrize("full", [False, True], ids=["leading", "full"])
@pytest.mark.parametrize(
    ("dtype", "power"),
    [
        (torch.float64, -600),
        (torch.float64, 600),
        (torch.float32, -110),
        (torch.float32, 110),
        (torch.bfloat16, 100),
    ],
)
def test_a_power_of_two_scales_sigma_and_nothing_else(
    dtype: torch.dtype, power: int, full: bool, tmp_path: Path
) -> None:
    plain = audited(tmp_path / "plain", lambda *shape: torch.randn(*shape).to(dtype), full)
    scaled = audited(tmp_path / "scaled", lambda *shape: torch.randn(*shape).to(dtype) * 2.0**power, full)
    for name in SHAPES:
        one, other = plain.projections[name], scaled.projections[name]
        for field in ("v1", "u1", "v2", "u2"):
            assert getattr(other.continuity, field) == pytest.approx(getattr(one.continuity, field), abs=1e-5)
        assert other.stable_rank == pytest.approx(one.stable_rank, rel=1e-5)
        for sigma, known in zip(other.sigma, one.sigma, strict=True):
            assert sigma == pytest.approx([value * 2.0**power for value in known], rel=1e-5)
        if full:
            assert other.effective_rank == pytest.approx(one.effective_rank, rel=1e-5)
            assert other.wa.v == pytest.approx(one.wa.v, abs=1e-5)
    assert not any(finding.projection in SHAPES for finding in scaled.findings)


@pytest.mark.parametrize("full", [False, True], ids=["leading", "full"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rank_one_has_no_second_direction(dtype: torch.dtype, full: bool, tmp_path: Path) -> None:
    def rank_one(out: int, in_: int) -> torch.Tensor:
        return (torch.randn(out, 1, dtype=torch.float64) @ torch.randn(1, in_, dtype=torch.float64)).to(dtype)

    found = audited(tmp_path / "m", rank_one, full).projections["Up"]
    assert found.continuity.v1 is not None
    if dtype is torch.float64:  # rounding to float32 makes the rest of the spectrum real, if tiny
        assert found.continuity.v2 is None
        assert [len(sigma) for sigma in found.sigma] == [1] * LAYERS
    assert found.stable_rank == pytest.approx([1] * LAYERS)


@pytest.mark.parametrize("full", [False, True], ids=["leading", "full"])
def test_the_identity_is_all_ties(full: bool, tmp_path: Path) -> None:
    found = audited(tmp_path / "m", lambda *shape: torch.eye(*shape), full).projections["Q"]
    assert all(pair.degenerate for pair in found.pairs)
    assert all(bound == (1, 1) for bound in found.angle_bound)
    if full:
        assert found.wa.v is None
        assert "ties" in found.unmeasured["wa"]
        assert found.effective_rank == pytest.approx([HIDDEN] * LAYERS)


@pytest.mark.parametrize("full", [False, True], ids=["leading", "full"])
def test_a_product_that_cancels_is_zero_though_its_factors_are_not(full: bool, tmp_path: Path) -> None:
    """V writes into the first half of each head, O reads the second."""
    width = HIDDEN // HEADS

    def fill(out: int, in_: int) -> torch.Tensor:
        weight = torch.zeros(out, in_)
        if (out, in_) == SHAPES["V"]:
            weight.view(KV, width, in_)[:, : width // 2] = 1 + torch.rand(KV, width // 2, in_)
        elif (out, in_) == SHAPES["O"]:
            weight.view(out, HEADS, width)[:, :, width // 2 :] = 1 + torch.rand(out, HEADS, width // 2)
        else:
            weight = torch.randn(out, in_)
        return weight

    report = audited(tmp_path / "m", fill, full)
    assert report.projections["OV"].continuity.v1 is None
    assert [f.code for f in report.findings if f.projection == "OV"] == ["zero"] * LAYERS
