"""Products of two matrices that are never multiplied out: low-rank projections, and OV composites."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from audit.linear_map import PANELS, Core, Dense, Image

CANCELLED = 1e-3
"""The share of |left|^2 |right|^2 below which the energy of a product is not trusted to float32."""


@dataclass(frozen=True, eq=False)
class Product:
    """left . right, never multiplied out: [out, r] times [r, in].

    `norms` is |left| |right|, where it is known already.
    """

    left: Dense
    right: Dense
    norms: float | None = None

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
        return Product(self.right.transposed, self.left.transposed, self.magnitude)

    @cached_property
    def magnitude(self) -> float:
        """|left| |right|: where the factors cancel, sigma1 is less."""
        if self.norms is not None:
            return self.norms
        left = self.left.transposed if self.left.turned else self.left
        right = self.right.transposed if self.right.turned else self.right
        return left.norm_estimate() * right.norm_estimate()

    def matmul(self, rows: Tensor) -> Tensor:
        """First right, then left."""
        return self.left.matmul(self.right.matmul(rows))

    def rmatmul(self, rows: Tensor) -> Tensor:
        """First left, then right."""
        return self.right.rmatmul(self.left.rmatmul(rows))

    def gram(self, rows: Tensor) -> Image:
        """Right, then left both ways, then right again."""
        image = self.left.gram(self.right.matmul(rows))
        return Image(image.out, self.right.rmatmul(image.back))

    @property
    def turned(self) -> bool:
        """It goes by its shorter side."""
        return self.shape[1] > self.shape[0]

    def survey(self) -> tuple[float, float]:
        """One after the other."""
        return self.peak(), self.frobenius_squared()

    def frobenius_squared(self) -> float:
        """Tr(L^T L . R R^T), in float64 where the factors cancel so far that little of it is left."""
        energy = self._energy(self.left.matrix(), self.right.matrix())
        if energy > CANCELLED * self.magnitude**2:
            return energy
        precise = self.double()
        return self._energy(precise.left.matrix(), precise.right.matrix())

    @staticmethod
    def _energy(left: Tensor, right: Tensor) -> float:
        """From the two r x r Gram matrices, of which the upper triangles suffice."""
        total = 0.0
        size = -(-len(right) // PANELS)
        for start in range(0, len(right), size):
            products = left[:, start : start + size].T @ left[:, start:]
            products *= right[start : start + size] @ right[start:].T
            sums = products.sum(dim=0).double()
            total += 2 * float(sums.sum()) - float(sums[:size].sum())
        return max(total, 0.0)

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
        return Product(self.left.double(), self.right.double(), self.magnitude)

    def core(self) -> Core:
        """R_left R_right^T between the orthonormal factors of two thin QRs: r x r when r is the smallest."""
        left, r_left = torch.linalg.qr(self.left.matrix())
        right, r_right = torch.linalg.qr(self.right.matrix().T)
        return Core(r_left @ r_right.T, left.T, right.T)


def ov_composite(output: Dense, value: Dense | Product, kv_heads: int, head_dim: int) -> Product:
    """W_O . expand(W_V): what attention writes when a token attends to one place only.

    Each key-value head of V [kv_heads * head_dim, in] serves a group of query heads, so expand(W_V) repeats
    it over the group. Summing O's columns [out, heads * head_dim] over each group says the same with
    an inner dimension of kv_heads * head_dim, which is also the bound on the rank. Where V is a product
    itself, its left factor is multiplied in, which leaves the inner dimension of the right one.
    """
    out, width = output.shape
    count = width // (kv_heads * head_dim)
    if count > 1:
        groups = output.weight.reshape(out, kv_heads, count, head_dim)
        output = Dense(groups.sum(2, dtype=output.dtype).reshape(out, kv_heads * head_dim))
    if isinstance(value, Product):
        return Product(Dense(output.matrix() @ value.left.matrix()), value.right)
    return Product(output, value)
