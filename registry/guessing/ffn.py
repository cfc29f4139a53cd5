"""Guess Gate, Up and Down among the tensors of one feed-forward block."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from registry.guessing.stacks import Tensor
from registry.guessing.words import Role, Word

Orient = Callable[[Tensor], tuple[int, int]]


@dataclass(frozen=True)
class Block:
    """A feed-forward block; `fused` holds Gate and Up, in the other order with `up_first`."""

    gate: Tensor | None = None
    up: Tensor | None = None
    down: Tensor | None = None
    fused: Tensor | None = None
    up_first: bool = False
    check: str = ""

    @property
    def doubtful(self) -> Tensor | None:
        """What `check` is about."""
        return self.gate or self.up

    @property
    def members(self) -> list[Tensor]:
        """Its tensors."""
        return [one for one in (self.gate, self.up, self.down, self.fused) if one is not None]

    @property
    def layers(self) -> set[int]:
        """The layers that have any of them."""
        return {layer for one in self.members for layer in one.layers}


def guess_block(
    tensors: Sequence[Tensor], words: Mapping[str, Word], orient: Orient, hidden: int | None
) -> Block:
    """What is Down, by its word, its number or its shape; then what makes as many channels as it reads."""
    down = _down(tensors, words, orient, hidden)
    if down is None:
        return Block()
    inside = orient(down)[1]
    readers = [
        one for one in tensors if one is not down and orient(one)[1] == hidden and one.layers & down.layers
    ]
    gated = next((one for one in readers if orient(one)[0] == 2 * inside), None)
    readers = [one for one in readers if orient(one)[0] == inside]
    if gated is not None and not readers:
        up_first = words[gated.name].role is Role.UP_GATE
        told = "Up, Gate" if up_first else "Gate, Up"
        check = f'the order {told}, and whether they are halves or alternate row by row (repeat = "rows")'
        return Block(down=down, fused=gated, up_first=up_first, check=check)
    return _readers(down, sorted(readers, key=lambda one: words[one.name].number), words)


def _down(
    tensors: Sequence[Tensor], words: Mapping[str, Word], orient: Orient, hidden: int | None
) -> Tensor | None:
    writers = [one for one in tensors if orient(one)[0] == hidden]
    for role in (Role.DOWN, Role.OUT):
        if named := [one for one in writers if words[one.name].role is role]:
            return named[0]
    numbered = [one for one in writers if words[one.name].role is Role.NUMBERED]
    sure = [one for one in numbered if orient(one)[1] != hidden]
    return next(iter(sure), None) or next((one for one in numbered if words[one.name].number == 2), None)


def _readers(down: Tensor, readers: Sequence[Tensor], words: Mapping[str, Word]) -> Block:
    """Gate and Up by their words, and what has none by order, Gate first."""

    def called(role: Role) -> Tensor | None:
        return next((one for one in readers if words[one.name].role is role), None)

    gate, up = called(Role.GATE), called(Role.UP)
    rest = [one for one in readers if one not in (gate, up)]
    sure = all(words[one.name].role in (Role.NUMBERED, Role.IN) for one in rest)
    check = ""
    if up is None and rest and (gate is not None or len(rest) == 1):
        up = rest.pop(0)
        check = "" if sure else "its shape is all that speaks for Up"
    elif gate is None and up is None and len(rest) >= 2:
        gate, up = rest[:2]
        check = "which of the two is Gate, the one that goes through the activation"
    elif gate is None and rest:
        gate = rest.pop(0)
        check = "which of the two is Gate, the one that goes through the activation"
    elif gate is not None and up is None:
        up, gate = gate, None
        check = "whether it is Gate or Up: there is no other reader"
    return Block(gate, up, down, check=check)
