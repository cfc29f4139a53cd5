"""Negative controls: a shipped family declared wrongly, on which a proof by value must fail."""

from collections.abc import Set
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Control:
    """A family declared wrongly: the edits that make it so, and what must come out wrong.

    Projections, or stacks with projections. With `in_memory` the model is given as a dump of its state.
    """

    model: str
    family: str
    edits: tuple[tuple[str, str], ...]
    wrong: Set[Any]
    fold_norm: bool = False
    in_memory: bool = False

    def write(self, path: Path) -> Path:
        """The family's declaration, so edited."""
        text = (resources.files("registry") / "families" / f"{self.family}.toml").read_text()
        for old, new in self.edits:
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)
        return path
