"""Every ablation of the toy MLP: a baseline, and what each takes away (arXiv:2605.04971).

The rows of the paper's tables, and beyond them an activation that breaks the rotation symmetry of a share of
the coordinates only, the first of the directions that the paper leaves to others.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

Activation = Literal[
    "gelu", "silu", "relu", "tanh", "none", "radial", "radial-sigmoid", "radial-tanh", "radial-unit"
]
NormPlace = Literal["sum", "plain", "input", "inner", "branch", "head"]
InitOf = Literal["all", "hidden"]

BLIND: tuple[Activation, ...] = ("none", "radial", "radial-sigmoid", "radial-tanh", "radial-unit")
"""The activations that are blind to rotation: they turn with their input."""


@dataclass(frozen=True)
class Ablation:
    """One row: an architecture, an optimiser and an initialisation.

    `eps` is Adam's: as small as usual each weight has its own step size; at 1, far above the root of the
    second moment, all have the same (momentum descent); `beta1` and `beta2` are the decays of its moments.
    `init_std`: all weight matrices are drawn from N(0, init_std^2); None is PyTorch's default,
    U(-1/sqrt(fan_in), 1/sqrt(fan_in)). `share`: the activation acts on this share of the coordinates, the
    first of them, and the others pass as they are: among those every rotation is still a symmetry.
    `norm_place` is where LayerNorm stands, where there is one, and `init_of` the weights that `init_std` is
    for: both are open in the paper (see readings).
    """

    name: str
    isolates: str
    residual: bool = True
    activation: Activation = "relu"
    norm: bool = False
    eps: float = 1e-8
    init_std: float | None = None
    share: float = 1.0
    norm_place: NormPlace = "sum"
    init_of: InitOf = "all"
    beta1: float = 0.9
    beta2: float = 0.999

    @property
    def broken(self) -> float | None:
        """The share of coordinates whose symmetry is broken; None where it is not all that sets it apart."""
        others = replace(self, name="", isolates="", activation="relu", share=1.0)
        if others != Ablation("", "") or self.activation not in ("relu", "none"):
            return None
        return self.share if self.activation == "relu" else 0.0

    @property
    def conditions(self) -> tuple[bool, bool] | None:
        """Whether it has residual connections, and whether it breaks rotation symmetry.

        None where its optimiser, initialisation or share of the coordinates is not the baseline's.
        """
        others = replace(self, name="", isolates="", residual=True, activation="relu", norm=False)
        if others != Ablation("", ""):
            return None
        return self.residual, self.norm or self.activation not in BLIND

    @property
    def program(self) -> tuple[object, ...]:
        """The architecture and optimiser, which runs share that are trained as one program."""
        architecture = self.residual, self.activation, self.norm, self.norm_place, self.share
        return *architecture, self.eps, self.beta1, self.beta2


NON_ADAPTIVE = 1.0
"""Adam's eps at which the second moment of these gradients no longer matters; the paper does not print its
value, and of 1, .1 and .01 the accuracy is that of 1 (docs/reproduction.md)."""

TABLES = (1, 3, 4, 5)
"""The paper's tables whose rows these are."""

TINY_INIT = 1e-4
"""The deviation from which formation and retention are seen apart: the first updates outgrow it at once. The
paper's is not printed; this one gives the course of its Figure 2."""

SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Shares of the coordinates between res-none, which breaks none, and res-relu, which breaks all."""

ABLATIONS: tuple[Ablation, ...] = (
    Ablation("res-gelu", "a smooth activation that breaks rotation symmetry", activation="gelu"),
    Ablation("res-silu", "another smooth one", activation="silu"),
    Ablation("res-relu", "the baseline: residual connections and ReLU"),
    Ablation("res-tanh", "an odd, saturating activation: signs stay free", activation="tanh"),
    Ablation("res-none", "no activation: rotation symmetry is whole", activation="none"),
    Ablation("res-radial", "nonlinear, yet blind to rotation: x |x| / (1 + |x|)", activation="radial"),
    Ablation("res-none-ln", "LayerNorm alone breaks the symmetry", activation="none", norm=True),
    Ablation("res-relu-ln", "ReLU and LayerNorm together", norm=True),
    Ablation("nores-gelu", "no residual connections, GELU", residual=False, activation="gelu"),
    Ablation("nores-relu", "no residual connections, ReLU", residual=False),
    Ablation("nores-none", "neither: a deep linear net", residual=False, activation="none"),
    Ablation("adam", "adaptive steps alone: Adam without momentum, as fits this row best", beta1=0.0),
    Ablation("adam-nonadaptive", "small updates: Adam without its adaptive step", eps=NON_ADAPTIVE),
    Ablation(
        "nonadaptive-init-0.005", "updates larger beside W0: std .005", eps=NON_ADAPTIVE, init_std=0.005
    ),
    Ablation("nonadaptive-init-0.001", "larger still: std .001", eps=NON_ADAPTIVE, init_std=0.001),
    Ablation("nonadaptive-init-0.0001", "W0 all but gone: std .0001", eps=NON_ADAPTIVE, init_std=0.0001),
    *(
        Ablation(f"res-partial-{share:g}", f"ReLU on {share:.0%} of the coordinates alone", share=share)
        for share in SHARES
    ),
    Ablation(
        "res-none-init-0.0001",
        "from W0 all but gone, no activation: formed, not kept",
        activation="none",
        init_std=TINY_INIT,
    ),
    Ablation("res-relu-init-0.0001", "from W0 all but gone, ReLU: formed and kept", init_std=TINY_INIT),
)


@dataclass(frozen=True)
class PaperFigure:
    """A figure of the paper about these networks: the ablations it shows, and for how many epochs.

    `epochs` is None where it is of the usual training.
    """

    names: tuple[str, ...]
    epochs: int | None = None


FIGURES: Mapping[int, PaperFigure] = {
    1: PaperFigure(tuple(one.name for one in ABLATIONS if one.conditions is not None)),
    2: PaperFigure(("res-none-init-0.0001", "res-relu-init-0.0001"), epochs=50),
    12: PaperFigure(("res-relu",)),
    13: PaperFigure(("res-relu", "res-none", "nores-relu")),
}
"""The paper's figures, by their number."""


def ablation(name: str) -> Ablation:
    """The ablation of this name; KeyError where there is none."""
    return {one.name: one for one in ABLATIONS}[name]
