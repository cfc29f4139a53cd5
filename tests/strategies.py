"""Random matrices whose singular values are known, from flat to spiked, tied, graded and rank-deficient."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

SPECTRA = ("uniform", "flat", "spiked", "tied pair", "near tie", "graded", "low rank", "rank one")


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
