"""Hunt for a wrong statement: thousands of random maps of every kind, all bounds against float64 LAPACK.

Run: .venv/bin/python tests/benchmarks/bound_hunt.py [MAPS] [FIRST_SEED] [--largest SIDE]

1000 maps take about half a minute on one core; an interrupt shows what there is so far. Each map is drawn by
its seed (tests/strategies.py), so that what is found can be drawn again. Both paths are tried from float64
and from float32, and beside them, as a control, plain randomised SVD. A wrong statement is printed with what
it states and what is true, and the `rounding` of LAPACK that would have been forgiven.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from statements import Claim, claims, truth, uncertified
from stopwatch import table
from strategies import KINDS, Sample, sample

import audit.svd
import audit.svd.exact
from audit.svd import ANGLE_TARGET, DECLARED, Triplets, factorise, leading, leading_of

SHOWN = 20
"""Wrong statements printed in full."""


def by_lanczos(drawn: Sample, k: int) -> Triplets:
    """The path of an audit without --full."""
    return leading(drawn.linear_map, k, f"seed {drawn.seed}")


def by_factorising(drawn: Sample, k: int) -> Triplets:
    """The path of an audit with --full."""
    return leading_of(factorise(drawn.linear_map), drawn.linear_map, k)


def by_luck(drawn: Sample, k: int) -> Triplets:
    """The control."""
    return uncertified(drawn.matrix, k, 2, drawn.seed)


@dataclass(frozen=True)
class Way:
    """One way to the leading triplets; `single` makes small maps start in float32, as large ones do."""

    name: str
    find: Callable[[Sample, int], Triplets]
    single: bool = False

    def leading(self, drawn: Sample, k: int) -> Triplets:
        """The k leading triplets."""
        with ExitStack() as patches:
            if self.single:
                patches.enter_context(patch.object(audit.svd, "SMALL", 0))
                patches.enter_context(patch.object(audit.svd.exact, "SINGLE", 0))
            return self.find(drawn, k)


WAYS = (
    Way("Lanczos", by_lanczos),
    Way("Lanczos, float32", by_lanczos, single=True),
    Way("exact", by_factorising),
    Way("exact, float32", by_factorising, single=True),
    Way("control: randomised SVD", by_luck),
)


@dataclass
class Tally:
    """What was stated of many maps, and how much of it was wrong."""

    maps: int = 0
    wrong_maps: int = 0
    statements: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    bounds: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    chance: float = 0.0

    def add(self, found: Triplets, made: list[Claim]) -> None:
        """Count one map; `shares` are of the bounds that LAPACK's rounding does not blur."""
        false = [claim for claim in made if claim.broken]
        self.maps += 1
        self.wrong_maps += bool(false)
        self.statements += len(made)
        self.wrong.update(claim.what for claim in false)
        self.bounds += found.bound.tolist()
        self.chance = max(self.chance, found.chance)
        angles = [claim for claim in made if claim.what in ("v", "u") and claim.stated > 10 * claim.rounding]
        self.shares += [claim.true / claim.stated for claim in angles]

    def row(self, name: str, *more: str) -> list[str]:
        """One line of a table."""
        share, most = (median(self.shares), max(self.shares)) if self.shares else (0.0, 0.0)
        reached, vacuous = (
            self._part(bound) for bound in (lambda one: one <= ANGLE_TARGET, lambda one: one >= 1)
        )
        rate = self.wrong_maps / max(self.maps, 1)
        counts = [f"{self.maps}", f"{self.statements}", f"{self.wrong_maps}", f"{rate:.1e}"]
        return [name, *counts, f"{share:.3f}", f"{most:.3f}", reached, vacuous, f"{self.chance:.0e}", *more]

    def _part(self, holds: Callable[[float], bool]) -> str:
        return f"{sum(map(holds, self.bounds)) / max(len(self.bounds), 1):.1%}"


HEAD = (
    "maps", "statements", "maps with a wrong one", "rate", "sine / bound", "its largest", "bounds <= 4e-5",
    "bounds = 1", "largest chance",
)  # fmt: skip


@dataclass
class Hunt:
    """All that was tried so far."""

    maps: int = 0
    by_way: dict[str, Tally] = field(default_factory=lambda: {way.name: Tally() for way in WAYS})
    by_kind: dict[str, Tally] = field(default_factory=lambda: {kind: Tally() for kind in KINDS})
    seconds: Counter[str] = field(default_factory=Counter)
    shown: int = 0

    def try_on(self, drawn: Sample) -> None:
        """Find a map's leading triplets in every way, and compare."""
        known, k = truth(drawn.matrix), 1 + drawn.seed % 3
        for way in WAYS:
            started = time.perf_counter()
            found = way.leading(drawn, k)
            self.seconds[way.name] += time.perf_counter() - started
            made = list(claims(found, known, k))
            self.by_way[way.name].add(found, made)
            if way.find is not by_luck:
                self.by_kind[drawn.kind].add(found, made)
                self._show([claim for claim in made if claim.broken], f"{way.name}, k = {k}, {drawn}")
        self.maps += 1

    def _show(self, wrong: list[Claim], where: str) -> None:
        for claim in wrong[: SHOWN - self.shown]:
            self.shown += 1
            print(f"wrong: {where}: {claim}", flush=True)

    def show(self) -> None:
        """Tables by way and by kind, and which statements were wrong."""
        each = {name: f"{1000 * taken / self.maps:.1f}" for name, taken in self.seconds.items()}
        table(
            ["way", *HEAD, "ms a map"], [tally.row(name, each[name]) for name, tally in self.by_way.items()]
        )
        for name, tally in self.by_way.items():
            if tally.wrong:
                print(f"{name}: {dict(tally.wrong)}")
        table(
            ["kind, the control left out", *HEAD], [tally.row(kind) for kind, tally in self.by_kind.items()]
        )


def main(maps: int, first: int, largest: int) -> None:
    """Draw, find and compare; an interrupt shows what there is so far."""
    torch.set_num_threads(1)
    hunt = Hunt()
    with suppress(KeyboardInterrupt):
        for seed in range(first, first + maps):
            hunt.try_on(sample(seed, largest))
    print(f"{hunt.maps} maps from seed {first}, sides up to {largest}; declared rate {DECLARED:.0e}")
    if hunt.maps:
        hunt.show()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("maps", type=int, nargs="?", default=1000)
    parser.add_argument("first_seed", type=int, nargs="?", default=0)
    parser.add_argument("--largest", type=int, default=60, help="the longer side of a map at most")
    asked = parser.parse_args()
    main(asked.maps, asked.first_seed, asked.largest)
