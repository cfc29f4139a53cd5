"""What the command line asks for, as ablations and seeds."""

from collections.abc import Sequence
from difflib import get_close_matches

from audit.errors import SelectionError, UsageError
from audit.train.ablations import ABLATIONS, Ablation, ablation
from registry.experiments import published_tables

TABLES = (1, 3, 4, 5)
"""The paper's tables of the toy MLP."""

MOST_SEEDS = 100
"""More than this is a typing error."""


def chosen(names: Sequence[str], tables: Sequence[int], *, everything: bool) -> tuple[Ablation, ...]:
    """The ablations asked for, each once, in the order of the table of them.

    Raises SelectionError for a name that is none, or a table that is not of the toy MLP, UsageError where
    nothing is asked for.
    """
    known = [one.name for one in ABLATIONS]
    for name in names:
        if name not in known:
            near = get_close_matches(name.lower(), known, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else "`gcont-audit train --list` shows them"
            raise SelectionError(f"there is no ablation {name!r}", hint)
    for number in tables:
        if number not in TABLES:
            raise SelectionError(f"--table {number}", f"choose {', '.join(map(str, TABLES))}")
    wanted = {*names, *(row for table in published_tables() if table.number in tables for row in table.rows)}
    if everything:
        wanted.update(known)
    if not wanted:
        raise UsageError(
            "nothing to train", "name an --ablation, a --table or --all; --list shows what there is"
        )
    return tuple(ablation(name) for name in known if name in wanted)


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
