"""Stacked experts against float64 LAPACK: order-free, certified, their own directions beside the stack's."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audit.experts import PASSES, ExpertStack
from audit.linear_map import Dense
from audit.measure import Measured, Measurer
from audit.plan import Place
from registry import Projection, Slot

HIDDEN = 20
UP, DOWN = Place(None, Projection.UP, 3), Place(None, Projection.DOWN, 3)


def experts(
    count: int = 5,
    inner: int = 12,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    hidden: int = HIDDEN,
) -> list[torch.Tensor]:
    """Random readers [inner, hidden] that share a direction, each with an inner width of its own order."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(hidden, generator=generator)
    made = [
        torch.randn(inner, hidden, generator=generator)
        + torch.outer(torch.randn(inner, generator=generator), common)
        for _ in range(count)
    ]
    return [one.to(dtype) for one in made]


class Counted:
    """A stack over tensors at hand that counts how often each is asked for."""

    def __init__(self, weights: Sequence[torch.Tensor], down: bool = False) -> None:
        self.reads = [0] * len(weights)
        shapes = [tuple(weight.shape) for weight in weights]
        slots = tuple(Slot(str(i), shape, "out_in") for i, shape in enumerate(shapes))  # type: ignore[arg-type]
        total = (
            (shapes[0][0], sum(shape[1] for shape in shapes))
            if down
            else (sum(shape[0] for shape in shapes), shapes[0][1])
        )

        def make(slot: Slot) -> Dense:
            self.reads[int(slot.tensor)] += 1
            return Dense(weights[int(slot.tensor)].clone())

        self.stack = ExpertStack(total, "u" if down else "v", slots, make)


def measure(place: Place, weights: Sequence[torch.Tensor], *, k: int = 2, full: bool = False) -> Measured:
    stack = Counted(weights, down=place.projection.facing == "u").stack
    return Measurer(k, full, torch.float64).measure(place, stack)


def truth(weights: Sequence[torch.Tensor], axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    stacked = np.concatenate([weight.double().numpy() for weight in weights], axis=axis)
    u, sigma, vt = np.linalg.svd(stacked, full_matrices=False)
    return u, sigma, vt


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_readers_stacked_vertically(dtype, full):
    weights = [one.float() if dtype is torch.bfloat16 else one for one in experts(dtype=dtype)]
    found = measure(UP, weights, full=full)
    _, sigma, vt = truth(weights, axis=0)
    assert found.shape == (60, HIDDEN)
    assert found.triplets.u is None
    np.testing.assert_allclose(found.triplets.sigma, sigma[:2], rtol=1e-6)
    for i in range(2):
        off = 1 - abs(float(found.triplets.v[i].numpy() @ vt[i]))
        assert off <= 1e-9
        assert np.sqrt(2 * max(off, 0)) <= float(found.triplets.bound[i]) + 1e-7
        assert float(found.triplets.bound[i]) < 4e-5
    assert found.stable_rank == pytest.approx((sigma**2).sum() / sigma[0] ** 2)
    if full:
        np.testing.assert_allclose(found.spectrum.sigma, sigma, rtol=1e-9)


@pytest.mark.parametrize("full", [False, True])
def test_down_stacked_horizontally(full):
    weights = [one.T.contiguous() for one in experts()]
    found = measure(DOWN, weights, full=full)
    u, sigma, _ = truth(weights, axis=1)
    assert found.shape == (HIDDEN, 60)
    assert found.triplets.v is None
    np.testing.assert_allclose(found.triplets.sigma, sigma[:2], rtol=1e-6)
    for i in range(2):
        assert abs(float(found.triplets.u[i].numpy() @ u[:, i])) == pytest.approx(1, abs=1e-9)


def test_experts_of_unequal_width_are_stacked_as_they_are():
    weights = [one[: 3 + 2 * i] for i, one in enumerate(experts())]
    found = measure(UP, weights)
    _, sigma, vt = truth(weights, axis=0)
    np.testing.assert_allclose(found.triplets.sigma, sigma[:2], rtol=1e-6)
    assert abs(float(found.triplets.v[0].numpy() @ vt[0])) == pytest.approx(1, abs=1e-9)


@given(st.permutations(range(5)))
def test_the_order_of_the_experts_does_not_matter(order):
    weights = experts()
    one, other = measure(UP, weights), measure(UP, [weights[i] for i in order])
    np.testing.assert_allclose(one.triplets.sigma, other.triplets.sigma, rtol=1e-9)
    assert abs(float(one.triplets.v[0] @ other.triplets.v[0])) == pytest.approx(1, abs=1e-9)
    assert [one.experts[i].energy for i in order] == [expert.energy for expert in other.experts]


def test_each_expert_is_measured_beside_the_stack():
    weights = experts()
    found = measure(UP, weights)
    for weight, expert in zip(weights, found.experts, strict=True):
        _, sigma, vt = np.linalg.svd(weight.double().numpy())
        assert expert.sigma1 == pytest.approx(sigma[0])
        assert abs(float(expert.vector.numpy() @ vt[0])) == pytest.approx(1, abs=1e-7)
        assert expert.energy == pytest.approx((sigma**2).sum())
        assert expert.peak == float(weight.abs().max())


@pytest.mark.parametrize(("full", "passes"), [(False, PASSES), (True, 3)])
def test_experts_are_passed_over_as_often_as_planned(full, passes):
    """With --full once to look at them, once for their Gram matrix, once to certify.

    Without, about as often as planned; v2 of this stack is hardly apart from v3, which takes a few more.
    """
    counted = Counted(experts(count=9, inner=40, hidden=500))
    Measurer(2, full, torch.float32).measure(UP, counted.stack)
    assert len(set(counted.reads)) == 1
    assert counted.reads[0] <= passes + 3 * (not full)


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e18])
def test_float32_products_are_made_good_in_float64(scale):
    """Larger than SMALL: the Gram matrix is summed from float32 products, and certified all the same."""
    torch.manual_seed(0)
    direction = torch.randn(700)
    weights = [torch.randn(1600, 700) + 0.05 * torch.outer(torch.randn(1600), direction) for _ in range(2)]
    weights = [weight * scale for weight in weights]
    found = measure(UP, weights)
    _, sigma, vt = truth(weights, axis=0)
    np.testing.assert_allclose(found.triplets.sigma, sigma[:2], rtol=1e-9)
    assert float(found.triplets.bound[0]) < 4e-5
    assert abs(float(found.triplets.v[0].numpy() @ vt[0])) == pytest.approx(1, abs=1e-9)


def test_a_broken_expert_breaks_the_stack():
    weights = experts()
    weights[2][0, 0] = float("nan")
    found = measure(UP, weights)
    assert (found.problem, found.triplets) == ("nan", None)
    assert [expert.problem for expert in found.experts] == [None, None, "nan", None, None]


def test_an_empty_expert_does_not():
    weights = [*experts(), torch.zeros(12, HIDDEN)]
    found, without = measure(UP, weights), measure(UP, experts())
    assert found.problem is None
    np.testing.assert_allclose(found.triplets.sigma, without.triplets.sigma, rtol=1e-9)
    assert found.experts[-1].problem == "zero"


def test_nothing_but_empty_experts_is_zero():
    assert measure(UP, [torch.zeros(4, HIDDEN)] * 3).problem == "zero"


def test_a_stack_of_rank_one_has_one_triplet():
    row = torch.randn(HIDDEN, generator=torch.Generator().manual_seed(1))
    found = measure(UP, [torch.outer(torch.ones(4), row)] * 3)
    assert len(found.triplets.sigma) == 1
    assert float(found.triplets.bound[0]) < 4e-5


@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1e15, 1e30])
def test_any_magnitude_that_float32_holds(scale):
    weights = experts()
    found, usual = measure(UP, [one * scale for one in weights]), measure(UP, weights)
    np.testing.assert_allclose(found.triplets.sigma / scale, usual.triplets.sigma, rtol=1e-5)
    assert abs(float(found.triplets.v[0] @ usual.triplets.v[0])) == pytest.approx(1, abs=1e-6)
    assert found.stable_rank == pytest.approx(usual.stable_rank, rel=1e-5)


def test_more_vectors_than_the_residual_stream_is_wide():
    weights = [torch.randn(6, 3, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    found = measure(UP, weights, k=8)
    _, sigma, _ = truth(weights, axis=0)
    np.testing.assert_allclose(found.triplets.sigma, sigma, rtol=1e-6)


def test_tied_directions_are_not_said_to_be_known():
    weights = [torch.eye(HIDDEN), torch.eye(HIDDEN)]
    assert float(measure(UP, weights).triplets.bound[0]) == 1
