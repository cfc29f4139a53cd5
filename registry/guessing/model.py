"""What is guessed of a stack's layers."""

from dataclasses import dataclass, field
from typing import Literal

from registry.guessing.norms import NormGuess
from registry.guessing.stacks import Shape, Tensor
from registry.projection import NormSite, Projection

Oriented = Literal["out_in", "in_out"]


@dataclass(frozen=True)
class Split:
    """A tensor that seems to hold several projections in its rows."""

    tensor: str
    order: tuple[Projection, ...]
    check: str
    rows: int = 0
    stored: Oriented | None = None


@dataclass(frozen=True)
class Factors:
    """Two tensors that seem to be factors of projections, with the norm between them."""

    down: str
    up: str
    order: tuple[Projection, ...]
    gain: str | None


@dataclass
class LayerGuess:
    """What a stack's tensors seem to be, by layer-local name; `checks` says what a person should confirm."""

    hidden: int | None
    stored: Oriented = "out_in"
    checks: dict[str, str] = field(default_factory=dict)
    projections: dict[Projection, list[str]] = field(default_factory=dict)
    fused: list[Split] = field(default_factory=list)
    low_rank: list[Factors] = field(default_factory=list)
    experts: dict[Projection, str] = field(default_factory=dict)
    packed: list[Split] = field(default_factory=list)
    norms: dict[NormSite, NormGuess] = field(default_factory=dict)
    ignored: dict[str, list[str]] = field(default_factory=dict)
    unplaced: list[tuple[str, Shape, str]] = field(default_factory=list)
    """Name, shape, and what it might be, if that is known."""

    def place(self, projection: Projection, tensor: Tensor, check: str = "") -> None:
        """Take a tensor for a projection; a second one is an alternative in other layers."""
        self.projections.setdefault(projection, []).append(tensor.name)
        if check:
            self.checks[projection] = check
