"""A check of one model: its files surveyed, held against config.json, and passed over byte by byte."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import prod

from audit.checkpoint import open_folder, without_secrets
from audit.checkpoint.header import TensorEntry
from audit.checkpoint.origin import Heard
from audit.integrity.digest import hash_of
from audit.integrity.duplicates import duplicates
from audit.integrity.holding import hold
from audit.integrity.passage import Passed, pass_over
from audit.integrity.scan import FLOAT_KINDS, Scan
from audit.integrity.survey import Survey, survey
from audit.options import AuditOptions
from reports.codes import SEVERITIES
from reports.integrity.model import Check, CheckedFile, Digest, Problem
from reports.model import Severity

Watch = Callable[[int], AbstractContextManager[Heard]]
"""Told how many bytes will be read, gives what is told of them as they come."""


def check_model(
    model: str,
    options: AuditOptions,
    *,
    stream: bool | None = None,
    quick: bool = False,
    watch: Watch = lambda total: nullcontext(lambda count: None),
) -> Check:
    """Everything that is wrong with a model's files; `quick` leaves their weights unread.

    Of `options` the revision and the family count. Raises what open_folder and `survey` do: for a model that
    cannot be looked at at all; and AccessErrors where the network fails meanwhile.
    """
    opened = open_folder(model, options.revision, stream=stream)
    folder = opened.folder
    found, notes = survey(opened, bring=not quick)
    family, disagreements = hold(folder, found, options)
    problems = [*found.problems, *disagreements]
    passed: Mapping[str, Passed] = {}
    if not quick:
        with watch(sum(shard.file.size for shard in found.shards)) as heard:
            passed = pass_over(found.shards, heard)
        problems += [*_values(found, passed), *duplicates(found.shards, passed)]
    files = tuple(_files(found, passed))
    problems += _mismatches(files)
    problems.sort(key=lambda problem: SEVERITIES.index(problem.severity))
    name = without_secrets(folder.id)
    return Check(name, folder.source, folder.revision, family, quick, files, tuple(problems), notes)


def _files(found: Survey, passed: Mapping[str, Passed]) -> Iterator[CheckedFile]:
    for name, (content, told) in found.texts.items():
        hashed = hash_of(content, told.algorithm) if told is not None else None
        yield CheckedFile(name, len(content), None, hash_of(content, "sha256").value, told, hashed)
    for shard in found.shards:
        tensors = None if shard.entries is None else len(shard.entries)
        one = passed.get(shard.file.name, Passed())
        hashed = None
        if shard.expected is not None and one.sha256:
            by_git = shard.expected.algorithm == "git-sha1"
            hashed = Digest("git-sha1", one.git) if by_git else Digest("sha256", one.sha256)
        file = shard.file
        yield CheckedFile(file.name, file.size, tensors, one.sha256 or None, shard.expected, hashed)


def _mismatches(files: Iterable[CheckedFile]) -> Iterator[Problem]:
    for file in files:
        if file.verdict == "differs":
            assert file.expected is not None
            assert file.found is not None
            kind = "git's hash" if file.expected.algorithm == "git-sha1" else "sha256"
            message = (
                f"{file.name} is not what the Hub has: its {kind} is {file.found.value}, and should be "
                f"{file.expected.value}"
            )
            yield Problem("hash-mismatch", "error", message, file.name)


def _values(found: Survey, passed: Mapping[str, Passed]) -> Iterator[Problem]:
    """What in the weights is no number, and what is nothing but zeros."""
    for shard in found.shards:
        one, file = passed[shard.file.name], shard.file.name
        if one.trouble is not None:
            yield Problem("unreadable", "error", str(one.trouble), file)
            continue
        for name, entry in (shard.entries or {}).items():
            for code, severity, message in _told(entry, one.scans[name]):
                yield Problem(code, severity, f"{name[:200]} {message}", file, name)


def _told(entry: TensorEntry, scan: Scan) -> Iterator[tuple[str, Severity, str]]:
    shape = list(entry.shape)
    if scan.first is not None:
        place = _place(scan.first, (*shape, 2) if entry.dtype == "C64" else shape)
        both = scan.nan and scan.inf
        where = f"the first {'of either ' if both else ''}at {place[: len(shape)]}"
        count = prod(entry.shape)
        if scan.nan:
            yield "nan", "error", f"{shape} holds NaN: {scan.nan} of {count} values, {where}"
        if scan.inf:
            yield "inf", "error", f"{shape} holds infinite values: {scan.inf} of {count}, {where}"
    if scan.zero:
        grave = len(shape) > 1 and entry.dtype in FLOAT_KINDS
        yield "zero", "warning" if grave else "info", f"{shape} is nothing but zeros"


def _place(index: int, shape: Sequence[int]) -> list[int]:
    """A flat index as one along each axis."""
    place = []
    for side in reversed(shape):
        index, along = divmod(index, side)
        place.append(along)
    return place[::-1]
