"""Singular triplets against float64 LAPACK: the values, the vectors, and that no error bound is broken."""

from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from strategies import SPECTRA, Known, known_matrices, spectrum, with_spectrum

import audit.svd
from audit.linear_map import Dense
from audit.product import Product
from audit.svd import ANGLE_TARGET, NEXT_TARGET, Triplets, factorise, leading, leading_of
from audit.svd.triplets import certify

ROUNDING = 1e-12
"""LAPACK's own error in the reference vectors of these small, mostly well-separated matrices."""


def sines(found: torch.Tensor, true: np.ndarray) -> list[float]:
    """Sine of the angle between each found row and the true one."""
    rows = found.double().numpy()
    return [float(np.linalg.norm(a - b * (a @ b))) for a, b in zip(rows, true, strict=False)]


def check_bounds(triplets: Triplets, weight: np.ndarray) -> None:
    u, sigma, vt = np.linalg.svd(weight, full_matrices=False)
    for i, bound in enumerate(triplets.bound.tolist()):
        if bound >= 1:
            continue
        neighbours = np.delete(sigma, i)
        gap = np.abs(neighbours - sigma[i]).min() if len(neighbours) else sigma[i]
        slack = ROUNDING * sigma[0] / max(gap, 1e-300)
        assert sines(triplets.v[i : i + 1], vt[i : i + 1])[0] <= bound + slack
        assert sines(triplets.u[i : i + 1], u.T[i : i + 1])[0] <= bound + slack
        assert abs(float(triplets.sigma[i]) - sigma[i]) <= float(triplets.residual[i]) + ROUNDING * sigma[0]


@settings(max_examples=300, deadline=None)
@given(known_matrices())
def test_lanczos_in_float64_keeps_its_bounds(known: Known) -> None:
    weight, sigma = known.weight, known.sigma
    triplets = leading(Dense(torch.from_numpy(weight)), 2, "seed")
    assert triplets.sigma.numpy() == pytest.approx(sigma[: len(triplets.sigma)], abs=1e-6 * sigma[0])
    check_bounds(triplets, weight)


@settings(max_examples=300, deadline=None)
@given(known_matrices())
def test_lanczos_in_float32_keeps_its_bounds(known: Known) -> None:
    weight = torch.from_numpy(known.weight).float()
    with patch.object(audit.svd, "SMALL", 0):  # these maps are small: make them start in float32 all the same
        check_bounds(leading(Dense(weight), 2, "seed"), weight.double().numpy())


@settings(max_examples=100, deadline=None)
@given(known_matrices())
def test_lanczos_on_bf16_rounded_weights_keeps_its_bounds(known: Known) -> None:
    weight = torch.from_numpy(known.weight).bfloat16().float()
    if weight.abs().max() > 0:
        check_bounds(leading(Dense(weight), 2, "seed"), weight.double().numpy())


@settings(max_examples=200, deadline=None)
@given(known_matrices())
def test_the_exact_path_is_lapacks(known: Known) -> None:
    weight = known.weight
    sigma = np.linalg.svd(weight, compute_uv=False)
    linear_map = Dense(torch.from_numpy(weight))
    found = factorise(linear_map)
    kept = len(found.sigma)
    assert found.sigma.square().numpy() == pytest.approx(sigma[:kept] ** 2, abs=1e-13 * sigma[0] ** 2)
    assert (sigma[kept:] ** 2 <= 2e-14 * sigma[0] ** 2).all()
    rebuilt = (found.u.T * found.sigma) @ found.v
    assert np.abs(rebuilt.numpy() - weight).max() <= 1e-6 * sigma[0]
    check_bounds(leading_of(found, linear_map, 2), weight)


@pytest.mark.parametrize("kind", SPECTRA)
def test_well_separated_leaders_reach_the_target(kind: str) -> None:
    rng = np.random.default_rng(3)
    sigma = spectrum(kind, 200, rng)
    with patch.object(audit.svd, "SMALL", 0):
        triplets = leading(Dense(torch.from_numpy(with_spectrum(200, 300, sigma, rng)).float()), 2, "seed")
    separated = np.abs(np.diff(sigma[:3])) > 0.01 * sigma[0]
    for i, bound in enumerate(triplets.bound.tolist()):
        assert bound <= ((NEXT_TARGET if i else ANGLE_TARGET) if separated[: i + 1].all() else 1)
    assert len(triplets.bound) == (1 if kind == "rank one" else 2)


@pytest.mark.parametrize("copies", [2, 3, 4])
def test_exact_ties_are_found_and_give_the_vacuous_bound(copies: int) -> None:
    rng = np.random.default_rng(copies)
    sigma = np.sort(rng.uniform(0.1, 1, 80))[::-1].copy()
    sigma[:copies] = 5
    triplets = leading(Dense(torch.from_numpy(with_spectrum(100, 80, sigma, rng))), 2, "seed")
    assert triplets.sigma.numpy() == pytest.approx([5, 5])
    assert triplets.bound.tolist() == [1, 1]


def test_an_uncertified_method_breaks_the_same_check() -> None:
    """The control: two steps of plain power iteration, with a residual that is not measured."""
    rng = np.random.default_rng(5)
    weight = with_spectrum(80, 60, spectrum("uniform", 60, rng), rng)
    v = np.linalg.qr(rng.standard_normal((60, 2)))[0]
    for _ in range(2):
        v = np.linalg.qr(weight.T @ (weight @ v))[0]
    u, sigma, wt = np.linalg.svd(weight @ v, full_matrices=False)
    rows = torch.from_numpy((v @ wt.T).T.copy()), torch.from_numpy(u.T.copy())
    claimed = torch.full((2,), 1e-6, dtype=torch.float64)
    with pytest.raises(AssertionError):
        check_bounds(Triplets(torch.from_numpy(sigma), *rows, claimed, claimed, claimed), weight)
    # the same vectors, their residuals measured and the gaps known, keep theirs
    upper = np.linalg.svd(weight, compute_uv=False)[1:3].tolist()
    check_bounds(certify(Dense(torch.from_numpy(weight)), rows[0], 2, upper), weight)


def test_a_product_is_factorised_without_being_formed() -> None:
    rng = np.random.default_rng(7)
    left, right = rng.standard_normal((90, 12)), rng.standard_normal((12, 70))
    product = Product(Dense(torch.from_numpy(left)), Dense(torch.from_numpy(right)))
    sigma = np.linalg.svd(left @ right, compute_uv=False)[:12]
    assert factorise(product).sigma.numpy() == pytest.approx(sigma)
    assert product.core().matrix.shape == (12, 12)
    check_bounds(leading(product, 2, "seed"), left @ right)


def test_the_same_name_gives_the_same_bytes() -> None:
    weight = Dense(torch.from_numpy(np.random.default_rng(1).standard_normal((50, 40))).float())
    first, second = leading(weight, 2, "Q.0"), leading(weight, 2, "Q.0")
    assert torch.equal(first.v, second.v)
    assert torch.equal(first.u, second.u)


@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1e15, 1e30])
def test_scale_does_not_matter_in_float64(scale: float) -> None:
    rng = np.random.default_rng(2)
    weight = with_spectrum(40, 30, spectrum("spiked", 30, rng), rng)
    plain = leading(Dense(torch.from_numpy(weight)), 2, "seed")
    scaled = leading(Dense(torch.from_numpy(weight * scale)), 2, "seed")
    assert (scaled.sigma / scale).numpy() == pytest.approx(plain.sigma.numpy())
    assert sines(scaled.v, plain.v.numpy()) == pytest.approx([0, 0], abs=1e-9)
