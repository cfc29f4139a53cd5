"""Random matrices of every kind of spectrum, from flat to spiked, tied, graded and rank-deficient."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from audit.linear_map import Dense
from audit.product import Product

SPECTRA = ("uniform", "flat", "spiked", "tied pair", "near tie", "graded", "low rank", "rank one")
"""Kinds that `known_matrices` draws from, with the same singular values to rounding."""

CROWDED = ("clustered", "multiple", "geometric", "plateau")
"""Kinds whose depth or number of leaders is drawn too."""

BUILT = ("outlier coordinate", "copies", "near copies", "product", "cancelling product")
"""Kinds made otherwise than from a spectrum. `copies` ties every singular value exactly, in any precision."""

KINDS = (*SPECTRA, *CROWDED, *BUILT)

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def spectrum(kind: str, r: int, rng: np.random.Generator) -> np.ndarray:
    """r singular values of a kind, largest first."""
    bulk = np.sort(rng.uniform(0.1, 1, r))[::-1]
    match kind:
        case "flat":
            return 1 + 1e-3 * bulk
        case "spiked":
            bulk[: min(3, r)] = [9, 5, 3][: min(3, r)]
        case "tied pair":
            bulk[: min(2, r)] = 5
        case "near tie":
            bulk[: min(2, r)] = [5, 5 * (1 - 1e-4)][: min(2, r)]
        case "graded":
            return 10.0 ** -np.linspace(0, 12, r)
        case "low rank":
            bulk[max(1, r // 3) :] = 0
        case "rank one":
            bulk[1:] = 0
        case "clustered" | "multiple":
            # up to two leaders that stand apart, then 2 to 8 that are tied or nearly so
            first, count = rng.integers(0, 3), rng.integers(2, 9)
            spread = 0.0 if kind == "multiple" else 10.0 ** -rng.uniform(2, 12)
            apart = 5 * (1 - spread * np.sort(rng.uniform(0, 1, count)))
            leaders = np.concatenate([[9, 7][:first], apart])[:r]
            bulk[: len(leaders)] = leaders
        case "geometric":
            return rng.uniform(0.2, 0.995) ** np.arange(r)
        case "plateau":
            return 1 + 10.0 ** -rng.uniform(2, 12) * bulk
    return bulk


def with_spectrum(out: int, in_: int, sigma: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random matrix [out, in] with these singular values."""
    u = np.linalg.qr(rng.standard_normal((out, len(sigma))))[0]
    v = np.linalg.qr(rng.standard_normal((in_, len(sigma))))[0]
    return (u * sigma) @ v.T


@dataclass(frozen=True)
class Known:
    """A matrix [out, in] and its singular values; printed without its numbers."""

    weight: np.ndarray
    sigma: np.ndarray
    kind: str
    seed: int

    def __repr__(self) -> str:
        return f"Known({self.weight.shape}, {self.kind!r}, seed={self.seed})"


@st.composite
def known_matrices(draw: st.DrawFn, largest: int = 60) -> Known:
    """A random matrix of any kind of spectrum."""
    out, in_ = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    kind = draw(st.sampled_from(SPECTRA))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    sigma = spectrum(kind, min(out, in_), rng)
    return Known(with_spectrum(out, in_, sigma, rng), sigma, kind, seed)


@dataclass(frozen=True, eq=False)
class Sample:
    """A linear map in its stored dtype, drawn by its seed."""

    linear_map: Dense | Product
    kind: str
    seed: int

    @property
    def factors(self) -> tuple[np.ndarray, ...]:
        """The matrices that multiplied give it exactly, in float64: two of a product, else one."""
        linear_map = self.linear_map
        parts = (linear_map.left, linear_map.right) if isinstance(linear_map, Product) else (linear_map,)
        return tuple(part.weight.double().numpy() for part in parts)

    @cached_property
    def matrix(self) -> np.ndarray:
        """The float64 matrix [out, in] that it stands for."""
        # longer numbers where the machine has them: cancelling leaves the rounding of what has cancelled
        first, *rest = self.factors
        if not rest:
            return first
        return (first.astype(np.longdouble) @ rest[0].astype(np.longdouble)).astype(np.float64)

    def __repr__(self) -> str:
        return f"Sample({self.linear_map.shape}, {self.kind!r}, {self.linear_map.dtype}, seed={self.seed})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))  # Hypothesis would print every number


def sample(seed: int, largest: int = 60, kind: str | None = None, smallest: int = 1) -> Sample:
    """The map that a seed stands for: kind, shape, stored dtype and scale are all drawn from it.

    Sides are drawn evenly on a logarithmic scale, so that vectors and 2 x 2 matrices come up often.
    """
    rng = np.random.default_rng(seed)
    drawn = str(rng.choice(KINDS))
    kind = drawn if kind is None else kind
    out, in_ = (int(side) for side in np.exp(rng.uniform(np.log(smallest), np.log(largest + 1), 2)))
    if rng.random() < 0.2:
        in_ = out
    dtype = DTYPES[rng.choice(len(DTYPES), p=[0.25, 0.35, 0.3, 0.1])]
    if "product" in kind:
        found = Sample(stored(_factors(kind, out, in_, rng), dtype), kind, seed)
        if found.matrix.any():
            return found
    scale = 1.0 if dtype == torch.float16 else 10.0 ** rng.uniform(-6, 6)  # float16 ends at 65504
    return Sample(stored((scale * _matrix(kind, out, in_, rng),), dtype), kind, seed)


def stored(factors: Sequence[np.ndarray], dtype: torch.dtype) -> Dense | Product:
    """A matrix, or two as a product, rounded to a dtype."""
    made = [Dense(torch.from_numpy(np.ascontiguousarray(factor)).to(dtype)) for factor in factors]
    return Product(*made) if len(made) == 2 else made[0]


def next_layer(drawn: Sample, turned: bool | None = None) -> Sample:
    """A map of the same shape and dtype that shares directions with this one: it with noise, or turned.

    Turned means that each two right singular vectors are turned by 45 degrees in their plane, where |cos|
    is most sensitive to an error in them.
    """
    rng = np.random.default_rng([drawn.seed, 1])
    noise = 10.0 ** rng.uniform(-3, 0.5)
    if turned or (turned is None and len(drawn.factors) == 1 and rng.random() < 0.3):
        u, sigma, v = np.linalg.svd(drawn.matrix, full_matrices=False)
        pairs = len(v) // 2
        first, second = v[: 2 * pairs : 2].copy(), v[1 : 2 * pairs : 2].copy()
        v[: 2 * pairs : 2], v[1 : 2 * pairs : 2] = (first + second) / 2**0.5, (second - first) / 2**0.5
        factors = [(u * sigma) @ v]
    else:
        factors = [
            factor
            + noise * np.linalg.norm(factor, 2) / len(factor) ** 0.5 * rng.standard_normal(factor.shape)
            for factor in drawn.factors
        ]
    linear_map = drawn.linear_map
    dtype = (linear_map.left if isinstance(linear_map, Product) else linear_map).weight.dtype
    return Sample(stored(factors, dtype), drawn.kind, drawn.seed)


def _matrix(kind: str, out: int, in_: int, rng: np.random.Generator) -> np.ndarray:
    """A matrix [out, in] of a kind; copies round its sides down to what the copies fill."""
    match kind:
        case "copies" | "near copies":
            count = int(rng.integers(2, 7))
            one = rng.standard_normal((max(out // count, 1), max(in_ // count, 1)))
            apart = 10.0 ** -rng.uniform(2, 12) if kind == "near copies" else 0.0
            stacked = np.kron(np.diag(1 - apart * np.arange(count)), one)
            return stacked[rng.permutation(len(stacked))][:, rng.permutation(stacked.shape[1])]
        case "outlier coordinate":
            matrix = rng.standard_normal((out, in_))
            matrix[:, rng.integers(in_)] *= 10.0 ** rng.uniform(1, 6)
            return matrix / np.abs(matrix).max()
    return with_spectrum(out, in_, spectrum(kind, min(out, in_), rng), rng)


def _factors(kind: str, out: int, in_: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two factors of a product [out, in]; in a cancelling one most of what they carry drops out."""
    inner = int(rng.integers(1, 1 + min(out, in_)))
    left, right = rng.standard_normal((out, inner)), rng.standard_normal((inner, in_))
    if kind == "cancelling product":
        again = right + 10.0 ** -rng.uniform(0, 4) * rng.standard_normal(right.shape)
        return np.hstack([left, -left]), np.vstack([right, again])
    return left, right


@st.composite
def samples(draw: st.DrawFn, largest: int = 60) -> Sample:
    """A map of any kind, drawn by kind and seed so that a failure names both."""
    kind = draw(st.sampled_from(KINDS))
    return sample(draw(st.integers(0, 2**32 - 1)), largest, kind)
