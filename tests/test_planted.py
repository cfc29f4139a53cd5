"""A checkpoint with known geometry, built vector by vector: the report finds what was planted."""

import json

import numpy as np
import pytest
import torch
from reference import LLAMA
from safetensors.torch import save_file

from audit import AuditOptions, audit_model
from reports.model import Report
from reports.pattern import Strength, sentences, strength
from reports.reading import character

LAYERS, HIDDEN, FFN, HEADS, KV = 8, 64, 96, 8, 4
STEP = 0.3
"""Radians that the smooth direction turns from layer to layer."""

SEAM = 4
"""The first layer after the break in the seamed projection."""

CONFIG = {
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": FFN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV,
}


def directions(kind: str, d: int, rng: np.random.Generator) -> np.ndarray:
    """One unit vector per layer [LAYERS, d]."""
    plane = np.linalg.qr(rng.standard_normal((d, 4)))[0].T
    angles = STEP * np.arange(LAYERS)
    smooth = np.outer(np.cos(angles), plane[0]) + np.outer(np.sin(angles), plane[1])
    match kind:
        case "smooth":
            return smooth
        case "flipped":
            return smooth * np.where(np.arange(LAYERS) % 2, -1, 1)[:, None]
        case "constant":
            return np.tile(plane[0], (LAYERS, 1))
        case "seam":
            other = np.outer(np.cos(angles), plane[2]) + np.outer(np.sin(angles), plane[3])
            return np.where((np.arange(LAYERS) < SEAM)[:, None], smooth, other)
        case "random":
            return np.linalg.qr(rng.standard_normal((d, LAYERS)))[0].T
    raise ValueError(kind)


def matrix(u: np.ndarray, v: np.ndarray, rng: np.random.Generator, second: float = 3.0) -> np.ndarray:
    """sigma1 = 6 on (u, v), sigma2 as asked on random directions, and a bulk below 1."""
    out, in_ = len(u), len(v)
    r = min(out, in_)
    left = np.linalg.qr(np.column_stack([u, rng.standard_normal((out, r - 1))]))[0]
    right = np.linalg.qr(np.column_stack([v, rng.standard_normal((in_, r - 1))]))[0]
    sigma = np.r_[6.0, second, np.sort(rng.uniform(0.1, 1, r - 2))[::-1]]
    return (left * sigma) @ right.T


PLANTED = {  # projection: (out, in, kind of v1, kind of u1)
    "Q": (HIDDEN, HIDDEN, "smooth", "random"),
    "K": (HIDDEN // 2, HIDDEN, "flipped", "random"),
    "V": (HIDDEN // 2, HIDDEN, "random", "random"),
    "O": (HIDDEN, HIDDEN, "random", "constant"),
    "Gate": (FFN, HIDDEN, "seam", "random"),
    "Up": (FFN, HIDDEN, "smooth", "random"),
    "Down": (HIDDEN, FFN, "random", "flipped"),
}


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("planted")
    rng = np.random.default_rng(11)
    tensors = {}
    for name, (out, in_, v_kind, u_kind) in PLANTED.items():
        v, u = directions(v_kind, in_, rng), directions(u_kind, out, rng)
        for layer in range(LAYERS):
            second = 5.95 if (name, layer) == ("Up", 2) else 3.0
            weight = matrix(u[layer], v[layer], rng, second)
            tensors[LLAMA[name].format(layer)] = torch.from_numpy(weight).to(request.param)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return audit_model(str(folder), AuditOptions(full=True))


TOLERANCE = 3e-3
"""What rounding the planted weights to bf16 may turn a leading direction by."""


def test_a_smooth_path_has_the_cosine_of_its_step(report: Report) -> None:
    for name, space in [("Q", "v"), ("Down", "u"), ("K", "v")]:
        values = [getattr(pair, f"{space}1") for pair in report.projections[name].pairs]
        assert values == pytest.approx([np.cos(STEP)] * (LAYERS - 1), abs=TOLERANCE), name
        assert getattr(report.projections[name].evr3, space) == pytest.approx(1, abs=0.01), name


def test_the_lag_profile_tells_the_path_from_the_constant_direction(report: Report) -> None:
    lags = np.arange(1, LAYERS)
    path, constant = report.projections["Q"].lag.v, report.projections["O"].lag.u
    assert path == pytest.approx(np.abs(np.cos(STEP * lags)), abs=TOLERANCE)
    assert constant == pytest.approx(np.ones(LAYERS - 1), abs=TOLERANCE)


def test_random_directions_lie_near_the_null_and_the_seam_is_where_it_was_put(report: Report) -> None:
    value = report.projections["V"]
    assert value.continuity.v1 == pytest.approx(0, abs=0.02)  # planted orthogonal
    seam = {pair.layers: pair.v1 for pair in report.projections["Gate"].pairs}
    assert seam.pop((SEAM - 1, SEAM)) == pytest.approx(0, abs=0.02)
    assert list(seam.values()) == pytest.approx([np.cos(STEP)] * (LAYERS - 2), abs=TOLERANCE)


def test_the_planted_near_tie_is_marked_and_compared_as_a_plane(report: Report) -> None:
    marked = [pair.layers for pair in report.projections["Up"].pairs if pair.degenerate]
    assert marked == [(1, 2), (2, 3)]
    assert all(pair.subspace is not None for pair in report.projections["Up"].pairs if pair.degenerate)
    for name, found in report.projections.items():
        if name not in ("Up", "OV"):
            assert not any(pair.degenerate for pair in found.pairs), name


def test_sigma_is_what_was_planted(report: Report) -> None:
    for name in PLANTED:
        for layer, sigma in enumerate(report.projections[name].sigma):
            second = 5.95 if (name, layer) == ("Up", 2) else 3.0
            assert sigma == pytest.approx([6, second], rel=2e-3), (name, layer)


def test_the_words_say_what_was_planted(report: Report) -> None:
    found = report.projections
    assert strength(found["Q"], "v") is Strength.STRONG
    assert strength(found["V"], "v") is Strength.NONE
    assert strength(found["O"], "u") is Strength.STRONG
    text = " ".join(sentences(report.main))
    assert "Continuous in input space (v1): Q 0.96, K 0.96, Gate 0.82, Up 0.9" in text
    assert "Down in u1" in text
    assert "V low" in text


def test_the_words_tell_the_path_from_the_constant_direction(report: Report) -> None:
    words = {sentence.split(":")[0]: sentence for sentence in character(report.main)}
    assert "u1 of O" in words["One direction kept throughout"]
    assert "v1 of Q" in words["Turning step by step, to another direction within half the depth"]
    assert "v1 of Gate" in words["Kept in stretches, with a break between some layers"]


def test_the_planted_seam_is_the_only_weak_pair(report: Report) -> None:
    weak = [(one.projection, one.layer) for one in report.findings if one.code == "weak-pair"]
    assert weak == [("Gate", SEAM - 1)]
