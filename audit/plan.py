"""Plan an audit from headers alone: what is where, what will be read, and what it will take.

Reads no weights.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from audit.checkpoint import FLOAT_DTYPES, Checkpoint
from audit.errors import ConfigError, SelectionError, UnknownFamilyError, UnsupportedDtypeError, UsageError
from audit.options import AuditOptions, format_layers
from audit.projections import ov_obstacle, stored_needs
from registry import (
    Contradiction,
    Family,
    FamilyFileError,
    LayerLayout,
    Layout,
    Miss,
    Projection,
    families,
    match,
    read_family,
)
from reports.model import Coverage, Finding
from reports.view import spans

PROCESS_BYTES = 400_000_000
"""What Python and torch take before the first weight."""


@dataclass(frozen=True)
class Visit:
    """A layer and the projections to take from it in one go."""

    layer: LayerLayout
    projections: tuple[Projection, ...]


@dataclass(frozen=True)
class AuditPlan:
    """A checkpoint understood and a selection made; `visits` is the order of the work."""

    checkpoint: Checkpoint
    layout: Layout
    options: AuditOptions
    projections: tuple[Projection, ...]
    layers: tuple[LayerLayout, ...]
    visits: tuple[Visit, ...]
    stored_dtypes: tuple[str, ...]
    coverage: Coverage
    findings: tuple[Finding, ...]

    @property
    def bytes_to_read(self) -> int:
        """Bytes of all planned reads."""
        return sum(
            self.checkpoint.tensors[name].entry.nbytes
            for name in planned_reads(self.visits, self.options.fold_norm)
        )

    @property
    def memory_bytes(self) -> int:
        """Estimated peak: the process, and the largest projection as stored, computed with and refined."""
        width = 8 if "F64" in self.stored_dtypes else 4
        largest = max(
            (
                sum(self.checkpoint.tensors[name].entry.nbytes for name in needs)
                + (width + 8) * sum(prod(self.checkpoint.tensors[name].entry.shape) for name in needs)
                for visit in self.visits
                for projection in visit.projections
                if (needs := stored_needs(visit.layer, projection, self.options.fold_norm))
            ),
            default=0,
        )
        return PROCESS_BYTES + (3 * largest if self.options.full else largest)

    @property
    def multiply_adds(self) -> int:
        """Rough count of multiply-adds: 10 Lanczos passes of 4 vectors, or the exact path's cubic work."""
        total = 0
        for visit in self.visits:
            for projection in visit.projections:
                for name in stored_needs(visit.layer, projection, fold_norm=False):
                    long, short = sorted(self.checkpoint.tensors[name].entry.shape, reverse=True)
                    total += 12 * long * short**2 if self.options.full else 80 * long * short
        return total


def make_plan(checkpoint: Checkpoint, options: AuditOptions) -> AuditPlan:
    """Match the checkpoint to a family and lay out the work.

    Raises UnknownFamilyError, UnsupportedDtypeError, ConfigError, SelectionError, and UsageError for a
    family file that is no declaration.
    """
    layout = _understand(checkpoint, options)
    layers = _select_layers(layout, options)
    wanted = options.projections or tuple(Projection)
    projections = tuple(
        projection for projection in wanted if any(_has(layout, layer, projection) for layer in layers)
    )
    if not projections:
        raise SelectionError(
            f"{checkpoint.id} has none of {', '.join(wanted)} in the chosen layers",
            f"it has {', '.join(layout.declared)} in layers {_span(layout)}",
        )
    visits = tuple(_schedule(layout, layers, projections, options.full))
    reads = dict.fromkeys(planned_reads(visits, options.fold_norm))
    return AuditPlan(
        checkpoint,
        layout,
        options,
        projections,
        layers,
        visits,
        stored_dtypes=_check_dtypes(checkpoint, reads),
        coverage=_account(layout, reads),
        findings=tuple(_layout_findings(checkpoint, layout, layers, wanted)),
    )


def planned_reads(visits: Sequence[Visit], fold_norm: bool) -> Iterator[str]:
    """The tensors that will be read, visit by visit; one may come again in a later visit."""
    for visit in visits:
        yield from dict.fromkeys(
            name
            for projection in visit.projections
            for name in stored_needs(visit.layer, projection, fold_norm)
        )


def known_families(options: AuditOptions) -> Sequence[Family]:
    """The registry's families, a user's own before them; raises UsageError for a broken declaration."""
    if options.family_path is None:
        return families()
    try:
        own = read_family(options.family_path)
    except FamilyFileError as error:
        raise UsageError(str(error), "see registry/families/llama.toml for a declaration") from error
    return (own, *(family for family in families() if family.name != own.name))


def _understand(checkpoint: Checkpoint, options: AuditOptions) -> Layout:
    known = known_families(options)
    chosen = known[0].name if options.family_path else options.family
    found = match(checkpoint.shapes, checkpoint.config, known, chosen)
    match found:
        case Contradiction(reason):
            if method := quantisation(checkpoint.config):
                raise UnsupportedDtypeError(
                    f"{checkpoint.id} is quantised ({method}): {reason}", "audit the unquantised model"
                )
            raise ConfigError(f"{checkpoint.id}: {reason}", "check that config.json belongs to these weights")
        case Miss(reason, nearest):
            quantised = quantisation(checkpoint.config)
            if quantised:
                raise UnsupportedDtypeError(
                    f"{checkpoint.id} is quantised ({quantised}): {reason}", "audit the unquantised model"
                )
            near = f"nearest: {', '.join(nearest)}; " if nearest else ""
            raise UnknownFamilyError(
                f"{checkpoint.id}: {reason}",
                f"{near}pass --family NAME if one of them is right, or declare it and pass --family-file",
            )
        case Layout():
            return found


def quantisation(config: Mapping[str, object] | None) -> str | None:
    """The quantisation method a config names, if any."""
    said = (config or {}).get("quantization_config")
    if not isinstance(said, Mapping):
        return None
    return str(said.get("quant_method") or "method not named")


def _select_layers(layout: Layout, options: AuditOptions) -> tuple[LayerLayout, ...]:
    if options.layer_slice is None:
        return layout.layers
    count = max((layer.index for layer in layout.layers), default=-1) + 1
    chosen = set(range(count)[options.layer_slice])
    layers = tuple(layer for layer in layout.layers if layer.index in chosen)
    if not layers:
        raise SelectionError(
            f"--layers {format_layers(options.layer_slice)} selects nothing",
            f"there are layers 0 to {count - 1}",
        )
    return layers


def _has(layout: Layout, layer: LayerLayout, projection: Projection) -> bool:
    if projection is Projection.OV:
        return ov_obstacle(layer, layout.heads) is None
    return projection in layer.slots


def _schedule(
    layout: Layout, layers: Sequence[LayerLayout], projections: Sequence[Projection], full: bool
) -> Iterator[Visit]:
    """Layer by layer; with `full` projection by projection, so that one earlier factorisation is held."""
    if full:
        for projection in projections:
            for layer in layers:
                if _has(layout, layer, projection):
                    yield Visit(layer, (projection,))
    else:
        for layer in layers:
            here = tuple(projection for projection in projections if _has(layout, layer, projection))
            if here:
                yield Visit(layer, here)


def _check_dtypes(checkpoint: Checkpoint, reads: Mapping[str, None]) -> tuple[str, ...]:
    dtypes = dict.fromkeys(checkpoint.tensors[name].entry.dtype for name in reads)
    for name in reads:
        dtype = checkpoint.tensors[name].entry.dtype
        if dtype not in FLOAT_DTYPES:
            method = quantisation(checkpoint.config)
            raise UnsupportedDtypeError(
                f"{checkpoint.id}: {name} is stored as {dtype}"
                + (f" ({method} quantisation)" if method else ""),
                f"audit the unquantised model; {', '.join(FLOAT_DTYPES)} can be read",
            )
    return tuple(sorted(dtypes))


def _account(layout: Layout, reads: Mapping[str, None]) -> Coverage:
    ignored = {rule: len(names) for rule, names in layout.ignored.items()}
    gains = {norm.weight for layer in layout.layers for norm in layer.norms.values()}
    held = {slot.tensor for layer in layout.layers for slot in layer.slots.values()}
    folded = len(gains & reads.keys())
    if folded:
        ignored["norms and scales"] -= folded
    unselected = len(held - reads.keys())
    if unselected:
        ignored["not selected"] = unselected
    return Coverage(len(reads), {rule: count for rule, count in ignored.items() if count}, layout.unknown)


def _layout_findings(
    checkpoint: Checkpoint,
    layout: Layout,
    layers: Sequence[LayerLayout],
    wanted: Sequence[Projection],
) -> Iterator[Finding]:
    for name in layout.unknown:
        shape = list(checkpoint.tensors[name].entry.shape)
        yield Finding(
            "unknown-tensor", "warning", None, None, f"{name} {shape} matches no rule of {layout.family}"
        )
    chosen = {layer.index for layer in layers}
    lacking: dict[tuple[Projection, str], list[int]] = {}
    for projection, index in layout.missing:
        if projection in wanted and (index in chosen or len(layers) == len(layout.layers)):
            lacking.setdefault((projection, "the checkpoint has no such tensor"), []).append(index)
    if Projection.OV in wanted:
        for layer in layers:
            if Projection.V in layer.slots and (reason := ov_obstacle(layer, layout.heads)):
                lacking.setdefault((Projection.OV, reason), []).append(layer.index)
    for (projection, reason), indices in lacking.items():
        message = f"{projection} is missing in {_in_layers(indices)}: {reason}"
        yield Finding("missing-projection", "warning", projection, indices[0], message)


def _span(layout: Layout) -> str:
    return spans([layer.index for layer in layout.layers])


def _in_layers(indices: Sequence[int]) -> str:
    return f"layer {indices[0]}" if len(indices) == 1 else f"layers {spans(indices)}"
