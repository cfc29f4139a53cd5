"""The routed experts of one projection, stacked: order-free in the space that faces the residual stream.

Readers are stacked one below the other, Down side by side. Whatever the experts' order, the stack's Gram
matrix on the side of the residual stream is the sum of theirs: W^T W = sum_e W_e^T W_e for a reader, W W^T
for Down. The other side's vectors depend on the order, and are left out.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from audit.linear_map import Dense
from registry import Slot, Space

PASSES = 12
"""About how often each expert is read: once to look at it, once a step of the iteration, once to certify."""

FULL_PASSES = 3
"""The same with --full: once to look at it, once for the Gram matrix, once to certify."""


@dataclass(frozen=True, eq=False)
class ExpertStack:
    """Experts that are read anew each time they are walked through, so that one is in memory.

    `shape` is that of the stack, [out, in]; `facing` the space that it shares with the residual stream.
    """

    shape: tuple[int, int]
    facing: Space
    slots: tuple[Slot, ...]
    make: Callable[[Slot], Dense]

    @property
    def hidden(self) -> int:
        """The width of the residual stream."""
        return self.shape[1] if self.facing == "v" else self.shape[0]

    def __len__(self) -> int:
        """How many experts there are."""
        return len(self.slots)

    def __iter__(self) -> Iterator[Dense]:
        """Each expert as stored, [out, in]."""
        for slot in self.slots:
            yield self.make(slot)

    def readers(self) -> Iterator[Dense]:
        """Each expert turned so that its input faces the residual stream: [inner, hidden]."""
        for expert in self:
            yield expert if self.facing == "v" else expert.transposed
