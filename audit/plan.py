"""Plan an audit from headers alone: what is where, what will be read, and what it will take.

Reads no weights.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from shlex import quote

from audit.checkpoint import FLOAT_DTYPES, Checkpoint
from audit.coverage import account, label, layout_findings
from audit.errors import ConfigError, SelectionError, UnknownFamilyError, UnsupportedDtypeError, UsageError
from audit.options import AuditOptions, format_layers
from audit.projections import ov_obstacle, passes, reads_of
from registry import (
    Contradiction,
    ExpertSlots,
    Family,
    FamilyFileError,
    LayerLayout,
    Layout,
    Miss,
    Projection,
    Read,
    StackLayout,
    families,
    match,
    read_family,
)
from reports.model import Coverage, Finding
from reports.view import spans

GRAM_COPIES = 3
"""Gram matrices in float64 that experts take: the sum, one expert's, and what the eigenvectors are found
in."""

PROCESS_BYTES = 400_000_000
"""What Python and torch take before the first weight."""


@dataclass(frozen=True)
class Place:
    """One projection of one layer of one stack; `stack` is None for the main one."""

    stack: str | None
    projection: Projection
    layer: int


@dataclass(frozen=True)
class Visit:
    """A layer of a stack (None: the main one) and the projections to take from it in one go."""

    stack: str | None
    layer: LayerLayout
    projections: tuple[Projection, ...]

    def place(self, projection: Projection) -> Place:
        """One of its projections."""
        return Place(self.stack, projection, self.layer.index)


@dataclass(frozen=True)
class Task:
    """Visits that one worker makes in order: a layer's, or with `full` those of one projection.

    `before` is the visit whose factorisation the first one is compared with, where another task makes it.
    """

    visits: tuple[Visit, ...]
    before: Visit | None = None

    @property
    def places(self) -> Iterator[Place]:
        """What is measured, in order."""
        for visit in self.visits:
            for projection in visit.projections:
                yield visit.place(projection)


@dataclass(frozen=True)
class StackPlan:
    """One stack: where its projections lie, and which layers and projections of it were chosen.

    `label` is what a report calls it, None for the main one.
    """

    label: str | None
    layout: StackLayout
    layers: tuple[LayerLayout, ...]
    projections: tuple[Projection, ...]

    @property
    def chosen(self) -> frozenset[int]:
        """The numbers of the layers to look at; all that the stack has, those without a tensor too."""
        if len(self.layers) == len(self.layout.layers):
            return frozenset(lack.layer for lack in self.layout.lacks) | _indices(self.layers)
        return _indices(self.layers)


@dataclass(frozen=True)
class AuditPlan:
    """A checkpoint understood and a selection made; `visits` is the order of the work.

    `stacks` are the main one, and those beside it that have something chosen.
    """

    checkpoint: Checkpoint
    layout: Layout
    options: AuditOptions
    stacks: tuple[StackPlan, ...]
    visits: tuple[Visit, ...]
    stored_dtypes: tuple[str, ...]
    coverage: Coverage
    findings: tuple[Finding, ...]

    @property
    def main(self) -> StackPlan:
        """The decoder or text model."""
        return self.stacks[0]

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The visits, grouped into what can be done independently."""
        if not self.options.full:
            return tuple(Task((visit,)) for visit in self.visits)
        series: dict[tuple[str | None, tuple[Projection, ...]], list[Visit]] = {}
        for visit in self.visits:
            series.setdefault((visit.stack, visit.projections), []).append(visit)
        return tuple(Task(tuple(visits)) for visits in series.values())

    @property
    def bytes_to_read(self) -> int:
        """Bytes of all planned reads."""
        return sum(self._nbytes(read) for read in planned_reads(self.visits, self.options.fold_norm))

    @property
    def memory_bytes(self) -> int:
        """Estimated peak: the process, and the largest projection as stored, computed with and refined.

        Of experts, one and the Gram matrix of all.
        """
        largest = max(
            (self._working_set(visit.layer, name) for visit in self.visits for name in visit.projections),
            default=0,
        )
        return PROCESS_BYTES + (3 * largest if self.options.full else largest)

    @property
    def multiply_adds(self) -> int:
        """Rough count of multiply-adds: 10 Lanczos passes of 4 vectors, or the exact path's cubic work.

        Each expert's Gram matrix takes its size times the residual stream's width.
        """
        total = 0
        for visit in self.visits:
            for projection in visit.projections:
                place = visit.layer.slots.get(projection)
                if isinstance(place, ExpertSlots):
                    total += prod(place.shape) * (min(place.shape) + 80)
                    continue
                for read in reads_of(visit.layer, projection, fold_norm=False):
                    shape = self.checkpoint.tensors[read.tensor].entry.shape
                    if len(shape) == 2:
                        long, short = sorted(shape, reverse=True)
                        total += 12 * long * short**2 if self.options.full else 80 * long * short
        return total

    def _working_set(self, layer: LayerLayout, projection: Projection) -> int:
        """Bytes that measuring one projection takes: what is read, and copies to compute with."""
        width = 8 if "F64" in self.stored_dtypes else 4
        place = layer.slots.get(projection)
        if isinstance(place, ExpertSlots):
            hidden = place.shape[0] if projection.facing == "u" else place.shape[1]
            expert = max(self._nbytes(slot.read) + (width + 8) * prod(slot.shape) for slot in place.experts)
            return expert + GRAM_COPIES * 8 * hidden**2
        reads = reads_of(layer, projection, self.options.fold_norm)
        entries = [self.checkpoint.tensors[read.tensor].entry for read in reads]
        return sum(entry.nbytes + (width + 8) * prod(entry.shape) for entry in entries)

    def _nbytes(self, read: Read) -> int:
        nbytes = self.checkpoint.tensors[read.tensor].entry.nbytes
        return nbytes // read.slab.count if read.slab else nbytes


def make_plan(checkpoint: Checkpoint, options: AuditOptions) -> AuditPlan:
    """Match the checkpoint to a family and lay out the work.

    Raises UnknownFamilyError, UnsupportedDtypeError, ConfigError, SelectionError, and UsageError for a
    family file that is no declaration.
    """
    layout = understand(checkpoint, options)
    wanted = options.projections or tuple(Projection)
    stacks = tuple(
        StackPlan(label(layout, stack), stack, layers, projections)
        for stack in layout.stacks
        if (layers := _select_layers(stack, options))
        and (projections := tuple(name for name in wanted if any(_has(layer, name) for layer in layers)))
    )
    if not stacks or stacks[0].layout is not layout.main:
        raise _nothing_selected(checkpoint, layout, options)
    visits = tuple(visit for stack in stacks for visit in _schedule(stack, options.full))
    reads = dict.fromkeys(read.tensor for read in planned_reads(visits, options.fold_norm))
    return AuditPlan(
        checkpoint,
        layout,
        options,
        stacks,
        visits,
        stored_dtypes=_check_dtypes(checkpoint, reads),
        coverage=account(layout, reads),
        findings=tuple(
            layout_findings(
                checkpoint.shapes,
                layout,
                {stack.layout.name: stack.chosen for stack in stacks},
                wanted,
                options.fold_norm,
            )
        ),
    )


def planned_reads(visits: Sequence[Visit], fold_norm: bool) -> Iterator[Read]:
    """Everything that will be read, visit by visit; a tensor may come again in a later visit or pass."""
    for visit in visits:
        once: dict[Read, None] = {}
        for projection in visit.projections:
            reads, times = reads_of(visit.layer, projection, fold_norm), passes(visit.layer, projection)
            if times == 1:
                once |= dict.fromkeys(reads)
            else:
                yield from reads * times
        yield from once


def known_families(options: AuditOptions) -> Sequence[Family]:
    """The registry's families, a user's own before them; raises UsageError for a broken declaration."""
    if options.family_path is None:
        return families()
    try:
        own = read_family(options.family_path)
    except FamilyFileError as error:
        raise UsageError(str(error), "`gcont-audit families --show llama` shows one") from error
    return (own, *(family for family in families() if family.name != own.name))


def understand(checkpoint: Checkpoint, options: AuditOptions) -> Layout:
    """The checkpoint's layout; raises what make_plan does for one that cannot be read."""
    known = known_families(options)
    chosen = known[0].name if options.family_path else options.family
    found = match(checkpoint.shapes, checkpoint.config, known, chosen)
    match found:
        case Contradiction(reason):
            if method := quantisation(checkpoint.config):
                raise UnsupportedDtypeError(
                    f"{checkpoint.id} is quantised ({method}): {reason}", "audit the unquantised model"
                )
            own = f"{options.family_path} fits them, and that " if options.family_path else ""
            raise ConfigError(
                f"{checkpoint.id}: {reason}", f"check that {own}config.json belongs to these weights"
            )
        case Miss(reason, nearest):
            quantised = quantisation(checkpoint.config)
            if quantised:
                raise UnsupportedDtypeError(
                    f"{checkpoint.id} is quantised ({quantised}): {reason}", "audit the unquantised model"
                )
            near = (
                f"nearest: {', '.join(nearest)}; pass --family NAME if one is right, or " if nearest else ""
            )
            draft = f"`gcont-audit families --draft {quote(checkpoint.id)}`"
            raise UnknownFamilyError(
                f"{checkpoint.id}: {reason}", f"{near}declare it: {draft} writes a first --family-file"
            )
        case Layout():
            return found


def quantisation(config: Mapping[str, object] | None) -> str | None:
    """The quantisation method a config names, if any."""
    said = (config or {}).get("quantization_config")
    if not isinstance(said, Mapping):
        return None
    return str(said.get("quant_method") or "method not named")


def _select_layers(stack: StackLayout, options: AuditOptions) -> tuple[LayerLayout, ...]:
    if options.layer_slice is None:
        return stack.layers
    chosen = set(range(_count(stack))[options.layer_slice])
    return tuple(layer for layer in stack.layers if layer.index in chosen)


def _count(stack: StackLayout) -> int:
    return max((layer.index for layer in stack.layers), default=-1) + 1


def _nothing_selected(checkpoint: Checkpoint, layout: Layout, options: AuditOptions) -> SelectionError:
    main = layout.main
    if not _select_layers(main, options):
        return SelectionError(
            f"--layers {format_layers(options.layer_slice)} selects nothing",
            f"there are layers 0 to {_count(main) - 1}",
        )
    return SelectionError(
        f"{checkpoint.id} has none of {', '.join(options.projections or ())} in the chosen layers",
        f"it has {', '.join(main.declared)} in layers {spans(sorted(_indices(main.layers)))}",
    )


def _indices(layers: Sequence[LayerLayout]) -> frozenset[int]:
    return frozenset(layer.index for layer in layers)


def _has(layer: LayerLayout, projection: Projection) -> bool:
    if projection is Projection.OV:
        return ov_obstacle(layer) is None
    return projection in layer.slots


def _schedule(stack: StackPlan, full: bool) -> Iterator[Visit]:
    """Layer by layer; with `full` projection by projection, so that one earlier factorisation is held."""
    if full:
        for projection in stack.projections:
            for layer in stack.layers:
                if _has(layer, projection):
                    yield Visit(stack.label, layer, (projection,))
    else:
        for layer in stack.layers:
            here = tuple(projection for projection in stack.projections if _has(layer, projection))
            if here:
                yield Visit(stack.label, layer, here)


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
