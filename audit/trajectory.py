"""The path that one direction takes through depth: signs aligned, then principal components.

(Appendix A of arXiv:2605.04971.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

COMPONENTS = 3
MIN_LAYERS = 5
"""With fewer vectors than this, three components hold everything by construction."""


def align_signs(vectors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Walk the layers in order and flip each vector that turns its back on the one before it.

    A singular vector is defined up to sign; cosines in absolute value do not care, a drawn path does.
    """
    aligned: list[Tensor] = []
    for vector in vectors:
        aligned.append(-vector if aligned and float(aligned[-1] @ vector) < 0 else vector)
    return tuple(aligned)


@dataclass(frozen=True, eq=False)
class Path:
    """L vectors in their first three principal components: `points` [L, 3], `shares` of variance [3]."""

    points: Tensor
    shares: Tensor


def principal_path(vectors_Ld: Tensor) -> Path:
    """The rows, L2-normalised and mean-centred, in their first three principal components (L >= 3).

    Each component points from the first row towards the last, so that a path has one picture; with fewer than
    three dimensions the rest is zero.
    """
    rows = torch.nn.functional.normalize(vectors_Ld.double(), dim=1)
    left, sigma, _ = torch.linalg.svd(rows - rows.mean(dim=0), full_matrices=False)
    power = sigma.square()
    # identical rows leave nothing but rounding to share out
    shares = power / power.sum() if power.sum() > 1e-24 * len(rows) else torch.zeros_like(power)
    lacking = max(0, COMPONENTS - len(sigma))
    points, shares = (
        torch.nn.functional.pad(values[..., :COMPONENTS], (0, lacking)) for values in (left * sigma, shares)
    )
    return Path(torch.where(points[-1] < points[0], -points, points), shares)


@cache
def random_evr3(layers: int, d: int, draws: int = 256) -> float:
    """Mean share of the first three components for `layers` independent random unit vectors in R^d.

    Only their Gram matrix matters, so the rows are drawn in a rotated frame as the triangular factor of
    Bartlett's decomposition of a Wishart matrix: layers x layers numbers a draw, whatever d.
    """
    generator = np.random.default_rng(0)
    width = min(layers, d)
    diagonal = np.arange(width)
    rows = np.tril(generator.standard_normal((draws, layers, width)), k=-1)
    rows[:, diagonal, diagonal] = np.sqrt(generator.chisquare(d - diagonal, size=(draws, width)))
    rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    # one call for all draws: hundreds of small ones would wait for threads on a busy machine
    power = np.linalg.svd(rows - rows.mean(axis=1, keepdims=True), compute_uv=False) ** 2
    return float((power[:, :COMPONENTS].sum(axis=1) / power.sum(axis=1)).mean())
