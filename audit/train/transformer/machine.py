"""What a run is trained on: one process or several, each with a device, through accelerate."""

import gc
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from importlib import import_module
from traceback import clear_frames
from types import TracebackType
from typing import Any, Self

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, broadcast_object_list
from torch import Tensor, nn
from torch.distributed import DistError

from audit.errors import AuditError, PeerError
from audit.peak import physical_memory
from audit.processes.seat import find_seat

CPU_ROWS = 16
"""Windows that go through the model at a time on a CPU: a batch's logits are gigabytes."""

GRACE = 10.0
"""Seconds that a process which has lost another waits for the launcher to end it."""


class Machine:
    """The processes that train together, and how each does its share.

    Every process has its own copy of the model, and a share of each batch; gradients are averaged. Rank 0
    leads: it measures and writes. It is a context, at whose end the processes part. What waits for the others
    raises PeerError where one of them has ended.
    """

    def __init__(
        self, device: torch.device, *, micro_batch: int | None = None, compiled: bool = False
    ) -> None:
        """`micro_batch`: windows a process puts through at a time, None for what suits the device."""
        alone = find_seat().size == 1
        if not alone:
            # its functions' defaults are the group that there is when it is loaded, which then never ends
            import_module("torch.distributed.nn")
        # precision and compilation are the loop's own matter: no setting of the launcher's changes numbers
        self._accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no", dynamo_backend="no")
        self.device = device if alone else self._accelerator.device
        self.size: int = self._accelerator.num_processes
        self.rank: int = self._accelerator.process_index
        self._compiled = compiled
        self._micro_batch = micro_batch

    @property
    def leads(self) -> bool:
        """Whether this process measures and writes."""
        return self.rank == 0

    @property
    def memory(self) -> float:
        """Bytes that a process can have at most."""
        if self.device.type == "cuda":
            return float(torch.cuda.get_device_properties(self.device).total_memory)
        return physical_memory()

    @property
    def name(self) -> str:
        """The device, as its maker calls it, and how many of them."""
        one = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type
        return one if self.size == 1 else f"{self.size} x {one}"

    def take(self) -> None:
        """Make the device the present thread's own."""
        if self.device.type == "cuda" and self.device.index is not None:
            torch.cuda.set_device(self.device)

    def share(self, batch_size: int) -> slice:
        """Which rows of a batch are this process's."""
        return slice(self.rank, batch_size, self.size)

    def rows_at_a_time(self, rows: int) -> int:
        """How many of its rows a process puts through at a time."""
        return self._micro_batch or (CPU_ROWS if self.device.type == "cpu" else rows)

    def prepared(self, model: nn.Module) -> Any:
        """The model as it is called in training: its gradients averaged over processes, and compiled."""
        with reaching():
            prepared = self._accelerator.prepare_model(model, device_placement=False)
        return torch.compile(prepared) if self._compiled else prepared

    def autocast(self, *, bf16: bool) -> AbstractContextManager[Any]:
        """Products in bf16 where asked for; everything else in float32."""
        if not bf16:
            return nullcontext()
        context: AbstractContextManager[Any] = torch.autocast(self.device.type, torch.bfloat16)
        return context

    def without_averaging(self, model: Any) -> AbstractContextManager[Any]:
        """Within, gradients are added up and not yet averaged over processes."""
        context: AbstractContextManager[Any] = self._accelerator.no_sync(model)
        return context

    def mean(self, values: Tensor) -> Tensor:
        """The mean over processes, on each."""
        with reaching():
            reduced: Tensor = self._accelerator.reduce(values, reduction="mean")
        return reduced

    def told(self, value: Any) -> Any:
        """What rank 0 has, on every process."""
        with reaching():
            return value if self.size == 1 else broadcast_object_list([value])[0]

    def spread(self, tensor: Tensor) -> Tensor:
        """Rank 0's tensor, on every process."""
        with reaching():
            sent: Tensor = tensor if self.size == 1 else broadcast(tensor)
        return sent

    @contextmanager
    def first_of_each_host(self) -> Iterator[None]:
        """Let one process of each machine through, then the others."""
        with reaching(), self._accelerator.local_main_process_first():
            yield

    def __enter__(self) -> Self:
        """The processes have met already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Part from the other processes, unless this one failed: they may be waited for in vain.

        One that has lost another waits a while: it is the other one's reason that the launcher is to hear
        first, and it ends the rest then.
        """
        if isinstance(error, PeerError):
            with suppress(KeyboardInterrupt):
                time.sleep(GRACE)
        elif kind is None or issubclass(kind, AuditError | KeyboardInterrupt):
            clear_frames(traceback)  # the model is among what they hold, and the group with it
            self._part()

    def _part(self) -> None:
        """End the threads of the process group, which outlive all that uses it.

        One that is still there when Python ends may want the interpreter, and abort the process.
        """
        self._accelerator.free_memory()
        self._accelerator.end_training()
        gc.collect()


@contextmanager
def reaching() -> Iterator[None]:
    """Raise PeerError in place of what torch raises where a connection to another process has closed."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, DistError) or "gloo" in str(error):  # gloo's own are plain RuntimeErrors
            raise PeerError("another process of this training ended") from error
        raise
