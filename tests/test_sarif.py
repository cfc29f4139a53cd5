"""SARIF: the structure its readers rely on, written out by hand, and what stays from run to run."""

import json
import re
from dataclasses import replace
from typing import Any
from urllib.parse import unquote, urlsplit

import jsonschema
import pytest
from sample_report import sample_report

from reports.codes import CODES
from reports.gates import Fired
from reports.model import Finding, Report, SourceFile
from reports.sarif import Subject, findings_to_sarif, to_sarif

FIRED = (Fired("Q.v1<0.9", "Q.v1 is 0.75"), Fired("coverage.unknown", "coverage.unknown is 1"))

TEXT = {
    "type": "object",
    "required": ["text"],
    "properties": {"text": {"type": "string", "minLength": 1}},
    "additionalProperties": False,
}
LEVEL = {"enum": ["none", "note", "warning", "error"]}


def closed(required: str, optional: str = "", **properties: Any) -> dict[str, Any]:
    """The schema of an object with these keys and no others."""
    named = {key: properties.get(key, {}) for key in f"{required} {optional}".split()}
    return {
        "type": "object",
        "required": required.split(),
        "properties": named,
        "additionalProperties": False,
    }


RULE = closed(
    "id shortDescription fullDescription help defaultConfiguration",
    "name",
    id={"type": "string", "pattern": "^[a-z-]+$"},
    name={"type": "string", "pattern": "^([A-Z][a-z]+)+$"},
    shortDescription=TEXT,
    fullDescription=TEXT,
    help=TEXT,
    defaultConfiguration=closed("level", level=LEVEL),
)
LOCATION = closed(
    "physicalLocation",
    "logicalLocations",
    physicalLocation=closed(
        "artifactLocation region",
        artifactLocation=closed("uri", uri={"type": "string", "minLength": 1}),
        region=closed("startLine", startLine={"type": "integer", "minimum": 1}),
    ),
    logicalLocations={
        "type": "array",
        "minItems": 1,
        "items": closed("name fullyQualifiedName", name={"type": "string"}),
    },
)
RESULT = closed(
    "ruleId level message locations partialFingerprints",
    "ruleIndex",
    ruleId={"type": "string"},
    ruleIndex={"type": "integer", "minimum": 0},
    level=LEVEL,
    message=TEXT,
    locations={"type": "array", "minItems": 1, "maxItems": 1, "items": LOCATION},
    partialFingerprints=closed(
        "primaryLocationLineHash",
        primaryLocationLineHash={"type": "string", "pattern": "^[0-9a-f]{16}:[0-9]+$"},
    ),
)
DRIVER = closed(
    "name version informationUri rules",
    name={"const": "gcont-audit"},
    version={"const": "0.1.0"},
    informationUri={"type": "string", "pattern": "^https://"},
    rules={"type": "array", "items": RULE},
)
# by sections 3.13 to 3.52 of the standard, of which these are the parts that are used
LOG = closed(
    "$schema version runs",
    version={"const": "2.1.0"},
    **{"$schema": {"type": "string", "pattern": "^https://.*sarif-schema-2.1.0.json$"}},
    runs={
        "type": "array",
        "minItems": 1,
        "maxItems": 1,
        "items": closed(
            "tool results",
            "columnKind properties",
            tool=closed("driver", driver=DRIVER),
            results={"type": "array", "items": RESULT},
            columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
            properties={"type": "object"},
        ),
    },
)


def results(text: str) -> list[dict[str, Any]]:
    return json.loads(text)["runs"][0]["results"]


def fingerprints(report: Report) -> list[str]:
    return [one["partialFingerprints"]["primaryLocationLineHash"] for one in results(to_sarif(report, FIRED))]


def uri(one: dict[str, Any]) -> str:
    return one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]


@pytest.mark.parametrize("fired", [(), FIRED])
def test_the_structure_is_that_of_the_standard(fired: tuple[Fired, ...]) -> None:
    log = json.loads(to_sarif(sample_report(), fired))
    jsonschema.Draft202012Validator(LOG).validate(log)
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [*(code.name for code in CODES), "gate"]
    assert len({rule["name"] for rule in rules}) == len(rules)
    assert len(run["results"]) == 11 + len(fired)
    for one in run["results"]:
        assert rules[one["ruleIndex"]]["id"] == one["ruleId"]


def test_a_finding_is_a_result_with_its_level_and_place() -> None:
    findings = (
        Finding("nan", "error", "Q", 2, "Q of layer 2 holds NaN", stack="vision"),
        Finding("noise-like", "warning", "V", 0, "V of layer 0 is noise"),
        Finding("duplicate-layer", "warning", None, 3, "layer 3 is layer 1 again"),
        Finding("weak-pair", "info", "O", None, "O turns away"),
        Finding("unknown-tensor", "warning", None, None, "odd matches no rule"),
    )
    told = results(to_sarif(replace(sample_report(), findings=findings), FIRED[:1]))
    assert [(one["ruleId"], one["level"], one["message"]["text"]) for one in told] == [
        ("nan", "error", "Q of layer 2 holds NaN"),
        ("noise-like", "warning", "V of layer 0 is noise"),
        ("duplicate-layer", "warning", "layer 3 is layer 1 again"),
        ("weak-pair", "note", "O turns away"),
        ("unknown-tensor", "warning", "odd matches no rule"),
        ("gate", "error", "Q.v1<0.9: Q.v1 is 0.75"),
    ]
    places = [one["locations"][0].get("logicalLocations") for one in told]
    assert places == [
        [{"name": "layer 2", "fullyQualifiedName": "vision/Q/layer 2"}],
        [{"name": "layer 0", "fullyQualifiedName": "V/layer 0"}],
        [{"name": "layer 3", "fullyQualifiedName": "layer 3"}],
        [{"name": "O", "fullyQualifiedName": "O"}],
        None,
        None,
    ]
    assert {uri(one) for one in told} == {"model-00001-of-00002.safetensors"}


@pytest.mark.parametrize(
    ("name", "relative"),
    [
        ("unet/model.safetensors", "unet/model.safetensors"),
        ("my model #1?.safetensors", "my%20model%20%231%3F.safetensors"),
        ("c:model.safetensors", "c%3Amodel.safetensors"),
        ("//host/model.safetensors", "host/model.safetensors"),
        ("gewählt\\x\x1b.safetensors", "gew%C3%A4hlt%5Cx%1B.safetensors"),
        ("/", "model"),
    ],
)
def test_a_files_name_is_a_relative_uri(name: str, relative: str) -> None:
    report = sample_report()
    report = replace(report, provenance=replace(report.provenance, files=(SourceFile(name, 1),)))
    for one in results(to_sarif(report)):
        assert uri(one) == relative
        parts = urlsplit(relative)
        assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("", "", "", "")
        assert unquote(relative) in (name, name.lstrip("/"), "model")


def test_a_hostile_name_makes_no_link_and_no_control_sequence() -> None:
    name = "w[click](https://example.org)\x1b[2J\u202e"
    hostile = Finding("unknown-tensor", "warning", name, None, f"{name} [2, 2] matches no rule", stack=name)
    (one,) = results(to_sarif(replace(sample_report(), findings=(hostile,))))
    (place,) = one["locations"][0]["logicalLocations"]
    for text in (one["message"]["text"], *place.values()):
        assert text.isprintable()
        assert "](" not in text
    assert one["message"]["text"].endswith("[2, 2] matches no rule")


def test_without_a_file_the_models_name_stands_for_it() -> None:
    report = sample_report()
    local = replace(report.model, id="/home/me/my model/", source="local")
    report = replace(report, model=local, provenance=replace(report.provenance, files=()))
    assert {uri(one) for one in results(to_sarif(report))} == {"my%20model"}


def test_fingerprints_differ_within_a_run_and_stay_from_run_to_run() -> None:
    report = sample_report()
    first = fingerprints(report)
    assert len(set(first)) == len(first) == 13
    assert fingerprints(report) == first

    # the numbers of another run, on another machine, by another version
    moved = tuple(
        replace(one, message=f"{one.message} 0.1234") if one.layer is not None else one
        for one in report.findings
    )
    later = replace(report.provenance, started="2027-01-01T00:00:00+00:00", tool_version="9.9.9", files=())
    assert fingerprints(replace(report, findings=moved, provenance=later)) == first

    other = replace(report, model=replace(report.model, id="org/other"))
    assert not set(fingerprints(other)) & set(first)


def test_a_finding_without_a_place_is_known_by_its_words() -> None:
    report = sample_report()
    first = [one.message for one in report.findings].index("odd|0 [2, 2] matches no rule")
    without = tuple(one for i, one in enumerate(report.findings) if i != first)
    before = fingerprints(report)
    assert set(before) - set(fingerprints(replace(report, findings=without))) == {before[first]}


def test_several_findings_in_one_place_are_told_apart_by_their_order() -> None:
    twice = (
        Finding("weak-pair", "info", "OV", 3, "OV turns away: v1"),
        Finding("weak-pair", "info", "OV", 3, "OV turns away: u1"),
        Finding("weak-pair", "info", "OV", 4, "OV turns away: u1"),
    )
    one, two, three = fingerprints(replace(sample_report(), findings=twice))[:3]
    assert one.split(":")[0] == two.split(":")[0] != three.split(":")[0]
    assert [each.split(":")[1] for each in (one, two, three)] == ["1", "2", "1"]


def test_blanks_in_a_gate_do_not_change_its_fingerprint() -> None:
    def of(gate: str) -> str:
        (one,) = results(findings_to_sarif((), (Fired(gate, "why"),), Subject("m", "0.1.0", ())))
        return one["partialFingerprints"]["primaryLocationLineHash"]

    assert of("Q.v1<0.9") == of(" Q.v1 < 0.9 ") != of("Q.v1<0.8")


def test_the_same_report_gives_the_same_text_without_a_time() -> None:
    text = to_sarif(sample_report(), FIRED)
    assert text == to_sarif(sample_report(), FIRED)
    assert text.endswith("}\n")
    assert text.isascii()
    assert not re.search(r"20\d\d-\d\d|T\d\d:", text)


def test_a_code_of_another_version_is_a_result_without_a_rule() -> None:
    report = replace(sample_report(), findings=(Finding("of-tomorrow", "info", None, None, "new"),))
    log = json.loads(to_sarif(report))
    jsonschema.Draft202012Validator(LOG).validate(log)
    (one,) = log["runs"][0]["results"]
    assert one["ruleId"] == "of-tomorrow"
    assert "ruleIndex" not in one


def test_findings_alone_will_do() -> None:
    findings = [Finding("nan", "error", None, None, "weights hold NaN")]
    log = json.loads(findings_to_sarif(findings, (), Subject("org/m", "0.1.0", ("a.safetensors",))))
    jsonschema.Draft202012Validator(LOG).validate(log)
    (one,) = log["runs"][0]["results"]
    assert (one["ruleId"], uri(one)) == ("nan", "a.safetensors")


def test_audit_and_render_print_it_alone_on_stdout(cli, llama):
    gate = ("--fail-on", "Q.v1>=0", "--fail-on", "Q.v1>1")
    first = cli(llama, "--out", "out", "--format", "sarif", *gate)
    assert first.exit_code == 1
    log = json.loads(first.stdout)
    jsonschema.Draft202012Validator(LOG).validate(log)
    assert [one["message"]["text"].split(":")[0] for one in results(first.stdout)] == ["Q.v1>=0"]
    assert uri(results(first.stdout)[0]) == "model.safetensors"
    again = cli("render", "out", "--format", "sarif", *gate)
    assert (again.exit_code, again.stdout) == (1, first.stdout)
    quiet = cli("render", "out", "--format", "sarif", "--quiet")
    assert (quiet.exit_code, quiet.stderr) == (0, "")
    assert results(quiet.stdout) == []
