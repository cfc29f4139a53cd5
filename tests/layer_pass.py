"""The layers of a model one by one: what each is called with, and its call alone, on random numbers."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import transformers as hf
from tiny_models import Tiny
from torch import Tensor, nn
from watching import EXPERTS, Watch

ROWS = 400
"""Tokens of a pass: more than a layer has unknowns."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A module of a list, and the arguments that it was called with."""

    module: nn.Module
    arguments: Mapping[str, Any]

    @property
    def stream(self) -> str:
        """The name of the argument that is the residual stream: the first tensor."""
        return next(name for name, value in self.arguments.items() if _is_states(value))

    def run(self, *, zero: bool = False, **choices: Any) -> "Run":
        """Call it alone, its residual stream all zeros or random; other states are random always."""
        generator = torch.Generator().manual_seed(1)
        arguments = {name: _neutral(name, value) for name, value in self.arguments.items()}
        streams = {}
        for name, value in arguments.items():
            if _is_states(value) and (name == self.stream or name.endswith("states")):
                streams[name] = torch.randn(value.shape, generator=generator, dtype=torch.float64)
                if zero and name == self.stream:
                    streams[name] = torch.zeros_like(streams[name])
        args, kwargs = _as_passed(self.module, arguments | streams)
        with torch.no_grad(), Watch(self.module, **choices) as seen:
            output = self.module(*args, **kwargs)
        seen.last = _tensor(output)
        return Run(seen, tuple(streams.values()))


@dataclass(frozen=True, eq=False)
class Run:
    """What was seen in a call of a layer, and the states it was given."""

    seen: Watch
    streams: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Layers:
    """The layers of a model, by the path of the list that they are in, and the lists that attend."""

    lists: Mapping[str, Mapping[int, Layer]]
    attending: tuple[str, ...]

    def of(self, path: str | None = None) -> Mapping[int, Layer]:
        """One list's layers by their number; by default those of the one list that has attention."""
        if path is None:
            assert len(self.attending) == 1, f"which of these is the stack? {', '.join(self.attending)}"
            path = self.attending[0]
        assert self.lists[path], f"{path} was not run"
        return self.lists[path]


def layers_of(tiny: Tiny, model: hf.PreTrainedModel) -> Layers:
    """What every layer is called with, when the model is run once."""
    lists = {
        name: list(module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList)
    }
    calls: dict[nn.Module, Layer] = {}
    hooks = [
        module.register_forward_pre_hook(_remember(calls), with_kwargs=True)
        for modules in lists.values()
        for module in modules
    ]
    with torch.no_grad(), Watch(model, silent=(*EXPERTS, *tiny.silent)) as seen:
        _run_whole(tiny, model)
    for hook in hooks:
        hook.remove()
    within = {module for call in seen.attentions for module in call.within}
    attending = [name for name, modules in lists.items() if within & set(modules)]
    return Layers(
        {
            name: {index: calls[module] for index, module in enumerate(modules) if module in calls}
            for name, modules in lists.items()
        },
        tuple(name for name in attending if not any(name.startswith(f"{other}.") for other in attending)),
    )


def _run_whole(tiny: Tiny, model: hf.PreTrainedModel) -> None:
    if tiny.inputs is not None:
        model(**tiny.inputs(ROWS))
    else:
        model.base_model(inputs_embeds=random_stream(model), use_cache=False)


def _remember(calls: dict[nn.Module, Layer]) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
        calls.setdefault(module, Layer(module, dict(bound.arguments)))

    return hook


def _as_passed(module: nn.Module, arguments: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    signature = inspect.signature(module.forward)
    bound = inspect.BoundArguments(signature, dict(arguments))  # type: ignore[arg-type]
    return bound.args, bound.kwargs


def _neutral(name: str, value: Any) -> Any:
    """An argument without memory of other tokens, without a rotation, and with all tokens in one sequence."""
    if "past_key_value" in name or "cache" in name:
        return None if not isinstance(value, bool) else value
    if name.startswith("cu_") and isinstance(value, Tensor):
        return value[[0, -1]]
    if isinstance(value, Mapping):
        return {inner: _neutral(inner, one) for inner, one in value.items()}
    if name.startswith("position_embeddings") and isinstance(value, tuple | list) and len(value) == 2:
        return torch.ones_like(value[0]), torch.zeros_like(value[1])
    return value


def _is_states(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.dim() in (2, 3)


def _tensor(output: Any) -> Tensor:
    while not isinstance(output, Tensor):
        output = output[0]
    return output


def random_stream(model: hf.PreTrainedModel) -> Tensor:
    """[tokens, 1, hidden]: one token each, at position 0, where the rotary embedding does nothing."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(
        ROWS, 1, model.config.get_text_config().hidden_size, generator=generator, dtype=torch.float64
    )


def watch(model: hf.PreTrainedModel, stream: Tensor, **choices: Any) -> Watch:
    """A pass through all of a model."""
    with torch.no_grad(), Watch(model, **choices) as seen:
        seen.last = model.base_model(inputs_embeds=stream, use_cache=False).last_hidden_state
    return seen
