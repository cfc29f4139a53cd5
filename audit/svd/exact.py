"""The exact path: every singular triplet, from the eigenvectors of the smaller Gram matrix in float64.

Squaring halves the digits of small singular values: those below 1e-7 sigma1, each a share of the energy
below 1e-14, count as zero.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from audit.linear_map import LinearMap
from audit.svd.triplets import Triplets, certify

ZERO = 1e-7
"""Singular values below this share of the largest count as zero."""


@dataclass(frozen=True, eq=False)
class Factorisation:
    """All r non-zero singular triplets, largest first: sigma [r], v [r, in], u [r, out], in float64."""

    sigma: Tensor
    v: Tensor
    u: Tensor


def factorise(linear_map: LinearMap) -> Factorisation:
    """Every non-zero singular triplet of a finite map; r is 0 for a zero map.

    Works in float64 on the map's device, on the CPU where the device has no float64 (MPS).
    """
    core = linear_map.double().core()
    matrix = core.matrix
    tall = matrix.shape[0] > matrix.shape[1]
    if tall:
        matrix = matrix.T
    vectors = torch.linalg.eigh(matrix @ matrix.T).eigenvectors
    short = vectors.T.flip(0)  # rows: singular vectors of the shorter side, largest first
    long = short @ matrix
    # |M^T u| keeps digits that the square root of an eigenvalue has lost
    sigma = torch.linalg.vector_norm(long, dim=1)
    order = torch.argsort(sigma, descending=True)
    order = order[sigma[order] > ZERO * sigma.max()] if len(order) else order
    sigma, short, long = sigma[order], short[order], long[order] / sigma[order, None]
    u, v = (long, short) if tall else (short, long)
    return Factorisation(
        sigma.cpu(),
        v if core.right is None else v @ core.right,
        u if core.left is None else u @ core.left,
    )


def leading_of(factorisation: Factorisation, linear_map: LinearMap, k: int) -> Triplets:
    """The first k triplets of a factorisation, certified on the map in float64."""
    k = min(k, len(factorisation.sigma))
    next_sigma = float(factorisation.sigma[k]) if len(factorisation.sigma) > k else 0.0
    sigma, v, u = factorisation.sigma[:k], factorisation.v[:k], factorisation.u[:k]
    return certify(linear_map.double(), sigma, v, u, next_sigma)
