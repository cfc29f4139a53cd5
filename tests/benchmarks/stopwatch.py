"""Time programs against one another in one run, and print what came of it as tables.

No benchmark itself. Machines differ, and are noisy: contestants take turns, medians are kept, and ratios of
one run are what may be quoted.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one run."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turn(contestants: Mapping[str, Callable[[], object]], runs: int, warm_up: int = 1) -> dict[str, float]:
    """The median time of each, `runs` rounds after `warm_up` that do not count."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(warm_up + runs):
        for name, work in contestants.items():
            taken = seconds(work)
            if turn >= warm_up:
                times[name].append(taken)
    return {name: median(taken) for name, taken in times.items()}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A Markdown table, its first column flush left, the others right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    print()
    for row in (head, rule, *rows):
        right = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        print("| " + " | ".join([row[0].ljust(widths[0]), *right]) + " |")
    print()


def told(taken: float) -> str:
    """Seconds as a person would say them."""
    if taken < 10:
        return f"{taken:.3f} s"
    if taken < 120:
        return f"{taken:.1f} s"
    return f"{taken / 60:.1f} min" if taken < 7200 else f"{taken / 3600:.1f} h"
