"""A check as JSON, and as SARIF. The same files give the same text: there is no time in it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Any

from reports.gates import Fired
from reports.integrity.codes import CHECK_CODES
from reports.integrity.model import Check, CheckedFile, Outcome, Problem
from reports.sarif import Subject, findings_to_sarif

SCHEMA = "gcont-audit-check/1"


def to_json(outcomes: Sequence[Outcome], tool_version: str) -> str:
    """All models as one JSON document; README lists its keys."""
    models = [
        _check(outcome) if isinstance(outcome, Check) else {"model": outcome.model, "error": _error(outcome)}
        for outcome in outcomes
    ]
    document = {"schema": SCHEMA, "tool_version": tool_version, "models": models}
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _error(outcome: Outcome) -> dict[str, Any]:
    said = asdict(outcome)
    return {key: said[key] for key in ("message", "exit_code")}


def _check(check: Check) -> dict[str, Any]:
    return {
        "model": check.model,
        "source": check.source,
        "revision": check.revision,
        "family": check.family,
        "quick": check.quick,
        "files": [_file(file) for file in check.files],
        "findings": [asdict(problem) for problem in check.problems],
    }


def _file(file: CheckedFile) -> dict[str, Any]:
    return {
        "name": file.name,
        "size": file.size,
        "tensors": file.tensors,
        "sha256": file.sha256,
        "expected": None if file.expected is None else asdict(file.expected),
        "verdict": file.verdict,
    }


def to_sarif(checks: Sequence[Check], fired: Mapping[str, Sequence[Fired]], tool_version: str) -> str:
    """All models as a SARIF log of one run, each finding at its own file; `fired` are gates by model."""
    logs = [
        json.loads(findings_to_sarif([one.finding for one in problems], gates, subject, CHECK_CODES))
        for check in checks
        for subject, problems, gates in _by_file(check, fired.get(check.model, ()), tool_version)
    ]
    if not logs:
        nothing = Subject("", tool_version, ())
        return findings_to_sarif((), (), nothing, CHECK_CODES)
    run = logs[0]["runs"][0]
    run["results"] = [result for log in logs for result in log["runs"][0]["results"]]
    run["properties"] = {
        "models": [check.model for check in checks],
        "files": [file.name for check in checks for file in check.files],
    }
    return json.dumps(logs[0], indent=1, allow_nan=False) + "\n"


def _by_file(
    check: Check, fired: Sequence[Fired], tool_version: str
) -> Iterator[tuple[Subject, Sequence[Problem], Sequence[Fired]]]:
    """The findings of each file, and first what is of no one file."""
    by_file: dict[str | None, list[Problem]] = {None: []}
    for problem in check.problems:
        by_file.setdefault(problem.file, []).append(problem)
    for file, problems in by_file.items():
        name = file or (check.files[0].name if check.files else "")
        yield Subject(check.model, tool_version, (_place(check, name),)), problems, () if file else fired


def _place(check: Check, name: str) -> str:
    """Where a file is, as seen from where the check was run; by its name alone where it is elsewhere."""
    if check.source != "local":
        return name
    model = PurePosixPath(check.model)
    return str(
        model
        if model.name == name
        else model.with_name(name)
        if model.suffix == ".safetensors"
        else model / name
    )
