"""What is measured of a small transformer: the audit's continuity, projection by projection."""

from collections.abc import Mapping
from itertools import pairwise
from statistics import fmean

import torch
from torch import Tensor

from audit import continuity
from audit.linear_map import Dense, LinearMap
from audit.product import ov_composite
from audit.svd import Factorisation, factorise
from audit.train.transformer.settings import Run, Settings
from audit.train.values import Values

PROJECTIONS: Mapping[str, str] = {
    "Q": "self_attn.q_proj", "K": "self_attn.k_proj", "V": "self_attn.v_proj", "O": "self_attn.o_proj",
    "Gate": "mlp.gate_proj", "Up": "mlp.up_proj", "Down": "mlp.down_proj",
}  # fmt: skip

LEADERS = 2
"""Singular triplets that are followed."""


def continuities(parameters: Mapping[str, Tensor], run: Run, settings: Settings) -> Values:
    """Mean over adjacent layers of |<v_i, v_i'>| and |<u_i, u_i'>|, i = 1, 2, named `Q_v1`, `OV_u2`, ...

    None for a projection with a weight that is not finite, or all zero, and for an i above its rank.
    """
    layers = [_maps(parameters, layer, run, settings) for layer in range(settings.layers)]
    values: Values = {}
    for projection in layers[0]:
        chain = [_factorised(each[projection]) for each in layers]
        for space in ("v", "u"):
            for i in range(LEADERS):
                values[f"{projection}_{space}{i + 1}"] = _mean_alignment(chain, space, i)
    return values


def _maps(parameters: Mapping[str, Tensor], layer: int, run: Run, settings: Settings) -> dict[str, LinearMap]:
    dense = {
        projection: Dense(parameters[f"model.layers.{layer}.{name}.weight"].detach().float().cpu())
        for projection, name in PROJECTIONS.items()
    }
    kv_heads = run.ablation.kv_heads or settings.heads
    composite = ov_composite(dense["O"], dense["V"], kv_heads, settings.width // settings.heads)
    return {**dense, "OV": composite}


def _factorised(linear_map: LinearMap) -> Factorisation | None:
    # every triplet: at these sizes that takes a fraction of what Lanczos takes for two
    return factorise(linear_map.normalised()[0]) if 0 < linear_map.peak() < torch.inf else None


def _mean_alignment(chain: list[Factorisation | None], space: str, i: int) -> float | None:
    found = [getattr(one, space) if one is not None else () for one in chain]
    if any(len(vectors) <= i for vectors in found):
        return None
    return fmean(float(continuity.alignment(a[i], b[i])) for a, b in pairwise(found))
