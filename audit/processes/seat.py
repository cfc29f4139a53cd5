"""Where this process stands among those that a launcher started: read from the environment, and no more."""

import os
from dataclasses import dataclass

from audit.errors import UsageError

_LAUNCHERS = "start it with `accelerate launch` or torchrun"


@dataclass(frozen=True)
class Seat:
    """A process's rank among all, and among those of its machine."""

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def leads(self) -> bool:
        """Whether it is the one that writes the report."""
        return self.rank == 0

    @property
    def machine(self) -> int:
        """The first rank of this machine, which stands for it."""
        return self.rank - self.local

    def __str__(self) -> str:
        """As launchers count: from 0."""
        return f"rank {self.rank} of {self.size}"


def find_seat() -> Seat:
    """The seat that a launcher's variables tell; that of a process alone where there are none.

    Raises UsageError for variables that contradict themselves.
    """
    size = _number("WORLD_SIZE", 1)
    if size <= 1:
        return Seat()
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            raise UsageError(f"WORLD_SIZE is {size}, and {name} is not set", _LAUNCHERS)
    seat = Seat(_number("RANK", 0), size, _number("LOCAL_RANK", 0))
    if not 0 <= seat.local <= seat.rank < size:
        raise UsageError(f"WORLD_SIZE is {size}, RANK {seat.rank}, LOCAL_RANK {seat.local}", _LAUNCHERS)
    return seat


def is_lonely() -> bool:
    """Whether several processes were asked of `accelerate launch`, and it started this one alone."""
    return (
        "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_PORT" in os.environ and find_seat().size == 1
    )


def _number(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    try:
        return int(text)
    except ValueError as error:
        raise UsageError(f"{name} is {text!r}", _LAUNCHERS) from error
