"""A key for every measurement of an audit: the same key means the same numbers, so that none is made twice.

In it is all that the numbers follow from: versions, settings, what the matrix is made of, and for each tensor
where it lies and what identifies its file.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import sha256

import torch

from audit.checkpoint import Checkpoint, ShardFile
from audit.errors import TruncatedError
from audit.plan import AuditPlan, Place, Visit
from audit.projections import reads_of
from audit.provenance import header_digest, version
from registry import Layout, Projection

FORMAT = 1
"""Counts up when measurements are made or kept in another way within one version."""


def keys_of(plan: AuditPlan, device: torch.device, dtype: torch.dtype) -> Mapping[Place, str]:
    """Each place that the plan measures, with its key; `dtype` is what the device computes in.

    With --full a layer is compared with the one before, so that one is in the key too, or that it is alone.
    Raises TruncatedError for a file that is gone.
    """
    options = plan.options
    common = (FORMAT, version(), str(torch.__version__), device.type, str(dtype))
    settings = (options.full, options.fold_norm, options.k)
    made_of = _Contents(plan.checkpoint, options.fold_norm)
    keys: dict[Place, str] = {}
    for task in plan.tasks:
        before = "alone" if options.full and len(task.visits) == 1 else None
        for visit in task.visits:
            for projection in visit.projections:
                own = _digest(made_of(visit, projection))
                keys[visit.place(projection)] = _digest((common, settings, own, before))
                before = own if options.full else None
    return keys


def layout_digest(layout: Layout) -> str:
    """What identifies a layout: where every projection lies, and what became of every tensor."""
    return _digest(layout)


class _Contents:
    """What a projection is made of: its declaration, its tensors, and their files."""

    def __init__(self, checkpoint: Checkpoint, fold_norm: bool) -> None:
        self._checkpoint = checkpoint
        self._fold_norm = fold_norm
        self._identity = cache(self._identify)

    def __call__(self, visit: Visit, projection: Projection) -> object:
        layer = visit.layer
        parts = (Projection.V, Projection.O) if projection is Projection.OV else (projection,)
        slots = [layer.slots[part] for part in parts]
        norms = [layer.norm_of(part) for part in parts] if self._fold_norm else []
        heads = layer.heads if projection is Projection.OV else None
        return visit.place(projection), slots, norms, heads, list(self._tensors(visit, projection))

    def _tensors(self, visit: Visit, projection: Projection) -> Iterator[object]:
        reads = reads_of(visit.layer, projection, self._fold_norm)
        for name in dict.fromkeys(read.tensor for read in reads):
            stored = self._checkpoint.tensors[name]
            yield name, stored.entry, self._identity(stored.file)

    def _identify(self, file: ShardFile) -> object:
        """The content hash the Hub gives a file, or of a local one what changes when it is written."""
        if file.etag is not None:
            return file.etag
        if file.path is None or self._checkpoint.source == "hub":
            return self._checkpoint.id, self._checkpoint.revision, file.name
        try:
            return file.name, file.size, file.path.stat().st_mtime_ns, header_digest(file.path)
        except OSError as error:
            raise TruncatedError(f"{file.name} cannot be opened any more", error.strerror or "") from error


def _digest(value: object) -> str:
    return sha256(repr(value).encode()).hexdigest()
