"""Small experiments to train in a test: thin networks, few images."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

from audit.train.ablations import ABLATIONS, Ablation
from audit.train.images import Images
from audit.train.loop import Run
from audit.train.readings import read
from audit.train.settings import Settings
from audit.train.trainer import Training

CPU = torch.device("cpu")
THIN = Settings(epochs=2, batch_size=16, width=12, depth=4, betas=(0.9,))


def images(count: int = 100, inputs: int = 9, classes: int = 3) -> Images:
    """Classes that differ in their mean, with noise."""
    generator = np.random.default_rng(0)

    def part(rows: int) -> tuple[np.ndarray, np.ndarray]:
        labels = generator.integers(0, classes, rows)
        bright = 40 + 60 * (np.arange(inputs)[None] % classes == labels[:, None])
        noise = generator.integers(0, 80, (rows, inputs))
        return (bright + noise).astype(np.uint8), labels.astype(np.int64)

    return Images("toy", *part(count), *part(count // 2))


def named(*names: str) -> tuple[Ablation, ...]:
    """Ablations by name."""
    return tuple(one for one in ABLATIONS if one.name in names)


def training(
    out: Path,
    *names: str,
    seeds: tuple[int, ...] = (0, 1),
    settings: Settings = THIN,
    readings: Mapping[str, str] = MappingProxyType({}),
) -> Training:
    """Runs of some ablations on the images above."""
    runs = tuple(Run(read(one, readings), seed) for one in named(*names) for seed in seeds)
    return Training(runs, images(), settings, out, CPU, readings)


class Silent:
    """Progress that nobody looks at."""

    def begin(self, run: Run, epoch: int, steps: int) -> None:
        """Nothing."""

    def step(self, run: Run) -> None:
        """Nothing."""

    def measured(self, run: Run, values: dict[str, float | None]) -> None:
        """Nothing."""
