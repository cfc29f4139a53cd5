"""What certified triplets state, held against float64 LAPACK: every statement with its truth beside it.

And a control, which states as much of what plain randomised SVD finds, with nothing to certify it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.utils.extmath import randomized_svd
from torch import Tensor

from audit.svd import DECLARED, Triplets

ROUNDING = 200 * np.finfo(np.float64).eps
"""LAPACK's own error relative to sigma1 (by mpmath up to 47 eps); over the gap it is that of a vector."""

ZERO = 4e-6
"""Share of sigma1 up to which a singular value may be left out as rounding."""


@dataclass(frozen=True, eq=False)
class Truth:
    """A matrix's singular triplets by LAPACK, vectors as rows."""

    u: np.ndarray
    sigma: np.ndarray
    v: np.ndarray

    @property
    def rounding(self) -> float:
        return float(ROUNDING * self.sigma[0])

    def distance(self, i: int, value: float) -> float:
        """From a value to all singular values but the i-th; infinite where there is none."""
        others = np.append(np.delete(self.sigma, i), self._zero)
        return float(np.abs(others - value).min(initial=np.inf))

    def below(self, k: int) -> float:
        """How far the first k singular values stand above the rest."""
        rest = np.append(self.sigma[k:], self._zero)
        return float(self.sigma[k - 1] - rest[0]) if len(rest) else np.inf

    @property
    def _zero(self) -> list[float]:
        """Zero is a singular value too, of the longer side of a matrix that is not square."""
        return [] if self.u.shape[1] == self.v.shape[1] else [0.0]


@dataclass(frozen=True)
class Claim:
    """One statement: that `true` is at most `stated`, up to LAPACK's own error."""

    what: str
    stated: float
    true: float
    rounding: float

    @property
    def broken(self) -> bool:
        return not self.true <= self.stated + self.rounding


def truth(matrix: np.ndarray) -> Truth:
    u, sigma, v = np.linalg.svd(matrix, full_matrices=False)
    return Truth(u.T, sigma, v)


def claims(found: Triplets, known: Truth, k: int) -> Iterator[Claim]:
    """All that the triplets of a finite, non-zero matrix state, k of them asked for."""
    rounding = known.rounding
    kept = len(found.sigma)
    yield Claim("rank", float(ZERO * known.sigma[0]), float(known.sigma[kept:k].max(initial=0.0)), rounding)
    for i in range(kept):
        sigma, bound = float(found.sigma[i]), float(found.bound[i])
        yield Claim("sigma", float(found.residual[i]), abs(sigma - float(known.sigma[i])), rounding)
        yield Claim("gap", known.distance(i, sigma), float(found.gap[i]), rounding)
        if bound < 1:
            gap = known.distance(i, float(known.sigma[i]))
            yield Claim("resolved", gap, float(found.residual[i]), rounding)
            for side, rows, true in (("v", found.v, known.v), ("u", found.u, known.u)):
                yield Claim(side, bound, sine(rows[i : i + 1], true[i : i + 1]), _turned(rounding, gap))
    if kept and found.plane_bound < 1:
        turned = _turned(rounding, known.below(kept))
        for side, rows, true in (("v", found.v, known.v), ("u", found.u, known.u)):
            yield Claim(f"plane {side}", found.plane_bound, sine(rows, true[:kept]), turned)
    if kept and min(found.plane_bound, float(found.bound.min())) < 1:
        yield Claim("chance", DECLARED, found.chance, 0.0)


def broken(found: Triplets, known: Truth, k: int) -> list[Claim]:
    return [claim for claim in claims(found, known, k) if claim.broken]


def sine(rows: Tensor, true: np.ndarray) -> float:
    """Of the largest principal angle between the spans of rows of the same number."""
    basis = np.linalg.qr(rows.double().numpy().T)[0]
    return float(np.linalg.norm(basis - true.T @ (true @ basis), 2))


def _turned(rounding: float, gap: float) -> float:
    return min(rounding / gap, 1.0) if gap > 0 else 1.0


def uncertified(matrix: np.ndarray, k: int, steps: int, seed: int) -> Triplets:
    """Plain randomised SVD (Halko, Martinsson and Tropp 2011), with the gaps between what it found.

    Two columns more than asked for, and the residuals measured: all that is missing is to know what else
    there might be.
    """
    count = min(k + 1, *matrix.shape)
    u, sigma, v = randomized_svd(matrix, count, n_oversamples=2, n_iter=steps, random_state=seed)
    right, left = matrix @ v.T - u * sigma, u.T @ matrix - sigma[:, None] * v
    residual = np.hypot(np.linalg.norm(right, axis=0), np.linalg.norm(left, axis=1)) + 2e-15 * sigma[0]
    kept = min(k, int((sigma > residual).sum()))
    following = sigma[kept] if kept < count else 0.0
    compared = np.append(sigma[:kept], following)
    gap = np.array([np.abs(np.delete(compared, i) - compared[i]).min() for i in range(kept)])
    bound = np.where(gap > residual[:kept], residual[:kept] / np.maximum(gap, 1e-300), 1.0)
    stands_apart = kept and sigma[kept - 1] - following
    plane = float(np.linalg.norm(residual[:kept]) / stands_apart) if stands_apart else 1.0
    rows = (torch.tensor(each) for each in (sigma[:kept], v[:kept], u.T[:kept], residual[:kept], gap, bound))
    return Triplets(*rows, plane_bound=min(plane, 1.0))
