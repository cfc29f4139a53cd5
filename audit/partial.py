"""What an unfinished audit has so far: a folder beside its report, written as it comes and taken up again.

One file a measurement, named by its key (audit/keys.py) and by the run that made it, and one file a run, with
the time it took and the bytes it read. Files that are damaged or of something else are passed over. A locked
file, held as long as the process lives, keeps a second audit out.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import BinaryIO, Protocol

from audit.disk import DRAFT, write_file, writing
from audit.errors import OutputError
from audit.lock import is_free
from audit.measure import Measured
from audit.plan import Place
from audit.record import DamagedRecordError, from_bytes, to_bytes

LOCK = "gcont-audit.lock"
"""Also the mark of a folder that is ours."""

COMPLETE = "complete"
"""Stands there while the report is being written: all is measured."""

_RUN = re.compile(r"run-([0-9]{1,9})\.json")
_MEASUREMENT = re.compile(r"([0-9a-f]{64})\.([0-9]{1,9})\.safetensors")
_HALF = re.compile(rf"\.({_RUN.pattern}|{_MEASUREMENT.pattern})\..{{8}}|{re.escape(DRAFT)}.{{8}}")
"""What was being written when a process died."""

_FOREVER = 2**62
"""More seconds, or bytes read, than any audit takes."""


@dataclass(frozen=True)
class Spent:
    """When work began, and the seconds it took and the bytes it read."""

    started: str
    seconds: float
    bytes_read: int


class Store(Protocol):
    """Where measurements are kept as they are made."""

    @property
    def known(self) -> Mapping[Place, Measured]:
        """Those that need not be made again."""

    def keep(self, measured: Measured, spent: Spent) -> None:
        """Take a new one, made when the run had spent so much."""

    def total(self, spent: Spent) -> Spent:
        """What this run spent, and those before it."""


class Unkept:
    """A store that keeps nothing."""

    known: Mapping[Place, Measured] = {}

    def keep(self, measured: Measured, spent: Spent) -> None:
        """Nothing is kept."""

    def total(self, spent: Spent) -> Spent:
        """There were no runs before."""
        return spent


class Partial:
    """A store in a folder that is there and ours alone; `fresh`: what lies in it is not wanted."""

    def __init__(self, folder: Path, *, fresh: bool = False) -> None:
        """Tidy up after a process that was killed."""
        self.folder = folder
        self.known: Mapping[Place, Measured] = {}
        self._fresh = fresh
        self._keys: Mapping[Place, str] = {}
        self._earlier: tuple[Spent, ...] = ()
        (folder / COMPLETE).unlink(missing_ok=True)
        self._clear(everything=fresh)
        taken = {int(name[1]) for name in self._named(_RUN)} | {
            int(name[2]) for name in self._named(_MEASUREMENT)
        }
        self._run = next(run for run in count(1) if run not in taken)

    def take_up(self, keys: Mapping[Place, str]) -> None:
        """Read what has one of these keys, of the places of an audit; raises OutputError."""
        self._keys = keys
        places = {key: place for place, key in keys.items()}
        known, runs = {}, set()
        with writing(self.folder):
            names = self._named(_MEASUREMENT)
        for name in names:
            place = places.get(name[1])
            if place and (measured := _measured_in(self.folder / name.string, name[1])):
                known[place] = measured
                runs.add(int(name[2]))
        self.known = known
        self._earlier = tuple(filter(None, (_spent_in(self._file_of(run)) for run in sorted(runs))))

    def keep(self, measured: Measured, spent: Spent) -> None:
        """Write a new one, so that it outlives the process; raises OutputError."""
        key = self._keys[measured.place]
        with writing(self.folder):
            file = self.folder / f"{key}.{self._run}.safetensors"
            write_file(file, to_bytes(measured, key), durable=True)
            write_file(self._file_of(self._run), json.dumps(asdict(spent)).encode())

    def total(self, spent: Spent) -> Spent:
        """What this run spent, and those before it that made what was taken up."""
        runs = (*self._earlier, spent)
        return Spent(
            min(run.started for run in runs),
            sum(run.seconds for run in runs),
            sum(run.bytes_read for run in runs),
        )

    @property
    def outcome(self) -> str | None:
        """What is kept, and where, in words; None where nothing is."""
        again = "the same command without --fresh" if self._fresh else "the same command"
        if self._keys:
            made = sum(int(name[2]) == self._run for name in self._named(_MEASUREMENT))
            known = len(self.known) + made
            kept = f"{known} of {len(self._keys)} measurements are" if known else None
        else:
            kept = "what was measured before is" if self._named(_MEASUREMENT) else None
        return kept and f"{kept} kept in {self.folder}; {again} goes on from there"

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """All is measured, and of no use here any more once the report is written."""
        with suppress(OSError):
            (self.folder / COMPLETE).touch()
        yield
        self.discard()

    def discard(self) -> None:
        """Remove all that was kept."""
        with suppress(OSError):
            self._clear(everything=True)
            (self.folder / COMPLETE).unlink(missing_ok=True)

    def leave(self) -> None:
        """Remove the folder where nothing is kept in it."""
        with suppress(OSError):
            if not self._named(_MEASUREMENT):
                self.discard()
            if os.listdir(self.folder) == [LOCK]:
                (self.folder / LOCK).unlink()
                self.folder.rmdir()

    def _named(self, pattern: re.Pattern[str]) -> list[re.Match[str]]:
        """The files with names of a kind, in order."""
        names = sorted(os.listdir(self.folder)) if self.folder.is_dir() else []
        return [found for name in names if (found := pattern.fullmatch(name))]

    def _file_of(self, run: int) -> Path:
        return self.folder / f"run-{run}.json"

    def _clear(self, *, everything: bool) -> None:
        """Remove what was half written, or everything that was written here."""
        for pattern in (_HALF, _MEASUREMENT, _RUN) if everything else (_HALF,):
            for name in self._named(pattern):
                path = self.folder / name.string
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def folder_of(out: Path) -> Path:
    """Where the report that goes to `out` is kept until it is finished."""
    if out.is_symlink() or out.name in ("", ".."):
        out = out.resolve()
    return out.with_name(f"{out.name}.partial")


@contextmanager
def opened(out: Path, *, fresh: bool = False) -> Iterator[Partial]:
    """The store for the report that goes to `out`, shut to others.

    Raises OutputError where another audit has it, or its folder is none of ours.
    """
    folder = folder_of(out)
    made = [each for each in folder.parents if not each.exists()]
    try:
        with _locked(folder, out):
            with writing(folder):
                store = Partial(folder, fresh=fresh)
            try:
                yield store
            finally:
                store.leave()
    finally:
        with suppress(OSError):  # something was left in it
            for each in made:
                each.rmdir()


def tidy(out: Path) -> None:
    """Remove what is left of an audit that was killed after its report was written."""
    try:
        written = (out / "audit.json").stat().st_mtime_ns
        if written < (folder_of(out) / COMPLETE).stat().st_mtime_ns:
            return
    except OSError:
        return
    with suppress(OutputError), opened(out) as store:
        store.discard()


@contextmanager
def _locked(folder: Path, out: Path) -> Iterator[None]:
    with writing(folder):
        names = os.listdir(folder) if folder.exists() else []
        if (names and LOCK not in names) or folder.is_symlink():
            raise OutputError(
                f"{folder}, where an unfinished audit would be kept, holds something else",
                "name another folder with --out",
            )
        file = _lock(folder)
    if file is None:
        raise OutputError(
            f"another audit is writing to {out}", "wait for it, or name another folder with --out"
        )
    with file:
        yield


def _lock(folder: Path) -> BinaryIO | None:
    """The lock file, open and locked; None where another process has it."""
    for _ in range(10):
        with suppress(FileNotFoundError):  # whoever had it has finished just now, and removed it
            folder.mkdir(parents=True, exist_ok=True)
            file = (folder / LOCK).open("ab")
            if is_free(file) and os.path.samestat(os.fstat(file.fileno()), (folder / LOCK).stat()):
                return file
            file.close()
    return None


def _measured_in(file: Path, key: str) -> Measured | None:
    try:
        return from_bytes(file.read_bytes(), key)
    except (OSError, DamagedRecordError):
        return None


def _spent_in(file: Path) -> Spent | None:
    try:
        told = json.loads(file.read_bytes())
        spent = Spent(**told)
        datetime.fromisoformat(spent.started)
        fits = 0 <= spent.seconds < _FOREVER and 0 <= spent.bytes_read < _FOREVER
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return spent if fits and type(spent.bytes_read) is int else None
