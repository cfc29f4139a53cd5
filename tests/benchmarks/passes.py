"""Count how often an audit goes through the weights that it has read, and how many bytes that moves.

No benchmark itself.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from threading import Lock
from typing import Any

from audit.linear_map import Dense

WALKS = ("gram", "matmul", "rmatmul", "frobenius_squared", "peak", "matrix")
"""The methods of a dense map that go through its weights once, from first to last."""


@dataclass
class Traffic:
    """Bytes of stored weights gone through, by what was done with them."""

    moved: Counter[str] = field(default_factory=Counter)
    lock: Lock = field(default_factory=Lock)

    @property
    def total(self) -> int:
        """All together."""
        return sum(self.moved.values())


@contextmanager
def traffic() -> Iterator[Traffic]:
    """Counts what every dense map does while it lasts; a method that another calls is not counted again."""
    counted = Traffic()
    inside: set[int] = set()
    originals = {name: getattr(Dense, name) for name in WALKS if hasattr(Dense, name)}

    def counting(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def walk(self: Dense, *arguments: Any) -> Any:
            outermost = id(self) not in inside
            if outermost:
                inside.add(id(self))
                with counted.lock:
                    counted.moved[name] += self.weight.nbytes
            try:
                return method(self, *arguments)
            finally:
                if outermost:
                    inside.discard(id(self))

        return walk

    for name, method in originals.items():
        setattr(Dense, name, counting(name, method))
    try:
        yield counted
    finally:
        for name, method in originals.items():
            setattr(Dense, name, method)
