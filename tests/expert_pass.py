"""The routed experts' matrices, recovered from calls of the module that holds them, one expert at a time."""

import inspect
from collections.abc import Iterator
from fnmatch import fnmatchcase

import torch
from affine import recover
from torch import Tensor, nn
from watching import EXPERTS, Watch

from registry import Projection

ROWS = 200
"""Tokens for each expert: more than it reads or has channels."""


def experts_in(layer: nn.Module) -> list[nn.Module]:
    """The modules of a layer that hold routed experts."""
    return [
        module
        for module in layer.modules()
        if any(fnmatchcase(type(module).__name__, glob) for glob in EXPERTS)
    ]


def expert_matrices(module: nn.Module, hidden: int) -> dict[tuple[Projection, int], Tensor]:
    """Gate, Up and Down of every expert by its number."""
    matrices: dict[tuple[Projection, int], Tensor] = {}
    for expert, (read, made, gave, wrote) in enumerate(_calls(module, hidden)):
        for name, states in made.items():
            matrices[name, expert] = recover(read, states)
        matrices[Projection.DOWN, expert] = recover(gave, wrote)
    return matrices


Seen = tuple[Tensor, dict[Projection, Tensor], Tensor, Tensor]
"""Of one expert: what it read and made of it, what went on in the activation's place, what came out."""


def _calls(module: nn.Module, hidden: int) -> Iterator[Seen]:
    generator = torch.Generator().manual_seed(1)
    count = module.num_experts
    assert isinstance(count, int)
    if _takes_routes(module):
        read = torch.randn(ROWS, hidden, generator=generator, dtype=torch.float64)
        for expert in range(count):
            route = torch.full((ROWS, 1), expert)
            yield _seen(module, read, route, torch.ones(ROWS, 1, dtype=torch.float64))
    else:
        read = torch.randn(count * ROWS, hidden, generator=generator, dtype=torch.float64)
        read, made, gave, wrote = _seen(module, read)
        for expert in range(count):
            here = slice(expert * ROWS, (expert + 1) * ROWS)
            yield (
                read[here],
                {name: states.flatten(0, -2)[here] for name, states in made.items()},
                gave.flatten(0, -2)[here],
                wrote[here],
            )


def _takes_routes(module: nn.Module) -> bool:
    """Whether it is told who goes to which expert; else each has its share of the tokens, one by one."""
    return len(inspect.signature(inspect.unwrap(type(module).forward)).parameters) > 2


def _seen(module: nn.Module, *arguments: Tensor) -> Seen:
    with torch.no_grad(), Watch(module, silent=()) as seen:
        wrote = module(*arguments)
    (call,) = seen.feed_forwards
    return arguments[0], call.made(), call.gave, wrote.reshape(arguments[0].shape)
