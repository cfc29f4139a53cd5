"""The names of the projections, and which side of each one faces the residual stream."""

from enum import StrEnum
from typing import Literal

Space = Literal["v", "u"]
Facing = Literal["v", "u", "both"]
NormSite = Literal["attention", "ffn"]


class Projection(StrEnum):
    """One linear map of a transformer layer: W has shape [out, in], y = W x.

    In a mixture of experts Gate, Up and Down are the routed experts, stacked; the shared experts are apart.
    """

    Q = "Q"
    K = "K"
    V = "V"
    O = "O"  # noqa: E741 - the field's own name for the attention output
    OV = "OV"
    GATE = "Gate"
    UP = "Up"
    DOWN = "Down"
    SHARED_GATE = "SharedGate"
    SHARED_UP = "SharedUp"
    SHARED_DOWN = "SharedDown"

    @property
    def facing(self) -> Facing:
        """The space shared with the residual stream: a reader's input (v), a writer's output (u)."""
        if self is Projection.OV:
            return "both"
        return "u" if self in (Projection.O, Projection.DOWN, Projection.SHARED_DOWN) else "v"

    @property
    def norm_site(self) -> NormSite | None:
        """Which of a layer's norms feeds this projection; writers are fed by none."""
        if self.facing != "v":
            return None
        return "attention" if self in (Projection.Q, Projection.K, Projection.V) else "ffn"

    @classmethod
    def parse(cls, text: str) -> "Projection":
        """The projection a user means by `q` or `Gate`; ValueError names the choices."""
        for projection in cls:
            if projection.value.lower() == text.strip().lower():
                return projection
        raise ValueError(f"no projection is called {text.strip()!r}: choose from {', '.join(cls)}")


STORED = tuple(projection for projection in Projection if projection is not Projection.OV)
"""The projections a checkpoint stores; OV is composed of V and O."""

EXPERT_PARTS = (Projection.GATE, Projection.UP, Projection.DOWN)
"""The projections that each routed expert has."""

SHARED = (Projection.SHARED_GATE, Projection.SHARED_UP, Projection.SHARED_DOWN)
"""The projections of shared experts, which every token passes through."""
