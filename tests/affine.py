"""Affine maps, recovered from pairs of what goes in and what comes out."""

from collections.abc import Sequence

import torch
from torch import Tensor


def recover(given: Tensor, made: Tensor) -> Tensor:
    """The matrix [out, in] of the affine map from the rows of `given` to those of `made`.

    AssertionError where they determine none, or where there is none.
    """
    given, made = given.flatten(0, -2), made.flatten(0, -2)
    given, made = given - given.mean(0), made - made.mean(0)
    found = torch.linalg.lstsq(given, made, driver="gelsy")
    assert found.rank == given.shape[1], "the inputs do not span their space"
    torch.testing.assert_close(given @ found.solution, made, rtol=0, atol=1e-4 * float(made.abs().max()))
    return found.solution.T


def recover_any(candidates: Sequence[Tensor], made: Tensor) -> tuple[Tensor, Tensor]:
    """The first of the candidates that determines what was made, with the matrix."""
    failures = []
    for given in candidates:
        if _rows(given) == _rows(made):
            try:
                return given, recover(given, made)
            except AssertionError as failure:
                failures.append(str(failure).splitlines()[0])
    raise AssertionError(f"nothing that was given determines what was made: {failures}")


def which_gives(matrix: Tensor, candidates: Sequence[Tensor], made: Tensor) -> tuple[Tensor, float]:
    """The first of the candidates of which this matrix makes what was made, but for a bias and a factor."""
    made = made.flatten(0, -2)
    made = made - made.mean(0)
    for given in candidates:
        if _rows(given) == _rows(made) and given.shape[-1] == matrix.shape[1]:
            product = given.flatten(0, -2) @ matrix.T
            product = product - product.mean(0)
            factor = float((product * made).sum() / product.square().sum())
            if (factor * product - made).abs().max() < 1e-4 * made.abs().max():
                return given, factor
    raise AssertionError("nothing that was given is read by this matrix")


def residue(given: Tensor, made: Tensor) -> float:
    """How much of what was made no affine map of `given` explains, relative to the largest of it."""
    assert given.shape[0] > 1.2 * given.shape[1], "there are too few rows to tell"
    given, made = given - given.mean(0), made - made.mean(0)
    solution = torch.linalg.lstsq(given, made, driver="gelsd").solution
    return float((given @ solution - made).abs().max() / made.abs().max())


def _rows(states: Tensor) -> int:
    return states.numel() // states.shape[-1]
