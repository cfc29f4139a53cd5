"""The rows that renderers lay out: which numbers, in how many digits, with which mark for what is missing."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import median

from reports.model import Coverage, Finding, ModelInfo, ProjectionReport, Provenance, Report, Stack

MISSING = "–"

MAIN = "main stack"
"""What the main stack is called where its family has no name for it and there are others."""

LISTED = 5
"""Findings of one kind that are listed one by one; the rest are counted."""

OF_ONE_LAYER = {"nan", "inf", "zero", "rank-one", "noise-like", "flat-spectrum"}
"""Codes whose message is true of each layer alike, so that several can be told at once."""

LEGEND = (
    "Continuity is the mean |cos| between the leading singular vectors of adjacent layers; null is what "
    "random directions give. EVR is the share of their path through depth held by 3 principal components; "
    "chance is the same for random directions. Full bars mark the space that faces the residual stream."
)


@dataclass(frozen=True)
class SpaceRow:
    """One projection in one space, as text; `share` is continuity in [0, 1], None where unmeasured."""

    continuity: str
    null: str
    evr: str
    chance: str
    share: float | None
    facing: bool


@dataclass(frozen=True)
class ProjectionRow:
    """One projection in both spaces; `note` marks degenerate pairs."""

    name: str
    shape: str
    v: SpaceRow
    u: SpaceRow
    note: str


@dataclass(frozen=True)
class DetailRow:
    """What the leading directions of one projection are like: medians over layers, as text."""

    name: str
    stable_rank: str
    participation_v: str
    participation_u: str
    top_v: str
    top_u: str
    lag: str
    bound: str


@dataclass(frozen=True)
class FindingRow:
    """One or several findings of a kind, as text."""

    severity: str
    code: str
    message: str


@dataclass(frozen=True)
class SpectrumRow:
    """What the whole spectrum of one projection says, as text."""

    name: str
    wa_v: str
    null_v: str
    wa_u: str
    null_u: str
    effective_rank: str
    largest_rank: str


def number(value: float | None, digits: int) -> str:
    """A number in so many decimals, or the mark for a missing one."""
    return MISSING if value is None else f"{value:.{digits}f}"


def printable(text: str) -> str:
    """Text from outside without control characters, which could rewrite a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def size(count: float) -> str:
    """Bytes for people: 90.9 MB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def duration(seconds: float) -> str:
    """Seconds for people: 0.8 s, 42 s, 3 min 5 s, 2 h 10 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def rows(stack: Stack) -> Iterator[ProjectionRow]:
    """The main table."""
    for name, found in stack.projections.items():
        degenerate = sum(pair.degenerate for pair in found.pairs)
        yield ProjectionRow(
            name=name,
            shape=f"{found.shape[0]}×{found.shape[1]}",
            v=_space(found, "v"),
            u=_space(found, "u"),
            note=f"{degenerate} of {len(found.pairs)} pairs degenerate" if degenerate else "",
        )


def _space(found: ProjectionReport, space: str) -> SpaceRow:
    continuity = getattr(found.continuity, f"{space}1")
    return SpaceRow(
        continuity=number(continuity, 4),
        null=number(getattr(found.null, space), 3),
        evr=number(getattr(found.evr3, space), 2),
        chance=number(getattr(found.evr3_null, space), 2),
        share=continuity,
        facing=found.facing in (space, "both"),
    )


def details(stack: Stack) -> Iterator[DetailRow]:
    """The second table."""
    for name, found in stack.projections.items():
        yield DetailRow(
            name=name,
            stable_rank=number(_median(found.stable_rank), 1),
            participation_v=number(_median(found.participation.v), 0),
            participation_u=number(_median(found.participation.u), 0),
            top_v=top_channel(found.top.v),
            top_u=top_channel(found.top.u),
            lag=_lag_ends(found),
            bound=_worst_bound(found),
        )


def spectra(stack: Stack) -> Iterator[SpectrumRow]:
    """The third table, of a --full report."""
    for name, found in stack.projections.items():
        yield SpectrumRow(
            name=name,
            wa_v=number(found.wa.v if found.wa else None, 4),
            null_v=number(found.null.v, 3),
            wa_u=number(found.wa.u if found.wa else None, 4),
            null_u=number(found.null.u, 3),
            effective_rank=number(_median(found.effective_rank or ()), 1),
            largest_rank=str(min(found.shape)),
        )


def findings(report: Report) -> Iterator[FindingRow]:
    """The findings: what is alike in several layers told once, long lists cut short."""
    groups: dict[tuple[str, str, str | None, str | None], list[Finding]] = {}
    for finding in report.findings:
        key = (finding.severity, finding.code, finding.stack, finding.projection)
        groups.setdefault(key, []).append(finding)
    for (severity, told, _, _), group in groups.items():
        code = re.sub(r"[^\w.-]", "?", told)  # it is shown as code, wherever the report came from
        layers = sorted(finding.layer for finding in group[1:] if finding.layer is not None)
        if layers and told in OF_ONE_LAYER:
            where = f"layer {layers[0]}" if len(layers) == 1 else f"layers {spans(layers)}"
            yield FindingRow(severity, code, printable(f"{group[0].message}; likewise in {where}"))
            continue
        for finding in group[:LISTED]:
            yield FindingRow(severity, code, printable(finding.message))
        if len(group) > LISTED:
            yield FindingRow(severity, code, f"and {len(group) - LISTED} more, in audit.json")


def spans(numbers: Sequence[int]) -> str:
    """`0-3, 7` for 0, 1, 2, 3, 7."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("-".join(str(number) for number in run) for run in runs)


def name_of(report: Report, stack: str | None) -> str:
    """What a stack is called, fit to print; None is the main one."""
    return printable((report.model.stack or MAIN) if stack is None else stack)


def short_name(model: ModelInfo) -> str:
    """The model's name without the folders before a local path's last part."""
    if model.source != "local":
        return model.id
    return model.id.rstrip("/").rsplit("/", 1)[-1] or model.id


def top_channel(tops: Sequence[tuple[tuple[int, float], ...]]) -> str:
    """The coordinate that most layers' leading vector is largest in, and in how many layers: `137 in 5/6`."""
    firsts = [top[0][0] for top in tops if top]
    if not firsts:
        return MISSING
    channel = max(sorted(set(firsts)), key=firsts.count)
    return f"{channel} in {firsts.count(channel)}/{len(firsts)}"


def null_deviation(null: float, dimension: int) -> float:
    """Standard deviation of |cos| of random directions whose mean is `null`: E cos^2 is 1 / dimension."""
    return sqrt(max(1 / dimension - null**2, 0.0))


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _lag_ends(found: ProjectionReport) -> str:
    """The lag profile of the facing space at both its ends: from adjacent layers to first and last."""
    profile = [value for value in (found.lag.u if found.facing == "u" else found.lag.v) if value is not None]
    return f"{profile[0]:.2f} to {profile[-1]:.2f}" if profile else MISSING


def _worst_bound(found: ProjectionReport) -> str:
    bounds = [bound for pair in found.pairs for bound in (pair.bound_v1, pair.bound_u1) if bound is not None]
    return f"{max(bounds):.0e}" if bounds else MISSING


def provenance(report: Report) -> Iterator[tuple[str, str]]:
    """Where the numbers come from, as (what, value), fit to print."""
    for what, value in _provenance(report):
        yield what, printable(value)


def _provenance(report: Report) -> Iterator[tuple[str, str]]:
    model, settings, origin = report.model, report.settings, report.provenance
    yield "model", model.id + (f" at {model.revision}" if model.revision else "")
    yield "family", model.family + (f" (model_type {model.model_type})" if model.model_type else "")
    yield "size", "; ".join(_sizes(report))
    yield (
        "stored as",
        f"{', '.join(model.stored_dtypes)}, computed in {settings.compute_dtype} on {origin.device_name}",
    )
    weights = "norm gains folded into readers" if settings.fold_norm else "raw"
    method = "exact path, whole spectrum" if settings.full else f"{settings.k} leading triplets"
    chosen = "".join(
        f", {label} {value}"
        for label, value in (("layers", settings.layers), ("only", ", ".join(settings.only or ())))
        if value
    )
    yield "settings", f"weights {weights}, {method}{chosen}"
    yield "tensors", _account(report.coverage)
    together = f" by {origin.processes} processes" if origin.processes > 1 else ""
    yield "work", f"{size(origin.bytes_read)} read in {duration(origin.wall_seconds)}{together}"
    if memory := _memory(origin):
        yield "memory", memory
    yield (
        "tool",
        f"gcont-audit {origin.tool_version}, torch {origin.torch_version}, Python {origin.python_version}",
    )
    yield "started", origin.started
    yield "command", origin.command


def _memory(origin: Provenance) -> str:
    """The peak of anonymous memory beside what was planned and allowed."""
    if origin.peak_anonymous_bytes is None:
        return f"{size(origin.peak_memory_bytes)} peak" if origin.peak_memory_bytes else ""
    text = f"{size(origin.peak_anonymous_bytes)} peak{' of any process' if origin.processes > 1 else ''}"
    if origin.planned_memory_bytes is not None:
        text += f" of {size(origin.planned_memory_bytes)} planned"
    if origin.workers is not None:
        text += f" for {origin.workers} worker{'s' if origin.workers != 1 else ''}"
    if origin.max_memory_bytes is not None:
        text += f", {size(origin.max_memory_bytes)} allowed"
        if origin.peak_anonymous_bytes > origin.max_memory_bytes:
            text += ": more than that was taken, which is a defect to report"
    return text


def _sizes(report: Report) -> Iterator[str]:
    """Layers and width, of each stack by name where there are several."""
    for name, stack in report.every_stack.items():
        which = f"{name_of(report, name)} " if report.stacks else ""
        yield f"{which}{stack.layers} layers, hidden size {stack.hidden_size or 'unknown'}"


def _account(coverage: Coverage) -> str:
    """Every tensor counted: what was read, what no rule knows, what was left out by which rule."""
    inside = f" ({len(coverage.unknown_in_layers)} in layers)" if coverage.unknown_in_layers else ""
    by_count = sorted(coverage.ignored.items(), key=lambda item: -item[1])
    rules = ", ".join(f"{count} {rule}" for rule, count in by_count)
    ignored = f"{sum(coverage.ignored.values())} ignored" + (f": {rules}" if rules else "")
    return f"{coverage.audited} audited, {len(coverage.unknown)} unknown{inside}, {ignored}"
