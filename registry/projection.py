"""The names of the projections, and which side of each one faces the residual stream."""

from enum import StrEnum
from typing import Literal

Space = Literal["v", "u"]
Facing = Literal["v", "u", "both"]


class Projection(StrEnum):
    """One linear map of a transformer layer: W has shape [out, in], y = W x."""

    Q = "Q"
    K = "K"
    V = "V"
    O = "O"  # noqa: E741 - the field's own name for the attention output
    OV = "OV"
    GATE = "Gate"
    UP = "Up"
    DOWN = "Down"

    @property
    def facing(self) -> Facing:
        """The space shared with the residual stream: a reader's input (v), a writer's output (u)."""
        if self is Projection.OV:
            return "both"
        return "u" if self in (Projection.O, Projection.DOWN) else "v"

    @property
    def norm_site(self) -> Literal["attention", "ffn"] | None:
        """Which of a layer's norms feeds this projection; writers are fed by none."""
        match self:
            case Projection.Q | Projection.K | Projection.V:
                return "attention"
            case Projection.GATE | Projection.UP:
                return "ffn"
            case Projection.O | Projection.DOWN | Projection.OV:
                return None

    @classmethod
    def parse(cls, text: str) -> "Projection":
        """The projection a user means by `q` or `Gate`; ValueError names the choices."""
        for projection in cls:
            if projection.value.lower() == text.strip().lower():
                return projection
        raise ValueError(f"no projection is called {text.strip()!r}: choose from {', '.join(cls)}")


STORED = tuple(projection for projection in Projection if projection is not Projection.OV)
"""The projections a checkpoint stores; OV is composed of V and O."""
