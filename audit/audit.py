"""From a model's name to a typed report: open, plan, measure, summarise."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from audit import provenance
from audit.checkpoint import open_checkpoint
from audit.findings import by_severity, find_all
from audit.options import AuditOptions, format_layers
from audit.pipeline import Measured, Pipeline, resolve_device
from audit.plan import AuditPlan, make_plan
from audit.series import summarise
from registry import Projection, published_for
from reports.model import (
    ModelInfo,
    ProjectionReport,
    PublishedComparison,
    PublishedValue,
    Report,
    Settings,
)

Progress = Callable[[Measured], None]


@dataclass(frozen=True, eq=False)
class Audit:
    """A finished audit: its report, and the measurements with the vectors it was made from."""

    report: Report
    series: Mapping[Projection, Sequence[Measured]]


def audit_model(model: str, options: AuditOptions | None = None) -> Report:
    """Audit a Hub id, a folder or a .safetensors file, and return the report the CLI would write.

    Writes nothing. Raises the AuditErrors drawn in audit/errors.py.
    """
    options = options or AuditOptions()
    plan = make_plan(open_checkpoint(model, options.revision), options)
    return run(plan, command=f"audit_model({model!r})").report


def run(plan: AuditPlan, command: str, progress: Progress = lambda measured: None) -> Audit:
    """Carry out a plan; `progress` hears of each measurement as it is made."""
    clock = time.monotonic()
    started = provenance.now()
    device = resolve_device(plan.options.device)
    pipeline = Pipeline(plan, device)
    series: dict[Projection, list[Measured]] = {projection: [] for projection in plan.projections}
    for measured in pipeline:
        series[measured.projection].append(measured)
        progress(measured)
    reports = {name.value: summarise(name, layers, plan.options.full) for name, layers in series.items()}
    found = (*plan.findings, *find_all(series, reports, pipeline.identical))
    report = Report(
        model=_model_info(plan),
        settings=_settings(plan, str(device), str(pipeline.dtype).removeprefix("torch.")),
        projections=reports,
        findings=by_severity(found),
        coverage=plan.coverage,
        provenance=provenance.describe(
            plan.checkpoint, device, command, started, time.monotonic() - clock, pipeline.bytes_read
        ),
        published=_published(plan, reports),
    )
    return Audit(report, series)


def _model_info(plan: AuditPlan) -> ModelInfo:
    checkpoint, layout = plan.checkpoint, plan.layout
    return ModelInfo(
        id=checkpoint.id,
        source=checkpoint.source,
        revision=checkpoint.revision,
        family=layout.family,
        model_type=layout.model_type,
        layers=len(layout.layers),
        hidden_size=layout.hidden_size,
        stored_dtypes=plan.stored_dtypes,
    )


def _settings(plan: AuditPlan, device: str, dtype: str) -> Settings:
    options = plan.options
    return Settings(
        full=options.full,
        fold_norm=options.fold_norm,
        layers=format_layers(options.layer_slice),
        only=tuple(name.value for name in options.projections) if options.projections else None,
        k=options.k,
        device=device,
        compute_dtype=dtype,
    )


def _published(plan: AuditPlan, reports: Mapping[str, ProjectionReport]) -> PublishedComparison | None:
    """What was published about this very model, where the whole of it was audited as the paper does."""
    whole = plan.options.layers is None and not plan.options.fold_norm
    layout = plan.layout
    published = published_for(plan.checkpoint.id, len(layout.layers), layout.hidden_size) if whole else None
    if published is None:
        return None
    return PublishedComparison(
        published.source, tuple(_beside(published.continuity, published.evr3, reports))
    )


def _beside(
    continuity: Mapping[str, Mapping[str, float]],
    evr3: Mapping[str, Mapping[str, float]],
    reports: Mapping[str, ProjectionReport],
) -> Iterator[PublishedValue]:
    for name, spaces in continuity.items():
        for space, value in spaces.items():
            ours = getattr(reports[name].continuity, f"{space}1") if name in reports else None
            yield _value(name, "continuity", space, value, ours)
    for name, spaces in evr3.items():
        for space, value in spaces.items():
            ours = getattr(reports[name].evr3, space) if name in reports else None
            yield _value(name, "evr3", space, value, ours)


def _value(name: str, metric: str, space: str, value: float, ours: float | None) -> PublishedValue:
    difference = None if ours is None else ours - value
    return PublishedValue(name, metric, space, value, ours, difference)  # type: ignore[arg-type]
