"""Singular triplets and what is known of their error.

A vector v of unit length gives sigma = |W v| and u = W v / sigma; what is left is s = W^T u - sigma v. With
theta = sigma^2 and every other eigenvalue of W^T W at least `distance` away from it, the angle of v to the
true vector is bounded by sigma |s| / distance (Davis and Kahan 1970), and with every other singular value at
least `gap` away, those of v and u by |s| / gap (Wedin 1972; Stewart and Sun, Matrix Perturbation Theory,
V.4). For the first vector the angle of u is no larger than that of v, for the i-th its sine at most
sigma_1 / sigma_i times as large: W stretches no other direction more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from audit.linear_map import Image
from audit.svd.eigen import eigen

ROUNDING = 32.0
"""Rounding in the evaluation of W^T W v - sigma^2 v, in rounding units, added to what is left."""


class GramMap(Protocol):
    """What an iteration needs of W [out, in], or a certificate: X to X W^T and X W^T W."""

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """The floating point type of its arithmetic."""
        ...

    @property
    def magnitude(self) -> float:
        """What rounding in its products is relative to where that is more than sigma1, else 0."""
        ...

    def gram(self, rows: Tensor) -> Image:
        """X W^T and X W^T W, the weights read once."""
        ...


@dataclass(frozen=True, eq=False)
class Triplets:
    """Leading singular triplets, largest first.

    sigma [k], v [k, in], u [k, out]; residual [k] is |W^T u - sigma v| with rounding added; gap [k] a lower
    estimate of each sigma's distance to all others, 0 where nothing is known; bound [k] the bound on the sine
    of each vector's angle to the true one, plane_bound that on the largest angle between the first k right
    (or left) vectors' span and the true one, 1 where nothing is known. `chance` is the probability, over the
    random start, that gaps and bounds rest on a value the iteration has missed; 0 on the exact path. v or u
    is None where that space is not defined.
    """

    sigma: Tensor
    v: Tensor | None
    u: Tensor | None
    residual: Tensor
    gap: Tensor
    bound: Tensor
    plane_bound: float = 1.0
    chance: float = 0.0

    @property
    def swapped(self) -> "Triplets":
        """Those of the transposed map."""
        return Triplets(
            self.sigma, self.u, self.v, self.residual, self.gap, self.bound, self.plane_bound, self.chance
        )

    def first(self, k: int) -> "Triplets":
        """The first k of them."""
        v, u = (None if vectors is None else vectors[:k] for vectors in (self.v, self.u))
        plane = self.plane_bound if k == len(self.sigma) else 1.0
        return Triplets(
            self.sigma[:k], v, u, self.residual[:k], self.gap[:k], self.bound[:k], plane, self.chance
        )


def certify(
    linear_map: GramMap,
    v: Tensor,
    k: int,
    upper: Sequence[float | None],
    chance: float = 0.0,
    plane_upper: float | None = None,
) -> Triplets:
    """The k triplets that orthonormal right vectors v [m, in], m >= k, hold, and what follows for them.

    The rows are turned to their Ritz vectors. `upper[i]` is what all singular values after the first i+1 lie
    below, None where that is unknown: then nothing is stated of that vector, nor of those after it;
    `plane_upper` what those after the kth do, where the first k are not told apart. Works in the map's
    precision, which should be float64.
    """
    image = linear_map.gram(v)
    turn = eigen(image.out @ image.out.T)[1].flip(1)[:, :k].T
    v, out, back = turn @ v, turn @ image.out, turn @ image.back
    sigma = torch.linalg.vector_norm(out, dim=1)
    u = out / sigma[:, None].clamp(min=torch.finfo(sigma.dtype).tiny)
    leftover = torch.linalg.vector_norm(back - sigma.square()[:, None] * v, dim=1)
    sigma, leftover = sigma.double().cpu(), leftover.double().cpu()
    rounding = ROUNDING * rounding_unit(linear_map, float(sigma[0]))
    residual = (leftover + rounding) / sigma.clamp(min=torch.finfo(torch.float64).tiny)
    gap, bound, plane = bounds(sigma, residual, upper)
    if plane_upper is not None:
        plane = min(plane, _plane_bound(sigma, residual, plane_upper))
    return Triplets(sigma, v, u, residual, gap, bound, plane, chance)


def rounding_unit(linear_map: GramMap, sigma1: float) -> float:
    """eps * sigma1^2: what rounding in W^T W v is of the order of. For factors that cancel it is more."""
    return torch.finfo(linear_map.dtype).eps * sigma1 * max(sigma1, linear_map.magnitude)


def bounds(sigma: Tensor, residual: Tensor, upper: Sequence[float | None]) -> tuple[Tensor, Tensor, float]:
    """gap [k], bound [k] and plane_bound from sigma [k], residual [k], and `upper` as certify has it."""
    k = len(sigma)
    gap, bound = torch.zeros(k, dtype=torch.float64), torch.ones(k, dtype=torch.float64)
    known = next((i for i, one in enumerate(upper) if one is None), k)
    for i in range(known):
        here, left = float(sigma[i]), float(residual[i])
        others = [float(one) for one in upper[i : i + 1] if one is not None]
        if i:
            others.append(float(sigma[i - 1] - residual[i - 1]))
        if others[0] >= here or (i and others[1] <= here):
            continue
        gap[i] = min(abs(here - other) for other in others)
        distance = min(abs(here - other) * (here + other) for other in others)
        if gap[i] <= left or distance <= here * left:
            continue
        wedin = left / float(gap[i])
        davis_kahan = here * left / distance
        grown = float(sigma[0] + residual[0]) / (here - left) if i else 1.0
        bound[i] = min(1.0, wedin, davis_kahan * grown)
    return gap, bound, _plane_bound(sigma, residual, upper[k - 1] if known == k else None)


def _plane_bound(sigma: Tensor, residual: Tensor, upper: float | None) -> float:
    """|R|_F / (sigma_k - the next): Wedin's theorem for the first k vectors together."""
    if upper is None:
        return 1.0
    left, gap = float(residual.square().sum().sqrt()), float(sigma[-1]) - upper
    return min(1.0, left / gap) if gap > left else 1.0
