"""What in a report contradicts itself though every key has its type: a JSON can come from anywhere."""

from collections.abc import Iterator, Sequence
from itertools import chain, pairwise

from reports.model import SPACES, ProjectionReport


def contradiction(found: ProjectionReport) -> str | None:
    """The first thing in a projection that cannot be, with its key; None where all fits together."""
    rules = (_layers, _lengths, _pairs, _cosines, _shapes, _experts)
    return next(chain.from_iterable(rule(found) for rule in rules), None)


def _layers(found: ProjectionReport) -> Iterator[str]:
    if list(found.layers) != sorted({layer for layer in found.layers if layer >= 0}) or not found.layers:
        yield "layers: not a rising list of layer numbers"
    if min(found.shape) < 1:
        yield "shape: not positive"


def _lengths(found: ProjectionReport) -> Iterator[str]:
    per_layer: dict[str, Sequence[object] | None] = {
        "stable_rank": found.stable_rank,
        "participation.v": found.participation.v,
        "participation.u": found.participation.u,
        "top.v": found.top.v,
        "top.u": found.top.u,
        "sigma": found.sigma,
        "residual": found.residual,
        "angle_bound": found.angle_bound,
        "gap": found.gap,
        "chance": found.chance,
        "effective_rank": found.effective_rank,
        "spectrum": found.spectrum,
        "trajectory.v": found.trajectory.v.points if found.trajectory.v else None,
        "trajectory.u": found.trajectory.u.points if found.trajectory.u else None,
        "experts": found.experts,
    }
    for key, values in per_layer.items():
        if values is not None and len(values) != len(found.layers):
            yield f"{key}: {len(values)} entries for {len(found.layers)} layers"


def _pairs(found: ProjectionReport) -> Iterator[str]:
    if len(found.pairs) != len(found.layers) - 1:
        yield f"pairs: {len(found.pairs)} for {len(found.layers)} layers"
    for pair, layers in zip(found.pairs, pairwise(found.layers), strict=False):
        if pair.layers != layers or pair.gap != layers[1] - layers[0]:
            yield f"pairs: {list(pair.layers)} are no two layers in order"


def _cosines(found: ProjectionReport) -> Iterator[str]:
    means, nulls = found.continuity, found.null
    cosines = {
        "continuity": (means.v1, means.u1, means.v2, means.u2),
        "null": (nulls.v, nulls.u),
        "lag": (*found.lag.v, *found.lag.u),
        "pairs": tuple(value for pair in found.pairs for value in (pair.v1, pair.u1)),
    }
    for key, values in cosines.items():
        if any(not 0 <= value <= 1 for value in values if value is not None):
            yield f"{key}: |cos| outside 0 to 1"
    for space in SPACES:
        known = any(getattr(pair, f"{space}1") is not None for pair in found.pairs)
        if known != (getattr(means, f"{space}1") is not None):
            yield f"continuity.{space}1: not the mean of any pairs"


def _shapes(found: ProjectionReport) -> Iterator[str]:
    """Of what is drawn: paths of unit vectors, and spectra that fall."""
    for path in (found.trajectory.v, found.trajectory.u):
        if path and any(abs(x) > 2 for point in path.points if point for x in point):
            yield "trajectory: a point further out than unit vectors reach"
    for points in found.spectrum or ():
        ranks, sigma = zip(*points, strict=True) if points else ((), ())
        if list(ranks) != sorted({*ranks}) or any(not 1 <= rank <= min(found.shape) for rank in ranks):
            yield "spectrum: ranks that do not rise within the shape"
        if any(value <= 0 for value in sigma) or list(sigma) != sorted(sigma, reverse=True):
            yield "spectrum: singular values that are not positive, or do not fall"


def _experts(found: ProjectionReport) -> Iterator[str]:
    for one in found.experts or ():
        if one is None:
            continue
        if len(one.with_stack) != len(one.sigma1) or not one.sigma1:
            yield f"experts: {len(one.with_stack)} compared with the stack, of {len(one.sigma1)}"
        if any(not 0 <= value <= 1 for value in (*one.with_stack, one.between) if value is not None):
            yield "experts: |cos| outside 0 to 1"
