"""The residual MLP of arXiv:2605.04971, R of them side by side in one program.

h = E x + b;  L times h = h + act(W_l h), then LayerNorm where there is one;  logits = H h + c.
The paper leaves open where LayerNorm stands; it may stand elsewhere.

Every parameter is a stack [R, ...] over runs: one bmm does the product of all of them, and no run sees
another.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from audit.train.ablations import Ablation, Activation


@dataclass(frozen=True)
class Size:
    """inputs -> width, depth times width -> width, width -> classes."""

    inputs: int
    width: int
    depth: int
    classes: int


def radial(factor: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """x f(|x|): of the length only, so that radial(Q x) = Q radial(x) for every rotation Q."""

    def activation(x: Tensor) -> Tensor:
        return x * factor(torch.linalg.vector_norm(x, dim=-1, keepdim=True))

    return activation


TINY = 1e-12
"""A length that is not divided by."""

ACTIVATIONS: Mapping[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "silu": F.silu,
    "relu": F.relu,
    "tanh": torch.tanh,
    "none": lambda x: x,
    "radial": radial(lambda length: length / (1 + length)),
    "radial-sigmoid": radial(torch.sigmoid),
    "radial-tanh": radial(torch.tanh),
    "radial-unit": radial(lambda length: torch.tanh(length) / length.clamp_min(TINY)),
}


def hidden(layer: int) -> str:
    """The name of a hidden layer's weight."""
    return f"layers.{layer}.weight"


def norm_of(layer: int) -> str:
    """The name of a layer's LayerNorm."""
    return f"layers.{layer}.norm"


HEAD_NORM = "head.norm"


def turned(parameter: Tensor) -> Tensor:
    """A matrix transposed, anything else as it is."""
    return parameter.T.contiguous() if parameter.dim() == 2 else parameter


def initial(ablation: Ablation, size: Size, seed: int) -> dict[str, Tensor]:
    """One run's parameters before training, on the CPU; they follow from the seed alone."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int, fan_in: int) -> Tensor:
        """As torch.nn.Linear draws weights and biases: U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
        drawn: Tensor = (torch.rand(*shape, generator=generator) * 2 - 1) / fan_in**0.5
        return drawn

    def weight(out: int, fan_in: int, part: str = "ends") -> Tensor:
        drawn = uniform(out, fan_in, fan_in=fan_in)
        if ablation.init_std is None or ablation.init_of not in ("all", part):
            return drawn
        return torch.randn(out, fan_in, generator=generator) * ablation.init_std

    width = size.width
    parameters = {
        "embedding.weight": weight(width, size.inputs),
        "embedding.bias": uniform(width, fan_in=size.inputs),
    }
    for layer in range(size.depth):
        parameters[hidden(layer)] = weight(width, width, "hidden")
        if ablation.norm and ablation.norm_place not in ("plain", "head"):
            parameters |= _gain_and_bias(norm_of(layer), width)
    if ablation.norm and ablation.norm_place == "head":
        parameters |= _gain_and_bias(HEAD_NORM, width)
    parameters["head.weight"] = weight(size.classes, width)
    parameters["head.bias"] = uniform(size.classes, fan_in=width)
    return parameters


def _gain_and_bias(name: str, width: int) -> dict[str, Tensor]:
    return {f"{name}.weight": torch.ones(width), f"{name}.bias": torch.zeros(width)}


class StackedMLP:
    """R networks of one architecture; `parameters` are leaves by the names that a checkpoint has.

    Matrices are held transposed, [R, in, out]: so a product and its gradients need no copies.
    """

    def __init__(self, ablation: Ablation, size: Size, runs: Sequence[Mapping[str, Tensor]]) -> None:
        """`runs` are the parameters of each network, matrices as [out, in]."""
        self.size = size
        self.parameters = {
            name: torch.stack([turned(run[name]) for run in runs]).requires_grad_() for name in runs[0]
        }
        self._residual = ablation.residual
        self._norm = ablation.norm_place if ablation.norm else None
        self._activation = ACTIVATIONS[ablation.activation]
        self._acts_on = round(ablation.share * size.width)

    @property
    def weights(self) -> list[Tensor]:
        """The hidden layers' matrices W_l^T, each [R, in, out]."""
        return [self.parameters[hidden(layer)] for layer in range(self.size.depth)]

    def logits(self, x: Tensor) -> Tensor:
        """Inputs [R, B, inputs] to logits [R, B, classes]."""
        h = self._affine("embedding", x)
        for layer, weight in enumerate(self.weights):
            h = self._passed(norm_of(layer), weight, h)
        return self._affine("head", self._normed(HEAD_NORM, h) if self._norm == "head" else h)

    def _passed(self, norm: str, weight: Tensor, h: Tensor) -> Tensor:
        """The stream after a layer; LayerNorm stands where the ablation has it."""
        z = torch.bmm(self._normed(norm, h) if self._norm == "input" else h, weight)
        branch = self._activated(self._normed(norm, z) if self._norm == "inner" else z)
        if self._norm == "branch":
            branch = self._normed(norm, branch)
        h = h + branch if self._residual else branch
        return self._normed(norm, h) if self._norm in ("sum", "plain") else h

    def _normed(self, norm: str, h: Tensor) -> Tensor:
        """LayerNorm, with gain and bias where it has them."""
        h = F.layer_norm(h, h.shape[-1:])
        if self._norm == "plain":
            return h
        gain, bias = (self.parameters[f"{norm}.{part}"] for part in ("weight", "bias"))
        return torch.addcmul(bias[:, None], h, gain[:, None])

    def _activated(self, x: Tensor) -> Tensor:
        if self._acts_on == self.size.width:
            return self._activation(x)
        acted, passed = x[..., : self._acts_on], x[..., self._acts_on :]
        return torch.cat([self._activation(acted), passed], dim=-1)

    def _affine(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.parameters[f"{name}.weight"], self.parameters[f"{name}.bias"]
        return torch.baddbmm(bias[:, None], x, weight)
