"""The work itself: visit the layers in the planned order, and measure each projection as it comes.

One layer is in memory at a time, of its experts one; what leaves here are a few vectors and numbers.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from audit.checkpoint import TensorReader
from audit.errors import SelectionError
from audit.measure import Measured, Measurer, Place
from audit.plan import AuditPlan, planned_reads
from audit.projections import LayerMaps, compute_dtype, part_of, slots_of
from registry import Read, Slot


class Pipeline:
    """Runs a plan on a device; iterate over it to get each measurement as it is made."""

    def __init__(self, plan: AuditPlan, device: torch.device) -> None:
        """Nothing is read yet."""
        self.plan = plan
        self.device = device
        self.dtype = compute_dtype(set(plan.stored_dtypes)) if device.type != "mps" else torch.float32
        self.bytes_read = 0

    def __iter__(self) -> Iterator[Measured]:
        """The measurements in the order of the plan's visits."""
        options = self.plan.options
        planned = planned_reads(self.plan.visits, options.fold_norm)
        measurer = Measurer(options.k, options.full, self.dtype)
        with TensorReader(self.plan.checkpoint, planned) as reader, torch.inference_mode():

            def read(one: Read) -> Tensor:
                return reader.read(one).to(self.device).to(self.dtype)

            for visit in self.plan.visits:
                maps = LayerMaps(visit.layer, visit.projections, options.fold_norm, read)
                for projection in visit.projections:
                    place = Place(visit.stack, projection, visit.layer.index)
                    yield measurer.measure(place, maps.take(projection))
                self.bytes_read = reader.bytes_read

    def identical(self, first: Place, second: Place, experts: tuple[int, int] | None = None) -> bool:
        """Whether two places hold the same stored numbers, or two of their experts: read again, whole."""
        here, there = self._slots(first), self._slots(second)
        if experts is not None:
            here, there = here[experts[0] : experts[0] + 1], there[experts[1] : experts[1] + 1]
        if [slot.shape for slot in here] != [slot.shape for slot in there]:
            return False
        slots = list(zip(here, there, strict=True))
        with TensorReader(self.plan.checkpoint, [slot.read for pair in slots for slot in pair]) as reader:
            same = all(
                torch.equal(*(part_of(reader.read(slot.read), slot) for slot in pair)) for pair in slots
            )
            self.bytes_read += reader.bytes_read
        return same

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
