"""Leading singular triplets by block Golub-Kahan-Lanczos with full reorthogonalisation.

(Golub and Kahan 1965; block form after Golub, Luk and Overton 1981.) Two bases of orthonormal rows grow
side by side, V in the input space and U in the output space, with W V^T = U^T B^T kept exactly: B holds the
coefficients that were really subtracted, so rounding, rank deficiency and random refills never break it.
A block finds ties up to its size, which a single vector cannot.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from audit.linear_map import LinearMap
from audit.svd.triplets import Triplets, certify, sine_bound

ANGLE_TARGET = 4e-5
"""The bound on the sine of each leading vector's angle that is worked towards; two keep |cos| to 1e-4."""

MAX_BASIS = 640
"""Basis vectors after which the exact path is the cheaper one."""


@dataclass(frozen=True, eq=False)
class Ritz:
    """What one look at B tells: values, their residual estimates, and coefficients of the vectors."""

    sigma: Tensor
    residual: Tensor
    v: Tensor
    u: Tensor


@dataclass(frozen=True, eq=False)
class Leaders:
    """Certified triplets, and what a finer run can start from.

    `block` [b, in] are the leading Ritz vectors, more of them than triplets; `next_sigma` is the upper
    estimate of the first singular value left out that the bounds rest on.
    """

    triplets: Triplets
    block: Tensor
    next_sigma: float


class Basis:
    """Orthonormal rows [filled, dim] that grow block by block."""

    def __init__(self, dim: int, like: LinearMap, generator: torch.Generator) -> None:
        """An empty basis of R^dim on the map's device."""
        self._rows = torch.empty(0, dim, dtype=like.dtype, device=like.device)
        self._generator = generator
        self.filled = 0

    @property
    def rows(self) -> Tensor:
        """The basis so far."""
        return self._rows[: self.filled]

    def extend(self, block: Tensor) -> Tensor:
        """Add the block's new directions; the coefficients C with block = C @ rows, [b, filled].

        A row that brings nothing new is replaced by a random one, with coefficient zero. A full basis takes
        no more.
        """
        start = self.filled
        taken = min(len(block), self._rows.shape[1] - start)
        self._reserve(start + taken)
        coefficients = block.new_zeros(len(block), start + taken)
        for i, row in enumerate(block):
            remainder, seen = self._project_out(row)
            coefficients[i, : self.filled] = seen
            if i >= taken:
                continue
            norm = torch.linalg.vector_norm(remainder)
            if norm > 8 * torch.finfo(row.dtype).eps * torch.linalg.vector_norm(row):
                coefficients[i, self.filled] = norm
            else:
                remainder, norm = self._fresh_direction()
            self._rows[self.filled] = remainder / norm
            self.filled += 1
        return coefficients

    def _reserve(self, size: int) -> None:
        if size > len(self._rows):
            room = min(max(2 * len(self._rows), size, 32), self._rows.shape[1])
            self._rows = torch.cat(
                [self._rows, self._rows.new_empty(room - len(self._rows), self._rows.shape[1])]
            )

    def _project_out(self, row: Tensor) -> tuple[Tensor, Tensor]:
        """The row less its part in the basis, and that part's coefficients; twice is enough."""
        seen = self.rows @ row
        row = row - seen @ self.rows
        again = self.rows @ row
        return row - again @ self.rows, seen + again

    def _fresh_direction(self) -> tuple[Tensor, Tensor]:
        noise = torch.randn(self._rows.shape[1], generator=self._generator, dtype=torch.float64).to(
            self._rows
        )
        remainder, _ = self._project_out(noise)
        remainder, _ = self._project_out(remainder)
        return remainder, torch.linalg.vector_norm(remainder)


def leading_triplets(
    linear_map: LinearMap, start: Tensor, k: int, generator: torch.Generator, next_sigma: float = 0.0
) -> Leaders | None:
    """The k leading triplets, started from the rows of `start` [b, in] with b > k; None if not converged.

    Converged means: each angle's sine is bounded by ANGLE_TARGET, or the residual has reached rounding.
    `next_sigma` is an earlier run's estimate, which this one may raise but not lower. Needs in <= out; a
    map the other way round goes in transposed.
    """
    out_dim, in_dim = linear_map.shape
    right, left = Basis(in_dim, linear_map, generator), Basis(out_dim, linear_map, generator)
    right.extend(start)
    previous, rows_of_b, passes, next_look = 0, [], 0, 1
    while True:
        passes += 1
        first = left.filled
        rows_of_b.append(left.extend(linear_map.matmul(right.rows[previous:])).double().cpu())
        previous = right.filled
        coefficients = right.extend(linear_map.rmatmul(left.rows[first:]))
        complete = right.filled == previous
        spent = right.filled > MAX_BASIS
        if passes >= next_look or complete or spent:
            next_look = max(passes + 1, int(1.15 * passes))
            ritz = _look(rows_of_b, left.filled, coefficients[:, previous:].double().cpu())
            if complete or _converged(ritz, k, linear_map.dtype):
                return _lift(linear_map, ritz, (right.rows[:previous], left.rows), k, len(start), next_sigma)
            if spent:
                return None


def _look(rows_of_b: list[Tensor], width: int, outgoing: Tensor) -> Ritz:
    """Singular triplets of B [filled v, filled u], with |W^T u - sigma v| from the last block's outgoing."""
    b = torch.cat([torch.nn.functional.pad(rows, (0, width - rows.shape[1])) for rows in rows_of_b])
    x, sigma, yt = torch.linalg.svd(b, full_matrices=False)
    residual = torch.linalg.vector_norm(yt[:, width - len(outgoing) :] @ outgoing, dim=1)
    return Ritz(sigma, residual, x.T, yt)


def _converged(ritz: Ritz, k: int, dtype: torch.dtype) -> bool:
    if len(ritz.sigma) <= k:
        return False
    sigma, residual = ritz.sigma, ritz.residual
    floor = 4 * torch.finfo(dtype).eps * sigma[0]
    below = sigma[:k] - sigma[1 : k + 1] - residual[1 : k + 1]
    gap = torch.minimum(below, torch.cat([below[:1], sigma[: k - 1] - sigma[1:k]]))
    return bool(((sine_bound(residual[:k], gap) <= ANGLE_TARGET / 2) | (residual[:k] <= floor)).all())


def _lift(
    linear_map: LinearMap, ritz: Ritz, bases: tuple[Tensor, Tensor], k: int, width: int, next_sigma: float
) -> Leaders:
    """Ritz vectors in the full spaces, normalised, and certified on the map."""
    right, left = bases
    block = torch.nn.functional.normalize(ritz.v[:width].to(right) @ right, dim=1)
    u = torch.nn.functional.normalize(ritz.u[:k].to(left) @ left, dim=1)
    if len(ritz.sigma) > k:
        next_sigma = max(next_sigma, float(ritz.sigma[k] + ritz.residual[k]))
    return Leaders(certify(linear_map, ritz.sigma[:k], block[:k], u, next_sigma), block, next_sigma)
