"""What a family declaration may say: read one of families/*.toml beside this file, then add your own.

A family is data. Every table and key is checked here, unknown keys are refused, and nothing outside
this package knows a family's name.
"""

import difflib
import re
import tomllib
from collections.abc import Iterable
from dataclasses import field, fields
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from registry.projection import Projection

_strict = ConfigDict(extra="forbid")

Stored = Literal["out_in", "in_out"]
Repeat = Literal["once", "heads", "kv_heads"] | Annotated[int, Field(ge=1)]


class FamilyFileError(ValueError):
    """A declaration that does not say what a declaration must; the message names the file and the key."""


@dataclass(frozen=True, config=_strict)
class KeyRule:
    """One way to find a number: a config key or a fixed value, perhaps only when another key is truthy."""

    key: str | None = None
    value: int | None = None
    when: str | None = None

    def __post_init__(self) -> None:
        """Exactly one of key and value must be given."""
        if (self.key is None) == (self.value is None):
            raise ValueError("a rule needs either `key` or `value`")


@dataclass(frozen=True, config=_strict)
class ConfigKeys:
    """Where config.json keeps each dimension: candidates in order, the first that is there and not null.

    `nested` names the sub-configs that hold the text model in a multimodal config.
    """

    layers: tuple[str | KeyRule, ...] = ("num_hidden_layers",)
    hidden: tuple[str | KeyRule, ...] = ("hidden_size",)
    heads: tuple[str | KeyRule, ...] = ("num_attention_heads",)
    kv_heads: tuple[str | KeyRule, ...] = ("num_key_value_heads",)
    head_dim: tuple[str | KeyRule, ...] = ("head_dim",)
    nested: tuple[str, ...] = ("text_config",)


@dataclass(frozen=True, config=_strict)
class Fused:
    """Several projections in one tensor.

    After orientation to [out, in] the rows are `repeat` equal groups, each holding a share of every part
    in `order`. A part that is no projection is written "-". Q, K and V are as high as config.json's heads
    make them, unless `equal` says that all parts are equally high; Gate and Up always are.
    """

    tensor: str
    order: tuple[Projection | Literal["-"], ...]
    repeat: Repeat = "once"
    equal: bool = False
    stored: Stored | None = None


@dataclass(frozen=True, config=_strict)
class Norm:
    """The norm whose output a projection reads: candidates in order, the first the layer has.

    `gain` tells how the stored weight w scales its input: by w, or by 1 + w.
    """

    weight: tuple[str, ...]
    kind: Literal["rms", "layer"]
    gain: Literal["w", "1+w"] = "w"


@dataclass(frozen=True, config=_strict)
class Norms:
    """The norms in front of attention (Q, K, V) and of the feed-forward block (Gate, Up).

    None where a block reads the residual stream unnormed.
    """

    attention: Norm | None = None
    ffn: Norm | None = None

    @property
    def weights(self) -> tuple[str, ...]:
        """The layer-local names of every norm's weight."""
        return tuple(name for norm in (self.attention, self.ffn) if norm for name in norm.weight)


@dataclass(frozen=True, config=_strict)
class Family:
    """One layout of tensors on disk, and the models known to use it.

    `model_types` are config.json's; where it has none, `architectures` are globs on its `architecture`,
    where timm names the model. `layers` are prefix templates with {layer}; `projections` and the fused
    tensors are named below them. `ignore` names, rule by rule, the tensors that are left out on purpose
    (globs on the full name).
    """

    name: str
    summary: str
    source: str
    layers: tuple[str, ...]
    model_types: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    projections: dict[Projection, str] = field(default_factory=dict)
    fused: tuple[Fused, ...] = ()
    stored: Stored = "out_in"
    norms: Norms = field(default_factory=Norms)
    config: ConfigKeys = field(default_factory=ConfigKeys)
    ignore: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """It says whose layout it is, every prefix has its {layer}, no projection is declared twice."""
        if not (self.model_types or self.architectures):
            raise ValueError("a family needs `model_types` or `architectures`")
        for template in self.layers:
            if template.count("{layer}") != 1:
                raise ValueError(f"layers: {template!r} needs exactly one {{layer}}")
        if not self.layers:
            raise ValueError("layers: at least one prefix is needed")
        names = [*self.projections, *(part for fused in self.fused for part in fused.order if part != "-")]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name} is declared twice")
        if Projection.OV in names:
            raise ValueError("OV is composed of V and O, never declared")
        if not names:
            raise ValueError("at least one projection must be declared")

    def claims(self, architecture: str) -> bool:
        """Whether a model of this name in timm is of this family."""
        return any(fnmatchcase(architecture, pattern) for pattern in self.architectures)

    def layers_among(self, tensors: Iterable[str]) -> dict[int, dict[str, str]]:
        """Layer index to {layer-local name: full name}, under the prefix that shows most projections."""
        best: dict[int, dict[str, str]] = {}
        most = 0
        names = tuple(tensors)
        for template in self.layers:
            before, after = template.split("{layer}")
            pattern = re.compile(re.escape(before) + r"(\d{1,9})" + re.escape(after) + "(.+)")
            layers: dict[int, dict[str, str]] = {}
            for name in names:
                if hit := pattern.fullmatch(name):
                    layers.setdefault(int(hit[1]), {})[hit[2]] = name
            count = sum(tensor in layer for layer in layers.values() for tensor in self.tensors)
            if count > most:
                best, most = layers, count
        return best

    def ignoring_rule(self, tensor: str) -> str | None:
        """The rule that leaves a tensor of this full name out; None where none does."""
        for rule, patterns in self.ignore.items():
            if any(fnmatchcase(tensor, pattern) for pattern in patterns):
                return rule
        return None

    @property
    def declared(self) -> tuple[Projection, ...]:
        """The projections this family stores, in reading order."""
        fused = {part for tensor in self.fused for part in tensor.order if part != "-"}
        return tuple(name for name in Projection if name in self.projections or name in fused)

    @property
    def tensors(self) -> tuple[str, ...]:
        """The layer-local names of the tensors that hold projections."""
        return (*self.projections.values(), *(fused.tensor for fused in self.fused))


_family = TypeAdapter(Family)


def parse_family(text: str, origin: str) -> Family:
    """The family a TOML declaration describes.

    Raises FamilyFileError, naming `origin` and the key, for anything that is not a declaration.
    """
    try:
        return _family.validate_python(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise FamilyFileError(f"{origin}: not valid TOML: {error}") from error
    except ValidationError as error:
        raise FamilyFileError(f"{origin}: {_first_complaint(error)}") from error


def read_family(path: Path) -> Family:
    """The family declared in a user's TOML file; raises FamilyFileError."""
    try:
        return parse_family(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise FamilyFileError(f"{path}: cannot be read: {error}") from error


@cache
def families() -> tuple[Family, ...]:
    """Every family that ships with the registry, by name; a model belongs to one family only."""
    folder = resources.files("registry") / "families"
    entries = sorted(
        (entry for entry in folder.iterdir() if entry.name.endswith(".toml")), key=lambda e: e.name
    )
    return tuple(parse_family(entry.read_text(encoding="utf-8"), entry.name) for entry in entries)


def _first_complaint(error: ValidationError) -> str:
    # An unknown key is the likeliest slip; among a union's branches the deepest got furthest.
    complaint = max(
        error.errors(include_url=False),
        key=lambda one: (
            one["type"] == "unexpected_keyword_argument",
            one["type"] == "value_error",
            len(one["loc"]),
        ),
    )
    keys = [str(part) for part in complaint["loc"] if not _is_branch(str(part))]
    place = ".".join(keys)
    if complaint["type"] == "unexpected_keyword_argument":
        near = difflib.get_close_matches(keys[-1], sorted(_known_keys()), n=1)
        return f"unknown key `{place}`" + (f": did you mean `{near[0]}`?" if near else "")
    message = complaint["msg"].removeprefix("Value error, ")
    return f"`{place}`: {message}" if place else message


def _is_branch(part: str) -> bool:
    """Whether pydantic added this to the path to say which branch of a union it tried."""
    return part in ("str", "int", "[key]", "KeyRule") or part.startswith(("literal[", "constrained-"))


def _known_keys() -> set[str]:
    return {key.name for shape in (Family, Fused, Norm, Norms, ConfigKeys, KeyRule) for key in fields(shape)}
