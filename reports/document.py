"""audit.json: the report as JSON, its schema, and the way back."""

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from reports.model import SCHEMA, ProjectionReport, Report

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
    for name, found in report.projections.items():
        if complaint := _contradiction(found):
            raise DocumentError(f"projections.{name}.{complaint}")
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


def _contradiction(found: ProjectionReport) -> str | None:
    """What in a projection contradicts itself, though every key has its type."""
    per_layer: dict[str, Sequence[object]] = {
        "stable_rank": found.stable_rank,
        "participation.v": found.participation.v,
        "participation.u": found.participation.u,
        "top.v": found.top.v,
        "top.u": found.top.u,
        "sigma": found.sigma,
        "residual": found.residual,
        "angle_bound": found.angle_bound,
        "effective_rank": found.layers if found.effective_rank is None else found.effective_rank,
        "spectrum": found.layers if found.spectrum is None else found.spectrum,
        "trajectory.v": found.trajectory.v.points if found.trajectory.v else found.layers,
        "trajectory.u": found.trajectory.u.points if found.trajectory.u else found.layers,
    }
    for key, values in per_layer.items():
        if len(values) != len(found.layers):
            return f"{key}: {len(values)} entries for {len(found.layers)} layers"
    if list(found.layers) != sorted({layer for layer in found.layers if layer >= 0}) or not found.layers:
        return "layers: not a rising list of layer numbers"
    if min(found.shape) < 1:
        return "shape: not positive"
    if len(found.pairs) != len(found.layers) - 1:
        return f"pairs: {len(found.pairs)} for {len(found.layers)} layers"
    cosines = {
        "continuity": (found.continuity.v1, found.continuity.u1, found.continuity.v2, found.continuity.u2),
        "null": (found.null.v, found.null.u),
        "lag": (*found.lag.v, *found.lag.u),
    }
    for key, values in cosines.items():
        if any(not 0 <= value <= 1 for value in values if value is not None):
            return f"{key}: |cos| outside 0 to 1"
    paths = [path for path in (found.trajectory.v, found.trajectory.u) if path]
    if any(not abs(x) <= 2 for path in paths for point in path.points if point for x in point):
        return "trajectory: a point further out than unit vectors reach"
    for pair in found.pairs:
        first, second = pair.layers
        if not {first, second} <= {*found.layers} or not pair.gap == second - first > 0:
            return f"pairs: {list(pair.layers)} are no two layers in order"
        if any(not 0 <= value <= 1 for value in (pair.v1, pair.u1) if value is not None):
            return f"pairs: |cos| outside 0 to 1 in layers {list(pair.layers)}"
    if any(sigma <= 0 for points in found.spectrum or () if points for _, sigma in points):
        return "spectrum: a singular value that is not positive"
    return None


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) that every audit.json satisfies."""
    schema = _adapter().json_schema(mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:{SCHEMA.replace('/', ':')}",
        **schema,
        "title": "gcont-audit report",
    }
