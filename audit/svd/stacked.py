"""The leading directions of stacked experts, in the space that faces the residual stream.

A stack is a linear map like another, but that its weights are read anew for each pass. So its iteration has a
wide block, which needs few passes; each multiplies by one expert after the other. With --full one pass adds
up the experts' Gram matrix on the side of the residual stream, whose eigenvectors are all of the stack's
singular vectors, its eigenvalues their sigma^2.
"""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from audit.experts import ExpertStack
from audit.linear_map import Dense, Image
from audit.svd.eigen import eigen
from audit.svd.exact import SPARE, ZERO, following
from audit.svd.lanczos import leading_vectors
from audit.svd.triplets import Triplets, certify
from registry import Space

WIDE = 32
"""Rows of the iteration's block: a pass over the experts costs more than the products."""


@dataclass(frozen=True, eq=False)
class Stacked:
    """Experts as one map [inner of all, hidden] in a precision, read anew with each use; vectors on the
    CPU."""

    stack: ExpertStack
    dtype: torch.dtype

    @property
    def shape(self) -> tuple[int, int]:
        """(inner of all, hidden)."""
        return (sum(slot_inner(self.stack)), self.stack.hidden)

    @property
    def magnitude(self) -> float:
        """Experts add up, and do not cancel."""
        return 0.0

    def gram(self, rows: Tensor) -> Image:
        """One pass over the experts."""
        out, back = [], torch.zeros_like(rows)
        for expert in self.stack.readers():
            precise = expert.double() if self.dtype == torch.float64 else expert
            image = precise.gram(rows.to(precise.device))
            out.append(image.out.to(rows.device))
            back += image.back.to(rows.device)
        return Image(torch.cat(out, dim=1), back)


def slot_inner(stack: ExpertStack) -> Iterator[int]:
    """Each expert's side that does not face the residual stream."""
    for slot in stack.slots:
        yield slot.shape[0] if stack.facing == "v" else slot.shape[1]


def gram_of(readers: Iterable[Dense], hidden: int) -> Tensor:
    """sum_e W_e^T W_e [d, d] in float64, of experts [inner, d] that each come once."""
    total: Tensor | None = None
    for expert in readers:
        weight = expert.double().matrix()
        total = weight.new_zeros(hidden, hidden) if total is None else total
        total.addmm_(weight.T, weight)
    return torch.zeros(hidden, hidden, dtype=torch.float64) if total is None else total


def leading_of_stack(stack: ExpertStack, k: int, name: str, *, precisely: bool) -> Triplets:
    """The k leading directions of finite, non-zero experts, with bounds, in the space they face.

    The other space's vectors are None. Works in float32, with `precisely` in float64; certifies in float64.
    """
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    start = torch.randn(min(WIDE, stack.hidden), stack.hidden, generator=generator, dtype=torch.float64)
    work = Stacked(stack, torch.float64 if precisely else torch.float32)
    found = leading_vectors(work, start.to(work.dtype), k, generator)
    if found is None:
        return leading_of_spectrum(stack, *spectrum_of(gram_of(stack.readers(), stack.hidden)), k)
    exact = Stacked(stack, torch.float64)
    block = found.block[: k + SPARE]
    kept = min(k, len(block))
    return _faced(certify(exact, block, kept, found.upper, found.chance, found.plane_upper), stack.facing)


def leading_of_spectrum(stack: ExpertStack, sigma: Tensor, vectors: Tensor, k: int) -> Triplets:
    """The k leading directions out of all of a stack's, certified by one more pass over the experts."""
    k = min(k, len(sigma))
    rank = min(stack.hidden, sum(slot_inner(stack)))
    upper = following(sigma, rank, torch.finfo(torch.float64).eps * float(sigma[0]) ** 2, k)
    block = vectors[: k + SPARE].cpu()
    return _faced(certify(Stacked(stack, torch.float64), block, k, upper), stack.facing)


def spectrum_of(gram: Tensor) -> tuple[Tensor, Tensor]:
    """All non-zero singular values, largest first, and their vectors as rows, of a stack's Gram matrix."""
    values, vectors = eigen(gram)
    sigma = values.flip(0).clamp(min=0).sqrt()
    kept = int((sigma > ZERO * sigma[0]).sum())
    return sigma[:kept].cpu(), vectors.T.flip(0)[:kept]


def _faced(triplets: Triplets, facing: Space) -> Triplets:
    """Those of a reader-wise map, in the space that faces the residual stream; the other one is open."""
    kept = triplets.first(int((triplets.sigma > ZERO * triplets.sigma[0]).sum()))
    alone = replace(kept, u=None)
    return alone if facing == "v" else alone.swapped
