"""Singular triplets and what is known of their error.

For a computed triplet (sigma, u, v) with residuals r = W v - sigma u and s = W^T u - sigma v, and a gap delta
between sigma and the rest of the spectrum, Wedin's theorem bounds the angle of each vector to the true one:
sin(angle) <= sqrt(|r|^2 + |s|^2) / delta. (Wedin 1972; Stewart and Sun, Matrix Perturbation Theory, V.4)
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from audit.linear_map import LinearMap

ROUNDING = 8.0
"""Rounding in a residual's own evaluation, in units of eps * sigma1; it is added to every residual."""


@dataclass(frozen=True, eq=False)
class Triplets:
    """Leading singular triplets, largest first.

    sigma [k], v [k, in], u [k, out]; residual [k] is sqrt(|r|^2 + |s|^2) with rounding added; bound [k] is
    the bound on the sine of each vector's angle to the true one, 1 where nothing is known. v or u is None
    where that space is not defined.
    """

    sigma: Tensor
    v: Tensor | None
    u: Tensor | None
    residual: Tensor
    bound: Tensor


def certify(linear_map: LinearMap, sigma: Tensor, v: Tensor, u: Tensor, next_sigma: float) -> Triplets:
    """The triplets with their residuals measured on the map itself, and the bounds that follow.

    sigma [k] descending; `next_sigma` is an upper estimate of the first singular value left out.
    """
    k = len(sigma)
    scale = sigma.to(v)[:, None]
    right = torch.linalg.vector_norm(linear_map.matmul(v) - scale * u, dim=1)
    left = torch.linalg.vector_norm(linear_map.rmatmul(u) - scale * v, dim=1)
    rounding = ROUNDING * torch.finfo(linear_map.dtype).eps * float(sigma[0])
    residual = torch.hypot(right, left).double().cpu() + rounding
    sigma = sigma.double().cpu()
    upper = torch.cat([sigma + residual, torch.tensor([next_sigma], dtype=torch.float64)])
    gap = torch.empty(k, dtype=torch.float64)
    for i in range(k):
        below = sigma[i] - upper[i + 1]
        above = sigma[i - 1] - residual[i - 1] - sigma[i] if i else below
        gap[i] = torch.minimum(below, above)
    return Triplets(sigma, v, u, residual, sine_bound(residual, gap))


def sine_bound(residual: Tensor, gap: Tensor) -> Tensor:
    """residual / gap, and 1 where the gap is not resolved."""
    return torch.where(gap > residual, residual / gap.clamp(min=torch.finfo(gap.dtype).tiny), 1.0).clamp(
        max=1.0
    )
