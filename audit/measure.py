"""Measure one projection of one layer: its leading triplets, its energy, and with --full its whole
spectrum."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import prod
from typing import Literal

import torch
from torch import Tensor

from audit import continuity
from audit.experts import ExpertStack
from audit.linear_map import Dense, LinearMap
from audit.plan import Place
from audit.svd import (
    DOUBT,
    SMALL,
    Factorisation,
    Triplets,
    doubt,
    factorise,
    gram_of,
    leading,
    leading_of,
    leading_of_spectrum,
    leading_of_stack,
    spectrum_of,
    values_and_leading,
)
from registry import Projection

Problem = Literal["nan", "inf", "zero"]

_COMFORTABLE = (1e-12, 1e12)
"""Magnitudes whose squares float32 holds; others are scaled, in float64."""

EXACT = 1e-12
"""A rounding unit above this is float32's."""

_TIE = 1e-10
"""Singular values closer than this, relative to the largest, count as tied."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """What the exact path adds to a layer: all singular values [r], and WA with the previous layer.

    `wa_v`, `wa_u` are None for the first layer, or where exact ties leave WA undefined (`tied`), or where
    the two layers' spaces differ in dimension or one is not defined.
    """

    sigma: Tensor
    wa_v: float | None = None
    wa_u: float | None = None
    tied: bool = False


@dataclass(frozen=True, eq=False)
class Expert:
    """One expert of a stack: its largest magnitude and energy, sigma1, and v1 [d] on the residual's side.

    `problem` says why the last two are None.
    """

    peak: float
    energy: float
    problem: Problem | None = None
    sigma1: float | None = None
    vector: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Measured:
    """One projection of one layer, measured; `triplets` is None where `problem` says why.

    `peak` is the largest magnitude in it (of a product, of its factors multiplied); `experts` has one entry
    an expert of a stack.
    """

    place: Place
    shape: tuple[int, int]
    peak: float
    problem: Problem | None = None
    triplets: Triplets | None = None
    stable_rank: float | None = None
    spectrum: Spectrum | None = None
    experts: tuple[Expert, ...] | None = None

    @property
    def projection(self) -> Projection:
        """Which projection it is."""
        return self.place.projection

    @property
    def layer(self) -> int:
        """Of which layer."""
        return self.place.layer


@dataclass(eq=False)
class Earlier:
    """The layer before, that the next one is compared with: its factorisation, None where it has none.

    `again` makes it anew in float64, which is done once at most, where float32 leaves a doubt.
    """

    place: Place
    found: Factorisation | None
    again: Callable[[], Factorisation] | None = None

    @cached_property
    def precise(self) -> Factorisation:
        """The factorisation in float64."""
        assert self.found is not None
        return self.again() if self.again else self.found


class Measurer:
    """Measures maps one after the other; with `full` it holds the factorisation before, to compare with."""

    def __init__(self, k: int, full: bool, dtype: torch.dtype) -> None:
        """`dtype` is the one that vectors are kept in."""
        self._k = k
        self._full = full
        self._dtype = dtype
        self._earlier: Earlier | None = None

    def measure(self, place: Place, linear_map: LinearMap | ExpertStack, *, alone: bool = False) -> Measured:
        """One projection; NaN, infinite and all-zero ones come back with their problem.

        With `alone` it is compared with no other: then its singular values do, without their vectors.
        """
        if isinstance(linear_map, ExpertStack):
            measured = self._stack(place, linear_map)
        else:
            measured = self._matrix(place, linear_map, alone)
        if self._full and measured.problem is not None:
            self._earlier = Earlier(place, None)
        return measured

    def _matrix(self, place: Place, linear_map: LinearMap, alone: bool) -> Measured:
        peak, energy = linear_map.survey()
        measured = Measured(place, linear_map.shape, peak)
        if problem := _problem(peak):
            return replace(measured, problem=problem)
        linear_map, scale, energy = _comfortable(linear_map, peak, energy)
        if energy == 0 or scale == 0:
            return replace(measured, problem="zero")
        name, spectrum = f"{place.projection}.{place.layer}", None
        if not self._full:
            triplets = leading(linear_map, self._k, name)
        elif alone:
            sigma, triplets = values_and_leading(linear_map, self._k, name)
            spectrum = Spectrum(sigma * scale, tied=_has_ties(sigma))
        else:
            found = factorise(linear_map)
            again = partial(factorise, linear_map.double()) if found.eps > EXACT else None
            triplets = leading_of(found, linear_map, self._k)
            spectrum = self._spectrum(Earlier(place, found, again), scale)
        return replace(
            measured,
            triplets=_settled(triplets, scale, self._dtype),
            stable_rank=continuity.stable_rank(energy, float(triplets.sigma[0])),
            spectrum=spectrum,
        )

    def remembers(self, place: Place) -> bool:
        """Whether the factorisation at hand, that the next one is compared with, is of this place."""
        return self._earlier is not None and self._earlier.place == place

    def recall(self, place: Place, linear_map: LinearMap | ExpertStack) -> None:
        """Take up the factorisation of a place that was measured before."""
        self.measure(place, linear_map)

    def _stack(self, place: Place, stack: ExpertStack) -> Measured:
        name, spectrum = f"{place.projection}.{place.layer}", None
        experts = tuple(
            self._expert(expert, f"{name}.{index}") for index, expert in enumerate(stack.readers())
        )
        peak = max((one.peak for one in experts), key=lambda value: (value != value, value))
        measured = Measured(place, stack.shape, peak, experts=experts)
        if problem := _problem(peak) or ("zero" if peak == 0 else None):
            return replace(measured, problem=problem)
        # an expert that holds nothing adds nothing
        alive = [(slot, one) for slot, one in zip(stack.slots, experts, strict=True) if one.problem is None]
        stack = replace(stack, slots=tuple(slot for slot, _ in alive))
        if self._full:
            sigma, vectors = spectrum_of(gram_of(stack.readers(), stack.hidden))
            triplets = leading_of_spectrum(stack, sigma, vectors, self._k)
            empty = vectors[:, :0]
            v, u = (vectors, empty) if stack.facing == "v" else (empty, vectors)
            spectrum = self._spectrum(Earlier(place, Factorisation(sigma, v, u)), 1.0)
        else:
            precisely = prod(stack.shape) <= SMALL or not all(_is_comfortable(one.peak) for _, one in alive)
            triplets = leading_of_stack(stack, self._k, name, precisely=precisely)
        return replace(
            measured,
            triplets=_settled(triplets, 1.0, self._dtype),
            stable_rank=continuity.stable_rank(sum(one.energy for one in experts), float(triplets.sigma[0])),
            spectrum=spectrum,
        )

    def _expert(self, expert: Dense, name: str) -> Expert:
        peak, energy = expert.survey()
        if problem := _problem(peak):
            return Expert(peak, float("nan"), problem)
        if peak == 0:
            return Expert(peak, 0.0, "zero")
        linear_map, scale, energy = _comfortable(expert, peak, energy)
        energy *= scale**2
        triplets = leading(linear_map, 1, name)
        assert triplets.v is not None
        vector = triplets.v[0].to("cpu", self._dtype, copy=True)
        return Expert(peak, energy, None, float(triplets.sigma[0]) * scale, vector)

    def _spectrum(self, here: Earlier, scale: float) -> Spectrum:
        assert here.found is not None
        spectrum = Spectrum(here.found.sigma * scale, tied=_has_ties(here.found.sigma))
        before = self._earlier
        if before and before.found and not (spectrum.tied or _has_ties(before.found.sigma)):
            wa_v, wa_u = _weighted(before, before.found, here, here.found)
            spectrum = replace(spectrum, wa_v=wa_v, wa_u=wa_u)
        self._earlier = here
        return spectrum


def _weighted(
    before: Earlier, first: Factorisation, here: Earlier, second: Factorisation
) -> tuple[float | None, float | None]:
    """WA in both spaces, from float64 where the float32 factorisations leave too much doubt."""
    if max(first.eps, second.eps) > EXACT and doubt(first, second) > DOUBT:
        first, second = before.precise, here.precise
    return _wa(first.sigma, first.v, second.v), _wa(first.sigma, first.u, second.u)


def _wa(sigma: Tensor, first: Tensor, second: Tensor) -> float | None:
    if first.shape[1] != second.shape[1] or first.shape[1] == 0:
        return None
    return continuity.sigma_weighted_alignment(sigma.to(first.device), first, second.to(first.dtype))


def _problem(peak: float) -> Problem | None:
    if peak != peak:
        return "nan"
    return "inf" if peak == float("inf") else None


def _comfortable(linear_map: LinearMap, peak: float, energy: float) -> tuple[LinearMap, float, float]:
    """The map at a scale whose squares can be summed, the factor that leads back, and its energy there."""
    if _is_comfortable(peak):
        return linear_map, 1.0, energy
    scaled, scale = linear_map.double().normalised()
    return scaled, scale, scaled.frobenius_squared()


def _is_comfortable(peak: float) -> bool:
    return _COMFORTABLE[0] < peak < _COMFORTABLE[1]


def _has_ties(sigma: Tensor) -> bool:
    close = (sigma[:-1] - sigma[1:]) <= _TIE * sigma[0]
    return bool((close & (sigma[1:] > 1e-4 * sigma[0])).any())


def _settled(triplets: Triplets, scale: float, dtype: torch.dtype) -> Triplets:
    """The triplets at their true scale, on the CPU, in the precision they are kept in; bounds allow for it.

    Copies, since a slice would keep a whole factorisation alive.
    """
    v, u = (
        None if vectors is None else vectors.to("cpu", dtype, copy=True)
        for vectors in (triplets.v, triplets.u)
    )
    eps = torch.finfo(dtype).eps
    return replace(
        triplets,
        sigma=triplets.sigma * scale,
        v=v,
        u=u,
        residual=triplets.residual * scale,
        gap=triplets.gap * scale,
        bound=(triplets.bound + eps).clamp(max=1.0),
        plane_bound=min(1.0, triplets.plane_bound + eps),
    )
