"""Watches a forward pass, and decides what attention and the feed-forward blocks' insides give.

No tensor's name is used: what is watched are calls of modules, attention, activations and products.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from fnmatch import fnmatchcase
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
import transformers as hf
from calls import Attention, Call, FeedForward, Frame, Roles, alone, by_token, is_same
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers.activations import ACT2CLS
from transformers.integrations.moe import ExpertsInterface
from transformers.models.bloom.modeling_bloom import BloomGelu

NO_ACTIVATIONS = ("linear", "sigmoid", "tanh")
ACTIVATIONS = (
    *(
        cls[0] if isinstance(cls, tuple) else cls
        for name, cls in ACT2CLS.items()
        if name not in NO_ACTIVATIONS
    ),
    nn.GELU,
    BloomGelu,
)
ACTIVATING = {F.silu, F.gelu, F.relu, torch.relu, Tensor.relu, F.relu6, F.leaky_relu, F.mish, F.hardswish}
SIGMOIDS = {F.sigmoid, torch.sigmoid, Tensor.sigmoid}
PRODUCTS = {"mul", "__mul__", "__rmul__", "multiply"}
POWERS = {"pow", "square", "__pow__"}
MATRIX_PRODUCTS = {"matmul", "__matmul__", "bmm", "baddbmm"}
EXPERTS = ("*Experts",)
"""Classes of modules that hold all routed experts of a layer."""

OTHER_MIXERS = (
    "*Mamba*Mixer*",
    "*Mamba2Layer",
    "*GatedDelta*",
    "*LightningAttention",
    "*ShortConv",
    "*RecurrentBlock",
)
"""Classes of modules that mix tokens in another way than attention, and are no projections of ours."""


class Watch(TorchFunctionMode):
    """Watches the calls of a module's submodules, and its own.

    Attention and activations give random numbers, whatever they are given; with `attend` attention gives each
    token its own value, and activations zeros. Sigmoids, which are gates, give ones. Norms on queries and
    keys pass their input through, those of a latent multiply it with their gain; without `norms` all others
    pass theirs through. Modules of the classes `silent` (globs) give zeros, and what is called in them is
    not seen.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        attend: bool = False,
        norms: bool = True,
        silent: tuple[str, ...] = (*EXPERTS, *OTHER_MIXERS),
        roles: Roles | None = None,
    ) -> None:
        super().__init__()
        self.attentions: list[Attention] = []
        self.feed_forwards: list[FeedForward] = []
        self.silenced: list[Call] = []
        self.last: Tensor
        self._attend = attend
        self._norms = norms
        self._silent = silent
        self._roles = roles
        self._frames: list[Frame] = []
        self.normed: list[tuple[nn.Module, nn.Module, Tensor, Tensor]] = []
        self.entered: list[tuple[nn.Module, Tensor]] = []
        self._products: list[tuple[Frame, Tensor, Tensor, torch.Size]] = []
        self._scores: tuple[Frame, Tensor, Tensor] | None = None
        self._sigmoids: list[tuple[Tensor, Tensor]] = []
        self._patches = ExitStack()
        self._hooks = [
            hook
            for one in module.modules()
            if not isinstance(one, nn.Softmax)
            for hook in (
                one.register_forward_pre_hook(self._enter, with_kwargs=True),
                one.register_forward_hook(self._leave),
            )
        ]

    def __enter__(self) -> "Watch":
        attention = patch.object(hf.AttentionInterface, "get_interface", lambda *_: self._interface)
        experts = patch.object(ExpertsInterface, "get_interface", lambda _, name, default: default)
        self._patches.enter_context(attention)
        self._patches.enter_context(experts)
        self._patches.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float64)
        super().__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        for hook in self._hooks:
            hook.remove()
        self._patches.close()
        super().__exit__(*exception)

    def before_norm(self, read: Tensor) -> Tensor:
        """What went into the norm that gave `read`; LookupError where no norm gave it."""
        for _, _, gave, came in self.normed:
            if is_same(gave, read):
                return came
        raise LookupError("no norm gave what was read")

    def roles(self) -> Roles:
        """After a pass with every norm on: a latent's norm is called where attention is, and read there.

        A norm of what attention gave is none.
        """
        attending = frozenset(call.within[-1] for call in self.attentions)
        latent = {
            norm: _gain(norm, came, gave)
            for caller, norm, gave, came in self.normed
            for reader, given in self.entered
            if caller in attending
            and reader in caller.children()
            and "Norm" not in type(reader).__name__
            and is_same(gave, given)
            and not any(_is_equal(came, call.gave) for call in self.attentions)
        }
        return Roles(attending, latent)

    # ------------------------------------------------------------------------------------------ functions

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        func, args, kwargs = _in_float64(func, args, kwargs or {})
        if not self._frames or isinstance(self._frames[-1].module, ACTIVATIONS):
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if func is F.scaled_dot_product_attention:
            return self._attention(*_first(args, kwargs, "query", "key", "value"))
        if func is F.multi_head_attention_forward and kwargs.get("use_separate_proj_weight"):
            return self._many_headed(inspect.signature(func).bind(*args, **kwargs).arguments)
        if func in ACTIVATING and _is_floating(args):
            return self._activate(args[0])
        if func in SIGMOIDS:
            self._sigmoids.append((args[0], torch.ones_like(args[0])))
            return self._sigmoids[-1][1]
        if name in PRODUCTS and (result := self._multiplied(*args)) is not None:
            return result
        if name in POWERS and self._is_activated(args[0]):
            return args[0]
        if name == "softmax":
            return self._softmax(func(*args, **kwargs))
        if name in MATRIX_PRODUCTS:
            return self._matrix_product(func, args, kwargs)
        return func(*args, **kwargs)

    def _interface(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any
    ) -> Any:
        return self._attention(query, key, value).transpose(1, 2), None

    def _attention(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        by_itself = alone(query.shape[1], key, value)
        gave = torch.randn(*query.shape[:3], value.shape[-1], dtype=query.dtype)
        if self._attend:
            assert gave.shape == by_itself.shape, "there are other tokens than those that attend"
            gave = by_itself
        if not self._is_silent():
            states = (query, key, value, by_token(gave), by_token(by_itself))
            self.attentions.append(Attention(*self._called(), *states))
        return gave

    def _many_headed(self, given: Mapping[str, Any]) -> tuple[Tensor, None]:
        """PyTorch's attention of many heads written out: into the one function it is, nothing can be seen."""
        biases = given["in_proj_bias"].chunk(3)
        states = (
            F.linear(given[name], given[f"{name[0]}_proj_weight"], bias)
            .unflatten(-1, (given["num_heads"], -1))
            .permute(1, 2, 0, 3)
            for name, bias in zip(("query", "key", "value"), biases, strict=True)
        )
        gave = self._attention(*states).permute(2, 0, 1, 3).flatten(2)
        return F.linear(gave, given["out_proj_weight"], given["out_proj_bias"]), None

    def _activate(self, activated: Tensor) -> Tensor:
        gave = torch.zeros_like(activated) if self._attend else torch.randn_like(activated)
        if not self._is_silent():
            self.feed_forwards.append(FeedForward(*self._called(activated), activated, gave))
        return gave

    def _is_activated(self, one: Any) -> bool:
        return (
            bool(self.feed_forwards) and isinstance(one, Tensor) and is_same(self.feed_forwards[-1].gave, one)
        )

    def _multiplied(self, left: Any, right: Any, *_: Any) -> Tensor | None:
        """What a product with an activation's or a sigmoid's output gives; None where it is neither."""
        if not isinstance(left, Tensor) or not isinstance(right, Tensor) or left.shape != right.shape:
            return None
        for one, other in ((left, right), (right, left)):
            if self._is_activated(one):
                self.feed_forwards[-1].factor = other
                return one
            for given, gave in self._sigmoids:
                if gave is one and _are_proportional(other, given):
                    return self._activate(other)
        return None

    def _matrix_product(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Any:
        made = func(*args, **kwargs)
        left, right = args[-2:] if len(args) > 1 else (args[0], None)
        if "batch1" in kwargs:
            left, right = kwargs["batch1"], kwargs["batch2"]
        if not isinstance(right, Tensor) or right.dim() < 3 or left.dim() < 3:
            return made
        if self._scores is not None and self._scores[0] is self._frames[-1]:
            _, query, key = self._scores
            self._scores = None
            batch = self._frames[-1].given[0].shape[0]
            shaped = (one if one.dim() == 4 else one.unflatten(0, (batch, -1)) for one in (query, key, right))
            return self._attention(*shaped).reshape(made.shape)
        self._products.append((self._frames[-1], left, right.transpose(-1, -2), made.shape))
        return made

    def _softmax(self, made: Tensor) -> Tensor:
        """Its scores are the last product as large here: others may be of positions."""
        for frame, query, key, shape in reversed(self._products):
            if frame is self._frames[-1] and made.numel() == shape.numel():
                self._scores = (frame, query, key)
                self._products.clear()
                break
        return made

    # -------------------------------------------------------------------------------------------- modules

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        given = [
            one for one in (*args, *kwargs.values()) if isinstance(one, Tensor) and one.is_floating_point()
        ]
        if self._frames and not isinstance(module, ACTIVATIONS):
            self._frames[-1].inside[:0] = given[:1]
        self._frames.append(Frame(module, given))
        if given:
            self.entered.append((module, given[0]))

    def _leave(self, module: nn.Module, args: Any, output: Any) -> Any:
        if self._is_called_silent(module):
            self.silenced.append(Call(*self._called()))
            self._frames.pop()
            return _silenced(output)
        frame = self._frames.pop()
        if isinstance(module, ACTIVATIONS):
            return self._activate(frame.given[0])
        if "LayerScale" in type(module).__name__:
            return frame.given[0]
        if _is_norm(module) and frame.given and isinstance(output, Tensor):
            return self._norm(module, frame.given[0], output)
        return None

    def _norm(self, norm: nn.Module, came: Tensor, gave: Tensor) -> Tensor | None:
        if self._roles and norm in self._roles.latent:
            return came * self._roles.latent[norm]
        if not self._norms or self._is_on_states(came):
            return came
        self.normed.append((self._frames[-1].module, norm, gave, came))
        return None

    def _is_on_states(self, came: Tensor) -> bool:
        """Whether a norm is on queries or keys: called where attention is, not on what is read there."""
        caller = self._frames[-1]
        if self._roles is None:
            return "Attention" in type(caller.module).__name__
        return caller.module in self._roles.attending and not any(is_same(came, one) for one in caller.given)

    def _called(self, made: Tensor | None = None) -> tuple[tuple[nn.Module, ...], tuple[Tensor, ...]]:
        """The modules that are being called, outermost first, and what they were given, innermost first."""
        reads = [one for frame in reversed(self._frames) for one in frame.given]
        reads += [one for frame in reversed(self._frames) for one in frame.inside]
        if made is not None:
            reads = [one for one in reads if one.data_ptr() != made.data_ptr()]
        return tuple(frame.module for frame in self._frames), tuple(reads)

    def _is_called_silent(self, module: nn.Module) -> bool:
        return any(fnmatchcase(type(module).__name__, glob) for glob in self._silent)

    def _is_silent(self) -> bool:
        return any(self._is_called_silent(frame.module) for frame in self._frames)


def _gain(norm: nn.Module, came: Tensor, gave: Tensor) -> Tensor:
    """An RMS norm's gain, by its weight: as it is or plus one, whichever explains its output."""
    direction = gave / (came / came.square().mean(-1, keepdim=True).sqrt())
    for gain in (one for weight in norm.parameters() for one in (weight, weight + 1)):
        if torch.allclose(direction, gain.expand_as(direction), rtol=1e-2):
            return gain
    raise AssertionError("a latent's norm has no such gain")


def _in_float64(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """The same function where it asks for float32: a model's shortcuts are not ours."""
    wide = {name: torch.float64 if one is torch.float32 else one for name, one in kwargs.items()}
    args = tuple(torch.float64 if one is torch.float32 else one for one in args)
    return Tensor.double if func is Tensor.float else func, args, wide


def _is_norm(module: nn.Module) -> bool:
    """By its class; a layer may be called after its norms too, and holds other modules than norms."""
    return all("Norm" in type(one).__name__ or isinstance(one, nn.ModuleList) for one in module.modules())


def _is_equal(one: Tensor, other: Tensor) -> bool:
    return one.numel() == other.numel() and torch.equal(one.flatten(), other.flatten())


def _are_proportional(one: Tensor, other: Tensor) -> bool:
    ratio = (one * other).sum() / one.square().sum()
    return bool(ratio > 0) and torch.allclose(ratio * one, other)


def _is_floating(args: tuple[Any, ...]) -> bool:
    return bool(args) and isinstance(args[0], Tensor) and args[0].is_floating_point()


def _first(args: tuple[Any, ...], kwargs: Mapping[str, Any], *names: str) -> Iterator[Any]:
    """Arguments by position or, past those, by name."""
    yield from args[: len(names)]
    yield from (kwargs[name] for name in names[len(args) :])


def _silenced(output: Any) -> Any:
    if isinstance(output, Tensor):
        return torch.zeros_like(output)
    return (torch.zeros_like(output[0]), *output[1:])
