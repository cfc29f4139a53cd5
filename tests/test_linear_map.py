"""Linear maps do what the matrices they stand for do, written out densely in float64."""

import pytest
import torch
from torch import Tensor

from audit.linear_map import Dense, LinearMap
from audit.product import Product, ov_composite

torch.manual_seed(0)
LEFT, RIGHT = torch.randn(7, 3, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
WIDE, TALL = torch.randn(4, 9, dtype=torch.float64), torch.randn(9, 4, dtype=torch.float64)

MAPS: dict[str, tuple[LinearMap, Tensor]] = {
    "dense": (Dense(WIDE), WIDE),
    "dense view": (Dense(TALL.T), TALL.T),
    "dense transposed": (Dense(TALL).transposed, TALL.T),
    "narrow product": (Product(Dense(LEFT), Dense(RIGHT)), LEFT @ RIGHT),
    "product transposed": (Product(Dense(LEFT), Dense(RIGHT)).transposed, (LEFT @ RIGHT).T),
    "wide product": (Product(Dense(WIDE), Dense(TALL)), WIDE @ TALL),
}


@pytest.mark.parametrize("name", MAPS)
def test_products_shape_and_energy(name: str) -> None:
    linear_map, matrix = MAPS[name]
    out, in_ = matrix.shape
    x, y = torch.randn(3, in_, dtype=torch.float64), torch.randn(3, out, dtype=torch.float64)
    assert linear_map.shape == (out, in_)
    torch.testing.assert_close(linear_map.matmul(x), x @ matrix.T)
    torch.testing.assert_close(linear_map.rmatmul(y), y @ matrix)
    assert linear_map.frobenius_squared() == pytest.approx(float((matrix**2).sum()))


@pytest.mark.parametrize("name", MAPS)
def test_core_carries_the_map(name: str) -> None:
    linear_map, matrix = MAPS[name]
    core = linear_map.core()
    left = torch.eye(matrix.shape[0], dtype=torch.float64) if core.left is None else core.left
    right = torch.eye(matrix.shape[1], dtype=torch.float64) if core.right is None else core.right
    torch.testing.assert_close(left.T @ core.matrix @ right, matrix)
    torch.testing.assert_close(left @ left.T, torch.eye(len(left), dtype=torch.float64))
    torch.testing.assert_close(right @ right.T, torch.eye(len(right), dtype=torch.float64))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_peak_shows_what_is_not_finite(value: float) -> None:
    weight = torch.zeros(4, 4)
    weight[2, 1] = value
    peak = Dense(weight).peak()
    assert peak != peak if value != value else peak == float("inf")
    assert Dense(torch.tensor([[1.0, -3.0]])).peak() == 3.0


@pytest.mark.parametrize(("heads", "kv"), [(6, 6), (6, 2), (6, 1)])
def test_ov_repeats_each_key_value_head_over_its_group(heads: int, kv: int) -> None:
    dim, hidden = 4, 10
    output = torch.randn(hidden, heads * dim, dtype=torch.float64)
    value = torch.randn(kv * dim, hidden, dtype=torch.float64)
    expected = torch.zeros(hidden, hidden, dtype=torch.float64)
    for head in range(heads):
        served_by = head // (heads // kv)
        o = output[:, head * dim : (head + 1) * dim]
        expected += o @ value[served_by * dim : (served_by + 1) * dim]
    composite = ov_composite(Dense(output), Dense(value), kv, dim)
    torch.testing.assert_close(composite.matmul(torch.eye(hidden, dtype=torch.float64)).T, expected)
    assert composite.left.shape == (hidden, kv * dim)
