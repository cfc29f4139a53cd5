"""The order in which a run sees its text: from the seed and the step alone, so that it can go on anywhere."""

import numpy as np
import torch
from torch import Tensor


class Windows:
    """Windows of T + 1 tokens, each the last token of the one before and T of its own: T inputs, T targets.

    Every window comes once before any comes again, in an order drawn anew each time.
    """

    def __init__(self, tokens: np.ndarray, sequence: int, seed: int) -> None:
        """Raises ValueError for a text shorter than a window."""
        self._tokens = tokens
        self._sequence = sequence
        self._seed = seed
        self._round = -1
        self._order = np.empty(0, np.int64)
        self.count = count_of(tokens, sequence)
        if self.count == 0:
            raise ValueError(f"{len(tokens)} tokens, and a window takes {sequence + 1}")

    def batch(self, step: int, size: int, part: slice = slice(None)) -> Tensor:
        """Of the `size` windows of a step, a part: [rows, T + 1], int64."""
        places = range(step * size, (step + 1) * size)[part]
        return cut(self._tokens, [self._at(place) for place in places], self._sequence)

    def _at(self, place: int) -> int:
        """The window at a place of the endless sequence of all."""
        round_, within = divmod(place, self.count)
        if round_ != self._round:
            # seeded by both numbers, so that no two seeds share a round's order
            self._order = np.random.default_rng([self._seed, round_]).permutation(self.count)
            self._round = round_
        return int(self._order[within])


def count_of(tokens: np.ndarray, sequence: int) -> int:
    """How many windows a text has; what is left at its end and fills none is left out."""
    return (len(tokens) - 1) // sequence


def spread(tokens: np.ndarray, sequence: int, most_tokens: int) -> Tensor:
    """Windows evenly spread over a text, of `most_tokens` targets together: [rows, T + 1], int64."""
    count = count_of(tokens, sequence)
    chosen = max(1, min(count, most_tokens // sequence))
    return cut(tokens, [place * count // chosen for place in range(chosen)], sequence)


def cut(tokens: np.ndarray, windows: list[int], sequence: int) -> Tensor:
    """These windows of a text: [rows, T + 1], int64."""
    rows = [tokens[window * sequence : (window + 1) * sequence + 1] for window in windows]
    return torch.from_numpy(np.stack(rows).astype(np.int64)) if rows else torch.empty(0, sequence + 1).long()
