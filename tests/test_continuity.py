"""The arithmetic of continuity: against SciPy and scikit-learn, and by what must be true of it."""

from math import acos, cos, pi, sin, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats
from sklearn.decomposition import PCA

from audit import continuity, trajectory
from reports.view import null_deviation

RNG = np.random.default_rng(0)


def unit_rows(count: int, d: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.from_numpy(RNG.standard_normal((count, d))), dim=1)


@pytest.mark.parametrize("d", [2, 3, 10, 64, 384, 4096])
def test_the_null_is_that_of_the_beta_distribution(d: int) -> None:
    """cos^2 ~ Beta(1/2, (d-1)/2)."""
    density = stats.beta(0.5, (d - 1) / 2)

    def cosine_density(angle: float) -> float:
        return float(2 * cos(angle) * sin(angle) * density.pdf(cos(angle) ** 2))

    mean, _ = integrate.quad(lambda angle: cos(angle) * cosine_density(angle), 1e-9, pi / 2 - 1e-9, limit=500)
    assert continuity.null_mean(d) == pytest.approx(mean, rel=1e-4)
    assert null_deviation(continuity.null_mean(d), d) == pytest.approx(
        sqrt(density.mean() - mean**2), rel=1e-3
    )


def test_the_null_is_what_random_vectors_give() -> None:
    values = (unit_rows(4000, 50) * unit_rows(4000, 50)).sum(dim=1).abs()
    assert float(values.mean()) == pytest.approx(continuity.null_mean(50), rel=0.03)
    assert float(values.std()) == pytest.approx(null_deviation(continuity.null_mean(50), 50), rel=0.05)


def test_known_nulls() -> None:
    assert continuity.null_mean(256) == pytest.approx(0.0499, abs=1e-4)
    assert continuity.null_mean(4096) == pytest.approx(sqrt(2 / (pi * 4096)), rel=1e-3)
    assert continuity.null_mean(1) == pytest.approx(1)


@given(st.floats(0, 1), st.floats(0, 0.999), st.floats(0, 0.999), st.integers(0, 2**20))
def test_the_cosine_bound_holds_for_any_two_lines(
    value: float, first: float, second: float, seed: int
) -> None:
    """Turn two lines by up to their allowed angles, anywhere: |cos| moves by no more than the bound."""
    rng = np.random.default_rng(seed)
    a = np.array([1.0, 0, 0, 0])
    b = np.array([value, sqrt(1 - value**2), 0, 0])

    def turned(x: np.ndarray, sine: float) -> np.ndarray:
        step = rng.standard_normal(4)
        step -= x * (x @ step)
        step /= np.linalg.norm(step)
        angle = np.arcsin(sine) * rng.uniform()
        return np.cos(angle) * x + np.sin(angle) * step

    moved = abs(float(turned(a, first) @ turned(b, second)))
    assert abs(moved - value) <= continuity.alignment_bound(value, first, second) + 1e-9


def test_the_cosine_bound_is_tight_and_vacuous_at_its_ends() -> None:
    assert continuity.alignment_bound(0.5, 0, 0) == pytest.approx(0, abs=1e-12)
    assert continuity.alignment_bound(0.3, 1, 1) == pytest.approx(0.7)
    assert continuity.alignment_bound(0.5, 0.1, 0) == pytest.approx(0.5 - cos(acos(0.5) + np.arcsin(0.1)))


def test_alignment_is_blind_to_sign_and_pairs_rows() -> None:
    a, b = unit_rows(3, 20), unit_rows(3, 20)
    signs = torch.tensor([[1.0], [-1.0], [-1.0]])
    expected = [abs(float(a[i] @ b[i])) for i in range(3)]
    assert continuity.alignment(a, b * signs).tolist() == pytest.approx(expected)


def test_weighted_alignment_by_hand() -> None:
    """sigma 3, 4 of the EARLIER layer: weights 9/25 and 16/25; cosines .6 and 1."""
    first = torch.eye(3, dtype=torch.float64)[:2]
    second = torch.tensor([[0.6, 0, 0.8], [0, -1, 0]], dtype=torch.float64)
    sigma = torch.tensor([3.0, 4.0], dtype=torch.float64)
    assert continuity.sigma_weighted_alignment(sigma, first, second) == pytest.approx(9 / 25 * 0.6 + 16 / 25)
    shorter = continuity.sigma_weighted_alignment(sigma, first, second[:1])
    assert shorter == pytest.approx(9 / 25 * 0.6)


@pytest.mark.parametrize("scale", [1, 1e-8, 1e8])
def test_effective_and_stable_rank_at_their_extremes(scale: float) -> None:
    flat = torch.full((7,), 2.0 * scale, dtype=torch.float64)
    one = torch.tensor([3.0 * scale, 0, 0], dtype=torch.float64)
    assert continuity.effective_rank(flat) == pytest.approx(7)
    assert continuity.effective_rank(one) == pytest.approx(1)
    assert continuity.stable_rank(float(flat.square().sum()), 2.0 * scale) == pytest.approx(7)


def test_effective_rank_is_the_exponential_of_scipys_entropy() -> None:
    sigma = torch.from_numpy(RNG.uniform(0.1, 3, 50))
    assert continuity.effective_rank(sigma) == pytest.approx(np.exp(stats.entropy(sigma.numpy() ** 2)))


def test_participation_and_top_coordinates() -> None:
    spread = torch.full((16,), 0.25, dtype=torch.float64)
    outlier = torch.zeros(16, dtype=torch.float64)
    outlier[5] = -1
    assert continuity.participation_ratio(spread) == pytest.approx(16)
    assert continuity.participation_ratio(outlier) == pytest.approx(1)
    assert continuity.top_coordinates(outlier, 5)[0] == (5, -1.0)
    assert len(continuity.top_coordinates(torch.ones(3), 5)) == 3


def test_the_lag_profile_tells_a_constant_direction_from_a_path() -> None:
    constant = [torch.tensor([1.0, 0])] * 5
    angles = [k * pi / 12 for k in range(5)]
    path = [torch.tensor([cos(a), np.sin(a)], dtype=torch.float64) for a in angles]
    assert continuity.lag_profile(constant) == pytest.approx((1, 1, 1, 1))
    assert continuity.lag_profile(path) == pytest.approx([cos(k * pi / 12) for k in range(1, 5)])
    assert continuity.lag_profile([constant[0], None]) == (None,)
    assert continuity.lag_profile([constant[0]]) == ()


def test_subspaces_see_through_a_rotation_of_the_leaders() -> None:
    rows = torch.linalg.qr(torch.from_numpy(RNG.standard_normal((9, 2))))[0].T
    turn = torch.tensor([[cos(1), -np.sin(1)], [np.sin(1), cos(1)]], dtype=torch.float64)
    assert continuity.subspace_alignment(rows, turn @ rows) == pytest.approx((1, 1))
    assert max(continuity.alignment(rows, turn @ rows).tolist()) < 0.6


def test_signs_follow_the_walk() -> None:
    path = [torch.tensor([cos(a), np.sin(a)], dtype=torch.float64) for a in np.linspace(0, 3, 9)]
    shuffled = [vector * sign for vector, sign in zip(path, [1, -1, -1, 1, 1, -1, 1, -1, 1], strict=True)]
    torch.testing.assert_close(torch.stack(trajectory.align_signs(shuffled)), torch.stack(path))


def test_a_direction_that_never_moves_has_no_variance_to_explain() -> None:
    path = trajectory.principal_path(torch.ones(6, 4))
    assert float(path.shares.sum()) == 0
    assert float(path.points.abs().max()) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("layers", "d", "published"), [(32, 4096, 0.111), (6, 288, 0.65)])
def test_the_random_baseline_of_evr(layers: int, d: int, published: float) -> None:
    drawn = [
        float(PCA(3).fit(unit_rows(layers, d).numpy()).explained_variance_ratio_.sum()) for _ in range(20)
    ]
    assert trajectory.random_evr3(layers, d) == pytest.approx(np.mean(drawn), abs=0.01)
    assert trajectory.random_evr3(layers, d) == pytest.approx(published, abs=0.005)


def test_the_random_baseline_with_more_layers_than_dimensions() -> None:
    drawn = [float(PCA(3).fit(unit_rows(12, 6).numpy()).explained_variance_ratio_.sum()) for _ in range(300)]
    assert trajectory.random_evr3(12, 6) == pytest.approx(np.mean(drawn), abs=0.01)


@pytest.mark.parametrize(("layers", "d"), [(5, 3), (6, 288), (32, 100)])
def test_the_principal_path_is_scikit_learns_pointing_from_first_to_last(layers: int, d: int) -> None:
    vectors = unit_rows(layers, d)
    path = trajectory.principal_path(3 * vectors)  # lengths do not matter
    pca = PCA(n_components=3).fit(vectors.numpy())
    expected = pca.transform(vectors.numpy())
    expected *= np.where(expected[-1] < expected[0], -1, 1)
    assert path.points.numpy() == pytest.approx(expected, abs=1e-9)
    assert path.shares.numpy() == pytest.approx(pca.explained_variance_ratio_, abs=1e-9)
    assert (path.points[-1] >= path.points[0]).all()


def test_a_path_in_two_dimensions_has_a_flat_third() -> None:
    path = trajectory.principal_path(unit_rows(6, 2))
    assert path.points.shape == (6, 3)
    assert not path.points[:, 2].any()
    assert float(path.shares.sum()) == pytest.approx(1)
