"""How a small transformer is trained, and three sizes of it that have a name."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from audit.train.transformer.ablations import TransformerAblation
from audit.train.transformer.model import Shape
from registry.experiments import GPT2_TOKENS

Schedule = Literal["cosine", "constant"]
Precision = Literal["fp32", "bf16"]

BETAS = (0.9, 0.95)
"""AdamW's decays."""

FLOOR = 0.1
"""What part of the learning rate the cosine comes down to."""


@dataclass(frozen=True)
class Settings:
    """Settings that all runs of a call share; the defaults are those of `paper`.

    The paper states width, layers, heads, steps, batch size and sequence. `ffn` follows from its 34M
    parameters, `init_std` is what it calls standard practice; the rest it leaves open. Warm-up and `every`
    (between two measurements) are in steps, `sequence` and `valid_tokens` in tokens. The rate rises in equal
    steps; weight decay is of matrices only; `clip_norm` is the most that the norm of all gradients together
    may be.
    """

    width: int = 256
    layers: int = 8
    heads: int = 4
    ffn: int = 1024
    sequence: int = 128
    batch_size: int = 128
    steps: int = 10_000
    every: int = 500
    lr: float = 1e-3
    warmup: int = 500
    schedule: Schedule = "cosine"
    weight_decay: float = 0.1
    clip_norm: float | None = 1.0
    init_std: float = 0.02
    valid_tokens: int = 2**18
    precision: Precision = "fp32"

    @property
    def identity(self) -> dict[str, Any]:
        """All that a run's numbers depend on."""
        return asdict(self)

    def shape(self, vocabulary: int) -> Shape:
        """The model's dimensions."""
        return Shape(vocabulary, self.width, self.layers, self.heads, self.ffn, self.sequence)

    def is_measured(self, step: int) -> bool:
        """Whether a run is measured after so many steps."""
        return step % self.every == 0 or step == self.steps


@dataclass(frozen=True)
class Run:
    """One model to train: an ablation and a seed."""

    ablation: TransformerAblation
    seed: int

    @property
    def name(self) -> str:
        """`tf-silu-42`: the name of its folder."""
        return f"{self.ablation.name}-{self.seed}"


@dataclass(frozen=True)
class Preset:
    """Settings, and the text and the tokenizer they are meant for."""

    settings: Settings
    dataset: str
    tokenizer: str


PRESETS: Mapping[str, Preset] = {
    "paper": Preset(Settings(), "wikitext-103", GPT2_TOKENS),
    "small": Preset(
        Settings(batch_size=32, steps=1000, every=50, warmup=50, valid_tokens=2**15),
        "stdlib",
        "bytes",
    ),
    "tiny": Preset(
        Settings(
            width=64, ffn=256, sequence=64, batch_size=16, steps=400, every=25, lr=3e-3, warmup=20,
            valid_tokens=2**13,
        ),
        "stdlib",
        "bytes",
    ),
}  # fmt: skip
