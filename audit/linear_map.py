"""Linear maps: all that the SVD code knows of a projection.

A map W has shape [out, in] and acts on rows: matmul takes X [b, in] to X W^T [b, out], rmatmul takes
Y [b, out] to Y W [b, in]. Blocks of rows keep both products on BLAS's fast path whatever the storage order.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Core:
    """A map reduced to a matrix that carries its singular values: W = left^T matrix right.

    `left` [p, out] and `right` [q, in] have orthonormal rows; None stands for the identity.
    """

    matrix: Tensor
    left: Tensor | None = None
    right: Tensor | None = None


class LinearMap(Protocol):
    """A real matrix known by what it does."""

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """The floating point type of its arithmetic."""
        ...

    @property
    def device(self) -> torch.device:
        """Where its factors lie."""
        ...

    @property
    def transposed(self) -> "LinearMap":
        """W^T, sharing memory."""
        ...

    def matmul(self, rows: Tensor) -> Tensor:
        """X W^T: [b, in] to [b, out]."""
        ...

    def rmatmul(self, rows: Tensor) -> Tensor:
        """Y W: [b, out] to [b, in]."""
        ...

    def frobenius_squared(self) -> float:
        """The sum of its squared singular values."""
        ...

    def peak(self) -> float:
        """The largest magnitude in it (for a product, of its factors multiplied); NaN or Inf show here."""
        ...

    def normalised(self) -> "tuple[LinearMap, float]":
        """The map scaled to magnitudes around 1, and the factor that leads back."""
        ...

    def double(self) -> "LinearMap":
        """The same map in float64, on the CPU where its device has no float64."""
        ...

    def core(self) -> Core:
        """The reduction on which an exact factorisation works."""
        ...


@dataclass(frozen=True, eq=False)
class Dense:
    """A matrix, [out, in]; a view of another tensor is as good as one of its own."""

    weight: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        return (self.weight.shape[0], self.weight.shape[1])

    @property
    def dtype(self) -> torch.dtype:
        """The matrix's own."""
        return self.weight.dtype

    @property
    def device(self) -> torch.device:
        """The matrix's own."""
        return self.weight.device

    @property
    def transposed(self) -> "Dense":
        """A view."""
        return Dense(self.weight.T)

    def matmul(self, rows: Tensor) -> Tensor:
        """X W^T."""
        return rows @ self.weight.T

    def rmatmul(self, rows: Tensor) -> Tensor:
        """Y W."""
        return rows @ self.weight

    def frobenius_squared(self) -> float:
        """Summed in the matrix's own precision by row, then in float64."""
        return float(torch.linalg.vector_norm(self.weight, dim=1).double().square().sum())

    def peak(self) -> float:
        """One pass over the matrix."""
        low, high = torch.aminmax(self.weight)
        return float(torch.maximum(high, -low))

    def normalised(self) -> "tuple[Dense, float]":
        """Divided by its largest magnitude; itself where it is all zero."""
        peak = self.peak()
        return (Dense(self.weight / peak), peak) if peak else (self, 1.0)

    def double(self) -> "Dense":
        """A copy in float64, or itself where it is that already."""
        weight = self.weight.cpu() if self.device.type == "mps" else self.weight
        return Dense(weight.double())

    def core(self) -> Core:
        """Itself."""
        return Core(self.weight)


@dataclass(frozen=True, eq=False)
class Product:
    """left . right, never multiplied out: [out, r] times [r, in]."""

    left: Dense
    right: Dense

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        return (self.left.shape[0], self.right.shape[1])

    @property
    def dtype(self) -> torch.dtype:
        """The factors' own."""
        return self.left.dtype

    @property
    def device(self) -> torch.device:
        """The factors' own."""
        return self.left.device

    @property
    def transposed(self) -> "Product":
        """Right^T . left^T."""
        return Product(self.right.transposed, self.left.transposed)

    def matmul(self, rows: Tensor) -> Tensor:
        """First right, then left."""
        return self.left.matmul(self.right.matmul(rows))

    def rmatmul(self, rows: Tensor) -> Tensor:
        """First left, then right."""
        return self.right.rmatmul(self.left.rmatmul(rows))

    def frobenius_squared(self) -> float:
        """Tr(L^T L . R R^T), from the two r x r Gram matrices."""
        left, right = self.left.weight, self.right.weight
        return float(((left.T @ left) * (right @ right.T)).sum(dim=1).double().sum().clamp(min=0))

    def peak(self) -> float:
        """Its factors' largest magnitudes, multiplied: of the order of its entries."""
        return self.left.peak() * self.right.peak()

    def normalised(self) -> "tuple[Product, float]":
        """Each factor divided by its own largest magnitude."""
        left, left_peak = self.left.normalised()
        right, right_peak = self.right.normalised()
        return Product(left, right), left_peak * right_peak

    def double(self) -> "Product":
        """Both factors in float64."""
        return Product(self.left.double(), self.right.double())

    def core(self) -> Core:
        """R_left R_right^T between the orthonormal factors of two thin QRs: r x r when r is the smallest."""
        left, r_left = torch.linalg.qr(self.left.weight)
        right, r_right = torch.linalg.qr(self.right.weight.T)
        return Core(r_left @ r_right.T, left.T, right.T)


def ov_composite(output: Dense, value: Dense | Product, kv_heads: int, head_dim: int) -> Product:
    """W_O . expand(W_V): what attention writes when a token attends to one place only.

    Each key-value head of V [kv_heads * head_dim, in] serves a group of query heads, so expand(W_V) repeats
    it over the group. Summing O's columns [out, heads * head_dim] over each group says the same with
    an inner dimension of kv_heads * head_dim, which is also the bound on the rank. Where V is a product
    itself, its left factor is multiplied in, which leaves the inner dimension of the right one.
    """
    out, width = output.shape
    groups = output.weight.reshape(out, kv_heads, width // (kv_heads * head_dim), head_dim)
    left = groups.sum(2).reshape(out, kv_heads * head_dim)
    if isinstance(value, Product):
        return Product(Dense(left @ value.left.weight), value.right)
    return Product(Dense(left), value)
