"""What a caller may ask of an audit, and how the textual forms of it are read."""

import os
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from audit.errors import SelectionError
from registry import Projection

UNITS = {
    "": 1, "b": 1,
    "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9, "t": 10**12, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
"""Bytes in each unit of memory; G is taken for the smaller of what it can mean."""

_SIZE = re.compile(
    r"\s*([0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})\s*([a-z]*)\s*", re.IGNORECASE | re.ASCII
)


@dataclass(frozen=True)
class AuditOptions:
    """One audit's settings; the defaults are the paper's.

    `layers` selects by Python slice ("0:16" or slice(0, 16)), `only` by projection ("q,k" or their names);
    `k` is how many leading triplets are kept; `family` and `family_file` override what config.json says;
    `max_memory` is a ceiling on anonymous memory, in bytes or as text ("8GB", "6GiB"). `stream`: read a Hub
    model's weights by ranges (True), fetch them first (False), or as the disk has room for them (None).
    Raises SelectionError for what cannot be meant.
    """

    revision: str | None = None
    device: str = "auto"
    full: bool = False
    fold_norm: bool = False
    layers: str | slice | None = None
    only: str | tuple[Projection | str, ...] | None = None
    k: int = 2
    family: str | None = None
    family_file: str | os.PathLike[str] | None = None
    max_memory: int | str | None = None
    stream: bool | None = None

    def __post_init__(self) -> None:
        """Check everything that can be checked without a checkpoint."""
        if not 2 <= self.k <= 64:
            raise SelectionError(f"k is {self.k}", "choose 2 to 64 leading vectors")
        if self.family is not None and self.family_file is not None:
            raise SelectionError("--family and --family-file both name a family", "give one of them")
        _ = self.layer_slice, self.projections, self.ceiling

    @property
    def layer_slice(self) -> slice | None:
        """`layers`, as a slice."""
        return parse_layers(self.layers) if isinstance(self.layers, str) else self.layers

    @property
    def projections(self) -> tuple[Projection, ...] | None:
        """`only`, as projections in their usual order."""
        if self.only is None:
            return None
        return parse_only(self.only if isinstance(self.only, str) else ",".join(self.only))

    @property
    def family_path(self) -> Path | None:
        """`family_file` as a path."""
        return None if self.family_file is None else Path(self.family_file)

    @property
    def ceiling(self) -> int | None:
        """`max_memory`, in bytes."""
        return None if self.max_memory is None else parse_memory(str(self.max_memory))


def parse_layers(text: str) -> slice:
    """`0:16`, `8:`, `:-1`, `::2` or a single `5`, as Python slices count; raises SelectionError."""
    try:
        numbers = [int(part) if part.strip() else None for part in text.split(":")]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= 3 or numbers == [None] or (len(numbers) == 3 and numbers[2] == 0):
        raise SelectionError(f"--layers {text!r} is no slice", "write 0:16, 8:, ::2 or a single layer number")
    if len(numbers) == 1:
        assert numbers[0] is not None
        return slice(numbers[0], numbers[0] + 1 or None)
    return slice(*numbers)


def format_layers(layers: slice | None) -> str | None:
    """The text parse_layers reads."""
    if layers is None:
        return None
    parts = [layers.start, layers.stop, *([layers.step] if layers.step is not None else [])]
    return ":".join("" if part is None else str(part) for part in parts)


def parse_only(text: str) -> tuple[Projection, ...]:
    """`q,k,ov` as projections in their usual order; raises SelectionError."""
    try:
        asked = {Projection.parse(part) for part in text.split(",") if part.strip()}
    except ValueError as error:
        raise SelectionError(f"--only {text!r}", str(error)) from error
    if not asked:
        raise SelectionError("--only names no projection", f"choose from {', '.join(Projection)}")
    return tuple(projection for projection in Projection if projection in asked)


def parse_memory(text: str) -> int:
    """`8GB`, `6GiB`, `1.5 gb`, or a number of bytes, rounded down to whole bytes; raises SelectionError."""
    found = _SIZE.fullmatch(text)
    unit = UNITS.get(found[2].lower()) if found else None
    if found is None or unit is None:
        raise SelectionError(f"--max-memory {text!r} is no amount of memory", "write 8GB, 500MB or 6GiB")
    count = int(Fraction(found[1].rstrip(".")) * unit)
    if not count:
        raise SelectionError(f"--max-memory {text!r} is nothing at all", "write 8GB, 500MB or 6GiB")
    return count


def format_memory(count: int) -> str:
    """A text that parse_memory reads as `count` bytes, or as up to 1 % more."""
    units = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (1, "B"))
    size, name = next(unit for unit in units if count >= unit[0])
    return f"{count}B" if size == 1 else f"{-(-count * 100 // size) / 100:g}{name}"
