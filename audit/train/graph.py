"""A training step recorded once as a CUDA graph, then replayed: one launch for some hundreds of kernels."""

from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 3
"""Steps made one kernel at a time first, in which libraries allocate what they keep."""


class Graphed:
    """Does on a CUDA device what `step` does with a tensor of one shape; what it returns is overwritten by
    the next call.

    Everything that `step` changes it must change in place, or leave in tensors that the next call replaces.
    """

    def __init__(self, step: Callable[[Tensor], Tensor]) -> None:
        """Nothing is recorded yet."""
        self._step = step
        self._left = WARM_UP
        self._graph: torch.cuda.CUDAGraph | None = None
        self._given: Tensor | None = None
        self._returned: Tensor | None = None

    def __call__(self, given: Tensor) -> Tensor:
        """One step."""
        if self._left:
            self._left -= 1
            return self._aside(given)
        if self._graph is None:
            self._record(given)
        assert self._graph is not None
        assert self._given is not None
        assert self._returned is not None
        self._given.copy_(given)
        self._graph.replay()
        return self._returned

    def _aside(self, given: Tensor) -> Tensor:
        """On a stream of its own, as recording wants it."""
        here = torch.cuda.current_stream()
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            returned = self._step(given)
        here.wait_stream(aside)
        return returned

    def _record(self, given: Tensor) -> None:
        self._given = given.clone()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._returned = self._step(self._given)
