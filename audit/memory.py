"""Anonymous memory: what a plan's work takes, told from headers alone, and the workers that fit a ceiling.

Anonymous is all but the pages of files, which the system drops and reads again as it likes. Each worker holds
the weights of one projection at a time; results are kept until they are written.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from operator import itemgetter

from audit.checkpoint import StoredTensor
from audit.cost import SMALL, WIDE_ROWS, factors, hidden_of
from audit.errors import SelectionError
from audit.options import AuditOptions, format_memory
from audit.projections import reads_of, slots_of
from registry import ExpertSlots, LayerLayout, LowRankSlot, Projection, Read, Slot
from reports.view import size

PROCESS_BYTES = 190_000_000
"""What Python and torch take, whatever the model."""

DRAWING_BYTES = 70_000_000
"""What drawing takes besides, when the weights are gone."""

DEVICE_BYTES = 1_000_000_000
"""What the driver of another device than the CPU takes of this memory."""

TENSOR_BYTES = 1500
"""What a tensor's name and place take, and the rule that claims it."""

RESULT_BYTES = 10_000
"""What a measurement takes beside its vectors; an expert's takes a tenth."""

BASIS_BYTES = 6200
"""For each entry of a vector: 512 vectors in float32, and again in float64; random weights come near."""

FACTOR, ALLOWANCE = 2.5, 800_000_000
"""Unasked, a leading audit keeps within so many times its largest projection in float32, and this beside."""


@dataclass(frozen=True)
class Use:
    """What the work was planned to take and took, in bytes, with how many workers, below which ceiling."""

    peak: int
    planned: int
    workers: int
    ceiling: int | None = None


@dataclass(frozen=True)
class Demand:
    """Bytes that a plan's work takes: in any case, for each task (largest first), and when those are done.

    `largest` names the projection that the largest task takes its memory for; `single` is what the largest
    projection takes in float32; `streaming` is what of `always` the buffer of a stream takes.
    """

    always: int
    tasks: tuple[int, ...]
    after: int
    largest: str
    single: int
    streaming: int = 0

    def at(self, workers: int) -> int:
        """The peak with so many workers, each in the midst of one of the largest tasks."""
        return self.always + max(sum(self.tasks[:workers]), self.after)

    def workers_within(self, ceiling: int, wanted: int) -> int:
        """The most workers up to `wanted` whose peak stays within the ceiling; 0 where not even one's."""
        useful = max(1, min(wanted, len(self.tasks)))
        return next((count for count in range(useful, 0, -1) if self.at(count) <= ceiling), 0)

    def refusal(self, ceiling: int, model: str) -> SelectionError:
        """What to say of a ceiling below which not even one worker fits."""
        least = f"the least that works is {format_memory(self.at(1))}"
        told = f"--max-memory {format_memory(ceiling)} is too little for {model}"
        if self.tasks[0] > self.always:
            hint = f"{least}, or leave out projections with --only"
            return SelectionError(f"{told}, whose {self.largest} alone takes {size(self.tasks[0])}", hint)
        of_it = f", {size(self.streaming)} of it to streaming" if self.streaming else ""
        return SelectionError(
            f"{told}: {size(self.always)} go to Python, torch and the results{of_it}", least
        )


@dataclass(frozen=True)
class Sizes:
    """Tells from headers what is held; `width` are the bytes of a number as it is computed with.

    `on_cpu`: the arithmetic is done in this memory, and not on a device that has its own.
    """

    tensors: Mapping[str, StoredTensor]
    options: AuditOptions
    width: int
    on_cpu: bool = True

    def read(self, read: Read) -> int:
        """A tensor or slab as stored."""
        nbytes = self.tensors[read.tensor].entry.nbytes
        return nbytes // read.slab.count if read.slab else nbytes

    def held(
        self, layer: LayerLayout, projections: tuple[Projection, ...]
    ) -> Iterator[tuple[Projection, int]]:
        """What is held while each projection is measured: tensors stay until the last that needs them is."""
        reads = {one: reads_of(layer, one, self.options.fold_norm) for one in projections}
        uses = Counter(read for one in projections for read in reads[one])
        held: set[Read] = set()
        for projection in projections:
            if not isinstance(layer.slots.get(projection), ExpertSlots):
                held.update(reads[projection])
            yield projection, sum(map(self.read, held)) + self._beside(layer, projection)
            uses.subtract(reads[projection])
            held = {read for read in held if uses[read] > 0}

    def most_held(self, stops: Iterable[tuple[LayerLayout, tuple[Projection, ...]]]) -> tuple[int, str]:
        """The most that one worker holds on its way through layers, taking some projections from each; and of
        what."""
        stops = tuple(stops)
        steps = (
            (held, f"{projection} of layer {layer.index}")
            for layer, projections in stops
            for projection, held in self.held(layer, projections)
        )
        most = max(steps, key=itemgetter(0))
        if not self.options.full or len(stops) == 1:
            return most
        return most[0] + max(self.factorisation(layer, names[0]) for layer, names in stops), most[1]

    def results(self, layer: LayerLayout, projection: Projection) -> int:
        """What is kept of a projection to the end."""
        out, in_ = shape_of(layer, projection)
        spectrum = 8 * min(out, in_) if self.options.full else 0
        place = layer.slots.get(projection)
        if isinstance(place, ExpertSlots):
            vectors = (self.options.k + len(place.experts)) * hidden_of(place, projection)
            beside = RESULT_BYTES * (10 + len(place.experts)) // 10
            return beside + self.width * vectors + spectrum
        return RESULT_BYTES + self.width * self.options.k * (out + in_) + spectrum

    def factorisation(self, layer: LayerLayout, projection: Projection) -> int:
        """What is kept of a layer for the next one to be compared with: in case of doubt, in float64 too."""
        place = layer.slots.get(projection)
        if isinstance(place, ExpertSlots):
            return 8 * hidden_of(place, projection) ** 2
        weights = sum(map(self.read, reads_of(layer, projection, self.options.fold_norm)))
        return (
            weights
            + self._copies(layer, projection)[1]
            + 12 * rank_of(layer, projection) * sum(shape_of(layer, projection))
        )

    def compared(self, layer: LayerLayout, projection: Projection) -> int:
        """Two stored matrices, read again to see whether they are the same."""
        place = layer.slots.get(projection)
        return 0 if place is None else 2 * max(self.read(slot.read) for slot in slots_of(place))

    def single(self, layer: LayerLayout, projection: Projection) -> int:
        """The projection in float32; of experts, one."""
        if isinstance(layer.slots.get(projection), ExpertSlots):
            return 4 * max(map(prod, factors(layer, projection)))
        return 4 * prod(shape_of(layer, projection))

    def _beside(self, layer: LayerLayout, projection: Projection) -> int:
        """What is held beside the stored tensors: copies, a basis, or what the exact path works in."""
        place = layer.slots.get(projection)
        if isinstance(place, ExpertSlots):
            return self._beside_experts(layer, projection, place)
        if not self.on_cpu:
            return 0
        making, made = self._copies(layer, projection)
        shapes, shape = factors(layer, projection), shape_of(layer, projection)
        if self.options.full:
            working = _exact(shape) if len(shapes) == 1 else _exact_product(shape, rank_of(layer, projection))
        else:
            small = 16 * sum(map(prod, shapes)) if prod(shape) <= SMALL else 0
            energy = self.width * sum(map(prod, shapes)) if len(shapes) > 1 else 0
            working = energy + small + BASIS_BYTES * max(shape)
        return max(making, made + working)

    def _beside_experts(self, layer: LayerLayout, projection: Projection, place: ExpertSlots) -> int:
        hidden, entries = hidden_of(place, projection), max(map(prod, factors(layer, projection)))
        one = max(self.read(slot.read) for slot in place.experts)
        images = 2 * WIDE_ROWS * self.width * sum(map(prod, factors(layer, projection))) // hidden
        if not self.on_cpu:
            return one + images
        copies = 2 * self.width * entries * self._is_folded(layer, projection)
        copies += 16 * entries if entries <= SMALL else 0
        # where the iteration does not converge, the Gram matrix's eigenvectors are found, as with `full`
        leading = 0 if self.options.full else images + BASIS_BYTES * hidden
        return one + copies + max(leading, 8 * entries + 8 * hidden**2, 4 * 8 * hidden**2)

    def _copies(self, layer: LayerLayout, projection: Projection) -> tuple[int, int]:
        """Matrices made out of the stored ones: what there is while they are made, and what stays."""
        match layer.slots.get(projection):
            case Slot() as slot:
                entry, entries = self.tensors[slot.tensor].entry, prod(slot.shape)
                split = slot.rows is not None and slot.rows.count > 1 and slot.rows.length < slot.rows.step
                made = split * entries * entry.nbytes // max(1, prod(entry.shape))
                folded = self.width * entries * self._is_folded(layer, projection)
                return made + 2 * folded, made + folded
            case LowRankSlot():
                made = 2 * self.width * sum(map(prod, factors(layer, projection)))
                return made, made
            case _:
                output, value = (self._copies(layer, part)[1] for part in (Projection.O, Projection.V))
                made = output + value + self.width * prod(factors(layer, projection)[0])
                return made + self.width * prod(layer.slots[Projection.O].shape), made

    def _is_folded(self, layer: LayerLayout, projection: Projection) -> bool:
        return self.options.fold_norm and layer.norm_of(projection) is not None


def shape_of(layer: LayerLayout, projection: Projection) -> tuple[int, int]:
    """[out, in], of experts that of the stack."""
    place = layer.slots.get(projection)
    if place is not None:
        return place.shape
    return layer.slots[Projection.O].shape[0], layer.slots[Projection.V].shape[1]


def rank_of(layer: LayerLayout, projection: Projection) -> int:
    """The most that a projection's rank can be."""
    return min(side for shape in factors(layer, projection) for side in shape)


def _exact(shape: tuple[int, int]) -> int:
    """The exact path: its result in float32, then in float64 the matrix, and twice what comes out."""
    long, short = max(shape), min(shape)
    return 4 * (long + short) * short + 8 * (3 * long + 2 * short) * short


def _exact_product(shape: tuple[int, int], rank: int) -> int:
    """The exact path of a product: results in float32 and float64, factors made orthonormal, and a core."""
    return 4 * rank * sum(shape) + 20 * rank * sum(shape) + 40 * rank**2


def process_bytes(*, on_cpu: bool) -> int:
    """What the process takes before the first weight."""
    return PROCESS_BYTES if on_cpu else PROCESS_BYTES + DEVICE_BYTES


def default_ceiling(demand: Demand, *, full: bool) -> int:
    """What is kept to where no ceiling was given: with `full`, half of the machine's memory."""
    return physical_memory() // 2 if full else int(FACTOR * demand.single) + ALLOWANCE


def physical_memory() -> int:
    """Bytes of memory this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
