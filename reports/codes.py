"""The codes a finding can have: one list for gates, SARIF and README's table."""

from dataclasses import dataclass

from reports.model import Severity

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
"""Worst first."""


@dataclass(frozen=True)
class Code:
    """A kind of finding, how bad it is, and what is there when it is found."""

    name: str
    severity: Severity
    summary: str


CODES = (
    Code("nan", "error", "NaN somewhere in the matrix, so that it is not measured"),
    Code("inf", "error", "an infinite value somewhere in the matrix, so that it is not measured"),
    Code("zero", "error", "nothing but zeros"),
    Code("rank-one", "warning", "a single outer product: less than 1e-5 of the energy is outside it"),
    Code("noise-like", "warning", "sigma1 is that of random entries of the same variance"),
    Code("flat-spectrum", "info", "sigma1 is even below that of random entries: no direction leads"),
    Code("dead-expert", "warning", "an expert whose weights are zero, or next to it beside the others"),
    Code("duplicate-expert", "warning", "an expert with the same numbers as another of its layer"),
    Code("duplicate-layer", "warning", "the same numbers as in an earlier layer, compared value by value"),
    Code("unknown-tensor", "warning", "a tensor of two dimensions or more that no rule of the family claims"),
    Code("surplus-tensor", "warning", "tensors in the shards that the index does not name"),
    Code("missing-projection", "warning", "a projection that some layer lacks, and nothing explains it"),
    Code("unread-stack", "warning", "a vision tower or another sub-model that no family is known for"),
    Code("extra-layer", "warning", "layers like the others that config.json does not count"),
    Code("odd-heads", "warning", "Q or K higher or lower than config.json's heads make them"),
    Code(
        "missing-norm", "warning", "with --fold-norm: a layer without the norm that the others have in front"
    ),
    Code("weak-pair", "info", "adjacent layers far below the pairs around them"),
)
"""Every code, in README's order; `audit` makes findings of no other."""
