"""What a family declaration may say: read one of families/*.toml beside this file, then add your own.

A family is data. Every table and key is checked here, unknown keys are refused, and nothing outside
this package knows a family's name.
"""

import tomllib
from dataclasses import field
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from registry.complaint import first_complaint
from registry.stack import Stack, strict


class FamilyFileError(ValueError):
    """A declaration that does not say what a declaration must; the message names the file and the key."""


@dataclass(frozen=True, config=strict)
class SubModel:
    """A model inside a model: a checkpoint of its own under a prefix, with a config of its own.

    `prefixes` are candidates, the first under which the sub-model's layers are; `config` is the key of its
    sub-config (where it is missing, the whole config is asked). The sub-config's model_type tells the family,
    unless `family` does.
    """

    prefixes: tuple[str, ...]
    config: str | None = None
    family: str | None = None

    def __post_init__(self) -> None:
        """There is somewhere to look."""
        if not self.prefixes:
            raise ValueError('prefixes: at least one is needed, and "" will do')


@dataclass(frozen=True, kw_only=True, config=strict)
class Family(Stack):
    """One layout of tensors on disk, and the models known to use it.

    `model_types` are config.json's; where it has none, `architectures` are globs on its `architecture`,
    where timm names the model. The keys of Stack describe the main stack (the decoder or text model),
    `stacks` further ones in the same tensors; or else `parts` are sub-models, the main one first. `ignore`
    names, rule by rule, the tensors that are left out on purpose (globs on the full name).
    `main` is what the main stack is called beside others. `config_only`: the names are those of a family far
    better known, so that only a config.json tells it. `part_only`: it is only ever named as a sub-model's
    family.
    """

    name: str
    summary: str
    source: str
    model_types: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    config_only: bool = False
    part_only: bool = False
    main: str = ""
    stacks: dict[str, Stack] = field(default_factory=dict)
    parts: dict[str, SubModel] = field(default_factory=dict)
    ignore: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """It says whose layout it is, and describes either stacks or sub-models."""
        if not (self.model_types or self.architectures or self.part_only):
            raise ValueError("a family needs `model_types` or `architectures`")
        if not self.parts:
            super().__post_init__()
        elif self.layers or self.declared or self.stacks:
            raise ValueError("parts: a family made of sub-models has no layers of its own")

    def claims(self, architecture: str) -> bool:
        """Whether a model of this name in timm is of this family."""
        return any(fnmatchcase(architecture, pattern) for pattern in self.architectures)

    def ignoring_rule(self, tensor: str) -> str | None:
        """The rule that leaves a tensor of this full name out; None where none does."""
        for rule, patterns in self.ignore.items():
            if any(fnmatchcase(tensor, pattern) for pattern in patterns):
                return rule
        return None

    @property
    def all_stacks(self) -> dict[str, Stack]:
        """The main stack, named "", and those beside it."""
        return {} if self.parts else {"": self, **self.stacks}


_family = TypeAdapter(Family)


def parse_family(text: str, origin: str) -> Family:
    """The family a TOML declaration describes.

    Raises FamilyFileError, naming `origin` and the key, for anything that is not a declaration.
    """
    try:
        said = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also a number of more digits than Python reads
        raise FamilyFileError(f"{origin}: not valid TOML: {error}") from error
    try:
        return _family.validate_python(said)
    except ValidationError as error:
        raise FamilyFileError(f"{origin}: {first_complaint(error, Family)}") from error


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


def declaration(name: str) -> str:
    """The text of a shipped family's file; KeyError where none is called so."""
    if name not in {family.name for family in families()}:
        raise KeyError(name)
    return (resources.files("registry") / "families" / f"{name}.toml").read_text(encoding="utf-8")
