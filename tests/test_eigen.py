"""Eigenvectors, also of the matrices that LAPACK's divide and conquer gives up on."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from audit.linear_map import Dense
from audit.svd import factorise
from audit.svd.eigen import TRIES, eigen
from audit.svd.exact import singular_values


def of_few_rows(seed: int) -> Tensor:
    """A matrix most of whose rows are zero, the others of very different sizes: [256, 64].

    Of those drawn so about one in two hundred has a Gram matrix that MKL's dsyevd does not converge on.
    """
    generator = torch.Generator().manual_seed(seed)
    count = int(torch.randint(2, 24, (1,), generator=generator))
    rows = torch.randperm(256, generator=generator)[:count].sort().values
    entries = torch.randn(count, 64, generator=generator, dtype=torch.float64)
    steps = -float(torch.randint(0, 10, (1,), generator=generator))
    sizes = torch.logspace(0, steps, count, dtype=torch.float64)
    matrix = torch.zeros(256, 64, dtype=torch.float64)
    matrix[rows] = entries * sizes[torch.randperm(count, generator=generator)][:, None]
    return matrix


FAILED = (21, 374, 852, 959, 1006, 1044, 1174, 1790, 1797, 2003, 2061)
"""Seeds on which torch.linalg.eigh failed where this was written."""


@pytest.mark.parametrize("seed", [0, 1, 2, *FAILED])
def test_eigenvectors_are_found_whatever_lapack_makes_of_the_order(seed: int) -> None:
    matrix = of_few_rows(seed)
    gram = matrix @ matrix.T
    values, vectors = eigen(gram.tril())
    wanted = np.linalg.eigvalsh(gram.numpy())
    assert np.allclose(values, wanted, atol=1e-14 * wanted.max())
    assert float((gram @ vectors - vectors * values).abs().max()) < 1e-13 * wanted.max()
    assert float((vectors.T @ vectors - torch.eye(256)).abs().max()) < 1e-12


@pytest.mark.parametrize("seed", FAILED)
def test_a_layer_of_dead_units_is_factorised(seed: int) -> None:
    wide = of_few_rows(seed).T.contiguous()  # as a layer has it: many inputs that are never used
    square = torch.zeros(256, 256, dtype=torch.float64)
    square[:64] = wide
    for matrix in (wide, square, square.T.contiguous()):
        found = factorise(Dense(matrix))
        wanted = np.linalg.svd(matrix.numpy(), compute_uv=False)
        kept = wanted[: len(found.sigma)]
        assert np.allclose(found.sigma, kept, rtol=1e-6, atol=1e-9 * wanted[0])
        rebuilt = (found.u * found.sigma[:, None]).T @ found.v
        assert float((rebuilt - matrix).abs().max()) < 1e-6 * wanted[0]


def failing(times: int, real: Callable[..., object]) -> Callable[..., object]:
    """What fails so often, and then does what it should."""
    left = [times]

    def given_up(matrix: Tensor) -> object:
        if left[0]:
            left[0] -= 1
            raise torch.linalg.LinAlgError("the algorithm failed to converge")
        return real(matrix)

    return given_up


@pytest.mark.parametrize("times", range(TRIES + 1))
def test_it_is_tried_in_other_orders(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = torch.randn(12, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gram = matrix @ matrix.T
    wanted = torch.linalg.eigvalsh(gram)
    monkeypatch.setattr("torch.linalg.eigh", failing(times, torch.linalg.eigh))
    values, vectors = eigen(gram.tril() + torch.triu(torch.full_like(gram, torch.nan), 1))
    assert torch.allclose(values, wanted, atol=1e-12)
    assert torch.allclose(gram @ vectors, vectors * values, atol=1e-12)


def test_what_no_order_helps_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.linalg.eigh", failing(TRIES + 1, torch.linalg.eigh))
    with pytest.raises(torch.linalg.LinAlgError):
        eigen(torch.eye(3))


def test_singular_values_alone_have_the_same_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = of_few_rows(21)
    monkeypatch.setattr("torch.linalg.eigvalsh", failing(1, torch.linalg.eigvalsh))
    found = singular_values(Dense(matrix))
    wanted = np.linalg.svd(matrix.numpy(), compute_uv=False)
    assert np.allclose(found, wanted[: len(found)], rtol=1e-6, atol=1e-7 * wanted[0])
