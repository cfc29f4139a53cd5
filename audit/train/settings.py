"""How a run is trained, and on what."""

from dataclasses import asdict, dataclass, field
from typing import Any

BETAS = (0.9, 0.99, 0.999)
"""Decays of the gradient averages that the weights are compared with, beside the gradient itself (0) and
the sum of all (towards 1)."""


@dataclass(frozen=True)
class Settings:
    """Settings that all runs of a call share; the defaults are the paper's (Section 4.1).

    The moments decay as an ablation says, as is usual in Adam where it says nothing; no weight decay, no
    schedule.
    """

    epochs: int = 20
    batch_size: int = 128
    lr: float = 1e-3
    width: int = 256
    depth: int = 16
    betas: tuple[float, ...] = field(default=BETAS)

    @property
    def identity(self) -> dict[str, Any]:
        """All that a run's numbers depend on, its length apart: a run may be trained further."""
        told = asdict(self)
        del told["epochs"]
        return {**told, "betas": [*self.betas]}
