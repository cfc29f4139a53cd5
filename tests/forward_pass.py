"""The matrices a model's forward pass uses, recovered from what goes into a block and what comes out of it.

No tensor's name is used.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
import transformers as hf
from tiny_models import Tiny
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers.activations import ACT2FN

from registry import Projection

Key = tuple[Projection, int]
Matrices = dict[Key, Tensor]
"""[out, in] by projection and layer."""

ACTIVATIONS = tuple({type(ACT2FN[name]) for name in ("gelu", "gelu_new", "gelu_pytorch_tanh", "silu")})


@dataclass
class Attention:
    """One call of attention: what its module read, the states made of it, and what attention gave."""

    read: Tensor
    query: Tensor
    key: Tensor
    value: Tensor
    gave: Tensor

    def made(self, kv_heads: int) -> dict[Projection, Tensor]:
        """What Q, K and V made of what was read."""
        key, value = (_own_heads(states, kv_heads) for states in (self.key, self.value))
        return {Projection.Q: self.query, Projection.K: key, Projection.V: value}


@dataclass
class FeedForward:
    """One call of an activation: what its module read, what was activated, by what the result was multiplied.

    `gave` is what went on from there; `factor` is None where nothing is multiplied.
    """

    read: Tensor
    activated: Tensor
    gave: Tensor
    factor: Tensor | None = None

    def made(self) -> dict[Projection, Tensor]:
        """What Gate and Up, or Up alone, made of what was read."""
        if self.factor is None:
            return {Projection.UP: self.activated}
        return {Projection.GATE: self.activated, Projection.UP: self.factor}


def _own_heads(states: Tensor, kv_heads: int) -> Tensor:
    """[batch, kv_heads, 1, width] from states that may have been repeated for each query head of a group."""
    groups = states.unflatten(1, (kv_heads, -1))
    assert (groups == groups[:, :, :1]).all()
    return groups[:, :, 0]


class Watch(TorchFunctionMode):
    """Watches a model's forward pass, and decides what attention and the feed-forward blocks' insides give.

    They give random numbers, whatever they are given; with `attend` attention is computed as ever, and
    activations give zeros. Norms on queries and keys pass their input through; without `norms` all do.
    """

    def __init__(self, model: nn.Module, *, attend: bool = False, norms: bool = True) -> None:
        super().__init__()
        self.attentions: list[Attention] = []
        self.feed_forwards: list[FeedForward] = []
        self.last: Tensor
        self._attend = attend
        self._norms = norms
        self._calls: list[tuple[nn.Module, Tensor | None]] = []
        self._normed: list[tuple[Tensor, Tensor]] = []
        self._hooks = [
            hook
            for module in model.modules()
            for hook in (
                module.register_forward_pre_hook(self._enter, with_kwargs=True),
                module.register_forward_hook(self._leave),
            )
        ]

    def __exit__(self, *exception: Any) -> None:
        for hook in self._hooks:
            hook.remove()
        super().__exit__(*exception)

    def before_norm(self, read: Tensor) -> Tensor:
        """What went into the norm that gave `read`; LookupError where no norm gave it."""
        for gave, came in self._normed:
            if gave is read:
                return came
        raise LookupError("no norm gave what was read")

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            return self._attention(*args, **kwargs)
        if getattr(func, "__name__", "") == "mul" and self._is_activated(args):
            return self._product(*args)
        return func(*args, **(kwargs or {}))

    def _attention(self, query: Tensor, key: Tensor, value: Tensor, **settings: Any) -> Tensor:
        if self._attend:
            gave = F.scaled_dot_product_attention(query, key, value, **settings)
        else:
            gave = torch.randn_like(query)
        self.attentions.append(Attention(self._caller_read(), query, key, value, gave))
        return gave

    def _activate(self, activated: Tensor) -> Tensor:
        gave = torch.zeros_like(activated) if self._attend else torch.randn_like(activated)
        self.feed_forwards.append(FeedForward(self._caller_read(), activated, gave))
        return gave

    def _is_activated(self, factors: tuple[Any, ...]) -> bool:
        return bool(self.feed_forwards) and any(one is self.feed_forwards[-1].gave for one in factors)

    def _product(self, left: Tensor, right: Tensor) -> Tensor:
        last = self.feed_forwards[-1]
        last.factor = right if left is last.gave else left
        return last.gave

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        tensors = (one for one in (*args, *kwargs.values()) if isinstance(one, Tensor))
        self._calls.append((module, next(tensors, None)))

    def _leave(self, module: nn.Module, args: Any, output: Any) -> Tensor | None:
        _, came = self._calls.pop()
        if isinstance(module, ACTIVATIONS):
            assert came is not None
            return self._activate(came)
        if "Norm" in type(module).__name__ and came is not None:
            if self._passes_through():
                return came
            self._normed.append((output, came))
        return None

    def _passes_through(self) -> bool:
        return not self._norms or "Attention" in type(self._calls[-1][0]).__name__

    def _caller_read(self) -> Tensor:
        read = self._calls[-1][1]
        assert read is not None
        return read


@dataclass(frozen=True)
class Computed:
    """The matrices a model multiplies with: as stored, and with the norm in front taken in."""

    stored: Matrices
    folded: Matrices


def compute(tiny: Tiny, model: hf.PreTrainedModel) -> Computed:
    """Recover every projection of a model from its forward pass, in float64."""
    model = model.double()
    ov, writing = composites(tiny, model), _writers(tiny, model)
    stored = ov | writing | {key: recover(read, written) for key, read, written in _readers(tiny, model)}
    if tiny.norm is None:
        return Computed(stored, stored)
    return Computed(stored, _fold(tiny, model, ov) | writing)


def composites(tiny: Tiny, model: hf.PreTrainedModel) -> Matrices:
    """What attention adds to the residual stream of a token that sees only itself, layer by layer."""
    seen = watch(model, random_stream(model), attend=True, norms=False)
    stream = [*(attention.read for attention in seen.attentions), seen.last]
    return {
        (Projection.OV, layer): recover(stream[layer], stream[layer + 1] - stream[layer])
        / tiny.residual_scale
        for layer in range(len(seen.attentions))
    }


def _readers(tiny: Tiny, model: hf.PreTrainedModel) -> Iterator[tuple[Key, Tensor, Tensor]]:
    """What Q, K, V, Gate and Up read and what came of it, with nothing but them in between.

    Without norms: a LayerNorm's output spans all but one dimension, so the last would stay unseen.
    """
    seen = watch(model, random_stream(model), norms=False)
    for layer, (attention, feed) in enumerate(zip(seen.attentions, seen.feed_forwards, strict=True)):
        for read, made in ((attention.read, attention.made(tiny.kv_heads)), (feed.read, feed.made())):
            for projection, written in made.items():
                yield (projection, layer), read, written


def _fold(tiny: Tiny, model: hf.PreTrainedModel, ov: Matrices) -> Matrices:
    """The readers as maps of the residual stream, once that is divided by what the norm divides it by."""
    seen = watch(model, random_stream(model))
    folded = {}
    for layer, (attention, feed) in enumerate(zip(seen.attentions, seen.feed_forwards, strict=True)):
        for call, made in ((attention, attention.made(tiny.kv_heads)), (feed, feed.made())):
            stream = _divided(seen.before_norm(call.read), tiny.norm)
            folded |= {(name, layer): recover(stream, written) for name, written in made.items()}
        gain = recover(_divided(seen.before_norm(attention.read), tiny.norm), attention.read)
        folded[Projection.OV, layer] = ov[Projection.OV, layer] @ gain
    return folded


def _divided(stream: Tensor, norm: Literal["rms", "layer"] | None) -> Tensor:
    """The stream over its RMS or its standard deviation; epsilon, 1e-5 at most, is left to the tolerance."""
    centred = stream - stream.mean(-1, keepdim=True) if norm == "layer" else stream
    return stream / centred.square().mean(-1, keepdim=True).sqrt()


def _writers(tiny: Tiny, model: hf.PreTrainedModel) -> Matrices:
    """O and Down: how the last residual stream depends on what the blocks' insides gave."""
    seen = watch(model, torch.zeros_like(random_stream(model)), norms=False)
    gave = {(Projection.O, layer): one.gave.flatten(1) for layer, one in enumerate(seen.attentions)}
    gave |= {(Projection.DOWN, layer): one.gave.flatten(1) for layer, one in enumerate(seen.feed_forwards)}
    matrices = recover(torch.cat(list(gave.values()), dim=1), seen.last) / tiny.residual_scale
    parts = matrices.split([one.shape[1] for one in gave.values()], dim=1)
    return dict(zip(gave, parts, strict=True))


def watch(model: hf.PreTrainedModel, stream: Tensor, **choices: bool) -> Watch:
    """One pass of one token each, at position 0, where the rotary embedding does nothing."""
    with torch.no_grad(), Watch(model, **choices) as seen:
        seen.last = model.base_model(inputs_embeds=stream, use_cache=False).last_hidden_state
    layers = model.config.get_text_config().num_hidden_layers
    assert len(seen.attentions) == len(seen.feed_forwards) == layers
    return seen


def random_stream(model: hf.PreTrainedModel) -> Tensor:
    """[batch, 1, hidden], of more rows than there are unknowns."""
    config = model.config.get_text_config()
    generator = torch.Generator().manual_seed(1)
    rows = 170 * config.num_hidden_layers
    return torch.randn(rows, 1, config.hidden_size, generator=generator, dtype=torch.float64)


def recover(given: Tensor, made: Tensor) -> Tensor:
    """The matrix [out, in] of the affine map from the rows of `given` to those of `made`.

    AssertionError where they determine none, or where there is none.
    """
    given, made = given.flatten(1), made.flatten(1)
    given, made = given - given.mean(0), made - made.mean(0)
    found = torch.linalg.lstsq(given, made, driver="gelsd")
    assert found.rank == given.shape[1], "the inputs do not span their space"
    torch.testing.assert_close(given @ found.solution, made, rtol=0, atol=1e-4 * float(made.abs().max()))
    return found.solution.T
