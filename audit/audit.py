"""From a model's name to a typed report: open, plan, measure, summarise."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from audit import provenance
from audit.checkpoint import open_checkpoint
from audit.checkpoint.origin import Heard
from audit.coverage import unmeasured
from audit.findings import by_severity, find_all
from audit.keys import layout_digest
from audit.measure import Measured
from audit.options import AuditOptions, format_layers
from audit.partial import Spent, Store, Unkept
from audit.peak import PeakWatch
from audit.pipeline import Pipeline
from audit.plan import AuditPlan, StackPlan, make_plan
from audit.processes import ALONE, Team
from audit.series import summarise
from registry import Projection, published_for
from reports.model import (
    Finding,
    ModelInfo,
    ProjectionReport,
    PublishedComparison,
    PublishedValue,
    Report,
    Settings,
    Stack,
)

Progress = Callable[[Measured], None]

SeriesKey = tuple[str | None, Projection]
"""A stack, None for the main one, and a projection of it."""


@dataclass(frozen=True, eq=False)
class Audit:
    """A finished audit: its report, and the measurements with the vectors it was made from.

    `layout` identifies the layout that the matrices were found by.
    """

    report: Report
    series: Mapping[SeriesKey, Sequence[Measured]]
    layout: str


def audit_model(model: str, options: AuditOptions | None = None) -> Report:
    """Audit a Hub id, a folder or a .safetensors file, and return the report the CLI would write.

    Writes nothing. Raises the AuditErrors drawn in audit/errors.py.
    """
    options = options or AuditOptions()
    plan = make_plan(open_checkpoint(model, options.revision, stream=options.stream), options)
    return run(plan, command=f"audit_model({model!r})").report


def run(
    plan: AuditPlan,
    command: str,
    progress: Progress = lambda measured: None,
    store: Store | None = None,
    team: Team = ALONE,
    heard: Heard = lambda count: None,
) -> Audit:
    """Carry out a plan; `progress` hears of each measurement as it is made, and `store` keeps it.

    `heard` is told of bytes as they are read here.

    Of several processes, the one that leads does, and the others assist it.
    """
    clock, started = time.monotonic(), provenance.now()
    device = team.device(plan.options.device)
    pipeline = Pipeline(plan, device, heard=heard)
    store = store or Unkept()

    def spent() -> Spent:
        return Spent(started, time.monotonic() - clock, pipeline.bytes_read + team.bytes_read)

    measurements = [*store.known.values()]
    with PeakWatch() as watch:
        for measured in team.measure(pipeline, store.known):
            store.keep(measured, spent())
            measurements.append(measured)
            progress(measured)
        series = _series(plan, measurements)
        reports = {stack.label: _reports(plan, stack, series) for stack in plan.stacks}
        findings = by_severity([*plan.findings, *_findings(series, reports, pipeline)])
    where = str(device) if team.size == 1 else device.type
    report = Report(
        model=_model_info(plan),
        settings=_settings(plan, where, str(pipeline.dtype).removeprefix("torch.")),
        projections=reports[None],
        findings=findings,
        coverage=plan.coverage,
        provenance=team.signed(
            provenance.describe(
                plan.checkpoint, device, command, store.total(spent()), pipeline.use(watch.peak)
            )
        ),
        published=_published(plan, reports[None]),
        stacks={
            stack.label: _stack(stack, reports[stack.label])
            for stack in plan.stacks
            if stack.label is not None
        },
    )
    return Audit(report, series, layout_digest(plan.layout))


def _series(plan: AuditPlan, measurements: Sequence[Measured]) -> dict[SeriesKey, list[Measured]]:
    """The measurements of each projection, in the order of its layers."""
    series: dict[SeriesKey, list[Measured]] = {
        (stack.label, projection): [] for stack in plan.stacks for projection in stack.projections
    }
    for measured in sorted(measurements, key=lambda one: one.layer):
        series[measured.place.stack, measured.projection].append(measured)
    return series


def _findings(
    series: Mapping[SeriesKey, Sequence[Measured]],
    reports: Mapping[str | None, Mapping[str, ProjectionReport]],
    pipeline: Pipeline,
) -> Iterator[Finding]:
    for name, projections in reports.items():
        own = {projection: layers for (stack, projection), layers in series.items() if stack == name}
        yield from find_all(name, own, projections, pipeline.identical)


def _reports(
    plan: AuditPlan, stack: StackPlan, series: Mapping[SeriesKey, Sequence[Measured]]
) -> dict[str, ProjectionReport]:
    return {
        name.value: summarise(
            name, series[stack.label, name], plan.options.full, unmeasured(stack.layout, name, stack.chosen)
        )
        for name in stack.projections
    }


def _stack(stack: StackPlan, projections: Mapping[str, ProjectionReport]) -> Stack:
    layout = stack.layout
    cross = any(layer.cross for layer in layout.layers)
    return Stack(projections, layout.family, len(layout.layers), layout.hidden_size, cross)


def _model_info(plan: AuditPlan) -> ModelInfo:
    checkpoint, layout = plan.checkpoint, plan.layout
    return ModelInfo(
        id=checkpoint.id,
        source=checkpoint.source,
        revision=checkpoint.revision,
        family=layout.family,
        model_type=layout.model_type,
        layers=len(layout.main.layers),
        hidden_size=layout.main.hidden_size,
        stored_dtypes=plan.stored_dtypes,
        stack=layout.main.title or None,
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
    main = plan.layout.main
    published = published_for(plan.checkpoint.id, len(main.layers), main.hidden_size) if whole else None
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
