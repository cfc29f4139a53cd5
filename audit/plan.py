"""Plan an audit from headers alone: what is where, what will be read, and what it will take.

Reads no weights.
"""

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

from audit.checkpoint import FLOAT_DTYPES, Checkpoint, far_extents
from audit.checkpoint.stream import STREAM_BYTES, requests_of
from audit.cost import NOMINAL, Work, computing
from audit.coverage import account, index_findings, label, layout_findings
from audit.errors import SelectionError, UnsupportedDtypeError
from audit.memory import DRAWING_BYTES, TENSOR_BYTES, Demand, Sizes, default_ceiling, process_bytes
from audit.options import AuditOptions, format_layers
from audit.projections import ov_obstacle, passes, reads_of
from audit.understanding import quantisation, understand
from registry import LayerLayout, Layout, Projection, Read, StackLayout
from reports.model import Coverage, Finding
from reports.view import spans

CUDA_WORKERS = 3
"""One reads, one copies, one computes."""


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

    @property
    def stops(self) -> Iterator[tuple[LayerLayout, tuple[Projection, ...]]]:
        """The layers it comes by, `before` among them, and what is taken from each."""
        for visit in (self.before, *self.visits):
            if visit is not None:
                yield visit.layer, visit.projections


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
        return sum(map(self._sizes().read, planned_reads(self.visits, self.options)))

    def bytes_left(self, known: Collection[Place]) -> int:
        """Bytes to read where some places are known."""
        left = (visit for task in self.tasks for visit in pending(task, known, self.options.full))
        return sum(map(self._sizes().read, planned_reads(tuple(left), self.options)))

    @property
    def count(self) -> int:
        """How many measurements there are to make."""
        return sum(len(visit.projections) for visit in self.visits)

    @property
    def requests(self) -> int:
        """How many requests fetch what is planned and lies elsewhere."""
        return sum(
            1 for _ in requests_of(far_extents(self.checkpoint, planned_reads(self.visits, self.options)))
        )

    @property
    def multiply_adds(self) -> int:
        """Rough count of multiply-adds."""
        return sum(self.work(visit).multiply_adds for visit in self.visits)

    def work(self, visit: Visit) -> Work:
        """What one visit takes to read and to compute."""
        reads = planned_reads([visit], self.options)
        full = self.options.full
        products = (computing(visit.layer, projection, full=full) for projection in visit.projections)
        return sum(products, Work(read=sum(map(self._sizes().read, reads))))

    def cost(self, visit: Visit) -> float:
        """Seconds that a visit takes on a nominal machine, to weigh visits against one another."""
        return NOMINAL.seconds(self.work(visit))

    def memory_bytes(self, workers: int = 1) -> int:
        """Peak of anonymous memory with so many workers on a CPU."""
        return self.demand().at(workers)

    def demand(self, *, on_cpu: bool = True) -> Demand:
        """What the work takes of this machine's memory."""
        sizes = self._sizes(on_cpu)
        tasks = sorted((sizes.most_held(task.stops) for task in self.tasks), key=itemgetter(0), reverse=True)
        places = [(visit.layer, one) for visit in self.visits for one in visit.projections]
        results = sum(sizes.results(*place) for place in places)
        streaming = STREAM_BYTES if self.checkpoint.streamed else 0
        return Demand(
            always=process_bytes(on_cpu=on_cpu)
            + streaming
            + TENSOR_BYTES * len(self.checkpoint.tensors)
            + results,
            tasks=tuple(held for held, _ in tasks),
            after=max(DRAWING_BYTES + results, *(sizes.compared(*place) for place in places)),
            largest=tasks[0][1],
            single=max(sizes.single(*place) for place in places),
            streaming=streaming,
        )

    def _sizes(self, on_cpu: bool = True) -> Sizes:
        width = 8 if "F64" in self.stored_dtypes else 4
        return Sizes(self.checkpoint.tensors, self.options, width, on_cpu)


def workers_for(plan: AuditPlan, device_type: str, threads: int) -> int:
    """How many tasks go on at a time: one a thread on a CPU, three on a CUDA device, where memory allows.

    Below `max_memory` where that is given, on a CPU otherwise below default_ceiling, but always one.
    Raises SelectionError where not even one fits below `max_memory`.
    """
    on_cpu, ceiling = device_type == "cpu", plan.options.ceiling
    wanted = {"cpu": threads, "cuda": CUDA_WORKERS}.get(device_type, 1)
    demand = plan.demand(on_cpu=on_cpu)
    if ceiling is None:
        unasked = default_ceiling(demand, full=plan.options.full) if on_cpu else sys.maxsize
        return max(1, demand.workers_within(unasked, wanted))
    if workers := demand.workers_within(ceiling, wanted):
        return workers
    raise demand.refusal(ceiling, plan.checkpoint.id)


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
    reads = dict.fromkeys(read.tensor for read in planned_reads(visits, options))
    return AuditPlan(
        checkpoint,
        layout,
        options,
        stacks,
        visits,
        stored_dtypes=_check_dtypes(checkpoint, reads),
        coverage=account(layout, reads),
        findings=(
            *index_findings(checkpoint.surplus),
            *layout_findings(
                checkpoint.shapes,
                layout,
                {stack.layout.name: stack.chosen for stack in stacks},
                wanted,
                options.fold_norm,
            ),
        ),
    )


def planned_reads(visits: Sequence[Visit], options: AuditOptions) -> Iterator[Read]:
    """Everything that will be read, visit by visit; a tensor may come again in a later visit or pass."""
    for visit in visits:
        once: dict[Read, None] = {}
        for projection in visit.projections:
            reads = reads_of(visit.layer, projection, options.fold_norm)
            times = passes(visit.layer, projection, full=options.full)
            if times == 1:
                once |= dict.fromkeys(reads)
            else:
                yield from reads * times
        yield from once


def pending(task: Task, known: Collection[Place], full: bool) -> Iterator[Visit]:
    """The visits that a task still takes: those places of them that are not known.

    With `full` each is compared with the one before, which is taken again where that was known.
    """
    before, held = task.before, False
    for visit in task.visits:
        wanted = tuple(one for one in visit.projections if visit.place(one) not in known)
        if wanted:
            if full and before is not None and not held:
                yield before
            yield replace(visit, projections=wanted)
        before, held = visit, bool(wanted)


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
