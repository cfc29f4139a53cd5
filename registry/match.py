"""Match a checkpoint, given as tensor names and shapes, to a family: where is each projection?

Orientation and split order come from the declaration, never from guessing by shape; shapes only have to
agree with it. Every tensor ends up as a projection, a norm in front of one, ignored by a named rule, or
unknown.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from registry.choose import choose
from registry.config import Config, ConfigError, model_types
from registry.family import Family, SubModel
from registry.layers import NORMS, lay_out_stack, layers_among
from registry.layout import Claim, Contradiction, Layout, Miss, StackLayout
from registry.quotation import quoted
from registry.split import MismatchError, OtherLayoutError, Shapes, UnknowableError

_WRAPPERS = re.compile(r"^(?:_orig_mod\.|module\.|base_model\.model\.)+")
"""Prefixes that torch.compile, DataParallel and PEFT put before every name."""


def match(
    shapes: Shapes, config: Config | None, families: Sequence[Family], chosen: str | None = None
) -> Layout | Miss | Contradiction:
    """The layout of a checkpoint with these tensor shapes and this config (None: it has none).

    `chosen` names the family outright. Otherwise the config's model_type decides, or its architecture
    where it has none; without a config the names do, if just one family explains them best.
    """
    tensors = unwrapped(shapes)
    family = choose(tensors, config, families, chosen)
    if isinstance(family, Miss):
        return family
    try:
        found = _Matcher(shapes, families).of(family, tensors, config)
    except (UnknowableError, OtherLayoutError) as error:
        return Miss(str(error))
    except (MismatchError, ConfigError) as error:
        return Contradiction(str(error))
    if isinstance(found, Miss):
        return found
    return Layout(
        family=family.name,
        model_type=next(model_types(config), None) if config else None,
        stacks=tuple(found.stacks),
        claims={name: found.claims[name] for name in shapes},
        unread=found.unread,
    )


def unwrapped(shapes: Shapes) -> dict[str, str]:
    """Bare name to full name, wrappers' prefixes taken off; where two would meet, one keeps its own."""
    tensors: dict[str, str] = {}
    for name in shapes:
        bare = _WRAPPERS.sub("", name)
        tensors[name if bare in shapes or bare in tensors else bare] = name
    return tensors


@dataclass
class _Found:
    """What a family made of a set of tensors: stacks, and a claim on each of them by full name."""

    stacks: list[StackLayout] = field(default_factory=list)
    claims: dict[str, Claim] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)


class _Matcher:
    """Lays out families, and the sub-models of those that have some."""

    def __init__(self, shapes: Shapes, families: Sequence[Family]) -> None:
        self._shapes = shapes
        self._families = families

    def of(self, family: Family, tensors: Mapping[str, str], config: Config | None) -> _Found | Miss:
        """The layout of tensors, bare to full name; raises what lay_out_stack does."""
        found = (
            self._parts(family, tensors, config) if family.parts else self._stacks(family, tensors, config)
        )
        if isinstance(found, _Found):
            for bare, full in tensors.items():
                if (before := found.claims.get(full)) is None or before.kind == "unknown":
                    found.claims[full] = self._claim(family, bare, full, before)
        return found

    def _stacks(self, family: Family, tensors: Mapping[str, str], config: Config | None) -> _Found | Miss:
        found = _Found()
        for name, stack in family.all_stacks.items():
            if layers := layers_among(stack, tensors):
                laid_out = lay_out_stack(stack, (name, family.name), layers, self._shapes, config)
                found.stacks.append(replace(laid_out.layout, title=name or family.main))
                for full in (full for layer in layers.values() for full in layer.values()):
                    found.claims.setdefault(full, Claim("unknown", "", inside=True))
                for full, claim in laid_out.claims.items():
                    if found.claims[full].kind in ("unknown", "ignored"):
                        found.claims[full] = claim
        if not found.stacks:
            wanted = family.layers[0].replace("{layer}", "0") + (*family.tensors, *family.expert_tensors)[0]
            return Miss(f"the family {family.name} keeps its tensors as {wanted}, and none is named so")
        return found

    def _parts(self, family: Family, tensors: Mapping[str, str], config: Config | None) -> _Found | Miss:
        found = _Found()
        for name, (part, inside) in self._shared_out(family, tensors).items():
            if not inside:
                continue
            sub_config = _sub_config(config, part)
            sub_family = self._family_of(part, sub_config, family)
            try:
                result = (
                    sub_family if isinstance(sub_family, Miss) else self.of(sub_family, inside, sub_config)
                )
            except (MismatchError, OtherLayoutError, UnknowableError, ConfigError) as error:
                if not found.stacks:
                    raise
                result = Miss(str(error))
            if isinstance(result, _Found):
                _take_in(found, result, name)
            elif not found.stacks:
                return Miss(f"{name}: {result.reason}", result.nearest)
            else:
                found.unread[name] = result.reason
                claim = Claim("ignored", f"{name}, not read: {result.reason}")
                found.claims |= dict.fromkeys(inside.values(), claim)
        if not found.stacks:
            wanted = next(prefix for part in family.parts.values() for prefix in part.prefixes)
            return Miss(f"the family {family.name} keeps its tensors under {wanted}, and none is named so")
        return found

    def _shared_out(
        self, family: Family, tensors: Mapping[str, str]
    ) -> dict[str, tuple[SubModel, dict[str, str]]]:
        """Each sub-model with the tensors under its prefix, those that a longer prefix claims apart."""
        prefixes = {
            name: next((p for p in part.prefixes if any(t.startswith(p) for t in tensors)), None)
            for name, part in family.parts.items()
        }
        shares: dict[str, tuple[SubModel, dict[str, str]]] = {
            name: (part, {}) for name, part in family.parts.items()
        }
        by_length = sorted(
            ((prefix, name) for name, prefix in prefixes.items() if prefix is not None),
            key=lambda one: -len(one[0]),
        )
        for bare, full in tensors.items():
            for prefix, name in by_length:
                if bare.startswith(prefix):
                    shares[name][1][bare[len(prefix) :]] = full
                    break
        return shares

    def _family_of(self, part: SubModel, config: Config | None, outer: Family) -> Family | Miss:
        if part.family is not None:
            named = (family for family in self._families if family.name == part.family != outer.name)
            return next(
                named, Miss(f"{outer.name} takes it to be of the family {part.family}, which is unknown")
            )
        model_type = next(model_types(config), None) if config else None
        if model_type is None:
            return Miss("config.json does not say of which model_type it is")
        for family in self._families:
            if model_type in family.model_types and family is not outer:
                return family
        return Miss(f"model_type {quoted(model_type)} is unknown")

    def _claim(self, family: Family, bare: str, full: str, before: Claim | None) -> Claim:
        inside = before is not None and before.inside
        rule = family.ignoring_rule(bare)
        if rule is None and len(self._shapes[full]) < 2:
            rule = "biases" if full.endswith("bias") else NORMS
        return Claim("ignored", rule, inside) if rule else Claim("unknown", "", inside)


def _sub_config(config: Config | None, part: SubModel) -> Config | None:
    if config is None or part.config is None:
        return config
    found = config.get(part.config)
    return found if isinstance(found, Mapping) else config


def _take_in(found: _Found, part: _Found, name: str) -> None:
    """A sub-model's stacks under its name; in the main sub-model those beside the main one keep theirs."""
    is_main = not found.stacks
    for i, stack in enumerate(part.stacks):
        own = name if i == 0 else stack.name if is_main else f"{name} {stack.name}"
        found.stacks.append(replace(stack, name=own, title=own))
    found.claims |= part.claims
    found.unread |= {f"{name} {inner}": reason for inner, reason in part.unread.items()}
