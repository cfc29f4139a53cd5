"""`gcont-audit plan MODEL`: headers only. What would be read, and what it would take."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from audit.cli import options as o
from audit.cli.talk import Talk, show

if TYPE_CHECKING:
    from audit.plan import AuditPlan, StackPlan

ASSUMED_READ = 1e9
"""Bytes per second of the disk that the reading time is quoted for."""


def plan(
    model: o.Model,
    revision: o.Revision = None,
    stream: o.Stream = False,
    download: o.Download = False,
    family: o.Family = None,
    family_file: o.FamilyFile = None,
    full: o.Full = False,
    layers: o.Layers = None,
    only: o.Only = None,
    fold_norm: o.FoldNorm = False,
    max_memory: o.MaxMemory = None,
    json: o.AsJson = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = 0,
) -> None:
    """Headers only: the layout found, bytes to read, memory and time. Reads no weights."""
    talk = Talk(quiet, verbose)
    with talk.errors():
        from audit.cli.auditing import find
        from audit.options import AuditOptions
        from audit.plan import make_plan

        asked = AuditOptions(
            revision=revision,
            stream=o.streaming(stream, download),
            full=full,
            fold_norm=fold_norm,
            layers=layers,
            only=only,
            family=family,
            family_file=family_file,
            max_memory=max_memory,
        )
        made = make_plan(find(model, asked, talk, headers_only=True), asked)
        if json:
            typer.echo(as_json(made))
        else:
            show_plan(made)


def as_json(made: "AuditPlan") -> str:
    """The plan as JSON; raises SelectionError where --max-memory is too little."""
    from json import dumps

    import torch

    from audit.plan import workers_for

    workers = workers_for(made, "cpu", torch.get_num_threads())

    return dumps(
        {
            "model": made.checkpoint.id,
            "revision": made.checkpoint.revision,
            "family": made.layout.family,
            **_stack_json(made.main),
            "stacks": {stack.label: _stack_json(stack) for stack in made.stacks[1:]},
            "bytes_to_read": made.bytes_to_read,
            "requests": made.requests,
            "streamed": made.checkpoint.streamed,
            "bytes_elsewhere": sum(file.size for file in made.checkpoint.elsewhere),
            "memory_bytes": made.memory_bytes(workers),
            "workers": workers,
            "memory_bytes_by_workers": {count: made.memory_bytes(count) for count in _counts(made)},
            "max_memory_bytes": made.options.ceiling,
            "multiply_adds": made.multiply_adds,
            "nominal_seconds": sum(map(made.cost, made.visits)),
            "stored_dtypes": list(made.stored_dtypes),
            "coverage": {
                "audited": made.coverage.audited,
                "ignored": dict(made.coverage.ignored),
                "unknown": list(made.coverage.unknown),
            },
        },
        indent=1,
    )


def _stack_json(stack: "StackPlan") -> dict[str, object]:
    return {
        "layers": [layer.index for layer in stack.layers],
        "projections": {row.name: list(row.shape) for row in _rows(stack)},
    }


@dataclass(frozen=True)
class Row:
    """One stored projection: the shape in its first layer, in how many layers it is, where it lies there."""

    name: str
    shape: tuple[int, int]
    layers: int
    tensor: str
    experts: int | None


def _rows(stack: "StackPlan") -> Iterator[Row]:
    from registry import ExpertSlots

    for projection in stack.projections:
        places = [layer.slots[projection] for layer in stack.layers if projection in layer.slots]
        if places:
            experts = next((len(one.experts) for one in places if isinstance(one, ExpertSlots)), None)
            yield Row(projection.value, places[0].shape, len(places), places[0].tensors[0], experts)


def _lacking(stack: "StackPlan") -> dict[str, str]:
    """`Q, K in layers 0-2` to the reason, where the family knows one."""
    from audit.coverage import unmeasured

    projections: dict[tuple[str, str], list[str]] = {}
    for projection in stack.layout.declared:
        for layers, reason in unmeasured(stack.layout, projection, stack.chosen).items():
            projections.setdefault((layers, reason), []).append(projection.value)
    return {f"{', '.join(names)} in {layers}": reason for (layers, reason), names in projections.items()}


def show_plan(made: "AuditPlan") -> None:
    """The plan as a table and a few lines; raises SelectionError where --max-memory is too little."""
    import torch

    from audit.plan import workers_for
    from reports.view import duration, printable, size

    workers = workers_for(made, "cpu", torch.get_num_threads())
    typer.echo(
        f"{printable(made.checkpoint.id)}: family {made.layout.family}, {len(made.main.layers)} layers, "
        f"stored as {', '.join(made.stored_dtypes)}"
    )
    for stack in made.stacks:
        if len(made.stacks) > 1:
            typer.echo(f"\n{stack.layout.name}: {stack.layout.family}, {len(stack.layers)} layers")
        _show_stack(stack)
    for rule, count in made.coverage.ignored.items():
        typer.echo(f"ignored   {count} tensors: {rule}")
    for finding in made.findings:
        typer.echo(f"{finding.severity:<9} {printable(finding.message)}")
    for line in _reading(made):
        typer.echo(line)
    computing = duration(_compute_seconds(made, workers))
    typer.echo(f"compute   about {computing} on this machine's CPU, {_many(workers, 'worker')} at a time")
    takes = (f"{size(made.memory_bytes(count))} with {_many(count, 'worker')}" for count in _counts(made))
    typer.echo(f"memory    up to {', '.join(takes)}")
    if made.options.ceiling is not None:
        typer.echo(f"allowed   {size(made.options.ceiling)}, which is enough for {_many(workers, 'worker')}")


def _reading(made: "AuditPlan") -> Iterator[str]:
    """What is read, and for a model elsewhere what comes over the network; lines."""
    from reports.view import duration, size

    seconds, elsewhere = made.bytes_to_read / ASSUMED_READ, made.checkpoint.elsewhere
    exactly = f"{size(made.bytes_to_read)} ({made.bytes_to_read:,} bytes)"
    if not elsewhere:
        yield f"to read   {exactly}, {duration(seconds)} at {size(ASSUMED_READ)}/s"
        return
    whole = f"{size(sum(file.size for file in elsewhere))} in {_many(len(elsewhere), 'file')}"
    requests = _many(made.requests, "request")
    if made.checkpoint.streamed:
        yield f"to stream {exactly} of {whole}, in {requests}; no shard is kept"
    else:
        yield f"to read   {exactly}"
        yield f"to fetch  {whole}, kept in the Hub cache; with --stream only what is read, in {requests}"


def _show_stack(stack: "StackPlan") -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from reports.view import printable

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("", "shape", "layers", "first tensor"):
        table.add_column(heading)
    for row in _rows(stack):
        name = f"{row.name}, {row.experts} experts" if row.experts else row.name
        shape = f"{row.shape[0]} x {row.shape[1]}"
        table.add_row(name, shape, str(row.layers), Text(printable(row.tensor), overflow="fold"))
    show(table)
    heads = next((layer.heads for layer in stack.layers if layer.heads), None)
    if heads is not None:
        typer.echo(f"heads     {heads.count} of width {heads.dim}, {heads.kv} for keys and values")
    for lacking, reason in _lacking(stack).items():
        typer.echo(f"lacks     {lacking}: {reason}")


def _counts(made: "AuditPlan") -> list[int]:
    """Numbers of workers to tell the memory of: 1, 2, 4 and so on, up to torch's threads."""
    import torch

    most = max(1, min(torch.get_num_threads(), len(made.tasks)))
    return [*(2**power for power in range(most.bit_length()) if 2**power < most), most]


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' if count != 1 else ''}"


def _compute_seconds(made: "AuditPlan", workers: int) -> float:
    """What the plan's passes and products take at rates measured here and now."""
    from audit.checkpoint import FLOAT_DTYPES
    from audit.cost import measured_rates

    rates = measured_rates(FLOAT_DTYPES[made.stored_dtypes[0]], min(workers, len(made.tasks)))
    return sum(rates.computing(made.work(visit)) for visit in made.visits)
