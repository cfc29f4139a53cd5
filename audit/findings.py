"""What a reader should know about single places in the weights: broken, empty, doubled, torn or untrained.

Each rule reads what was measured anyway. Thresholds are the constants below, and README lists the codes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import cbrt, sqrt
from statistics import median

from audit.measure import Measured
from audit.plan import Place
from registry import Projection
from reports.model import Finding, Pair, ProjectionReport
from reports.view import null_deviation, spans

Identical = Callable[[Place, Place, tuple[int, int] | None], bool]
"""Whether two places, or one expert of each, hold the same stored numbers."""

Series = Mapping[Projection, Sequence[Measured]]

RANK_ONE = 1e-5
"""Share of the energy outside the leading direction below which a matrix counts as rank one.

Rounding a rank-one matrix to bfloat16 leaves about 4e-6 outside.
"""

NOISE_SIZE = 32
"""The smallest side for which the asymptotic law of sigma1 is trusted."""

TRACY_WIDOM = (-3.8954, 3.2724)
"""The 1% and 99.9% quantiles of the Tracy-Widom law of order 1: noise lies between."""

NEIGHBOURS = 4
"""Pairs on either side that a pair is compared with; fewer than this many in all are too few to judge."""

FAR = 5.0
"""Robust standard deviations (1.4826 MAD, of the neighbours and of all other pairs) below the neighbours'
median that make a pair weak."""

LOST = 0.5
"""Share of its neighbours' excess over the null that a weak pair falls short of."""

CONTINUOUS = 0.2
"""Share of the way from the null to 1 that the neighbours must have for a pair to be weak beside them."""

DEAD = 1e-4
"""Share of the median expert's norm below which an expert counts as dead."""

_SEVERITIES = ("error", "warning", "info")


def find_all(
    stack: str | None, series: Series, reports: Mapping[str, ProjectionReport], identical: Identical
) -> Iterator[Finding]:
    """Every finding that one stack's measurements give; `identical` compares stored numbers."""
    for finding in _find(series, reports, identical):
        where = f"{stack}: " if stack else ""
        yield replace(finding, stack=stack, message=where + finding.message)


def _find(series: Series, reports: Mapping[str, ProjectionReport], identical: Identical) -> Iterator[Finding]:
    for layers in series.values():
        yield from unmeasurable(layers)
        yield from rank_one(layers)
        yield from noise_like(layers)
        yield from dead_experts(layers)
        yield from duplicate_experts(layers, identical)
    yield from duplicates(series, identical)
    for name, found in reports.items():
        yield from weak_pairs(name, found)


def by_severity(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors first, then warnings, then the rest; otherwise as found."""
    return tuple(sorted(findings, key=lambda finding: _SEVERITIES.index(finding.severity)))


def unmeasurable(layers: Sequence[Measured]) -> Iterator[Finding]:
    """A finding for each layer that could not be measured."""
    words = {"nan": "holds NaN", "inf": "holds infinite values", "zero": "is all zero"}
    for one in layers:
        if one.problem is not None:
            broken = [
                index for index, expert in enumerate(one.experts or ()) if expert.problem == one.problem
            ]
            which = f" (expert {spans(broken)})" if one.experts and len(broken) < len(one.experts) else ""
            message = f"{one.projection} of layer {one.layer} {words[one.problem]}{which}: not measured"
            yield Finding(one.problem, "error", one.projection, one.layer, message)


def dead_experts(layers: Sequence[Measured]) -> Iterator[Finding]:
    """Experts that hold nothing, or next to nothing beside the others."""
    for one in layers:
        known = [expert for expert in one.experts or () if expert.problem in (None, "zero")]
        if not known or one.triplets is None:
            continue
        typical = median(sqrt(expert.energy) for expert in known)
        dead = [
            index
            for index, expert in enumerate(one.experts or ())
            if expert.problem == "zero" or sqrt(expert.energy) < DEAD * typical
        ]
        if dead:
            message = (
                f"{one.projection} of layer {one.layer} has experts that hold next to nothing: "
                f"expert{'s' * (len(dead) > 1)} {spans(dead)} ({len(dead)} of {len(known)})"
            )
            yield Finding("dead-expert", "warning", one.projection, one.layer, message)


def duplicate_experts(layers: Sequence[Measured], identical: Identical) -> Iterator[Finding]:
    """Experts of a layer that hold the same numbers as an earlier one."""
    for one in layers:
        seen: dict[tuple[float, float], int] = {}
        for index, expert in enumerate(one.experts or ()):
            if expert.problem is not None:
                continue
            first = seen.setdefault((expert.peak, expert.energy), index)
            if first != index and identical(one.place, one.place, (first, index)):
                message = (
                    f"{one.projection} of layer {one.layer}: expert {index} is identical to expert {first}"
                )
                yield Finding("duplicate-expert", "warning", one.projection, one.layer, message)


def rank_one(layers: Sequence[Measured]) -> Iterator[Finding]:
    """Matrices that are a single outer product, but for rounding."""
    for one in layers:
        if one.stable_rank is not None and min(one.shape) > 1 and one.stable_rank - 1 < RANK_ONE:
            message = (
                f"{one.projection} of layer {one.layer} has rank one: its rows are multiples of one another"
            )
            yield Finding("rank-one", "warning", one.projection, one.layer, message)


def noise_like(layers: Sequence[Measured]) -> Iterator[Finding]:
    """Matrices whose largest singular value is that of random entries of the same variance, or below it.

    OV is left out: a product of random matrices follows another law.
    """
    for one in layers:
        if one.stable_rank is None or one.projection is Projection.OV or min(one.shape) < NOISE_SIZE:
            continue
        low, high = random_energy_share(*one.shape)
        place, share = f"{one.projection} of layer {one.layer}", 1 / one.stable_rank
        if share < low:
            message = f"no direction leads in {place}: its spectrum is flatter than that of random entries"
            yield Finding("flat-spectrum", "info", one.projection, one.layer, message)
        elif share <= high:
            message = (
                f"nothing stands out of noise in {place}: its sigma1 is that of random entries of the same "
                "variance"
            )
            yield Finding("noise-like", "warning", one.projection, one.layer, message)


def random_energy_share(m: int, n: int) -> tuple[float, float]:
    """Where sigma1^2 / ||W||_F^2 of m x n independent entries lies, but for 1% below and 0.1% above.

    The Marchenko-Pastur edge (sqrt m + sqrt n)^2 and its Tracy-Widom fluctuation, in the centring and scaling
    of Ma 2012 (Bernoulli 18), over m n.
    """
    rows, columns = sqrt(m - 0.5), sqrt(n - 0.5)
    centre = (rows + columns) ** 2
    scale = (rows + columns) * cbrt(1 / rows + 1 / columns)
    low, high = ((centre + quantile * scale) / (m * n) for quantile in TRACY_WIDOM)
    return low, high


def duplicates(series: Series, identical: Identical) -> Iterator[Finding]:
    """Layers that hold the same numbers as an earlier one: suspected by what was measured, then compared."""
    twins: dict[tuple[int, int], list[Projection]] = {}
    for projection, layers in series.items():
        if projection is not Projection.OV:  # it follows from V and O
            for pair in _twins(layers, identical):
                twins.setdefault(pair, []).append(projection)
    for (earlier, later), same in sorted(twins.items(), key=lambda item: item[0][::-1]):
        comparable = [name for name, layers in series.items() if _measured_in(layers, later)]
        if len(same) == len([name for name in comparable if name is not Projection.OV]) > 1:
            message = f"layer {later} is layer {earlier} again: all of {', '.join(same)} are identical"
            yield Finding("duplicate-layer", "warning", None, later, message)
            continue
        for projection in same:
            message = f"{projection} of layer {later} is identical to that of layer {earlier}"
            yield Finding("duplicate-layer", "warning", projection, later, message)


def _twins(layers: Sequence[Measured], identical: Identical) -> Iterator[tuple[int, int]]:
    """Each layer with the first one before it that holds the same numbers; only what looks alike is read."""
    seen: dict[tuple[object, ...], list[Measured]] = {}
    for one in layers:
        if one.triplets is None:
            continue
        alike = seen.setdefault((one.shape, one.peak), [])
        twin = next(
            (other for other in alike if _agree(one, other) and identical(other.place, one.place, None)),
            None,
        )
        if twin is None:
            alike.append(one)
        else:
            yield twin.layer, one.layer


def _agree(one: Measured, other: Measured) -> bool:
    assert one.triplets is not None
    assert other.triplets is not None
    assert one.stable_rank is not None
    assert other.stable_rank is not None
    sigma = abs(float(one.triplets.sigma[0] / other.triplets.sigma[0]) - 1)
    return sigma < 1e-4 and abs(one.stable_rank / other.stable_rank - 1) < 1e-4


def _measured_in(layers: Sequence[Measured], index: int) -> bool:
    return any(one.layer == index and one.triplets is not None for one in layers)


def weak_pairs(name: str, found: ProjectionReport) -> Iterator[Finding]:
    """Adjacent layers whose |cos| in a facing space falls far below that of the pairs around them.

    Degenerate pairs are left out: there v1 is not well defined, and a low |cos| says nothing.
    """
    for space in found.faced:
        null = getattr(found.null, space)
        if null is None:
            continue
        key = f"{space}1"
        known = [pair for pair in found.pairs if getattr(pair, key) is not None and not pair.degenerate]
        floor = null + 4 * null_deviation(null, found.dimension(space))
        for i, pair in enumerate(known):
            around = [getattr(near, key) for near in _around(known, i)]
            if len(around) < NEIGHBOURS:
                continue
            value, typical = getattr(pair, key), median(around)
            others = [getattr(other, key) for other in known if other is not pair]
            far = FAR * max(_deviation(others), _deviation(around))
            if typical > floor and typical - value > far and _is_lost(value, typical, null):
                yield _weak(name, key, pair, value, typical)


def _around(pairs: Sequence[Pair], i: int) -> list[Pair]:
    return [*pairs[max(0, i - NEIGHBOURS) : i], *pairs[i + 1 : i + 1 + NEIGHBOURS]]


def _deviation(values: Sequence[float]) -> float:
    """A standard deviation that a few strays do not move: 1.4826 times the median absolute deviation."""
    middle = median(values)
    return 1.4826 * median(abs(value - middle) for value in values)


def _is_lost(value: float, typical: float, null: float) -> bool:
    continuous = null < 1 and (typical - null) / (1 - null) >= CONTINUOUS
    return continuous and value - null < LOST * (typical - null)


def _weak(name: str, key: str, pair: Pair, value: float, typical: float) -> Finding:
    message = (
        f"{name} turns away between layers {pair.layers[0]} and {pair.layers[1]}: |cos| of {key} is "
        f"{value:.2f}, where its neighbours have {typical:.2f}"
    )
    return Finding("weak-pair", "info", name, pair.layers[0], message)
