"""Sort the tensors outside the layers into rules for what is ignored."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from registry.guessing.words import components, words

LISTED = 6
"""Names of a rule that are listed one by one; more are told by the path they share."""

_RULES: Mapping[str, frozenset[str]] = {
    "rotary buffers": frozenset({"rotary", "rope", "inv", "freqs"}),
    "embeddings": frozenset(
        {"embed", "embeds", "embedding", "embeddings", "embd", "emb", "wte", "wpe", "tok", "token", "tokens",
         "position", "positions", "pos", "patch", "cls", "mask", "shared"}
    ),
    "pooler": frozenset({"pooler", "pool"}),
    "output head": frozenset(
        {"lm", "head", "heads", "score", "classifier", "logits", "output", "outputs", "predictions",
         "unembed", "decoder", "seq", "classes", "prediction"}
    ),
}  # fmt: skip


def outside(
    tensors: Mapping[str, tuple[int, ...]], inside: Collection[str], others: Sequence[str]
) -> dict[str, list[str]]:
    """Globs by rule for all matrices and more outside `inside`; `others` are other stacks' prefixes."""
    rules: dict[str, list[str]] = {}
    for template in others:
        before, after = template.split("{layer}")
        rules.setdefault("another stack", []).append(f"{pattern(before)}*{after}*")
    prefixes = [template.split("{layer}")[0] for template in others]
    names: dict[str, list[str]] = {}
    for name, shape in tensors.items():
        if len(shape) >= 2 and name not in inside and not _in_stack(name, prefixes):
            names.setdefault(_rule(name), []).append(name)
    for rule in sorted(names, key=lambda rule: [*_RULES, rule].index(rule)):
        rules[rule] = _patterns(names[rule], inside)
    return rules


def pattern(name: str) -> str:
    """A glob that fits this name only."""
    return re.sub(r"([*?[])", r"[\1]", name)


def _in_stack(name: str, prefixes: Iterable[str]) -> bool:
    return any(re.match(re.escape(prefix) + r"\d{1,9}[._/].", name, re.DOTALL) for prefix in prefixes)


def _rule(name: str) -> str:
    """The rule whose words the name speaks; what its last parts say counts first."""
    for part in reversed(components(name)):
        said = set(words(part))
        for rule, known in _RULES.items():
            if said & known:
                return rule
    return "outside the layers"


def _patterns(names: Sequence[str], inside: Collection[str]) -> list[str]:
    if len(names) <= LISTED:
        return [pattern(name) for name in names]
    numbered = dict.fromkeys(re.sub(r"(?<![^./])\d+(?![^./])", "*", pattern(name)) for name in names)
    if len(numbered) <= LISTED:
        return list(numbered)
    heads: dict[str, list[str]] = {}
    for name in names:
        heads.setdefault(_shared(name, inside), []).append(name)
    return [pattern(under[0]) if len(under) == 1 else f"{pattern(head)}*" for head, under in heads.items()]


def _shared(name: str, inside: Collection[str]) -> str:
    """The shortest path down to a name, up to two steps, that no tensor of a layer shares."""
    path = name.split(".")
    for depth in range(1, min(3, len(path))):
        head = ".".join(path[:depth]) + "."
        if not any(one.startswith(head) for one in inside):
            return head
    return name
