"""What is measured of a run: the audit's own metrics, of weights, gradients and their sums."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isfinite, sqrt
from statistics import fmean

import torch
from torch import Tensor

from audit import continuity
from audit.linear_map import Dense
from audit.svd import Factorisation, factorise
from audit.train.values import Values

SPACES = ("v", "u")


def factorise_all(layers: Sequence[Tensor]) -> list[Factorisation] | None:
    """Every singular triplet of each layer's matrix [out, in]; None where one is not finite or all zero."""
    if not all(bool(torch.isfinite(one).all()) and bool(one.any()) for one in layers):
        return None
    return [factorise(Dense(_scaled(one))) for one in layers]


def geometry(layers: Sequence[Factorisation] | None, prefix: str) -> Values:
    """Continuity of v1, v2, u1, u2, WA in both spaces, and mean effective rank, named `<prefix>_...`.

    Means over adjacent layers, as the audit takes them; a layer without a second singular value has no v2.
    """
    if layers is None:
        names = (name.format(space) for name in ("{}1", "{}2", "wa_{}") for space in SPACES)
        return {f"{prefix}_{name}": None for name in (*names, "erank")}
    values: Values = {}
    for space in SPACES:
        pairs = [(a, getattr(a, space), getattr(b, space)) for a, b in pairwise(layers)]
        for i in range(2):
            leaders = [
                float(continuity.alignment(v[i], w[i])) for _, v, w in pairs if i < min(len(v), len(w))
            ]
            values[f"{prefix}_{space}{i + 1}"] = fmean(leaders) if len(leaders) == len(pairs) else None
        values[f"{prefix}_wa_{space}"] = fmean(
            continuity.sigma_weighted_alignment(a.sigma, v, w) for a, v, w in pairs
        )
    values[f"{prefix}_erank"] = fmean(continuity.effective_rank(one.sigma) for one in layers)
    return values


def leaders_alignment(
    weights: Sequence[Factorisation] | None, others: Sequence[Factorisation] | None, prefix: str
) -> Values:
    """Mean over layers of |<v1(W_l), v1(M_l)>| and of u1, M_l the other matrix of the same layer."""
    if weights is None or others is None:
        return {f"{prefix}_{space}1": None for space in SPACES}
    return {
        f"{prefix}_{space}1": fmean(
            float(continuity.alignment(getattr(a, space)[0], getattr(b, space)[0]))
            for a, b in zip(weights, others, strict=True)
        )
        for space in SPACES
    }


def movement(now: Sequence[Tensor], start: Sequence[Tensor]) -> Values:
    """Mean over layers of |W - W0| / |W0|, Frobenius norms, as `dW_ratio`."""
    ratio = fmean(
        float(torch.linalg.matrix_norm(w - w0) / torch.linalg.matrix_norm(w0))
        for w, w0 in zip(now, start, strict=True)
    )
    return {"dW_ratio": ratio if isfinite(ratio) else None}


def emergence(
    weights: Sequence[Factorisation] | None, now: Sequence[Tensor], start: Sequence[Tensor]
) -> Values:
    """The update W - W0 as a spike that W0, a random matrix, may hide: `dW_...`, `spike` and `kept_...`.

    Its own geometry; its strength, the mean over layers of sigma_1(W - W0) / (s (m n)^(1/4)), where s is the
    deviation of the entries of the m x n matrix W0; and the mean |<v1(W), v1(W - W0)>|, u1 likewise. At a
    strength of 1 a spike of rank one leaves the bulk of the noise, and not before; above, the overlap
    squared is 1 - 1 / strength^2 where m = n (Benaych-Georges and Nadakuditi 2012, Section 3.1).
    """
    moved = [w - w0 for w, w0 in zip(now, start, strict=True)]
    found = factorise_all(moved)
    values = geometry(found, "dW") | leaders_alignment(weights, found, "kept") | {"spike": None}
    if found is not None:
        values["spike"] = fmean(
            float(one.sigma[0]) * float(update.abs().max()) / _threshold(w0)
            for one, update, w0 in zip(found, moved, start, strict=True)
        )
    return values


def _threshold(noise: Tensor) -> float:
    """The singular value above which a spike stands out of a matrix of independent entries."""
    deviation = float(noise.square().mean().sqrt())
    return deviation * sqrt(sqrt(noise.numel()))


def transfer(values: Mapping[str, float | None]) -> Values:
    """Delta: the continuity of v1 in the summed gradient that the weight has not kept."""
    total, kept = values.get("Gcum_v1"), values.get("W_v1")
    return {"delta": None if total is None or kept is None else total - kept}


def _scaled(matrix: Tensor) -> Tensor:
    """At a scale whose squares float32 holds: directions and shares of energy stay as they are."""
    return matrix / matrix.abs().max()
