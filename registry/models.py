"""The models the registry knows by name, and the values published for them."""

import json
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class KnownModel:
    """A model on the Hub: its repo, family and size, and the key of its published values, if any.

    `batch` says whether a batch without names takes it.
    """

    name: str
    repo: str
    family: str
    layers: int
    hidden_size: int
    role: str
    published: str | None = None
    batch: bool = True


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Published:
    """Published numbers of one model, by projection and then space (v or u), with where they stand."""

    source: str
    continuity: Mapping[str, Mapping[str, float]]
    evr3: Mapping[str, Mapping[str, float]]


@cache
def models() -> tuple[KnownModel, ...]:
    """The paper's models, in the paper's order."""
    text = (resources.files("registry") / "models.toml").read_text(encoding="utf-8")
    return TypeAdapter(tuple[KnownModel, ...]).validate_python(tomllib.loads(text)["models"])


def published_for(repo: str, layers: int, hidden_size: int | None) -> Published | None:
    """What was published about this repo; None where nothing was, or where the size is another model's."""
    text = (resources.files("registry") / "published.json").read_text(encoding="utf-8")
    values = TypeAdapter(dict[str, Published]).validate_python(json.loads(text))
    for model in models():
        same = model.repo.lower() == repo.lower() and (model.layers, model.hidden_size) == (
            layers,
            hidden_size,
        )
        if same and model.published is not None:
            return values[model.published]
    return None
