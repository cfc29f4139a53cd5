"""Guess which norms stand in front of a layer's readers, where their names tell."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from registry.guessing.stacks import Tensor
from registry.guessing.words import words
from registry.projection import NormSite

_WEIGHTS = {"weight", "gamma", "scale", "g"}
_FRONT: Mapping[NormSite, tuple[str, ...]] = {
    "attention": (
        "inputlayernorm", "inputnorm", "preattentionlayernorm", "preattentionnorm", "preselfattnlayernorm",
        "layernormbefore", "attentionlayernorm", "attentionnorm", "attnnorm", "lnattn", "selfattnlayernorm",
        "layernorm1", "norm1", "ln1",
    ),
    "ffn": (
        "prefeedforwardlayernorm", "preffnlayernorm", "premlplayernorm", "prefflayernorm",
        "feedforwardlayernorm", "ffnnorm", "mlpnorm", "lnmlp", "layernormafter", "postattentionlayernorm",
        "postattentionnorm", "layernorm2", "norm2", "ln2", "finallayernorm",
    ),
}  # fmt: skip
"""Names of norms in front, the surest first."""


@dataclass(frozen=True)
class NormGuess:
    """A norm that may stand in front of a block; it centres if it has a bias."""

    weight: str
    kind: Literal["rms", "layer"]


def guess_norms(tensors: Mapping[str, Tensor], hidden: int | None) -> dict[NormSite, NormGuess]:
    """By site; one norm stands in front of both blocks where a layer has no other."""
    norms: dict[str, NormGuess] = {}
    for name, tensor in tensors.items():
        head, _, last = name.rpartition(".")
        if len(tensor.shape) == 1 and tensor.shape[0] == hidden and last in _WEIGHTS:
            said = "".join(words(head.rpartition(".")[2]))
            biased = any(f"{head}.{bias}" in tensors for bias in ("bias", "beta"))
            norms.setdefault(said, NormGuess(name, "layer" if biased else "rms"))
    found: dict[NormSite, NormGuess] = {
        site: norms[known] for site in _FRONT for known in reversed(_FRONT[site]) if known in norms
    }
    if "attention" not in found:
        return {}
    if len(norms) == 1:
        found["ffn"] = found["attention"]
    return found
