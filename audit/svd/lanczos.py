"""Leading singular vectors by block Lanczos on W^T W, with full reorthogonalisation, from a random start.

(Golub and Kahan 1965; block form after Golub, Luk and Overton 1981.) One basis of orthonormal rows grows
block by block; A Q^T = Q^T T^T + (what leaves the basis) is kept exactly: T holds the coefficients that were
really subtracted, so that rounding, rank deficiency and random refills never break it. Each step reads the
weights once. A block finds ties up to its size, which a single vector cannot, and makes it so improbable that
anything was missed that the run itself can tell (audit/svd/chance.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.svd.chance import DECLARED, Run, Statement, plane_statement, statements
from audit.svd.eigen import eigen
from audit.svd.triplets import GramMap, bounds, rounding_unit

ANGLE_TARGET = 4e-5
"""The bound on the sine of the first vector's angle that is worked towards; two keep |cos| to 1e-4."""

NEXT_TARGET = 1e-4
"""The same for the vectors after it."""

MAX_BASIS = 640
"""Basis vectors after which the exact path is the cheaper one."""

NOISE = 32.0
"""What rounding may do to an eigenvalue, in units of eps * sigma1^2: 16 was seen, at 14336 x 4096."""

FAINT = 4.0
"""What it does to a single direction of the recurrence, likewise; a residual below this is all rounding."""

LARGE = 2**22
"""Entries of a map from which on a step costs more than a look at what it brought."""


@dataclass(frozen=True, eq=False)
class Leaders:
    """Where a run ended: Ritz vectors [b, in] in float64, leading ones first, and what can be stated.

    `upper[i]` bounds what follows the first i+1 singular values, None where that is not known; `plane_upper`
    what follows the first k, where these cannot be told apart; `chance` is that of any of these being wrong.
    """

    block: Tensor
    upper: tuple[float | None, ...]
    chance: float
    plane_upper: float | None = None


MOSTLY = 0.5
"""What must be left of a new direction of length one that is projected once more, to be one."""


class Basis:
    """Orthonormal rows [filled, dim] that grow block by block."""

    def __init__(self, start: Tensor, generator: torch.Generator) -> None:
        """The rows of `start`, made orthonormal."""
        self._rows = torch.empty(0, start.shape[1], dtype=start.dtype, device=start.device)
        self._generator = generator
        self.filled = 0
        self.extend(start)

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
        if taken == len(block):
            remainder, seen = self._project_out(block)
            q, r = torch.linalg.qr(remainder.T)
            # what is left of a row may be mostly rounding: once more, now that it has length one
            remainder, more = self._project_out(q.T)
            q, r_again = torch.linalg.qr(remainder.T)
            if bool((r_again.diagonal().abs() > MOSTLY).all()):
                self._rows[start : start + taken] = q.T
                self.filled += taken
                return torch.cat([seen + r.T @ more, (r_again @ r).T], dim=1)
        return self._extend_by_row(block, taken)

    def _extend_by_row(self, block: Tensor, taken: int) -> Tensor:
        coefficients = block.new_zeros(len(block), self.filled + taken)
        for i, row in enumerate(block):
            remainder, seen = self._project_out_twice(row)
            norm = torch.linalg.vector_norm(remainder)
            direction, more = self._project_out_twice(remainder / norm.clamp(min=torch.finfo(row.dtype).tiny))
            coefficients[i, : self.filled] = seen
            if i >= taken:
                continue
            length = torch.linalg.vector_norm(direction)
            if length > MOSTLY:
                coefficients[i, : self.filled] += norm * more
                coefficients[i, self.filled] = norm * length
            else:
                direction, length = self._fresh_direction()
            self._rows[self.filled] = direction / length
            self.filled += 1
        return coefficients

    def _reserve(self, size: int) -> None:
        if size > len(self._rows):
            room = min(max(2 * len(self._rows), size, 32), self._rows.shape[1])
            self._rows = torch.cat(
                [self._rows, self._rows.new_empty(room - len(self._rows), self._rows.shape[1])]
            )

    def _project_out(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The rows less their part in the basis, and that part's coefficients."""
        seen = rows @ self.rows.T
        return rows - seen @ self.rows, seen

    def _project_out_twice(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The same to the last digits; twice is enough."""
        rows, seen = self._project_out(rows)
        rows, again = self._project_out(rows)
        return rows, seen + again

    def _fresh_direction(self) -> tuple[Tensor, Tensor]:
        noise = torch.randn(self._rows.shape[1], generator=self._generator, dtype=torch.float64).to(
            self._rows
        )
        remainder, _ = self._project_out_twice(noise)
        return remainder, torch.linalg.vector_norm(remainder)


@dataclass(frozen=True, eq=False)
class Look:
    """Ritz values theta [m] of W^T W, largest first, with the rows' coefficients s [m, m] (columns: Ritz
    vectors) and what leaves the basis along each, `out` [b, m]."""

    theta: Tensor
    s: Tensor
    out: Tensor


def leading_vectors(
    linear_map: GramMap,
    start: Tensor,
    k: int,
    generator: torch.Generator,
    upper: Sequence[float | None] | None = None,
) -> Leaders | None:
    """The k leading right singular vectors, from the rows of `start` [b, in], drawn at random; b > k, or =
    in.

    None if not converged. Converged means: each angle's sine is bounded by ANGLE_TARGET and the bound is as
    good as certain, or the residual has reached rounding. Where `upper` is known already (see Leaders) any
    start will do.
    """
    right = Basis(start, generator)
    rows_of_t: list[Tensor] = []
    previous, next_look, slowly = 0, 2, linear_map.shape[0] * linear_map.shape[1] >= LARGE
    while True:
        known = right.filled
        rows_of_t.append(right.extend(linear_map.gram(right.rows[previous:]).back).double().cpu())
        complete, spent = right.filled == known, right.filled > MAX_BASIS
        if len(rows_of_t) >= next_look or complete or spent:
            next_look = len(rows_of_t) + 1 if slowly else max(len(rows_of_t) + 1, int(1.15 * len(rows_of_t)))
            look = _look(rows_of_t, known)
            unit = rounding_unit(linear_map, float(look.theta[0]) ** 0.5)
            if complete:
                return _complete(look, right.rows, k, len(start), NOISE * unit)
            if _converged(look, upper or _shown(look, k), k, FAINT * unit):
                run = Run(linear_map.shape[1], look.theta, look.s[: len(start)], look.out, FAINT * unit)
                stated = () if upper else statements(run, k)
                certain = upper or _uppers(stated)
                if _converged(look, certain, k, FAINT * unit):
                    chance = sum(one.chance for one in stated if one.chance <= DECLARED / k)
                    block = _lifted(look, right.rows[:known], max(k, len(start)))
                    plane = _plane(run, k) if None in certain else None
                    chance += plane.chance if plane else 0.0
                    return Leaders(block, tuple(certain), chance, plane.upper**0.5 if plane else None)
            if spent:
                return None
        previous = known


def _look(rows_of_t: list[Tensor], known: int) -> Look:
    """Eigenpairs of T, whose last rows reach beyond the basis that was multiplied."""
    last = rows_of_t[-1]
    earlier = [torch.nn.functional.pad(rows, (0, known - rows.shape[1])) for rows in rows_of_t[:-1]]
    t = torch.cat([*earlier, last[:, :known]])
    theta, s = eigen((t + t.T) / 2)
    theta, s = theta.flip(0), s.flip(1)
    return Look(theta, s, last[:, known:].T @ s[known - len(last) :])


def _shown(look: Look, k: int) -> tuple[float, ...]:
    """What follows the first i singular values as far as the run shows; there may be more all the same."""
    following = look.theta[1 : k + 1].clamp(min=0).sqrt()
    left = torch.linalg.vector_norm(look.out[:, 1 : k + 1], dim=0)
    return tuple((following + left / following.clamp(min=torch.finfo(torch.float64).tiny)).tolist())


def _plane(run: Run, k: int) -> Statement | None:
    found = plane_statement(run, k)
    return found if found.chance <= DECLARED / k else None


def _uppers(stated: tuple[Statement, ...]) -> tuple[float | None, ...]:
    allowed = DECLARED / max(1, len(stated))
    return tuple(max(one.upper, 0.0) ** 0.5 if one.chance <= allowed else None for one in stated)


def _converged(look: Look, upper: Sequence[float | None], k: int, noise: float) -> bool:
    if len(look.theta) <= k:
        return False
    sigma = look.theta[:k].clamp(min=0).sqrt()
    left = torch.linalg.vector_norm(look.out[:, :k], dim=0)
    _, bound, _ = bounds(sigma, left / sigma.clamp(min=torch.finfo(torch.float64).tiny), upper)
    return bool(((bound <= 0.8 * targets(k)) | (left <= noise)).all())


def targets(k: int) -> Tensor:
    """What each of k bounds is worked towards."""
    return torch.tensor([ANGLE_TARGET, *[NEXT_TARGET] * (k - 1)][:k], dtype=torch.float64)


def _complete(look: Look, rows: Tensor, k: int, b: int, noise: float) -> Leaders:
    """The basis is the whole space: nothing can have been missed."""
    following = [*(look.theta[1 : k + 1].clamp(min=0) + noise).sqrt().tolist(), 0.0]
    return Leaders(_lifted(look, rows, max(k, b)), tuple(following[: min(k, len(look.theta))]), 0.0)


def _lifted(look: Look, rows: Tensor, count: int) -> Tensor:
    """Leading Ritz vectors in the whole space, orthonormal, in float64 where the device has it."""
    precise = torch.float32 if rows.device.type == "mps" else torch.float64
    block = look.s[:, :count].T.to(rows.device, precise) @ rows.to(precise)
    q: Tensor = torch.linalg.qr(block.T).Q
    return q.T
