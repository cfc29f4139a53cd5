"""Singular triplets of linear maps, with their error: fast where that suffices, exact where it does not."""

import zlib
from math import prod

import torch

from audit.linear_map import LinearMap
from audit.svd.exact import ZERO, Factorisation, factorise, leading_of
from audit.svd.lanczos import ANGLE_TARGET, leading_triplets
from audit.svd.stacked import gram_of, leading_of_stack, spectrum_of
from audit.svd.triplets import Triplets

__all__ = [
    "ANGLE_TARGET", "SMALL", "Factorisation", "Triplets", "factorise", "gram_of", "leading", "leading_of",
    "leading_of_stack", "spectrum_of",
]  # fmt: skip

SMALL = 2**20
"""Entries up to which float64 from the start is cheaper than finding out that float32 did not suffice."""


def leading(linear_map: LinearMap, k: int, name: str) -> Triplets:
    """The k leading singular triplets of a finite, non-zero map, each with its error bound.

    Lanczos in the map's own precision (float64 for small maps), from a start block seeded by `name`; once
    more in float64 from there where rounding left a bound above ANGLE_TARGET; the exact path where Lanczos
    does not converge. Fewer than k come back from a map of lower rank.
    """
    if linear_map.shape[1] > linear_map.shape[0]:
        swapped = leading(linear_map.transposed, k, name)
        return Triplets(swapped.sigma, swapped.u, swapped.v, swapped.residual, swapped.bound)
    if prod(linear_map.shape) <= SMALL:
        linear_map = linear_map.double()
    width = min(k + 2, linear_map.shape[1])
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    start = torch.randn(width, linear_map.shape[1], generator=generator, dtype=torch.float64)
    found = leading_triplets(linear_map, start.to(linear_map.device, linear_map.dtype), k, generator)
    if found is not None and (linear_map.dtype == torch.float64 or _good(found.triplets)):
        return _of_the_rank(found.triplets)
    precise = linear_map.double()
    if found is not None:
        start = found.block.to(precise.device, torch.float64)
        found = leading_triplets(precise, start, k, generator, found.next_sigma)
    return _of_the_rank(found.triplets) if found else leading_of(factorise(precise), precise, k)


def _good(triplets: Triplets) -> bool:
    return bool((triplets.bound <= ANGLE_TARGET).all())


def _of_the_rank(triplets: Triplets) -> Triplets:
    """Without the triplets whose sigma is no more than rounding: their vectors would be anything."""
    sigma = triplets.sigma
    kept = int(((sigma > ZERO * sigma[0]) & (sigma > triplets.residual)).sum())
    v, u = (None if vectors is None else vectors[:kept] for vectors in (triplets.v, triplets.u))
    return Triplets(sigma[:kept], v, u, triplets.residual[:kept], triplets.bound[:kept])
