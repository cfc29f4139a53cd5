"""Feed a reader of other people's bytes with millions of broken inputs, and count what it did not foresee.

Run: .venv/bin/python tests/fuzz/run.py header|index|config|family|gate [--seconds 60] [--found FOLDER]

Guided by coverage where atheris can be imported (`pip install atheris`), else by mutations of real inputs
alone. An input that ends in any error but the reader's own, or takes longer than HANG seconds, is written to
the folder. Ends with 1 where there was one.
"""

import argparse
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mutation import mutate
from targets import TARGETS, Target

try:
    import atheris
except ImportError:
    atheris = None

HANG = 20
"""Seconds after which an input is taken to hang; far more than any takes, even on a busy machine."""


class HangError(BaseException):
    """An input took longer than HANG seconds; no reader may catch it as its own."""


@dataclass
class Tally:
    """What came of the inputs so far."""

    found: Path
    inputs: int = 0
    read: int = 0
    foreign: int = 0
    hangs: int = 0
    slowest: float = 0.0
    seen: set[str] = field(default_factory=set)

    def count(self, target: Target, data: bytes) -> None:
        """Have one input read."""
        self.inputs += 1
        start = time.perf_counter()
        try:
            with _alarm():
                target.read(data)
            self.read += 1
        except target.errors:
            pass
        except HangError as error:
            self.hangs += 1
            self._keep(data, error)
        except Exception as error:
            self.foreign += 1
            self._keep(data, error)
        self.slowest = max(self.slowest, time.perf_counter() - start)

    def _keep(self, data: bytes, error: BaseException) -> None:
        """Write the input down, once for each place that an error came from."""
        where = f"{type(error).__name__} at {traceback.extract_tb(error.__traceback__)[-1]}"
        if where not in self.seen:
            self.seen.add(where)
            self.found.mkdir(parents=True, exist_ok=True)
            file = self.found / sha256(data).hexdigest()[:16]
            file.write_bytes(data)
            print(f"{where}: {str(error)[:200]!r}\n  input: {file}", flush=True)

    def show(self, name: str) -> None:
        """The figures, one a line."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(f"target              {name}, {'atheris' if atheris else 'mutations alone'}")
        print(f"inputs              {self.inputs}, of them {self.read} read without an error")
        print(f"foreign exceptions  {self.foreign}")
        print(f"hangs               {self.hangs}")
        print(f"slowest input       {self.slowest:.3f} s")
        print(f"peak memory         {peak} MB, the interpreter and its libraries included", flush=True)


@contextmanager
def _alarm() -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise HangError(f"more than {HANG} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, HANG)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def by_mutation(target: Target, tally: Tally, until: float, chance: random.Random) -> None:
    """Without coverage: every input is a real one changed, or one that was read changed further."""
    pool = list(target.seeds)
    for seed in pool:
        tally.count(target, seed)
    while time.monotonic() < until:
        data = mutate(chance.choice(pool), chance, target.mutations)
        before = tally.read
        tally.count(target, data)
        if tally.read > before and len(pool) < 2000:
            pool.append(data)


def by_coverage(name: str, tally: Tally, until: float, chance: random.Random) -> None:
    """With atheris, which never comes back: the process ends here."""
    with atheris.instrument_imports(
        include=["audit.checkpoint", "audit.understanding", "registry", "reports"]
    ):
        target = TARGETS[name]()

    def one(data: bytes) -> None:
        tally.count(target, data)
        if time.monotonic() > until:
            tally.show(name)
            os._exit(bool(tally.foreign or tally.hangs))

    def change(data: bytes, most: int, seed: int) -> bytes:
        own = random.Random(seed)
        if own.random() < 0.2:
            return atheris.Mutate(data, most)
        return mutate(data, own, target.mutations)[:most]

    corpus = Path(tempfile.mkdtemp(prefix="gcont-fuzz-"))
    for seed in target.seeds:
        (corpus / sha256(seed).hexdigest()).write_bytes(seed)
    arguments = [
        f"-seed={chance.randrange(1, 2**31)}",
        "-timeout=0",
        "-max_len=65536",
        "-verbosity=0",
        str(corpus),
    ]
    atheris.Setup([sys.argv[0], *arguments], one, custom_mutator=change)
    atheris.Fuzz()


def main() -> None:
    """Run one target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0, help="of the mutations")
    parser.add_argument("--found", type=Path, default=Path(tempfile.gettempdir()) / "gcont-fuzz-found")
    asked: Any = parser.parse_args()
    tally, chance = Tally(asked.found / asked.target), random.Random(asked.seed)
    if atheris:
        by_coverage(asked.target, tally, time.monotonic() + asked.seconds, chance)
    target = TARGETS[asked.target]()
    by_mutation(target, tally, time.monotonic() + asked.seconds, chance)
    tally.show(asked.target)
    sys.exit(bool(tally.foreign or tally.hangs))


if __name__ == "__main__":
    main()
