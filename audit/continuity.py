"""How leading directions run from layer to layer: pure arithmetic on singular vectors.

Axes: k leading vectors, d coordinates, L layers. Vectors are rows of unit length, in float64 on the CPU.
"""

from collections.abc import Sequence
from math import acos, asin, cos, exp, lgamma, pi, sqrt

import torch
from torch import Tensor

DEGENERATE = 0.98
"""sigma2 / sigma1 above which a leading direction is not well defined."""


def alignment(first_kd: Tensor, second_kd: Tensor) -> Tensor:
    """|<a_i, b_i>| of matching rows, [k]: 0 to 1, blind to the signs that an SVD leaves open."""
    cosines: Tensor = torch.linalg.vecdot(first_kd, second_kd)
    return cosines.abs().clamp(max=1.0)


def alignment_bound(value: float, first_sine: float, second_sine: float) -> float:
    """How far |cos| may be from the truth when each vector's angle to the true one has a bounded sine.

    The angle between two lines moves by at most the sum of both errors, and stays within [0, pi/2].
    """
    error = asin(min(first_sine, 1.0)) + asin(min(second_sine, 1.0))
    angle = acos(min(value, 1.0))
    low, high = cos(min(angle + error, pi / 2)), cos(max(angle - error, 0.0))
    return max(high - value, value - low)


def null_mean(d: int) -> float:
    """E|cos| of two independent uniform unit vectors in R^d: Gamma(d/2) / (sqrt(pi) Gamma((d+1)/2)).

    cos^2 follows Beta(1/2, (d-1)/2). Close to sqrt(2 / (pi d)) for large d.
    """
    return exp(lgamma(d / 2) - lgamma((d + 1) / 2)) / sqrt(pi)


def sigma_weighted_alignment(sigma_r: Tensor, first_rd: Tensor, second_sd: Tensor) -> float:
    """WA of one pair: sum_i w_i |<v_i, v'_i>|, w_i = sigma_i^2 / sum sigma^2 of the earlier layer.

    Vector i is matched with vector i, over all non-zero singular vectors; where the later layer has
    fewer, the rest contribute nothing. (Eq. 2 of arXiv:2605.04971)
    """
    weight = energy_shares(sigma_r)
    matched = min(len(first_rd), len(second_sd))
    return float((weight[:matched] * alignment(first_rd[:matched], second_sd[:matched]).to(weight)).sum())


def energy_shares(sigma: Tensor) -> Tensor:
    """sigma_i^2 / sum sigma^2, at any scale of sigma."""
    energy = (sigma / sigma.max()).square()
    return energy / energy.sum()


def effective_rank(sigma: Tensor) -> float:
    """exp of the entropy of p_i = sigma_i^2 / sum sigma^2: 1 for rank one, r for r equal values.

    (Eq. 3 of arXiv:2605.04971; Roy and Vetterli 2007 take sigma, not sigma^2.)
    """
    share = energy_shares(sigma)
    share = share[share > 0]
    return exp(-float((share * share.log()).sum()))


def stable_rank(frobenius_squared: float, sigma1: float) -> float:
    """||W||_F^2 / sigma1^2: at least 1, at most the rank."""
    return max(frobenius_squared / sigma1**2, 1.0)


def participation_ratio(vector_d: Tensor) -> float:
    """1 / sum v_i^4 of a unit vector: 1 when one coordinate holds it all, d when all hold the same."""
    return 1 / float(vector_d.double().pow(4).sum())


def top_coordinates(vector_d: Tensor, count: int) -> tuple[tuple[int, float], ...]:
    """The `count` coordinates of largest magnitude, each with its value."""
    order = vector_d.abs().topk(min(count, len(vector_d))).indices
    return tuple((int(i), float(vector_d[i])) for i in order)


def lag_profile(vectors_Ld: Sequence[Tensor | None]) -> tuple[float | None, ...]:
    """Mean |<v(l), v(l+k)>| for k = 1 .. L-1: flat for one constant direction, falling for a trajectory.

    None stands for layers whose vector is unknown; a lag no two known vectors of one dimension span is None.
    """
    profile: list[float | None] = []
    for lag in range(1, len(vectors_Ld)):
        values = [
            min(abs(float(first @ second)), 1.0)
            for first, second in zip(vectors_Ld, vectors_Ld[lag:], strict=False)
            if first is not None and second is not None and first.shape == second.shape
        ]
        profile.append(sum(values) / len(values) if values else None)
    return tuple(profile)


def subspace_alignment(first_kd: Tensor, second_kd: Tensor) -> tuple[float, ...]:
    """Cosines of the principal angles between two k-dimensional subspaces, largest first."""
    return tuple(float(c) for c in torch.linalg.svdvals(first_kd @ second_kd.T).clamp(max=1.0))
