"""The exact path: every singular triplet, from the eigenvectors of the smaller Gram matrix.

The Gram matrix and its eigenvectors x are taken in float32, for half the time and memory, and sigma = |W^T x|
is taken anew: an error e in x costs sigma^2 an error of e^2 only. Where that is not good enough, because the
spectrum reaches further down than float32 can see beside sigma1, all of it is done in float64. Squaring
halves the digits of small singular values: in float64 those below 1e-7 sigma1, each a share of the energy
below 1e-14, count as zero.
"""

from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from audit.linear_map import PANELS, LinearMap
from audit.svd.eigen import LinAlgError, eigen
from audit.svd.lanczos import FAINT, leading_vectors, targets
from audit.svd.triplets import Triplets, certify

ZERO = 1e-7
"""Singular values below this share of the largest count as zero."""

SINGLE = 2**17
"""Entries up to which a matrix is factorised in float64 from the start."""

SPARE = 4
"""Vectors kept beyond the k asked for, to refine the leading ones with."""

FLOOR = 3e-3
"""The share of sigma1 down to which float32 resolves singular values."""

UNSEEN = 4e-6
"""The share of the energy that may lie below FLOOR, or be amiss in all, for float32 to do."""

DOUBT = 8e-5
"""What rounding may have added to WA for float32 to do."""

ALLOWANCE = 32.0
"""What may separate a computed sigma^2 from the true one, in rounding units."""


@dataclass(frozen=True, eq=False)
class Factorisation:
    """All r non-zero singular triplets, largest first: sigma [r] in float64, v [r, in], u [r, out].

    The vectors are in the precision of the route taken, whose rounding unit is `eps`.
    """

    sigma: Tensor
    v: Tensor
    u: Tensor
    eps: float = torch.finfo(torch.float64).eps

    @property
    def swapped(self) -> "Factorisation":
        """That of the transposed map."""
        return replace(self, v=self.u, u=self.v)

    @property
    def turn(self) -> Tensor:
        """The angle by which rounding may have turned each vector towards the nearest other one, [r]."""
        power = self.sigma.square()
        beyond = torch.full((1,), float("inf"), dtype=power.dtype)
        between = torch.cat([beyond, power[:-1] - power[1:], beyond])
        gap = torch.minimum(between[1:], between[:-1]).clamp(min=torch.finfo(power.dtype).tiny)
        return (FAINT * self.eps * power[:1] / gap).clamp(max=1.0)


def factorise(linear_map: LinearMap) -> Factorisation:
    """Every non-zero singular triplet of a finite map; r is 0 for a zero map.

    In float32 where that shows the whole spectrum. Works on the map's device, in float64 on the CPU where the
    device has no float64 (MPS).
    """
    single = linear_map.dtype == torch.float32 and linear_map.device.type != "mps"
    if single and prod(linear_map.shape) > SINGLE:
        found = _factorise(linear_map)
        if _is_whole(found, linear_map.frobenius_squared()):
            return found
        del found  # it holds as much as the matrix
    return _factorise(linear_map.double())


def singular_values(linear_map: LinearMap) -> Tensor:
    """All non-zero singular values, largest first, where no vectors are wanted; in float64."""
    core = linear_map.double().core().matrix
    if core.shape[0] > core.shape[1]:
        core = core.T
    sigma: Tensor = _eigenvalues(gram_matrix(core)).flip(0).clamp(min=0).sqrt().cpu()
    return sigma[sigma > ZERO * sigma[0]]


def _eigenvalues(gram: Tensor) -> Tensor:
    try:
        values: Tensor = torch.linalg.eigvalsh(gram)
    except LinAlgError:
        values, _ = eigen(gram)
    return values


def gram_matrix(matrix: Tensor) -> Tensor:
    """M M^T [n, n] of M [n, m], its lower triangle only."""
    gram = matrix.new_zeros(len(matrix), len(matrix))
    size = -(-len(matrix) // PANELS)
    for start in range(0, len(matrix), size):
        panel = matrix[start : start + size]
        torch.mm(matrix[start:], panel.T, out=gram[start:, start : start + len(panel)])
    return gram


def _factorise(linear_map: LinearMap) -> Factorisation:
    core = linear_map.core()
    matrix = core.matrix
    tall = matrix.shape[0] > matrix.shape[1]
    if tall:
        matrix = matrix.T
    short = eigen(gram_matrix(matrix))[1].T.flip(0)
    long = short @ matrix
    # |M^T u| keeps digits that the square root of an eigenvalue has lost
    sigma = torch.linalg.vector_norm(long, dim=1, dtype=_wide(long))
    left, right = core.left, core.right
    del core, matrix  # not needed any more, and as large as what is still to come
    order = torch.argsort(sigma, descending=True)
    order = order[sigma[order] > ZERO * sigma.max()] if len(order) else order
    if not torch.equal(order, torch.arange(len(sigma), device=order.device)):
        sigma, short = sigma[order], short[order]
        long = long[order]
    long /= sigma[:, None].to(long.dtype)
    u, v = (long, short) if tall else (short, long)
    return Factorisation(
        sigma.double().cpu(),
        v if right is None else v @ right,
        u if left is None else u @ left,
        torch.finfo(long.dtype).eps,
    )


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def _is_whole(found: Factorisation, energy: float) -> bool:
    """Whether float32 saw all of the spectrum that matters to WA and effective rank."""
    share = found.sigma.square() / energy
    if not len(share):
        return False
    unseen = float(share[found.sigma < FLOOR * found.sigma[0]].sum())
    return unseen <= UNSEEN and abs(float(share.sum()) - 1) <= UNSEEN


def doubt(earlier: Factorisation, later: Factorisation) -> float:
    """What rounding may have added to the WA of two factorisations, as a root of summed squares.

    Rounding turns a vector towards its nearest neighbour in the spectrum, so its cosine changes by that angle
    times the neighbour's cosine, or its own.
    """
    kept = min(len(earlier.sigma), len(later.sigma))
    share = earlier.sigma[:kept].square() / earlier.sigma.square().sum()
    turn = earlier.turn[:kept] + later.turn[:kept]
    worst = 0.0
    for a, b in ((earlier.v, later.v), (earlier.u, later.u)):
        if a.shape[1] == b.shape[1] and a.shape[1]:
            cosine = _nearby(a[:kept], b[:kept].to(a)).double().cpu()
            worst = max(worst, float((share * turn * cosine).square().sum().sqrt()))
    return worst


def _nearby(a: Tensor, b: Tensor) -> Tensor:
    """The largest |cos| between row i of a and rows i-1, i, i+1 of b, [r]."""
    cosine: Tensor = torch.linalg.vecdot(a, b).abs()
    if len(a) > 1:
        up, down = torch.linalg.vecdot(a[:-1], b[1:]).abs(), torch.linalg.vecdot(a[1:], b[:-1]).abs()
        cosine[:-1] = torch.maximum(cosine[:-1], up)
        cosine[1:] = torch.maximum(cosine[1:], down)
    return cosine


def leading_of(found: Factorisation, linear_map: LinearMap, k: int) -> Triplets:
    """The first k triplets of a map's factorisation, certified in float64; refined there where it helps."""
    if linear_map.turned:
        return leading_of(found.swapped, linear_map.transposed, k).swapped
    k = min(k, len(found.sigma))
    precise = linear_map.double()
    sigma1 = float(found.sigma[0])
    unit = found.eps * sigma1 * max(sigma1, linear_map.magnitude)
    upper = following(found.sigma, min(linear_map.shape), unit, k)
    block = torch.linalg.qr(found.v[: k + SPARE].to(precise.device, precise.dtype).T).Q.T
    triplets = certify(precise, block, k, upper)
    if found.eps < 1e-12 or bool((triplets.bound <= targets(k)).all()):
        return triplets
    refined = leading_vectors(precise, block, k, torch.Generator().manual_seed(0), upper)
    return triplets if refined is None else certify(precise, refined.block, k, upper)


def following(sigma: Tensor, rank: int, unit: float, k: int) -> list[float]:
    """What all singular values after the first i lie below, i = 1 .. k, given all that are not zero.

    `rank` is the smaller side of the map, `unit` the rounding unit of the Gram matrix that sigma^2 comes
    from; values not among them are below ZERO of the first.
    """
    power = [float(one) ** 2 + ALLOWANCE * unit for one in sigma[1 : k + 1]]
    last = (ZERO * float(sigma[0])) ** 2 + ALLOWANCE * unit if len(sigma) < rank else 0.0
    return [one**0.5 for one in [*power, last][:k]]
