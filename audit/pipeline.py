"""The work itself: visit the layers in the planned order, and measure each projection as it comes.

One layer is in memory at a time; what leaves here are a few vectors and numbers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from audit import continuity
from audit.checkpoint import TensorReader
from audit.errors import SelectionError
from audit.linear_map import LinearMap
from audit.plan import AuditPlan, Visit, planned_reads
from audit.projections import LayerMaps, compute_dtype, part_of
from audit.svd import Factorisation, Triplets, factorise, leading, leading_of
from registry import Projection

Problem = Literal["nan", "inf", "zero"]

_COMFORTABLE = (1e-12, 1e12)
"""Magnitudes whose squares float32 holds; others are scaled, in float64."""

_TIE = 1e-10
"""Singular values closer than this, relative to the largest, count as tied."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """What the exact path adds to a layer: all singular values [r], and WA with the previous layer.

    `wa_v`, `wa_u` are None for the first layer, or where exact ties leave WA undefined (`tied`), or where
    the two layers' spaces differ in dimension.
    """

    sigma: Tensor
    wa_v: float | None = None
    wa_u: float | None = None
    tied: bool = False


@dataclass(frozen=True, eq=False)
class Measured:
    """One projection of one layer, measured; `triplets` is None where `problem` says why.

    `peak` is the largest magnitude in it (of OV an upper bound).
    """

    projection: Projection
    layer: int
    shape: tuple[int, int]
    peak: float
    problem: Problem | None = None
    triplets: Triplets | None = None
    stable_rank: float | None = None
    spectrum: Spectrum | None = None


class Pipeline:
    """Runs a plan on a device; iterate over it to get each measurement as it is made."""

    def __init__(self, plan: AuditPlan, device: torch.device) -> None:
        """Nothing is read yet."""
        self.plan = plan
        self.device = device
        self.dtype = compute_dtype(set(plan.stored_dtypes)) if device.type != "mps" else torch.float32
        self.bytes_read = 0
        self._previous: tuple[Projection, Factorisation] | None = None

    def __iter__(self) -> Iterator[Measured]:
        """The measurements in the order of the plan's visits."""
        planned = planned_reads(self.plan.visits, self.plan.options.fold_norm)
        with TensorReader(self.plan.checkpoint, planned) as reader, torch.inference_mode():

            def read(name: str) -> Tensor:
                return reader.read(name).to(self.device).to(self.dtype)

            for visit in self.plan.visits:
                yield from self._visit(
                    visit,
                    LayerMaps(
                        visit.layer,
                        visit.projections,
                        self.plan.layout.heads,
                        self.plan.options.fold_norm,
                        read,
                    ),
                )
                self.bytes_read = reader.bytes_read

    def identical(self, projection: Projection, first: int, second: int) -> bool:
        """Whether two layers hold the same stored numbers in a projection: both are read again, whole."""
        slots = [layer.slots[projection] for layer in self.plan.layers if layer.index in (first, second)]
        with TensorReader(self.plan.checkpoint, [slot.tensor for slot in slots]) as reader:
            one, other = (part_of(reader.read(slot.tensor), slot) for slot in slots)
            self.bytes_read += reader.bytes_read
        return one.shape == other.shape and bool((one == other).all())

    def _visit(self, visit: Visit, maps: LayerMaps) -> Iterator[Measured]:
        for projection in visit.projections:
            yield self._measure(projection, visit.layer.index, maps.take(projection))

    def _measure(self, projection: Projection, layer: int, linear_map: LinearMap) -> Measured:
        peak = linear_map.peak()
        measured = Measured(projection, layer, linear_map.shape, peak)
        if peak != peak:
            return replace(measured, problem="nan")
        if peak == float("inf"):
            return replace(measured, problem="inf")
        scale = 1.0
        if not _COMFORTABLE[0] < peak < _COMFORTABLE[1]:
            linear_map, scale = linear_map.double().normalised()
        energy = linear_map.frobenius_squared()
        if energy == 0 or scale == 0:
            return replace(measured, problem="zero")
        if self.plan.options.full:
            triplets, spectrum = self._exactly(projection, linear_map)
        else:
            name = f"{projection}.{layer}"
            triplets, spectrum = leading(linear_map, self.plan.options.k, name), None
        return replace(
            measured,
            triplets=_settled(triplets, scale, self.dtype),
            stable_rank=continuity.stable_rank(energy, float(triplets.sigma[0])),
            spectrum=replace(spectrum, sigma=spectrum.sigma * scale) if spectrum else None,
        )

    def _exactly(self, projection: Projection, linear_map: LinearMap) -> tuple[Triplets, Spectrum]:
        found = factorise(linear_map)
        triplets = leading_of(found, linear_map, self.plan.options.k)
        spectrum = Spectrum(found.sigma, tied=_has_ties(found.sigma))
        if self._previous is not None and self._previous[0] is projection:
            earlier = self._previous[1]
            if not (spectrum.tied or _has_ties(earlier.sigma)):
                spectrum = replace(
                    spectrum,
                    wa_v=_weighted(earlier.sigma, earlier.v, found.v),
                    wa_u=_weighted(earlier.sigma, earlier.u, found.u),
                )
        kept = Factorisation(found.sigma, found.v.to(self.dtype), found.u.to(self.dtype))
        self._previous = (projection, kept)
        return triplets, spectrum


def _weighted(sigma: Tensor, first: Tensor, second: Tensor) -> float | None:
    if first.shape[1] != second.shape[1]:
        return None
    return continuity.sigma_weighted_alignment(sigma.to(first.device), first, second.to(first.dtype))


def _has_ties(sigma: Tensor) -> bool:
    close = (sigma[:-1] - sigma[1:]) <= _TIE * sigma[0]
    return bool((close & (sigma[1:] > 1e-4 * sigma[0])).any())


def _settled(triplets: Triplets, scale: float, dtype: torch.dtype) -> Triplets:
    """The triplets at their true scale, on the CPU, in the precision they are kept in; bounds allow for it.

    Copies, since a slice would keep a whole factorisation alive.
    """
    v, u = (vectors.to("cpu", dtype, copy=True) for vectors in (triplets.v, triplets.u))
    bound = (triplets.bound + torch.finfo(dtype).eps).clamp(max=1.0)
    return Triplets(triplets.sigma * scale, v, u, triplets.residual * scale, bound)


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
