"""Small transformers to train in a test: thin, on a few hundred tokens."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from audit.train.text import Tokens
from audit.train.transformer.ablations import ABLATIONS, TransformerAblation
from audit.train.transformer.machine import Machine
from audit.train.transformer.settings import Run, Settings
from audit.train.transformer.trainer import Training
from audit.train.values import Values

CPU = torch.device("cpu")
THIN = Settings(
    width=16, layers=3, heads=4, ffn=24, sequence=8, batch_size=4, steps=12, every=4, lr=1e-2, warmup=3,
    valid_tokens=64,
)  # fmt: skip
BY_NAME: dict[str, TransformerAblation] = {one.name: one for one in ABLATIONS}


def tokens(count: int = 600, vocabulary: int = 11) -> Tokens:
    """A text in which the next token is mostly the present one plus 3, with noise."""
    generator = np.random.default_rng(0)
    steps = np.where(generator.random(count) < 0.8, 3, generator.integers(0, vocabulary, count))
    ids = (np.cumsum(steps) % vocabulary).astype(np.uint16)
    return Tokens("counting", "numbers", vocabulary, "c" * 64, ids[: count * 4 // 5], ids[count * 4 // 5 :])


def runs(*names: str, seeds: tuple[int, ...] = (1,)) -> tuple[Run, ...]:
    """Runs of ablations by name."""
    return tuple(Run(BY_NAME[name], seed) for name in names for seed in seeds)


def training(out: Path, *names: str, settings: Settings = THIN, micro_batch: int | None = None) -> Training:
    """What a call trains, on one process of the CPU."""
    return Training(runs(*names), tokens(), settings, out, Machine(CPU, micro_batch=micro_batch))


def longer(steps: int) -> Settings:
    """The same for so many steps."""
    return replace(THIN, steps=steps)


class Silent:
    """Progress that nobody looks at."""

    def begin(self, run: Run, step: int, lost: bool) -> None:
        """Nothing."""

    def step(self, run: Run, seconds: float) -> None:
        """Nothing."""

    def measured(self, run: Run, values: Values) -> None:
        """Nothing."""
