"""Every ablation of the small transformer: Table 2 of arXiv:2605.04971, and beyond it what it leaves open."""

from dataclasses import dataclass
from typing import Literal

Activation = Literal["silu", "relu", "gelu", "none"]


@dataclass(frozen=True)
class TransformerAblation:
    """One row: what is taken away from, or added to, a Llama-style decoder.

    `kv_heads` None: as many as query heads. `softmax` False: causal attention whose weights are the scores
    themselves, averaged over the keys a token sees. `value_gate`: the activation is applied to V's output
    too.
    """

    name: str
    isolates: str
    residual: bool = True
    norm: bool = True
    activation: Activation = "silu"
    kv_heads: int | None = None
    tied: bool = False
    qk_norm: bool = False
    softmax: bool = True
    value_gate: bool = False

    @property
    def in_transformers(self) -> bool:
        """Whether transformers has a model that computes this."""
        return self.residual and self.norm and self.softmax and not self.value_gate


TABLES = (2,)
"""The paper's tables whose rows are among these."""

ABLATIONS = (
    TransformerAblation("tf-silu", "the baseline: a Llama in small"),
    TransformerAblation("tf-relu", "ReLU in the gate", activation="relu"),
    TransformerAblation("tf-gelu", "GELU in the gate", activation="gelu"),
    TransformerAblation("tf-none", "no activation: Gate times Up is bilinear", activation="none"),
    TransformerAblation("tf-nores-silu", "no residual connections", residual=False),
    TransformerAblation("tf-nonorm", "no RMSNorm", norm=False),
    TransformerAblation("tf-gqa", "two query heads share a key and a value", kv_heads=2),
    TransformerAblation("tf-tied", "input and output embeddings are one", tied=True),
    TransformerAblation("tf-qknorm", "RMSNorm of each query and key head", qk_norm=True),
    TransformerAblation("tf-linear", "no softmax: does the continuity of Q and K go?", softmax=False),
    TransformerAblation("tf-vgate", "an activation on V: does its continuity come?", value_gate=True),
)


def ablation(name: str) -> TransformerAblation:
    """The ablation of this name; KeyError where there is none."""
    return {one.name: one for one in ABLATIONS}[name]
