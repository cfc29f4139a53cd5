"""Fold the layers of one projection into its report: pairs, means, nulls, trajectories."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from math import log

import torch
from torch import Tensor

from audit import continuity, trajectory
from audit.measure import Expert, Measured
from registry import Projection
from reports.model import (
    Continuity,
    ExpertSummary,
    LayerSpaces,
    Pair,
    ProjectionReport,
    Spaces,
    Subspaces,
    TopCoordinates,
    Trajectories,
    Trajectory,
)

TOP = 5
SPECTRUM_POINTS = 64


def summarise(
    projection: Projection, series: Sequence[Measured], full: bool, lacking: Mapping[str, str]
) -> ProjectionReport:
    """The report of one projection, measured in `series`, layer by layer in order.

    `lacking` gives layers that have none of it, with the reason.
    """
    pairs = tuple(_pair(first, second) for first, second in pairwise(series))
    v, u = ([_leading(one, space) for one in series] for space in ("v", "u"))
    paths = Trajectories(_trajectory(v), _trajectory(u))
    known = _common_dims(series)
    return ProjectionReport(
        shape=series[0].shape,
        layers=tuple(one.layer for one in series),
        facing=projection.facing,
        continuity=_means(pairs, ""),
        continuity_bound=_means(pairs, "bound_"),
        null=Spaces(
            v=continuity.null_mean(series[0].shape[1]) if known["v"] else None,
            u=continuity.null_mean(series[0].shape[0]) if known["u"] else None,
        ),
        evr3=Spaces(_evr3(paths.v), _evr3(paths.u)),
        evr3_null=Spaces(_evr3_null(v, paths.v), _evr3_null(u, paths.u)),
        wa=_mean_wa(pairs) if full else None,
        effective_rank=tuple(
            continuity.effective_rank(one.spectrum.sigma) if one.spectrum else None for one in series
        )
        if full
        else None,
        stable_rank=tuple(one.stable_rank for one in series),
        participation=LayerSpaces(
            _each(v, continuity.participation_ratio), _each(u, continuity.participation_ratio)
        ),
        top=TopCoordinates(_tops(v), _tops(u)),
        lag=LayerSpaces(continuity.lag_profile(v), continuity.lag_profile(u)),
        signal_flow=_signal_flow(v, u),
        sigma=tuple(_numbers(one, "sigma") for one in series),
        residual=tuple(_numbers(one, "residual") for one in series),
        angle_bound=tuple(_numbers(one, "bound") for one in series),
        spectrum=tuple(_thinned(one.spectrum.sigma) if one.spectrum else None for one in series)
        if full
        else None,
        pairs=pairs,
        unmeasured={**lacking, **dict(_reasons(series, known, full))},
        trajectory=paths,
        experts=_experts(series),
        gap=tuple(_numbers(one, "gap") for one in series),
        chance=tuple(None if one.triplets is None else one.triplets.chance for one in series),
    )


def _pair(first: Measured, second: Measured) -> Pair:
    layers, gap = (first.layer, second.layer), second.layer - first.layer
    if first.triplets is None or second.triplets is None:
        return Pair(layers, gap, *(None,) * 8, degenerate=False)
    cosines: dict[str, float | None] = {}
    for space in ("v", "u"):
        a, b = getattr(first.triplets, space), getattr(second.triplets, space)
        values: Tensor | tuple[()] = ()
        if a is not None and b is not None and a.shape[1] == b.shape[1]:
            values = continuity.alignment(a[: len(b)].double(), b[: len(a)].double())
        for rank in (1, 2):
            known = len(values) >= rank
            value = float(values[rank - 1]) if known else None
            cosines[f"{space}{rank}"] = value
            cosines[f"bound_{space}{rank}"] = (
                continuity.alignment_bound(
                    value, float(first.triplets.bound[rank - 1]), float(second.triplets.bound[rank - 1])
                )
                if value is not None
                else None
            )
    spectrum = second.spectrum
    degenerate = _is_degenerate(first) or _is_degenerate(second)
    return Pair(
        layers,
        gap,
        **cosines,
        degenerate=degenerate,
        wa=Spaces(spectrum.wa_v, spectrum.wa_u) if spectrum else None,
        subspace=_subspaces(first, second) if degenerate else None,
    )


def _is_degenerate(one: Measured) -> bool:
    assert one.triplets is not None
    sigma = one.triplets.sigma
    return len(sigma) > 1 and float(sigma[1] / sigma[0]) > continuity.DEGENERATE


def _subspaces(first: Measured, second: Measured) -> Subspaces | None:
    if first.triplets is None or second.triplets is None or first.shape != second.shape:
        return None
    turned = first.triplets.plane_bound, second.triplets.plane_bound
    angles: dict[str, tuple[float, ...]] = {}
    for space in ("v", "u"):
        a, b = getattr(first.triplets, space), getattr(second.triplets, space)
        known = a is not None and b is not None
        angles[space] = continuity.subspace_alignment(a.double(), b.double()) if known else ()
        angles[f"bound_{space}"] = tuple(continuity.alignment_bound(one, *turned) for one in angles[space])
    return Subspaces(**angles)


def _leading(one: Measured, space: str) -> Tensor | None:
    vectors = None if one.triplets is None else getattr(one.triplets, space)
    return None if vectors is None else vectors[0].double()


def _means(pairs: Sequence[Pair], prefix: str) -> Continuity:
    def mean(key: str) -> float | None:
        values = [value for pair in pairs if (value := getattr(pair, prefix + key)) is not None]
        return sum(values) / len(values) if values else None

    return Continuity(v1=mean("v1"), u1=mean("u1"), v2=mean("v2"), u2=mean("u2"))


def _mean_wa(pairs: Sequence[Pair]) -> Spaces:
    def mean(space: str) -> float | None:
        values = [value for pair in pairs if pair.wa and (value := getattr(pair.wa, space)) is not None]
        return sum(values) / len(values) if values else None

    return Spaces(mean("v"), mean("u"))


def _common_dims(series: Sequence[Measured]) -> dict[str, bool]:
    """Whether all layers share the dimension of each space, and it is defined in some."""
    same = {"v": len({one.shape[1] for one in series}) == 1, "u": len({one.shape[0] for one in series}) == 1}
    ordered = all(one.experts is not None for one in series)
    return same | ({_other(series[0].projection): False} if ordered else {})


def _other(projection: Projection) -> str:
    """The space that does not face the residual stream."""
    return "v" if projection.facing == "u" else "u"


def _experts(series: Sequence[Measured]) -> tuple[ExpertSummary | None, ...] | None:
    if all(one.experts is None for one in series):
        return None
    return tuple(None if one.experts is None else _summary(one, one.experts) for one in series)


def _summary(one: Measured, experts: Sequence[Expert]) -> ExpertSummary:
    """Each expert against the stack, and against one another."""
    stack = _leading(one, one.projection.facing)
    vectors = [None if expert.vector is None else expert.vector.double() for expert in experts]
    known = [vector for vector in vectors if vector is not None]
    between = None
    if len(known) > 1:
        cosines = torch.stack(known) @ torch.stack(known).T
        pairs = cosines.abs().clamp(max=1.0).triu(1).sum()
        between = float(pairs) * 2 / (len(known) * (len(known) - 1))
    return ExpertSummary(
        sigma1=tuple(expert.sigma1 for expert in experts),
        with_stack=tuple(
            None if stack is None or vector is None else min(abs(float(vector @ stack)), 1.0)
            for vector in vectors
        ),
        between=between,
    )


def _trajectory(vectors: Sequence[Tensor | None]) -> Trajectory | None:
    known = [vector for vector in vectors if vector is not None]
    if len(known) < trajectory.MIN_LAYERS or len({vector.shape for vector in known}) > 1:
        return None
    path = trajectory.principal_path(torch.stack(trajectory.align_signs(known)))
    points = iter(path.points.tolist())
    return Trajectory(
        tuple(None if vector is None else _three(next(points)) for vector in vectors),
        _three(path.shares.tolist()),
    )


def _three(numbers: Sequence[float]) -> tuple[float, float, float]:
    x, y, z = numbers
    return (x, y, z)


def _evr3(path: Trajectory | None) -> float | None:
    return None if path is None else sum(path.shares)


def _evr3_null(vectors: Sequence[Tensor | None], path: Trajectory | None) -> float | None:
    known = [vector for vector in vectors if vector is not None]
    return None if path is None else trajectory.random_evr3(len(known), len(known[0]))


def _each(vectors: Sequence[Tensor | None], measure: Callable[[Tensor], float]) -> tuple[float | None, ...]:
    return tuple(None if vector is None else measure(vector) for vector in vectors)


def _tops(vectors: Sequence[Tensor | None]) -> tuple[tuple[tuple[int, float], ...], ...]:
    return tuple(() if vector is None else continuity.top_coordinates(vector, TOP) for vector in vectors)


def _signal_flow(v: Sequence[Tensor | None], u: Sequence[Tensor | None]) -> float | None:
    """Mean |<u1(l), v1(l+1)>| over adjacent layers, for square maps (Ji and Telgarsky 2019)."""
    values = [
        min(abs(float(here @ there)), 1.0)
        for here, there in zip(u, v[1:], strict=False)
        if here is not None and there is not None and here.shape == there.shape
    ]
    return sum(values) / len(values) if values else None


def _numbers(one: Measured, name: str) -> tuple[float, ...] | None:
    return None if one.triplets is None else tuple(getattr(one.triplets, name).tolist())


def _thinned(sigma: Tensor) -> tuple[tuple[int, float], ...]:
    """At most 64 (rank, sigma) points, evenly spaced in log rank, first and last among them."""
    ranks = torch.linspace(0, log(len(sigma)), SPECTRUM_POINTS, dtype=torch.float64).exp().round().long()
    return tuple((rank, float(sigma[rank - 1])) for rank in sorted(set(ranks.clamp(1, len(sigma)).tolist())))


def _reasons(series: Sequence[Measured], known: dict[str, bool], full: bool) -> Iterator[tuple[str, str]]:
    measured = [one for one in series if one.problem is None]
    if len(series) == 1:
        yield "continuity", "one layer only, so there is no adjacent pair"
    for one in series:
        if one.problem is not None:
            yield (
                f"layer {one.layer}",
                {"nan": "NaN", "inf": "infinite values", "zero": "all zero"}[one.problem],
            )
    stacked = any(one.experts is not None for one in series)
    for space, same in known.items():
        if stacked and space == _other(series[0].projection):
            yield space, "of stacked experts, this space's directions depend on the experts' order"
        elif not same:
            yield space, "the layers differ in this space's dimension, so only equal neighbours are compared"
    if len(measured) < trajectory.MIN_LAYERS:
        yield (
            "evr3",
            f"too few layers ({len(measured)}): three components hold (nearly) everything by construction",
        )
    if any(one.spectrum and one.spectrum.tied for one in series):
        yield "wa", "exact ties among singular values leave WA undefined in some layers"
    if not full:
        yield "wa", "needs the whole spectrum: run with --full"
        yield "effective_rank", "needs the whole spectrum: run with --full"
