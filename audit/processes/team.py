"""Who makes an audit: a process alone, or several; what each of them can be asked."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from reports.model import Provenance

if TYPE_CHECKING:
    import torch

    from audit.measure import Measured
    from audit.pipeline import Pipeline
    from audit.plan import Place

T = TypeVar("T")


@dataclass(frozen=True)
class Effort:
    """What a process's share took: bytes read, the most memory (resident, and anonymous), a device's name."""

    bytes_read: int
    resident: int
    anonymous: int
    device: str


class Team:
    """The processes of an audit; this very class is a process alone, which leads itself.

    `others` are the efforts of the other processes, once all is measured.
    """

    leads = True
    size = 1
    others: tuple[Effort, ...] = ()

    def in_turn(self, work: Callable[[], T]) -> T:
        """Do it: the first process of each machine before the others, who find what it fetched in a cache."""
        return work()

    def device(self, name: str) -> "torch.device":
        """The device that `--device` means for this process; raises SelectionError."""
        from audit.pipeline import resolve_device

        return resolve_device(name)

    def measure(self, pipeline: "Pipeline", known: "Mapping[Place, Measured]") -> "Iterator[Measured]":
        """What all processes measure of a plan, as it comes; what is known already is left out."""
        return pipeline.measure(pipeline.plan.tasks, known)

    def assist(self, prepare: "Callable[[], Pipeline]") -> None:
        """Measure a share for the process that leads, if that has work to do."""
        raise AssertionError("a process alone leads")

    @property
    def bytes_read(self) -> int:
        """What the other processes have read."""
        return 0

    def signed(self, origin: Provenance) -> Provenance:
        """This process's provenance, with what the others had to do with it."""
        if not self.others:
            return origin
        devices = Counter([origin.device_name, *(effort.device for effort in self.others)])
        resident = [origin.peak_memory_bytes or 0, *(effort.resident for effort in self.others)]
        anonymous = [origin.peak_anonymous_bytes or 0, *(effort.anonymous for effort in self.others)]
        return replace(
            origin,
            processes=self.size,
            device_name=", ".join(f"{count} × {name}" for name, count in devices.items()),
            peak_memory_bytes=max(resident),
            peak_anonymous_bytes=max(anonymous),
        )


ALONE = Team()
