"""Singular triplets of linear maps, with their error: fast where that suffices, exact where it does not."""

import zlib
from dataclasses import replace
from math import prod

import torch
from torch import Tensor

from audit.linear_map import LinearMap
from audit.svd.chance import DECLARED
from audit.svd.exact import (
    DOUBT,
    ZERO,
    Factorisation,
    doubt,
    factorise,
    following,
    leading_of,
    singular_values,
)
from audit.svd.lanczos import ANGLE_TARGET, NEXT_TARGET, leading_vectors, targets
from audit.svd.stacked import gram_of, leading_of_spectrum, leading_of_stack, spectrum_of
from audit.svd.triplets import Triplets, bounds, certify, rounding_unit

__all__ = [
    "ANGLE_TARGET", "DECLARED", "DOUBT", "NEXT_TARGET", "SMALL", "Factorisation", "Triplets", "doubt",
    "factorise", "gram_of", "leading", "leading_of", "leading_of_spectrum", "leading_of_stack", "spectrum_of",
    "values_and_leading",
]  # fmt: skip

SMALL = 2**20
"""Entries up to which float64 from the start is cheaper than finding out that float32 did not suffice."""

BLOCK = 4
"""Rows of the iteration's block at least: with fewer, it takes more steps to be sure what was not missed."""


def leading(linear_map: LinearMap, k: int, name: str) -> Triplets:
    """The k leading singular triplets of a finite, non-zero map, each with its error bound.

    Lanczos in the map's own precision (float64 for small maps), from a start block seeded by `name`,
    certified in float64; all of it in float64 where rounding left a bound above ANGLE_TARGET; the exact path
    where Lanczos does not converge. Fewer than k come back from a map of lower rank.
    """
    if linear_map.turned:
        return leading(linear_map.transposed, k, name).swapped
    precise = linear_map.double()
    if prod(linear_map.shape) <= SMALL:
        linear_map = precise
    found = _leading(linear_map, precise, k, name)
    if found is None and linear_map.dtype != precise.dtype:
        found = _leading(precise, precise, k, name)
    return found or leading_of(factorise(precise), precise, k)


def _leading(linear_map: LinearMap, precise: LinearMap, k: int, name: str) -> Triplets | None:
    """Triplets by Lanczos on `linear_map`, certified and if need be refined on `precise`, the same in
    float64.

    None where it did not converge, or its precision was not enough to tell what was not missed.
    """
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    width = min(max(k + 1, BLOCK), linear_map.shape[1])
    start = torch.randn(width, linear_map.shape[1], generator=generator, dtype=torch.float64)
    found = leading_vectors(linear_map, start.to(linear_map.device, linear_map.dtype), k, generator)
    if found is None:
        return None
    kept, coarse = min(k, len(found.block)), linear_map.dtype != precise.dtype
    block = found.block.to(precise.device, precise.dtype)
    triplets = certify(precise, block[:kept], kept, found.upper, found.chance, found.plane_upper)
    if coarse and None in found.upper:
        return None
    if coarse and bool((triplets.bound > targets(kept)).any()):
        refined = leading_vectors(precise, block, kept, generator, found.upper)
        if refined is not None:
            triplets = certify(precise, refined.block, kept, found.upper, found.chance)
    return _of_the_rank(triplets)


def values_and_leading(linear_map: LinearMap, k: int, name: str) -> tuple[Tensor, Triplets]:
    """Every non-zero singular value, and the k leading triplets with bounds that rest on those."""
    values, found = singular_values(linear_map), leading(linear_map, k, name)
    unit = rounding_unit(linear_map.double(), float(values[0]))
    upper = following(values, min(linear_map.shape), unit, len(found.sigma))
    gap, bound, plane = bounds(found.sigma, found.residual, upper)
    return values, replace(found, gap=gap, bound=bound, plane_bound=plane, chance=0.0)


def _of_the_rank(triplets: Triplets) -> Triplets:
    """Without the triplets whose sigma is no more than rounding: their vectors would be anything."""
    sigma = triplets.sigma
    return triplets.first(int(((sigma > ZERO * sigma[0]) & (sigma > triplets.residual)).sum()))
