"""What the command line asks for, as ablations and seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from audit.errors import SelectionError, UsageError
from audit.train import ablations as toy
from audit.train.transformer import ablations as transformer
from registry.experiments import published_tables

Kind = Literal["toy", "transformer"]

MOST_SEEDS = 100
"""More than this is a typing error."""

_TABLES = sorted((*toy.TABLES, *transformer.TABLES))
_NAMES: dict[Kind, tuple[str, ...]] = {
    "toy": tuple(one.name for one in toy.ABLATIONS),
    "transformer": tuple(one.name for one in transformer.ABLATIONS),
}


@dataclass(frozen=True)
class Selection:
    """Ablations of one kind, in the order of the table of them, each once."""

    kind: Kind
    names: tuple[str, ...]


def chosen(
    names: Sequence[str],
    tables: Sequence[int],
    figures: Sequence[int] = (),
    *,
    everything: bool,
    kind: Kind | None,
) -> Selection:
    """The ablations asked for; `kind` is what other options say, None where they leave it open.

    Raises SelectionError for a name, a table or a figure that there is not, UsageError where nothing is
    asked for, or both kinds are.
    """
    for name in names:
        _check(name)
    for number in tables:
        if number not in _TABLES:
            raise SelectionError(f"--table {number}", f"choose {', '.join(map(str, _TABLES))}")
    for number in figures:
        if number not in toy.FIGURES:
            raise SelectionError(f"--figure {number}", f"choose {', '.join(map(str, toy.FIGURES))}")
    rows = {row for table in published_tables() if table.number in tables for row in table.rows}
    rows |= {name for number in figures for name in toy.FIGURES[number].names}
    wanted: dict[Kind, set[str]] = {each: {*names, *rows} & {*known} for each, known in _NAMES.items()}
    if all(wanted.values()):
        raise UsageError(
            f"{min(wanted['toy'])} is a toy MLP, {min(wanted['transformer'])} a transformer",
            "train them by separate commands",
        )
    found: Kind = kind or ("transformer" if wanted["transformer"] else "toy")
    if other := sorted(wanted["toy" if found == "transformer" else "transformer"]):
        raise UsageError(f"{other[0]} is a toy MLP", "leave out what is for transformers, as --preset")
    if everything:
        return Selection(found, _NAMES[found])
    if not wanted[found]:
        raise UsageError(
            "nothing to train",
            "name an --ablation, a --table, a --figure or --all; --list shows what there is",
        )
    return Selection(found, tuple(name for name in _NAMES[found] if name in wanted[found]))


def epochs_of(figures: Sequence[int], *, alone: bool) -> int | None:
    """For how many epochs the figures' runs are trained; None for as many as usual.

    `alone` is whether nothing else is trained. Raises UsageError where that is not the same for all.
    """
    told = {number: toy.FIGURES[number].epochs for number in figures}
    if len({*told.values(), *(() if alone else (None,))}) > 1:
        longer = next(number for number, epochs in told.items() if epochs is not None)
        raise UsageError(
            f"Figure {longer} takes {told[longer]} epochs, the others do not",
            f"draw it by itself: --figure {longer}",
        )
    return next(iter(told.values()), None)


def _check(name: str) -> None:
    known = [each for names in _NAMES.values() for each in names]
    if name not in known:
        near = get_close_matches(name.lower(), known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "`gcont-audit train --list` shows them"
        raise SelectionError(f"there is no ablation {name!r}", hint)


def seeds_in(text: str) -> tuple[int, ...]:
    """`3` is the first three seeds, 0, 1 and 2; `0,4,7` those three; `5,` the one; raises UsageError."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > 1 and parts[-1] == "":
        parts.pop()
        listed = True
    else:
        listed = len(parts) > 1
    if not all(part.isascii() and part.isdecimal() and len(part) <= 9 for part in parts):
        raise UsageError(f"--seeds {text!r}", "give a count, as 3, or the seeds themselves, as 0,4,7")
    numbers = [int(part) for part in parts]
    seeds = tuple(dict.fromkeys(numbers)) if listed else tuple(range(min(numbers[0], MOST_SEEDS + 1)))
    if not 1 <= len(seeds) <= MOST_SEEDS:
        raise UsageError(f"--seeds {text!r}", f"choose 1 to {MOST_SEEDS}")
    return seeds
