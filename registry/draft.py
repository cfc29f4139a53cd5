"""Draft a family declaration for a person to finish: from tensor names, shapes and config.json alone.

What is guessed, and not sure, has a comment that begins with "check" in front of it.
"""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from registry.config import Config, architecture, model_types
from registry.guessing.keys import CANDIDATES, Keys, fix_kv_heads, guess_keys, widths
from registry.guessing.layer import guess_layer
from registry.guessing.model import LayerGuess, Split
from registry.guessing.outside import outside, pattern
from registry.guessing.stacks import Found, find_stacks
from registry.match import unwrapped
from registry.projection import Projection
from registry.split import Shapes

HEADER = """\
# Drafted from tensor names, shapes and config.json alone. A person has to
# finish it: say where the modelling code is, and confirm by it what a comment
# says to check.
"""

LISTED = 40
"""Tensors that could not be placed and are listed one by one."""


def draft(shapes: Shapes, config: Config | None) -> str:
    """A declaration, as TOML, of the layout that these tensors seem to have; it parses, whatever they are."""
    bare = {name: shapes[full] for name, full in unwrapped(shapes).items()}
    stacks = find_stacks(bare)
    main = guess_layer(stacks[0], widths(config)) if stacks else LayerGuess(None)
    keys = guess_keys(config, len(stacks[0].layers) if stacks else 0, main.hidden)
    own: list[tuple[str, Found, LayerGuess]] = []
    for found in stacks[1:]:
        guess = guess_layer(found, widths(config))
        if guess.hidden == main.hidden and (guess.projections or guess.fused):
            own.append((_stack_name(found.template, [name for name, _, _ in own]), found, guess))
    parsed = {found.template for _, found, _ in own} | {found.template for found in stacks[:1]}
    lines = [HEADER + "\n".join(_head(config)), *_stack("", stacks[0] if stacks else None, main, keys)]
    for name, found, guess in own:
        lines += _stack(
            f"stacks.{name}.", found, guess, guess_keys(config, len(found.layers), guess.hidden, name)
        )
    lines += _ignore(
        bare, [(stacks[0], main)] if stacks else [], own, [f for f in stacks if f.template not in parsed]
    )
    return "\n".join(lines) + "\n"


def _head(config: Config | None) -> Iterator[str]:
    model = next(model_types(config), None) if config else None
    timm = architecture(config) if config else None
    said = config.get("architectures") if config else None
    named = said[0] if isinstance(said, list) and said else None
    called = named if isinstance(named, str) else model or timm or "A model without a name"
    yield f"name = {_text(_slug(model or timm or ''))}"
    yield f"summary = {_text(f'{called}: drafted from names and shapes'[:200])}"
    yield "# check: where is the modelling code?"
    yield 'source = "https://example.org"'
    if model is not None:
        yield f"model_types = [{_text(model)}]"
    elif timm is not None:
        yield f"architectures = [{_text(pattern(timm))}]"
    else:
        yield "# check: config.json names no model_type"
        yield f"model_types = [{_text(_slug(''))}]"


def _stack(at: str, found: Found | None, guess: LayerGuess, keys: Keys) -> Iterator[str]:
    """The tables of one stack; `at` goes before their names."""
    for one in guess.fused:
        if Projection.Q in one.order:
            fix_kv_heads(keys, one.rows, guess.hidden)
    if at:
        yield f"\n[{at.rstrip('.')}]"
    if found is None:
        yield '# check: no tensors were found that repeat from layer to layer\nlayers = ["layers.{layer}."]'
    else:
        yield f"layers = [{_text(found.template)}]"
    if "stored" in guess.checks:
        yield _check(guess.checks["stored"])
    if guess.stored != "out_in" or "stored" in guess.checks:
        yield f"stored = {_text(guess.stored)}"
    yield from _lacking(found, guess)
    yield from _projections(at, guess)
    for one in guess.fused:
        yield from _split(f"{at}fused", one, guess.stored, keys)
    for factors in guess.low_rank:
        yield f"\n[[{at}low_rank]]\n# check: the factors, the norm between, the order of rows"
        yield f"down = {_text(factors.down)}\nup = {_text(factors.up)}"
        yield from (f"gain = {_text(one)}" for one in [factors.gain] if one)
        yield f"order = {_list(factors.order)}"
        yield from ('repeat = "heads"' for _ in factors.order[1:])
    yield from _experts(at, guess)
    for site, norm in guess.norms.items():
        yield f'\n[{at}norms.{site}]\n# check: is it in front of the block? Is its gain w, or 1 + w ("1+w")?'
        yield f"weight = [{_text(norm.weight)}]\nkind = {_text(norm.kind)}"
    yield from _config(at, keys)


def _projections(at: str, guess: LayerGuess) -> Iterator[str]:
    empty = not (guess.projections or guess.fused or guess.low_rank or guess.experts or guess.packed)
    if guess.projections or empty:
        yield f"\n[{at}projections]"
    if empty:
        yield '# check: nothing was recognised; name tensors as they are within a layer\nQ = "q"'
    for projection in Projection:
        if names := guess.projections.get(projection):
            if projection in guess.checks:
                yield _check(guess.checks[projection])
            yield f"{projection} = {_text(names[0]) if len(names) == 1 else _list(names)}"


def _split(table: str, one: Split, stored: str, keys: Keys) -> Iterator[str]:
    yield f"\n[[{table}]]\ntensor = {_text(one.tensor)}"
    if one.check:
        yield _check(one.check)
    yield f"order = {_list(one.order)}"
    if one.stored is not None:
        yield f"stored = {_text(one.stored)}"
    if Projection.Q in one.order and "heads" not in keys.values and one.rows % len(one.order) == 0:
        yield "# check: that no queries are grouped, so that all parts are equally high\nequal = true"


def _experts(at: str, guess: LayerGuess) -> Iterator[str]:
    if guess.experts:
        yield f"\n[{at}experts.projections]"
    for projection, name in guess.experts.items():
        if check := guess.checks.get(f"experts.{projection}"):
            yield _check(check)
        yield f"{projection} = {_text(name)}"
    for one in guess.packed:
        yield from _split(f"{at}experts.packed", one, guess.stored, Keys())


def _config(at: str, keys: Keys) -> Iterator[str]:
    if not (keys.keys or keys.checks or keys.nested):
        return
    yield f"\n[{at}config]"
    if keys.nested is not None:
        yield f"nested = [{_text(keys.nested)}]"
    for dimension in CANDIDATES:
        if check := keys.checks.get(dimension):
            yield _check(check)
        if dimension in keys.fixed:
            yield f"{dimension} = [{{ value = {keys.fixed[dimension]} }}]"
        elif key := keys.keys.get(dimension):
            yield f"{dimension} = [{_text(key)}]"


def _lacking(found: Found | None, guess: LayerGuess) -> Iterator[str]:
    """A projection that some layers lack."""
    if found is None:
        return
    for projection in Projection:
        names = guess.projections.get(projection, ())
        have = {layer for name in names for layer in found.tensors[name].layers}
        if names and len(have) < len(found.layers) and not guess.experts and not guess.packed:
            told = f"{len(found.layers) - len(have)} of {len(found.layers)} layers have no {projection}"
            yield _check(f"{told}: what do they have instead? See [[instead]]")
            return


def _ignore(
    bare: Mapping[str, tuple[int, ...]],
    main: Sequence[tuple[Found, LayerGuess]],
    own: Sequence[tuple[str, Found, LayerGuess]],
    others: Sequence[Found],
) -> Iterator[str]:
    """What lies outside the layers, and what of the layers is no projection; then what is left over."""
    drafted = [*main, *((found, guess) for _, found, guess in own)]
    inside = {name for found, _ in drafted for name in found.names}
    rules = outside(bare, inside, [found.template for found in others])
    for found, guess in drafted:
        before, after = found.template.split("{layer}")
        for rule, names in guess.ignored.items():
            rules.setdefault(rule, []).extend(f"{pattern(before)}*{after}{pattern(name)}" for name in names)
    if rules:
        yield "\n[ignore]"
    for rule, patterns in rules.items():
        if rule == "another stack":
            yield "# check: layers of their own, to be read if declared as [stacks.NAME] or [parts.NAME]"
        elif rule == "outside the layers":
            yield "# check: what are these?"
        yield f"{rule if rule.isalpha() else _text(rule)} = {_list(patterns)}"
    left = [(found, one) for found, guess in drafted for one in guess.unplaced]
    if left:
        yield "\n# check: not placed, and unknown until they are declared or ignored:"
    for found, (name, shape, hint) in left[:LISTED]:
        yield _comment(f"  {found.template}{name} {list(shape)}{f'  {hint}' if hint else ''}")
    if len(left) > LISTED:
        yield f"#   and {len(left) - LISTED} more"


def _stack_name(template: str, taken: Sequence[str]) -> str:
    """The last word of a prefix that says more than that there are layers."""
    said = [word for word in re.split(r"[./]", template) if re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", word)]
    telling = [
        word for word in said if word.lower() not in ("layers", "layer", "blocks", "block", "model", "h")
    ]
    name = telling[-1] if telling else "other"
    return name if name not in taken else f"{name}_{len(taken) + 1}"


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9_.-]+", "-", name.lower()).strip("-.")[:60] or "my-model"


def _list(items: Sequence[str]) -> str:
    one_line = f"[{', '.join(_text(item) for item in items)}]"
    if len(one_line) <= 90:
        return one_line
    return "[\n" + "".join(f"    {_text(item)},\n" for item in items) + "]"


def _text(value: str) -> str:
    """A TOML string."""
    escaped = {'"': '\\"', "\\": "\\\\"}
    return (
        '"' + "".join(escaped.get(one) or (one if one.isprintable() else _code(one)) for one in value) + '"'
    )


def _code(character: str) -> str:
    """What is not printable, by its number; halves of characters have none in TOML."""
    number = ord(character)
    return "\\ufffd" if 0xD800 <= number < 0xE000 else f"\\U{number:08x}"


def _check(text: str) -> str:
    """A comment on what stands below it."""
    return textwrap.fill(f"check: {text}", 78, initial_indent="# ", subsequent_indent="# ")


def _comment(text: str) -> str:
    return "# " + "".join(character if character.isprintable() else "?" for character in text)
