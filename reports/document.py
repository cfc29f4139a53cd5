"""audit.json: the report as JSON, its schema, and the way back."""

import json
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from reports.consistency import contradiction
from reports.model import SCHEMA, Report

LARGEST = 1e300
"""Beyond every number in a report: singular values of float64 weights come nearest."""


class DocumentError(ValueError):
    """A JSON text that is no report of this schema; the message names the first key that does not fit."""


@cache
def _adapter() -> TypeAdapter[Report]:
    return TypeAdapter(Report)


def to_json(report: Report) -> str:
    """The report as indented JSON, schema first; NaN and infinity cannot occur in it."""
    value = _adapter().dump_python(report, mode="json")
    ordered = {"schema": value.pop("schema"), **value}
    return json.dumps(ordered, indent=1, allow_nan=False) + "\n"


def from_json(text: str) -> Report:
    """The report a JSON text holds; keys added by later versions are passed over.

    Raises DocumentError for anything else.
    """
    try:
        value = json.loads(text)
        _check_numbers(value)
        report = _adapter().validate_python(value)
    except (ValueError, RecursionError) as error:
        if not isinstance(error, ValidationError):
            raise DocumentError(f"not valid JSON: {error}") from error
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the document"
        raise DocumentError(f"{place}: {first['msg']}") from error
    if report.schema != SCHEMA:
        raise DocumentError(f"schema: {report.schema!r}, where this version reads {SCHEMA!r}")
    for stack, every in report.every_stack.items():
        for name, found in every.projections.items():
            if complaint := contradiction(found):
                place = f"stacks.{stack}." if stack is not None else ""
                raise DocumentError(f"{place}projections.{name}.{complaint}")
    return report


def _check_numbers(value: object) -> None:
    """Raise ValueError for NaN, infinity, and numbers no audit gives, which overflow where they are drawn."""
    match value:
        case dict():
            for each in value.values():
                _check_numbers(each)
        case list():
            for each in value:
                _check_numbers(each)
        case int() | float() if not abs(value) <= LARGEST:
            raise ValueError("a number beyond any that a report holds, or none at all")


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) that every audit.json satisfies."""
    schema = _adapter().json_schema(mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:{SCHEMA.replace('/', ':')}",
        **schema,
        "title": "gcont-audit report",
    }
