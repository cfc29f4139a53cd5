"""What is seen in a forward pass: calls of attention and activations, and what they read, made and gave."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry import Projection


@dataclass(eq=False)
class Frame:
    """A module that is being called: the tensors it was given, and those that modules in it were given."""

    module: nn.Module
    given: list[Tensor]
    inside: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class Roles:
    """Modules that call attention, and the gains of norms between two matrices of one projection."""

    attending: frozenset[nn.Module] = frozenset()
    latent: Mapping[nn.Module, Tensor] = field(default_factory=dict)


@dataclass(eq=False)
class Call:
    """One call: of which modules (outermost first), and what it may have read (innermost first)."""

    within: tuple[nn.Module, ...]
    reads: tuple[Tensor, ...]

    @property
    def read(self) -> Tensor:
        """What the innermost module was given."""
        return self.reads[0]


@dataclass(eq=False)
class Attention(Call):
    """One call of attention: its states [batch, heads, tokens, width] and what it gave, token by token.

    `alone` is what it would have given for each key, to a query that sees only this one.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    gave: Tensor
    alone: Tensor

    def made(self) -> dict[Projection, Tensor]:
        """What Q, K and V made of what was read, token by token."""
        return {
            Projection.Q: by_token(self.query),
            Projection.K: by_token(_own_heads(self.key)),
            Projection.V: by_token(_own_heads(self.value)),
        }


@dataclass(eq=False)
class FeedForward(Call):
    """One call of an activation: what was activated, what went on from there, by what that was multiplied."""

    activated: Tensor
    gave: Tensor
    factor: Tensor | None = None

    def made(self) -> dict[Projection, Tensor]:
        """What Gate and Up, or Up alone, made of what was read."""
        if self.factor is None:
            return {Projection.UP: self.activated}
        return {Projection.GATE: self.activated, Projection.UP: self.factor}


def by_token(states: Tensor) -> Tensor:
    """[batch * tokens, heads * width] from [batch, heads, tokens, width]."""
    return states.transpose(1, 2).flatten(2).flatten(0, 1)


def alone(heads: int, key: Tensor, value: Tensor) -> Tensor:
    """What so many heads of attention give to queries, each of which sees one key."""
    one_key, one_value = (states.transpose(1, 2).flatten(0, 1)[:, :, None] for states in (key, value))
    query = one_key.new_zeros(len(one_key), heads, 1, key.shape[-1])
    with torch._C.DisableTorchFunction():
        gave = F.scaled_dot_product_attention(query, one_key, one_value.to(key), enable_gqa=True)
    return gave[:, :, 0].unflatten(0, (len(key), -1)).transpose(1, 2)


def _own_heads(states: Tensor) -> Tensor:
    """States without the copies made for each query head of a group."""
    for count in range(1, states.shape[1]):
        if states.shape[1] % count == 0:
            groups = states.unflatten(1, (count, -1))
            if (groups == groups[:, :, :1]).all():
                return groups[:, :, 0]
    return states


def is_same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are one, or views of the same numbers."""
    return one is other or (one.data_ptr() == other.data_ptr() and one.numel() == other.numel())
