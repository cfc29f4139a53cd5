"""What a Krylov run from a random start cannot have missed, and with what probability it has.

Ritz values bound singular values from below only: a run whose start is orthogonal to a direction never sees
it. How likely that is can be computed from the run itself. After block Lanczos on A = W^T W from an
orthonormal block Q_1 [b, n], A Q^T = Q^T T + Q_{j+1}^T F, where F couples the next block in. Multiply by a
true unit eigenvector x of A with eigenvalue l: with T = S diag(theta) S^T and y = Q x, z = Q_{j+1} x,

    (T - l) y = -F^T z,   so   Q_1 x = C(l) z,   C(l) = -S_1 diag(1 / (theta - l)) (F S)^T,   |z| <= 1,

S_1 being the first b rows of S. So |Q_1 x| <= |C(l)| =: tau(l), which falls off exponentially with the steps
made, but near the Ritz values. And for a fixed x the start's |Q_1 x|^2 follows Beta(b/2, (n-b)/2): that it is
below tau^2 has a probability, `missed`, that no property of W can raise. (The bound on the overlap is that
of the Christoffel function of the run; compare Kuczynski and Wozniakowski 1992, who bound the error before
the run, for any spectrum.)

Two directions with values in one narrow window around theta_i show as one Ritz value only if the start sees
both alike: up to tau' = |C without the term of theta_i|, both Q_1 x are parallel to column i of S_1, so that
one lies within 2 tau' of the line of the other: a Beta law again, with one dimension less. More generally,
k+1 directions in a window around k Ritz values lie up to tau' in the span of k columns, so that one of them
lies within (k+1) tau' of the span of the others.
"""

from dataclasses import dataclass
from math import exp, lgamma, log

import torch
from torch import Tensor

WINDOW = 0.2
"""Half the width of the window around a Ritz value, as a share of its distance to its nearest neighbour."""

PROBES = tuple(i / 20 for i in range(1, 21))
"""Where between a Ritz value and the window above it the overlap is bounded, as shares of the distance."""

SAFETY = 1.25
"""What the overlap may rise by between two probes: it has no pole there."""

DECLARED = 1e-6
"""The highest probability, over the random start, that any of a matrix's statements is wrong."""


NONE = slice(0)
"""No Ritz value."""


@dataclass(frozen=True, eq=False)
class Run:
    """A block Lanczos run on A, [n, n], looked at: T's eigenvalues theta [m], largest first.

    `first` [b, m] are the first b rows of its eigenvectors, `out` [b, m] the residual vectors of the Ritz
    pairs in the next block's coordinates, `noise` the norm of what rounding adds to the recurrence.
    """

    n: int
    theta: Tensor
    first: Tensor
    out: Tensor
    noise: float

    def overlap(self, values: Tensor, without: slice = NONE) -> Tensor:
        """tau [p]: no eigenvector of A with the eigenvalue values[p] has a larger part in the start.

        The terms of some Ritz values may be left out.
        """
        distance = self.theta[:, None] - values
        distance[distance.abs() < self.noise] = self.noise
        weight = 1 / distance
        weight[without] = 0
        distance[without] = float("inf")
        # the Frobenius norm, which is no smaller than the spectral one
        corner = torch.einsum("im,mp,jm->pij", self.first, weight, self.out).flatten(1)
        rounding = self.noise / distance.abs().amin(dim=0)
        norm: Tensor = torch.linalg.vector_norm(corner, dim=1)
        return norm + rounding


def missed(tau: float, b: int, n: int) -> float:
    """P(|Q x| <= tau) for a fixed unit x in R^n and a random b-dimensional subspace, from above.

    |Q x|^2 follows Beta(b/2, (n-b)/2), whose density is at most t^(b/2 - 1) / B(b/2, (n-b)/2) for b <= n-2.
    """
    if tau <= 0:
        return 0.0
    if b < 1 or b > n - 2:
        return 1.0
    log_beta = lgamma(b / 2) + lgamma((n - b) / 2) - lgamma(n / 2)
    return min(1.0, exp(min(0.0, b * log(tau) + log(2 / b) - log_beta)))


@dataclass(frozen=True)
class Statement:
    """Exactly i eigenvalues of A lie above `upper`, each in the window of its Ritz value.

    `chance` is the probability that this is wrong; of k statements each may have DECLARED / k.
    """

    upper: float
    chance: float


NOTHING = Statement(float("inf"), 1.0)


def statements(run: Run, k: int) -> tuple[Statement, ...]:
    """For i = 1 .. k what can be stated of the first i eigenvalues, with the lowest `upper` that is allowed.

    Were there one more above `upper`, two of the first i+1 eigenvectors would share a window, or one of them
    would lie in none.
    """
    theta = run.theta
    known = min(k, len(theta) - 1)
    between = theta[:known] - theta[1 : known + 1]
    near = torch.minimum(between, torch.cat([between[:1], between[:-1]]))
    made: list[Statement] = []
    alone, twins = 0.0, 0.0
    for i in range(known):
        if WINDOW * near[i] <= run.noise:
            break
        ends = theta[i] + WINDOW * near[i] * torch.linspace(-1, 1, 5, dtype=theta.dtype)
        if i == 0:
            alone = SAFETY * float(run.overlap(ends[-1:]))
        twin = SAFETY * float(run.overlap(ends, without=slice(i, i + 1)).max())
        twins += missed(2 * twin, len(run.first) - 1, run.n - 1)
        probes = theta[i + 1] + torch.tensor(PROBES, dtype=theta.dtype) * (ends[0] - theta[i + 1])
        overlap = SAFETY * run.overlap(probes)
        upwards = overlap.flip(0).cummax(0).values.flip(0).clamp(min=alone).tolist()
        chances = [
            (i + 2) * missed(tau, len(run.first), run.n) + (i + 1) * (i + 2) * twins for tau in upwards
        ]
        best = next((one for one, chance in enumerate(chances) if chance <= DECLARED / k), -1)
        made.append(Statement(float(probes[best]), min(1.0, chances[best])))
        if i + 1 < known:
            top = torch.clamp(theta[i + 1 : i + 2] + WINDOW * near[i + 1], max=float(ends[0]))
            within = overlap[probes > top]
            alone = max([alone, SAFETY * float(run.overlap(top)), *within.tolist()])
    return (*made, *(NOTHING,) * (k - len(made)))


def plane_statement(run: Run, k: int) -> Statement:
    """That exactly k eigenvalues of A lie above `upper`, all in one window around the first k Ritz values.

    For leaders that are too near one another to be told apart, where these stand apart from the rest.
    """
    theta, b = run.theta, len(run.first)
    if len(theta) <= k or b <= k:
        return NOTHING
    margin = WINDOW * float(theta[k - 1] - theta[k])
    if margin <= run.noise:
        return NOTHING
    shares = torch.tensor(PROBES, dtype=theta.dtype)
    window = theta[k - 1] - margin + shares * (float(theta[0] - theta[k - 1]) + 2 * margin)
    hidden = SAFETY * float(run.overlap(torch.cat([theta[k - 1 : k] - margin, window]), slice(k)).max())
    low, high = float(theta[k - 1] + theta[k]) / 2, float(theta[k - 1]) - margin
    outside = torch.cat([low + shares * (high - low), theta[:1] + margin, theta.new_tensor([low])])
    alone = SAFETY * float(run.overlap(outside).max())
    chance = (k + 1) * (missed(alone, b, run.n) + missed((k + 1) * hidden, b - k, run.n - k))
    return Statement(low, min(1.0, chance))
