"""What is kept of a run: tensors it goes on from, and numbers that were measured."""

from torch import Tensor

State = dict[str, Tensor]
"""Tensors by name: a run's parameters, or all that it goes on from."""

Values = dict[str, float | None]
"""Metrics by name: `W_v1`, `Q_v1`, `loss`, ...; None where one is not defined."""
