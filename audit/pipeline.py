"""The work itself: workers take tasks, and measure each projection as its weights come.

Each worker reads, uploads and measures on its own, so that one reads while another computes, and on a CUDA
device one copies, on a stream of its own, while another's kernels run. A worker holds one projection at a
time, of experts one; what leaves here are a few vectors and numbers. On a CPU a matrix is one thread's work
wherever there are as many tasks as threads, so that the numbers do not depend on how many threads there are.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from queue import Empty, SimpleQueue
from threading import Event, Thread

import torch
from torch import Tensor

from audit.checkpoint import TensorReader
from audit.checkpoint.origin import Heard
from audit.errors import SelectionError
from audit.measure import Measured, Measurer
from audit.memory import Use
from audit.plan import AuditPlan, Place, Task, Visit, pending, planned_reads, workers_for
from audit.projections import LayerMaps, compute_dtype, in_arithmetic, part_of, slots_of
from audit.threads import awaited, threads
from registry import Projection, Read, Slot


class Pipeline:
    """Carries out a plan's tasks on a device, `workers` of them at a time: see workers_for."""

    def __init__(
        self,
        plan: AuditPlan,
        device: torch.device,
        workers: int | None = None,
        heard: Heard = lambda count: None,
    ) -> None:
        """Nothing is read yet; raises SelectionError where --max-memory is too little.

        `heard` is told of bytes as they are read.
        """
        self.plan = plan
        self.device = device
        self.dtype = compute_dtype(set(plan.stored_dtypes)) if device.type != "mps" else torch.float32
        self.workers = workers or workers_for(plan, device.type, torch.get_num_threads())
        self._heard = heard
        self._readers: list[TensorReader] = []

    @property
    def bytes_read(self) -> int:
        """So far."""
        return sum(reader.bytes_read for reader in self._readers)

    def measure(self, tasks: Sequence[Task], known: Mapping[Place, Measured]) -> Iterator[Measured]:
        """Each measurement as it is made, those that are `known` already left out; raises what a task raises.

        Those of one task come in its order, tasks in any.
        """
        left = [task for task in tasks if any(place not in known for place in task.places)]
        if self.plan.checkpoint.streamed and not self.plan.options.full:
            left.sort(key=self._lies)
        visits = [visit for task in left for visit in pending(task, known, self.plan.options.full)]
        with self._reader(planned_reads(visits, self.plan.options)) as reader:
            # by all tasks, not those left: the threads that a matrix gets must not follow from what is known
            workers = min(self.workers, len(tasks))
            if workers > 1:
                yield from self._side_by_side(reader, left, known, workers)
            else:
                with self._settings(torch.get_num_threads()):
                    for task in left:
                        yield from self._carry_out(reader, task, known)

    def _reader(self, planned: Iterable[Read]) -> TensorReader:
        self._readers.append(TensorReader(self.plan.checkpoint, planned, self._heard))
        return self._readers[-1]

    def _lies(self, task: Task) -> tuple[str, int]:
        """Where the first tensor of a task is: files are streamed one after the other, from front to back."""
        read = next(planned_reads(task.visits, self.plan.options))
        stored = self.plan.checkpoint.tensors[read.tensor]
        return stored.file.name, stored.entry.start

    def _side_by_side(
        self, reader: TensorReader, tasks: Sequence[Task], known: Mapping[Place, Measured], workers: int
    ) -> Iterator[Measured]:
        share = max(1, torch.get_num_threads() // workers)
        waiting: SimpleQueue[Task] = SimpleQueue()
        results: SimpleQueue[Measured | BaseException | None] = SimpleQueue()
        stop = Event()

        def work() -> None:
            try:
                with self._settings(share):
                    while not stop.is_set():
                        for measured in self._carry_out(reader, waiting.get_nowait(), known):
                            results.put(measured)
                            if stop.is_set():
                                break
            except Empty:
                results.put(None)
            except BaseException as error:  # it is raised again where the results are taken
                results.put(error)

        for task in tasks:
            waiting.put(task)
        try:
            for _ in range(workers):
                # daemons: one in the middle of a factorisation must not hold up a program that was stopped
                Thread(target=work, daemon=True).start()
            while workers:
                match awaited(results):
                    case None:
                        workers -= 1
                    case BaseException() as error:
                        raise error
                    case measured:
                        yield measured
        finally:
            stop.set()

    def _carry_out(
        self, reader: TensorReader, task: Task, known: Mapping[Place, Measured]
    ) -> Iterator[Measured]:
        options = self.plan.options
        measurer = Measurer(options.k, options.full, self.dtype)

        def read(one: Read) -> Tensor:
            if self.device.type == "cpu":
                return reader.read(one)  # as stored: passes over it are limited by the memory's speed
            cuda = self.device.type == "cuda"
            return in_arithmetic(reader.read(one, pinned=cuda).to(self.device, non_blocking=cuda))

        def maps(visit: Visit, wanted: tuple[Projection, ...]) -> LayerMaps:
            return LayerMaps(visit.layer, wanted, options.fold_norm, read)

        before, alone = task.before, options.full and task.before is None and len(task.visits) == 1
        for visit in task.visits:
            wanted = tuple(one for one in visit.projections if visit.place(one) not in known)
            taken = maps(visit, wanted)
            reader.expect(dict.fromkeys(planned_reads([visit], options)))
            for projection in wanted:
                if options.full and before is not None and not measurer.remembers(before.place(projection)):
                    measurer.recall(
                        before.place(projection), maps(before, before.projections).take(projection)
                    )
                yield measurer.measure(visit.place(projection), taken.take(projection), alone=alone)
            before = visit

    def use(self, peak: int) -> Use:
        """What the work was planned to take of this machine's memory, where `peak` is what it took."""
        planned = self.plan.demand(on_cpu=self.device.type == "cpu").at(self.workers)
        return Use(peak, planned, self.workers, self.plan.options.ceiling)

    @contextmanager
    def _settings(self, count: int) -> Iterator[None]:
        """What holds for a thread that measures: no gradients, its share of cores, a stream of its own."""
        cuda = self.device.type == "cuda"
        stream = torch.cuda.stream(torch.cuda.Stream(self.device)) if cuda else nullcontext()  # type: ignore[no-untyped-call]
        with threads(count), torch.inference_mode(), stream:
            yield

    def identical(self, first: Place, second: Place, experts: tuple[int, int] | None = None) -> bool:
        """Whether two places hold the same stored numbers, or two of their experts: read again, whole."""
        here, there = self._slots(first), self._slots(second)
        if experts is not None:
            here, there = here[experts[0] : experts[0] + 1], there[experts[1] : experts[1] + 1]
        if [slot.shape for slot in here] != [slot.shape for slot in there]:
            return False
        slots = list(zip(here, there, strict=True))
        with self._reader(slot.read for pair in slots for slot in pair) as reader:
            return all(
                torch.equal(*(part_of(reader.read(slot.read), slot) for slot in pair)) for pair in slots
            )

    def _slots(self, place: Place) -> tuple[Slot, ...]:
        stack = next(stack for stack in self.plan.stacks if stack.label == place.stack)
        layer = next(layer for layer in stack.layers if layer.index == place.layer)
        return slots_of(layer.slots[place.projection])


def resolve_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda`, `cuda:1` or `mps` as a device that is there; raises SelectionError."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not (kind == "cuda" and number.isdecimal())):
        raise SelectionError(f"--device {name!r}", "choose auto, cpu, cuda, cuda:N or mps")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise SelectionError(
            f"--device {name}: there are {torch.cuda.device_count()} CUDA devices here", "use auto"
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise SelectionError("--device mps: this machine has no Metal device", "use auto")
    return torch.device(name)
