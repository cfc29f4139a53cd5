"""audit.json: the report as JSON, its schema, and the way back."""

import json
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from reports.model import SCHEMA, Report


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
        report = _adapter().validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the document"
        raise DocumentError(f"{place}: {first['msg']}") from error
    if report.schema != SCHEMA:
        raise DocumentError(f"schema: {report.schema!r}, where this version reads {SCHEMA!r}")
    return report


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) that every audit.json satisfies."""
    schema = _adapter().json_schema(mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:{SCHEMA.replace('/', ':')}",
        **schema,
        "title": "gcont-audit report",
    }
