"""The reference the audit is held against: float64 LAPACK and scikit-learn, written out plainly.

Tensor names are typed by hand here, so that nothing of the registry or the audit is on both sides.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from sklearn.decomposition import PCA

LLAMA = {
    "Q": "model.layers.{}.self_attn.q_proj.weight",
    "K": "model.layers.{}.self_attn.k_proj.weight",
    "V": "model.layers.{}.self_attn.v_proj.weight",
    "O": "model.layers.{}.self_attn.o_proj.weight",
    "Gate": "model.layers.{}.mlp.gate_proj.weight",
    "Up": "model.layers.{}.mlp.up_proj.weight",
    "Down": "model.layers.{}.mlp.down_proj.weight",
}
BERT = {
    "Q": "encoder.layer.{}.attention.self.query.weight",
    "K": "encoder.layer.{}.attention.self.key.weight",
    "V": "encoder.layer.{}.attention.self.value.weight",
    "O": "encoder.layer.{}.attention.output.dense.weight",
    "Up": "encoder.layer.{}.intermediate.dense.weight",
    "Down": "encoder.layer.{}.output.dense.weight",
}


@dataclass(frozen=True)
class Truth:
    """One projection's numbers; `degenerate` per pair, scalars as means over pairs."""

    v1: float
    u1: float
    v2: float
    u2: float
    pairs_v1: list[float]
    pairs_u1: list[float]
    degenerate: list[bool]
    wa_v: float
    wa_u: float
    effective_rank: list[float]
    stable_rank: list[float]
    sigma: list[list[float]]
    evr3_v: float
    evr3_u: float
    participation_v: list[float]


def matrices(
    folder: Path, names: dict[str, str], layers: int, heads: int, kv: int
) -> dict[str, list[np.ndarray]]:
    """Every projection as float64 [out, in], OV formed outright by repeating V's heads."""
    stored = load_file(folder / "model.safetensors")
    found = {
        name: [stored[template.format(layer)].astype(np.float64) for layer in range(layers)]
        for name, template in names.items()
    }
    found["OV"] = [
        o @ np.repeat(v.reshape(kv, -1, v.shape[1]), heads // kv, axis=0).reshape(-1, v.shape[1])
        for o, v in zip(found["O"], found["V"], strict=True)
    ]
    return found


def truth(weights: list[np.ndarray]) -> Truth:
    """Every number of one projection, from full float64 SVDs."""
    factors = [np.linalg.svd(weight, full_matrices=False) for weight in weights]
    us, sigmas, vs = ([factor[i] for factor in factors] for i in range(3))
    us = [u.T for u in us]

    def cosines(rows: list[np.ndarray], i: int) -> list[float]:
        return [abs(float(a[i] @ b[i])) for a, b in pairwise(rows)]

    shares = [sigma**2 / (sigma**2).sum() for sigma in sigmas]
    tied = [sigma[1] / sigma[0] > 0.98 for sigma in sigmas]
    return Truth(
        v1=float(np.mean(cosines(vs, 0))),
        u1=float(np.mean(cosines(us, 0))),
        v2=float(np.mean(cosines(vs, 1))),
        u2=float(np.mean(cosines(us, 1))),
        pairs_v1=cosines(vs, 0),
        pairs_u1=cosines(us, 0),
        degenerate=[a or b for a, b in pairwise(tied)],
        wa_v=_weighted(shares, vs),
        wa_u=_weighted(shares, us),
        effective_rank=[float(np.exp(-(p[p > 0] * np.log(p[p > 0])).sum())) for p in shares],
        stable_rank=[float((sigma**2).sum() / sigma[0] ** 2) for sigma in sigmas],
        sigma=[sigma[:2].tolist() for sigma in sigmas],
        evr3_v=_evr3([v[0] for v in vs]),
        evr3_u=_evr3([u[0] for u in us]),
        participation_v=[float(1 / (v[0] ** 4).sum()) for v in vs],
    )


def _weighted(shares: list[np.ndarray], rows: list[np.ndarray]) -> float:
    pairs = zip(shares, rows, rows[1:], strict=False)
    return float(np.mean([(share * np.abs((a * b).sum(axis=1))).sum() for share, a, b in pairs]))


def _evr3(vectors: list[np.ndarray]) -> float:
    aligned = [vectors[0]]
    for vector in vectors[1:]:
        aligned.append(-vector if aligned[-1] @ vector < 0 else vector)
    return float(PCA(n_components=3).fit(np.stack(aligned)).explained_variance_ratio_.sum())
