"""The tables published about the training experiments, read from experiments.json."""

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

TOY_MODEL_TYPE = "residual-mlp"
"""What config.json calls the toy MLPs that the experiments leave, and the family that reads them."""

LLAMA, QWEN3 = "llama", "qwen3"
"""What it calls the small transformers that transformers has a model of."""

ABLATED_LLAMA = "ablated-llama"
"""What config.json calls a small transformer of which transformers has no model."""

GPT2_TOKENS = "gpt2"
"""The tokenizer of the paper's transformers."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PublishedCell:
    """A published mean over seeds and its standard deviation, None where the table prints none."""

    mean: float
    std: float | None


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PublishedTable:
    """One table of the paper: its metrics in their order, and its rows by the ablation's name.

    A cell that the paper leaves empty (a run that diverged, another study's model) has no key in its row.
    """

    number: int
    title: str
    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, PublishedCell]]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class _Published:
    source: str
    tables: tuple[PublishedTable, ...]


def published_source() -> str:
    """Where the tables stand."""
    return _published().source


def published_tables() -> tuple[PublishedTable, ...]:
    """Every table there is, by its number: 1, 3, 4, 5 are the residual MLP's, 2 the small transformer's."""
    return _published().tables


@cache
def _published() -> _Published:
    text = (resources.files("registry") / "experiments.json").read_text(encoding="utf-8")
    return TypeAdapter(_Published).validate_python(json.loads(text))
