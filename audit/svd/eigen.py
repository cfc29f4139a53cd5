"""Eigenvectors of symmetric matrices, also where LAPACK's divide and conquer gives up.

It does on some matrices of many zero rows and a few of very different sizes, as the Gram matrices of a layer
most of whose units are dead. The same matrix in another order it can do.
"""

import torch
from torch import Tensor

LinAlgError: type[Exception] = torch.linalg.LinAlgError  # type: ignore[attr-defined]
"""What torch raises where LAPACK gives up."""

TRIES = 4
"""Orders that are tried; no matrix that failed was met that failed in the opposite order too."""


def eigen(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues in rising order [n], and eigenvectors as columns [n, n]; only the lower triangle is read.

    Raises torch.linalg.LinAlgError where every order fails, as for a matrix that is not finite.
    """
    try:
        values, vectors = torch.linalg.eigh(matrix)
    except LinAlgError:
        return _otherwise(matrix.tril() + matrix.tril(-1).mT)
    return values, vectors


def _otherwise(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns in the opposite order, and then in orders drawn by lot."""
    order = torch.arange(len(matrix)).flip(0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(TRIES - 1):
        try:
            return _in_order(matrix, order.to(matrix.device))
        except LinAlgError:
            order = torch.randperm(len(matrix), generator=generator)
    return _in_order(matrix, order.to(matrix.device))


def _in_order(matrix: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(matrix[order][:, order])
    return values, vectors[torch.argsort(order)]
