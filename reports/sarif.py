"""Findings and fired gates as SARIF 2.1.0, the format in which GitHub and editors take what a check found.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/sarif-v2.1.0-os.html; what GitHub needs beyond it:
https://docs.github.com/en/code-security/code-scanning/integrating-with-code-scanning/sarif-support-for-code-scanning.
The same findings give the same text: there is no time in it.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from reports.codes import CODES, Code
from reports.gates import Fired
from reports.model import Finding, Report, Severity
from reports.view import printable, short_name

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

GATE = Code("gate", "error", "a condition given with --fail-on, which holds or cannot be judged")
"""The rule of a fired gate."""

LEVELS: Mapping[Severity, str] = {"error": "error", "warning": "warning", "info": "note"}
"""What SARIF calls the severities."""

_INFORMATION = "https://arxiv.org/abs/2605.04971"


@dataclass(frozen=True)
class Subject:
    """What findings are about: a model by its short name, by which version of the tool, in which files."""

    model: str
    tool_version: str
    files: tuple[str, ...]


def to_sarif(report: Report, fired: Sequence[Fired] = ()) -> str:
    """A report's findings, and gates that fired, as a SARIF log of one run."""
    names = tuple(file.name for file in report.provenance.files)
    subject = Subject(short_name(report.model), report.provenance.tool_version, names)
    return findings_to_sarif(report.findings, fired, subject)


def findings_to_sarif(
    findings: Sequence[Finding],
    fired: Sequence[Fired],
    subject: Subject,
    codes: Sequence[Code] = CODES,
) -> str:
    """Findings alone, which have these codes, and gates that fired, as a SARIF log of one run."""
    rules = (*codes, GATE)
    run = {
        "tool": {"driver": _driver(subject.tool_version, rules)},
        "results": [*_results(findings, fired, subject, rules)],
        "columnKind": "unicodeCodePoints",
        "properties": {"model": subject.model, "files": list(subject.files)},
    }
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=1, allow_nan=False) + "\n"


def _driver(version: str, rules: Sequence[Code]) -> dict[str, Any]:
    return {
        "name": "gcont-audit",
        "version": version,
        "informationUri": _INFORMATION,
        "rules": [_rule(code) for code in rules],
    }


def _rule(code: Code) -> dict[str, Any]:
    sentence = {"text": f"{code.summary[0].upper()}{code.summary[1:]}."}
    return {
        "id": code.name,
        "name": "".join(part.capitalize() for part in code.name.split("-")),
        "shortDescription": sentence,
        "fullDescription": sentence,
        "help": sentence,
        "defaultConfiguration": {"level": LEVELS[code.severity]},
    }


def _results(
    findings: Sequence[Finding], fired: Sequence[Fired], subject: Subject, rules: Sequence[Code]
) -> Iterator[dict[str, Any]]:
    seen: Counter[str] = Counter()
    indices = {rule.name: i for i, rule in enumerate(rules)}
    for finding in findings:
        yield _result(
            (finding.code, indices.get(finding.code)),
            LEVELS[finding.severity],
            finding.message,
            _fingerprint(subject.model, _place_of(finding), seen),
            _locations(subject, finding),
        )
    for one in fired:
        yield _result(
            (GATE.name, indices[GATE.name]),
            LEVELS[GATE.severity],
            f"{one.gate}: {one.reason}",
            _fingerprint(subject.model, (GATE.name, "".join(one.gate.split())), seen),
            _locations(subject),
        )


def _result(
    rule: tuple[str, int | None], level: str, message: str, fingerprint: str, location: dict[str, Any]
) -> dict[str, Any]:
    name, index = rule
    return {
        "ruleId": name,
        # a report of another version can hold a code that is not known here
        **({} if index is None else {"ruleIndex": index}),
        "level": level,
        "message": {"text": _plain(message)},
        "locations": [location],
        "partialFingerprints": {"primaryLocationLineHash": fingerprint},
    }


def _place_of(finding: Finding) -> tuple[object, ...]:
    """What stays the same of a finding from run to run: its place, or what names it where it has none."""
    place = (finding.code, finding.stack, finding.projection, finding.layer)
    # a message about a place in the weights holds numbers that move; one without a place names a tensor
    return place if any(part is not None for part in place[1:]) else (*place, finding.message)


def _fingerprint(model: str, place: tuple[object, ...], seen: Counter[str]) -> str:
    """A hash of a place, and how often it came up so far: several findings may share one."""
    digest = sha256(json.dumps([model, *place]).encode()).hexdigest()[:16]
    seen[digest] += 1
    return f"{digest}:{seen[digest]}"


def _locations(subject: Subject, finding: Finding | None = None) -> dict[str, Any]:
    """The model's first file, and the place within the model by name."""
    location: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": {"uri": _uri(next(iter(subject.files), subject.model))},
            "region": {"startLine": 1},  # weights have no lines; GitHub shows nothing without one
        }
    }
    parts = _parts(finding) if finding else []
    if parts:
        name = {"name": parts[-1], "fullyQualifiedName": "/".join(parts)}
        location["logicalLocations"] = [name]
    return location


def _parts(finding: Finding) -> list[str]:
    layer = None if finding.layer is None else f"layer {finding.layer}"
    return [_plain(part) for part in (finding.stack, finding.projection, layer) if part is not None]


def _plain(text: str) -> str:
    """Text from outside without what a reader of SARIF takes for a link, `[words](address)`."""
    return printable(text).replace("](", "] (")


def _uri(name: str) -> str:
    """A file's name as a relative URI reference: colons and all else that is not plain is percent-encoded."""
    return quote(name.lstrip("/") or "model", safe="/", errors="replace")
