"""What the values of a tensor are, told from its bytes as they pass: NaN, Inf, nothing but zeros, its sum."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite

import torch
from torch import Tensor

_FLOATS: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "C64": torch.float32,  # two numbers an element: whether one is NaN is the same question
}


@dataclass(frozen=True)
class ByteFloat:
    """How a float of one byte spells what is no finite number: with code = (byte ^ flip) & mask,

    codes from `special` on are none; `inf` is the infinite one, None where it has none; `zero` is that of 0.
    """

    special: int
    flip: int = 0
    mask: int = 0xFF
    inf: int | None = None
    zero: int | None = 0


_BYTE_FLOATS: Mapping[str, ByteFloat] = {
    # OCP 8-bit floating point specification 1.0: S.1111.111 is NaN, and there is no infinity
    "F8_E4M3": ByteFloat(special=0x7F, mask=0x7F),
    # the same: exponent 11111, mantissa 00 is infinite, the others NaN
    "F8_E5M2": ByteFloat(special=0x7C, mask=0x7F, inf=0x7C),
    # OCP Microscaling formats 1.0: a power of two, 11111111 is NaN
    "F8_E8M0": ByteFloat(special=0xFF, zero=None),
    # https://arxiv.org/abs/2206.02915: what would be the negative zero is NaN
    "F8_E4M3FNUZ": ByteFloat(special=0xFF, flip=0x7F, zero=0x7F),
    "F8_E5M2FNUZ": ByteFloat(special=0xFF, flip=0x7F, zero=0x7F),
}

FLOAT_KINDS = frozenset((*_FLOATS, *_BYTE_FLOATS))
"""The dtypes in which a value can be told to be a number."""

_WORD = 8
_WRAP = 2**64


@dataclass
class Scan:
    """One tensor, taken piece by piece in order; `hashed`: its own SHA-256 is wanted, too.

    `first` is the flat index of the first value that is NaN or infinite. `sums` are the pieces' sums as
    integers: equal tensors have equal ones, and other tensors hardly ever.
    """

    dtype: str
    hashed: bool = False
    nan: int = 0
    inf: int = 0
    first: int | None = None
    low: float | None = None
    high: float | None = None
    sums: int = 0
    _taken: int = 0
    _hash: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def take(self, data: Tensor) -> None:
        """The next bytes, a whole number of elements, aligned."""
        if self.dtype in _FLOATS:
            self._take_floats(data.view(_FLOATS[self.dtype]))
        elif self.dtype in _BYTE_FLOATS:
            self._take_bytes(data, _BYTE_FLOATS[self.dtype])
        else:
            low, high = torch.aminmax(data)
            self._widen(float(low), float(high))
        self._add(data)

    @property
    def constant(self) -> bool:
        """Whether all values are one; of whole numbers, all bytes."""
        return self.low is not None and self.low == self.high

    @property
    def zero(self) -> bool:
        """Whether there is nothing but zeros."""
        kind = _BYTE_FLOATS.get(self.dtype)
        return self.constant and self.low == (kind.zero if kind is not None else 0)

    @property
    def digest(self) -> str | None:
        """The SHA-256 of its bytes, where it was wanted."""
        return self._hash.hexdigest() if self.hashed else None

    def _take_floats(self, values: Tensor) -> None:
        low, high = (float(extreme) for extreme in torch.aminmax(values))
        if isfinite(low) and isfinite(high):  # NaN comes through aminmax
            self._widen(low, high)
        else:
            self._count(torch.isnan(values), torch.isinf(values))
        self._taken += len(values)

    def _take_bytes(self, data: Tensor, kind: ByteFloat) -> None:
        codes = data ^ kind.flip if kind.flip else data
        codes = codes & kind.mask if kind.mask != 0xFF else codes
        low, high = (int(extreme) for extreme in torch.aminmax(codes))
        if high >= kind.special:
            infinite = (
                codes == kind.inf if kind.inf is not None else torch.zeros_like(codes, dtype=torch.bool)
            )
            self._count((codes >= kind.special) & ~infinite, infinite)
        self._widen(low, high)
        self._taken += len(data)

    def _count(self, nan: Tensor, infinite: Tensor) -> None:
        self.nan += int(nan.sum())
        self.inf += int(infinite.sum())
        if self.first is None:
            self.first = self._taken + int(torch.argmax((nan | infinite).to(torch.uint8)))
        self._widen(float("-inf"), float("inf"))

    def _widen(self, low: float, high: float) -> None:
        self.low = low if self.low is None else min(self.low, low)
        self.high = high if self.high is None else max(self.high, high)

    def _add(self, data: Tensor) -> None:
        whole = len(data) // _WORD * _WORD
        total = int(data[:whole].view(torch.int64).sum()) if whole else 0
        rest = int.from_bytes(bytes(data[whole:].tolist()), "little")
        self.sums = (self.sums * 3 + total + rest) % _WRAP
        if self.hashed:
            self._hash.update(memoryview(data.numpy()))  # type: ignore[arg-type]
