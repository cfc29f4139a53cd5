"""The matrices of a model's blocks, each called alone: for layers that do more than add up what blocks write.

Gemma 3n mixes several streams around its blocks, and Gemma 4 gates a stream by an embedding after them. No
tensor's name is used. Norms in front are RMS norms.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
import transformers as hf
from affine import recover
from forward_pass import Computed, Matrices
from layer_pass import ROWS, Layer
from tiny_models import Tiny
from torch import Tensor, nn
from watching import Attention, Watch

from registry import Projection

MADE_ELSEWHERE = (Projection.K, Projection.V)
"""What attention may take from another layer."""

WRITERS = (Projection.O, Projection.DOWN)


def compute_blocks(tiny: Tiny, model: hf.PreTrainedModel) -> Computed:
    """Recover every projection from the forward passes of its block, in float64."""
    model = model.double()
    calls: dict[nn.Module, Layer] = {}
    hooks = [
        one.register_forward_pre_hook(_remember(calls), with_kwargs=True)
        for one in model.modules()
        if not isinstance(one, nn.ModuleList)
    ]
    assert tiny.inputs is not None
    with torch.no_grad(), Watch(model) as seen:
        model(**tiny.inputs(ROWS))
    for hook in hooks:
        hook.remove()
    stored: Matrices = {}
    folded: Matrices = {}
    for index, block in _blocks(model, seen):
        gain = _gain(seen, block)
        for name, matrix in _matrices(calls[block]):
            stored[name, index] = matrix
            folded[name, index] = matrix if name in WRITERS else matrix @ gain
    return Computed(stored, folded)


def _blocks(model: nn.Module, seen: Watch) -> Iterator[tuple[int, nn.Module]]:
    """The modules that attend or activate inside a layer, with the layer's number; not layers themselves."""
    for modules in (one for one in model.modules() if isinstance(one, nn.ModuleList)):
        layers = list(modules)
        for call in (*seen.attentions, *seen.feed_forwards):
            *outer, block = call.within
            for layer in set(outer) & set(layers):
                yield layers.index(layer), block


def _matrices(block: Layer) -> Iterator[tuple[Projection, Tensor]]:
    """What a block reads and writes with; K and V only if they are made of what it reads."""
    run, still = block.run(norms=False), block.run(zero=True, norms=False)
    call, last = (*run.seen.attentions, *run.seen.feed_forwards), still.seen
    ((seen,), (gave,)) = call, (*last.attentions, *last.feed_forwards)
    found: dict[Projection, Tensor] = {}
    for name, made in seen.made().items():
        try:
            found[name] = recover(run.streams[0], made)
        except AssertionError:
            if name not in MADE_ELSEWHERE:
                raise
    writer = Projection.O if isinstance(seen, Attention) else Projection.DOWN
    found[writer] = recover(gave.gave, last.last)
    if isinstance(seen, Attention) and Projection.V in found:
        assert seen.alone is not None
        found[Projection.OV] = found[Projection.O] @ recover(run.streams[0], seen.alone)
    yield from found.items()


def _gain(seen: Watch, block: nn.Module) -> Tensor:
    """How what a block was given depends on what went into the norm in front, over its RMS."""
    given = next(given for module, given in seen.entered if module is block)
    came = seen.before_norm(given)
    return recover(came / came.square().mean(-1, keepdim=True).sqrt(), given)


def _remember(calls: dict[nn.Module, Layer]) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
        calls.setdefault(module, Layer(module, dict(bound.arguments)))

    return hook
