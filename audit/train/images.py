"""Labelled images as the networks take them: standardised rows."""

from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.errors import DataError

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]

CHUNK = 4096
"""Images whose pixels are counted at a time."""


@dataclass(frozen=True, eq=False)
class Images:
    """A data set: pixels [N, in] as bytes and labels [N] from 0, of its training and its test part."""

    name: str
    train_pixels: Pixels
    train_labels: Labels
    test_pixels: Pixels
    test_labels: Labels
    _tensors: dict[tuple[str, torch.device], tuple[Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False
    )

    @property
    def classes(self) -> int:
        """How many classes the labels name."""
        return int(max(self.train_labels.max(), self.test_labels.max())) + 1

    @property
    def inputs(self) -> int:
        """Values an image."""
        return int(self.train_pixels.shape[1])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all pixels and labels, whatever files they came from."""
        found = sha256()
        for part in (self.train_pixels, self.train_labels, self.test_pixels, self.test_labels):
            found.update(np.ascontiguousarray(part).tobytes())
        return found.hexdigest()

    @cached_property
    def scale(self) -> tuple[float, float]:
        """Mean and deviation of the training pixels on [0, 1], to four digits: MNIST's .1307, .3081.

        Raises DataError where all are alike.
        """
        parts = range(0, len(self.train_pixels), CHUNK)
        counts = sum(
            np.bincount(self.train_pixels[start : start + CHUNK].ravel(), minlength=256) for start in parts
        )
        bright = np.arange(256) / 255
        mean = float(np.average(bright, weights=counts))
        if np.count_nonzero(counts) == 1:
            raise DataError(f"all pixels of {self.name} are alike", "look at its files")
        return round(mean, 4), round(float(np.average((bright - mean) ** 2, weights=counts)) ** 0.5, 4)

    def train(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Standardised training images [N, in] and labels [N]; the same tensors each time."""
        return self._placed("train", self.train_pixels, self.train_labels, device)

    def test(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Standardised test images [N, in], by the training part's mean and deviation, and labels [N]."""
        return self._placed("test", self.test_pixels, self.test_labels, device)

    def _placed(
        self, part: str, pixels: Pixels, labels: Labels, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        if (part, device) not in self._tensors:
            mean, deviation = self.scale
            # both are copies: what NumPy read from a file may be read-only, which torch does not know
            x = torch.from_numpy(pixels.astype(np.float32)).to(device).div_(255).sub_(mean).div_(deviation)
            self._tensors[part, device] = x, torch.tensor(labels, device=device)
        return self._tensors[part, device]
