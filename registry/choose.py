"""Choose the family of a checkpoint: by its config, by name, or by its tensors' names alone."""

import difflib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from registry.config import Config, architecture, model_types
from registry.family import Family
from registry.layers import holding, layers_among
from registry.layout import Miss
from registry.quotation import quoted
from registry.stack import Stack, as_names

LONGEST_NAME = 100
"""Characters of a name that are compared with those there are, which takes time by their square."""

_NUMBER = re.compile(r"(?<![A-Za-z0-9_])\d+(?![A-Za-z0-9_])")


def choose(
    tensors: Mapping[str, str], config: Config | None, families: Sequence[Family], chosen: str | None
) -> Family | Miss:
    """The family of tensors, bare to full name, with this config; `chosen` names it outright."""
    by_name = {family.name: family for family in families}
    if chosen is not None:
        if chosen in by_name:
            return by_name[chosen]
        near = difflib.get_close_matches(chosen, by_name, n=3)
        return Miss(f"no family is called {quoted(chosen)}", tuple(near))
    if config is None:
        return _by_names(tensors, families)
    claims = {name: family for family in families for name in family.model_types}
    types = tuple(dict.fromkeys(model_types(config)))
    for model_type in types:
        if model_type in claims:
            return claims[model_type]
    if types:
        return Miss(f"model_type {quoted(types[0])} is unknown", nearest(types[0], tensors, families))
    return _by_architecture(tensors, architecture(config), families)


def _by_architecture(
    tensors: Mapping[str, str], name: str | None, families: Sequence[Family]
) -> Family | Miss:
    """The family that claims a name in timm, if its tensors are here: the name alone does not tell them."""
    if name is None:
        said = "config.json has neither model_type nor architecture"
        return Miss(said, nearest("", tensors, families))
    family = next((family for family in families if family.claims(name)), None)
    if family is None:
        return Miss(f"architecture {quoted(name)} is unknown", nearest(name, tensors, families))
    if lacking := _lacking(family, _forms(tensors)):
        said = f"architecture {quoted(name)} is of the family {family.name}, and no tensor is named "
        return Miss(said + family.layers[0] + lacking[0], nearest(name, tensors, families))
    return family


def _by_names(tensors: Mapping[str, str], families: Sequence[Family]) -> Family | Miss:
    forms = _forms(tensors)
    explained = {
        family.name: _explained(family, tensors)
        for family in families
        if not (family.parts or family.config_only or family.part_only or _lacking(family, forms))
    }
    best = [name for name, count in explained.items() if count == max(explained.values())]
    if len(best) == 1:
        return next(family for family in families if family.name == best[0])
    if best:
        return Miss(
            "there is no config.json, and by tensor names alone it could be any of these", tuple(best)
        )
    return Miss(
        "there is no config.json and no family has these tensor names", nearest("", tensors, families)
    )


def _lacking(family: Family, names: Collection[str]) -> list[str]:
    """Tensors of the main stack's projections that no layer has, one a projection, under its best prefix.

    `names` are forms, as _forms gives them.
    """
    wanted = [sources for name, sources in _sources(family).items() if name not in family.optional]
    lacking = [
        [
            sources[0]
            for sources in wanted
            if not any(_form(template.replace("{layer}", "0") + source) in names for source in sources)
        ]
        for template in family.layers
    ]
    return min(lacking, key=len, default=[])


def _forms(tensors: Iterable[str]) -> frozenset[str]:
    """What is left of names when their numbers are taken out, once each."""
    return frozenset(map(_form, tensors))


def _form(name: str) -> str:
    """A name with each number that stands alone, and each {expert}, replaced by #."""
    return _NUMBER.sub("#", name.replace("{expert}", "0"))


def _sources(stack: Stack) -> dict[str, list[str]]:
    """Per projection the tensors that may hold it."""
    sources: dict[str, list[str]] = {}
    for projection, names in stack.projections.items():
        sources.setdefault(projection, []).extend(as_names(names))
    split = [(one.tensor, one.order) for one in stack.fused]
    split += [(one.up, one.order) for one in stack.low_rank]
    if stack.experts:
        for projection, names in stack.experts.projections.items():
            sources.setdefault(projection, []).extend(as_names(names))
        split += [(one.tensor, one.order) for one in stack.experts.packed]
    for tensor, order in split:
        for part in order:
            if part != "-":
                sources.setdefault(part, []).append(tensor)
    return sources


def _explained(family: Family, tensors: Mapping[str, str]) -> int:
    """How many names are projections, norms in front, or ignored by the family's own rules."""
    layers = layers_among(family, tensors).values()
    inside = {layer[name] for layer in layers for name in holding(family, layer)}
    inside |= {layer[name] for layer in layers for name in family.norms.weights if name in layer}
    return len(inside | {full for bare, full in tensors.items() if family.ignoring_rule(bare)})


def nearest(model: str, tensors: Iterable[str], families: Sequence[Family]) -> tuple[str, ...]:
    """The three families whose names and tensors come nearest, each with what it lacks here.

    `model` is a model type, a name in timm, or empty.
    """
    model = model[:LONGEST_NAME]
    endings = {form[i + 1 :] for form in _forms(tensors) for i, sign in enumerate(form) if sign == "."}
    ranked = []
    for family in families:
        if family.parts or family.part_only:
            continue
        wanted = [sources for name, sources in _sources(family).items() if name not in family.optional]
        missing = [one[0] for one in wanted if not any(_form(source) in endings for source in one)]
        share = 1 - len(missing) / len(wanted)
        claims = (*family.model_types, *family.architectures)
        alike = max((difflib.SequenceMatcher(None, model, name).ratio() for name in claims), default=0.0)
        lacks = f"no tensor ends in {missing[0]}" if missing else "all its tensors are here"
        ranked.append((share, alike, f"{family.name} ({lacks})"))
    ranked.sort(reverse=True)
    near = tuple(text for share, alike, text in ranked[:3] if share > 0 or alike > 0.6)
    return near or tuple(text for _, _, text in ranked[:1])
