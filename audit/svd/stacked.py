"""The leading directions of stacked experts, in the space that faces the residual stream.

One pass over the experts adds up their Gram matrix on that side; its eigenvectors are the stack's singular
vectors, its eigenvalues their sigma^2. Later passes multiply by the experts themselves, in float64: each
certifies the vectors at hand, and leaves better ones.

For an eigenpair (theta, x) of the Gram matrix A with residual r = A x - theta x and a gap delta between theta
and the rest of the spectrum, the angle to the true eigenvector is bounded by |r| / delta (Davis and Kahan
1970).
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.experts import ExpertStack
from audit.linear_map import Dense
from audit.svd.exact import ZERO
from audit.svd.lanczos import ANGLE_TARGET, leading_triplets
from audit.svd.triplets import ROUNDING, Triplets, sine_bound
from registry import Space

SPARE = 6
"""Vectors kept beyond the k asked for: the more, the faster passes over the experts converge."""

MAX_PASSES = 4
"""Passes that certify and refine; where sigma1 and sigma2 are close more would not tell them apart."""


@dataclass(frozen=True, eq=False)
class Block:
    """Orthonormal rows x [b, d], largest first, with their images A x [b, d] under the stack's Gram matrix A.

    `theta` [b] are the Rayleigh quotients.
    """

    x: Tensor
    image: Tensor
    theta: Tensor


def gram_of(readers: Iterable[Dense], hidden: int, *, exactly: bool) -> Tensor:
    """sum_e W_e^T W_e [d, d] in float64, of experts [inner, d] that each come once.

    Products are made in the experts' own precision, and in float64 with `exactly`.
    """
    total = torch.zeros(hidden, hidden, dtype=torch.float64)
    for expert in readers:
        weight = expert.double().weight if exactly else expert.weight
        if weight.device.type == "cuda":
            total = total.to(weight.device)
        total += (weight.T @ weight).to(total.device)
    return total


def leading_of_stack(stack: ExpertStack, gram: Tensor, k: int, name: str) -> Triplets:
    """The k leading directions of finite, non-zero experts whose Gram matrix [d, d] is given, with bounds.

    The vectors are in the space the stack faces; the other space's are None.
    """
    x = _first_block(gram, k, name)
    best: Triplets | None = None
    for _ in range(MAX_PASSES):
        block = _rotated(x, _apply(stack, x))
        found = _certified(block, k, stack.facing)
        if best is None or bool((found.bound < best.bound).any()):
            best = found
        if bool((best.bound <= ANGLE_TARGET / 2).all()):
            break
        x = _orthonormal(block.image)  # a step of subspace iteration
    assert best is not None
    return best


def spectrum_of(gram: Tensor) -> tuple[Tensor, Tensor]:
    """All non-zero singular values, largest first, and their vectors as rows, of a stack's Gram matrix."""
    values, vectors = torch.linalg.eigh(gram)
    sigma = values.flip(0).clamp(min=0).sqrt()
    kept = int((sigma > ZERO * sigma[0]).sum())
    return sigma[:kept].cpu(), vectors.T.flip(0)[:kept]


def _first_block(gram: Tensor, k: int, name: str) -> Tensor:
    """The Gram matrix's own leading eigenvectors, k and some more, as rows."""
    width = min(k + SPARE, len(gram))
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    start = torch.randn(width, len(gram), generator=generator, dtype=torch.float64).to(gram)
    found = leading_triplets(Dense(gram), start, min(k, width - 1), generator) if width > 1 else None
    block = torch.linalg.eigh(gram).eigenvectors.T.flip(0)[:width] if found is None else found.block
    return _orthonormal(block)


def _apply(stack: ExpertStack, x: Tensor) -> Tensor:
    """A x for rows x [b, d], in float64: one pass over the experts."""
    image = torch.zeros_like(x)
    for expert in stack.readers():
        precise = expert.double()
        image += precise.rmatmul(precise.matmul(x.to(precise.device))).to(image.device)
    return image


def _rotated(x: Tensor, image: Tensor) -> Block:
    """The block turned to its Ritz vectors."""
    inner = x @ image.T
    theta, turn = torch.linalg.eigh((inner + inner.T) / 2)
    theta, turn = theta.flip(0), turn.flip(1)
    return Block(turn.T @ x, turn.T @ image, theta)


def _certified(block: Block, k: int, facing: Space) -> Triplets:
    """The first k vectors with their residuals and what follows for their angles.

    As with Lanczos, nothing is thought to lie between the block and what it leaves out.
    """
    theta = block.theta.double().cpu().clamp(min=0)
    residual = torch.linalg.vector_norm(block.image - block.theta[:, None] * block.x, dim=1).double().cpu()
    residual = residual + 2 * ROUNDING * torch.finfo(torch.float64).eps * float(theta[0])
    upper = torch.cat([theta + residual, theta.new_zeros(1)])
    kept = min(k, int((theta > ZERO**2 * float(theta[0])).sum()))
    gap = torch.empty(kept, dtype=torch.float64)
    for i in range(kept):
        below = theta[i] - upper[i + 1]
        gap[i] = torch.minimum(below, theta[i - 1] - residual[i - 1] - theta[i]) if i else below
    sigma, vectors = theta[:kept].sqrt(), block.x[:kept]
    v, u = (vectors, None) if facing == "v" else (None, vectors)
    return Triplets(sigma, v, u, residual[:kept] / sigma, sine_bound(residual[:kept], gap))


def _orthonormal(rows: Tensor) -> Tensor:
    """Orthonormal rows that span the same."""
    q: Tensor = torch.linalg.qr(rows.T).Q
    return q.T
