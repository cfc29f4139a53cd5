"""Linear maps: all that the SVD code knows of a projection.

A map W has shape [out, in] and acts on rows: matmul takes X [b, in] to X W^T [b, out], rmatmul takes
Y [b, out] to Y W [b, in], and gram does both, X to X W^T W. That is what a Lanczos step costs, so gram reads
a matrix from memory once: block of rows by block of rows, each turned from its stored type to that of the
arithmetic, and multiplied both ways while it is in the cache. No second copy of the weights is made.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

BLOCK_BYTES = 2**20
"""The size of a block of rows in the arithmetic's precision: what a core's cache holds."""

ROWS = 3
"""Rows that BLAS multiplies at the memory's speed; of a few more it first packs the block, which costs
more."""

PANELS = 4
"""Panels that a Gram matrix is made in, on one side of the diagonal only."""

WHOLE = 2**20
"""Entries up to which a matrix is one block, turned to another precision once and for all."""


@dataclass(frozen=True, eq=False)
class Image:
    """What a map makes of rows X [b, in]: `out` = X W^T [b, out], and `back` = X W^T W [b, in]."""

    out: Tensor
    back: Tensor


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

    def gram(self, rows: Tensor) -> Image:
        """X W^T and X W^T W, the weights read once."""
        ...

    @property
    def turned(self) -> bool:
        """Whether the transposed map is the cheaper one for gram."""
        ...

    @property
    def magnitude(self) -> float:
        """What rounding in its products is relative to where that is more than sigma1, else 0."""
        ...

    def survey(self) -> tuple[float, float]:
        """Its peak and its frobenius_squared, the weights read once."""
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
    """A matrix, [out, in], as stored; a view of another tensor is as good as one of its own.

    `precision` is that of the arithmetic, where it is not the stored one: float32 for half floats.
    """

    weight: Tensor
    precision: torch.dtype | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        return (self.weight.shape[0], self.weight.shape[1])

    @property
    def dtype(self) -> torch.dtype:
        """float32, or float64 where the weights are or it was asked for."""
        return self.precision or torch.promote_types(self.weight.dtype, torch.float32)

    @property
    def device(self) -> torch.device:
        """The matrix's own."""
        return self.weight.device

    @property
    def transposed(self) -> "Dense":
        """A view."""
        return Dense(self.weight.T, self.precision)

    @property
    def turned(self) -> bool:
        """Small ones go by their shorter side; of large ones the stored rows are what lies together."""
        return self.shape[1] > self.shape[0] if self._is_whole else self._lies_turned

    @property
    def magnitude(self) -> float:
        """Nothing cancels."""
        return 0.0

    def norm_estimate(self) -> float:
        """sigma1 from above in all likelihood: a few steps of power iteration, and a quarter on top."""
        generator = torch.Generator().manual_seed(0)
        rows = torch.randn(ROWS, self.shape[1], generator=generator).to(self.device, self.dtype)
        for _ in range(3):
            rows = torch.nn.functional.normalize(self.gram(rows).back, dim=1)
        return 1.25 * float(torch.linalg.vector_norm(self.matmul(rows), dim=1).max())

    def matrix(self) -> Tensor:
        """All of it [out, in] in the precision of the arithmetic; the stored tensor where that is the
        same."""
        return self.weight.to(self.dtype)

    def matmul(self, rows: Tensor) -> Tensor:
        """X W^T."""
        if self._lies_turned:
            return self.transposed.rmatmul(rows)
        return torch.cat([rows @ block.T for block in self._blocks()], dim=1)

    def rmatmul(self, rows: Tensor) -> Tensor:
        """Y W."""
        if self._lies_turned:
            return self.transposed.matmul(rows)
        back = rows.new_zeros(len(rows), self.shape[1])
        start = 0
        for block in self._blocks():
            stop = start + block.shape[0]
            back.addmm_(rows[:, start:stop], block)
            start = stop
        return back

    def gram(self, rows: Tensor) -> Image:
        """X W^T and X W^T W in one pass; in two where it is not the rows that lie together."""
        if self._lies_turned:
            out = self.matmul(rows)
            return Image(out, self.rmatmul(out))
        if self._is_whole:
            matrix = self.matrix()
            out = rows @ matrix.T
            return Image(out, out @ matrix)
        out, back, start = rows.new_empty(len(rows), self.shape[0]), rows.new_zeros(rows.shape), 0
        few = ROWS if len(rows) < 2 * ROWS else len(rows)
        parts = list(zip(*(torch.split(whole, few) for whole in (rows, out, back)), strict=True))
        for block in self._blocks():
            stop = start + block.shape[0]
            for part, part_out, part_back in parts:
                image = part_out[:, start:stop]
                torch.mm(part, block.t(), out=image)
                part_back.addmm_(image, block)
            start = stop
        return Image(out, back)

    def survey(self) -> tuple[float, float]:
        """Both in one pass; the energy is summed in the arithmetic's precision by row, then in float64."""
        block = self.transposed if self._lies_turned else self
        looks = [(_peak(rows), _energy(rows)) for rows in block._blocks()]
        # a NaN is no larger than anything: it must not be passed over
        peak = max((one for one, _ in looks), key=lambda value: (value != value, value), default=0.0)
        return peak, sum(energy for _, energy in looks)

    def frobenius_squared(self) -> float:
        """Summed in the arithmetic's precision by row, then in float64."""
        return self.survey()[1]

    def peak(self) -> float:
        """One pass over the stored matrix."""
        return _peak(self.weight)

    def normalised(self) -> "tuple[Dense, float]":
        """Divided by its largest magnitude; itself where it is all zero."""
        peak = self.peak()
        return (Dense(self.matrix() / peak), peak) if peak else (self, 1.0)

    def double(self) -> "Dense":
        """The same matrix with float64 arithmetic: a copy where it is small or its device is no CPU."""
        weight = self.weight.cpu() if self.device.type == "mps" else self.weight
        if self._is_whole or self.device.type == "cuda":
            return Dense(weight.double())
        return Dense(weight, torch.float64)

    def core(self) -> Core:
        """Itself."""
        return Core(self.matrix())

    @property
    def _is_whole(self) -> bool:
        return self.weight.numel() <= WHOLE

    @property
    def _lies_turned(self) -> bool:
        return not self._is_whole and self.weight.stride(0) < self.weight.stride(1)

    def _blocks(self) -> Iterator[Tensor]:
        """Blocks of rows in the precision of the arithmetic; each is gone when the next one comes."""
        if self._is_whole or self.device.type != "cpu":
            yield self.matrix()
            return
        count = max(1, BLOCK_BYTES // (self.shape[1] * self.dtype.itemsize))
        blocks = torch.split(self.weight, count)
        if self.weight.dtype == self.dtype:
            yield from blocks
            return
        buffer = torch.empty(count, self.shape[1], dtype=self.dtype)
        for block in blocks:
            yield buffer[: block.shape[0]].copy_(block)


def _peak(rows: Tensor) -> float:
    low, high = torch.aminmax(rows)
    return float(torch.maximum(high, -low))


def _energy(rows: Tensor) -> float:
    norms = torch.linalg.vector_norm(rows, dim=1).double()
    return float(norms @ norms)
