"""The matrices a model's forward pass uses, recovered from what goes into a block and what comes out of it.

A model is run once, to see what each of its layers is given; then every layer is run alone, on random
numbers. No tensor's name is used.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import transformers as hf
from affine import recover, recover_any, residue, which_gives
from calls import Attention, FeedForward, Roles, is_same
from expert_pass import expert_matrices, experts_in
from layer_pass import Layer, Layers, Run, layers_of
from tiny_models import Tiny
from torch import Tensor, nn
from watching import EXPERTS, OTHER_MIXERS

from registry import Projection

Key = tuple[Projection, int] | tuple[Projection, int, int]
Matrices = dict[Key, Tensor]
"""[out, in] by projection and layer, of a routed expert also by its number."""

SHARED = {
    Projection.GATE: Projection.SHARED_GATE,
    Projection.UP: Projection.SHARED_UP,
    Projection.DOWN: Projection.SHARED_DOWN,
}


@dataclass(frozen=True)
class Computed:
    """The matrices a model multiplies with: as stored, and with the norm in front taken in."""

    stored: Matrices
    folded: Matrices


def compute(tiny: Tiny, model: hf.PreTrainedModel, stack: str | None = None) -> Computed:
    """Recover every projection of a stack from its layers' forward passes, in float64.

    `stack` is the path of its list of layers in the model, followed by " cross" where its cross-attention is
    meant; it may be left out where one list only has attention.
    """
    return _compute(tiny, layers_of(tiny, model.double()), stack)


def compute_stacks(tiny: Tiny, model: hf.PreTrainedModel) -> dict[str, Computed]:
    """The same by the declared name of each stack, for the stacks that `tiny` names."""
    layers = layers_of(tiny, model.double())
    return {name: _compute(tiny, layers, stack) for name, stack in tiny.stacks.items()}


def composites(tiny: Tiny, model: hf.PreTrainedModel) -> Matrices:
    """What attention adds to the residual stream of a token that sees only itself, layer by layer."""
    return {
        (Projection.OV, index): _Layer(tiny, layer, cross=False).adds_attending()
        for index, layer in layers_of(tiny, model.double()).of().items()
    }


def _compute(tiny: Tiny, layers: Layers, stack: str | None) -> Computed:
    path, _, kind = (stack or "").partition(" ")
    stored: Matrices = {}
    folded: Matrices = {}
    for index, layer in layers.of(path or None).items():
        found = _Layer(tiny, layer, cross=kind == "cross")
        stored |= {_key(name, index): matrix for name, matrix in found.stored.items()}
        folded |= {_key(name, index): matrix for name, matrix in found.folded().items()}
    return Computed(stored, folded)


Local = tuple[Projection] | tuple[Projection, int]


def _key(name: Local, layer: int) -> Key:
    return (name[0], layer) if len(name) == 1 else (name[0], layer, name[1])


class _Layer:
    """One layer's matrices, or with `cross` those of its cross-attention."""

    def __init__(self, tiny: Tiny, layer: Layer, *, cross: bool) -> None:
        self._tiny = tiny
        self._layer = layer
        self._cross = cross
        self._silent = (*EXPERTS, *OTHER_MIXERS, *tiny.silent)
        self._roles = Roles()
        self._roles = self._run().seen.roles()
        self._plain = self._run(norms=False)
        self._crossing = [_reads_two(call) for call in self._plain.seen.attentions]

    def _run(self, **choices: Any) -> Run:
        return self._layer.run(silent=self._silent, roles=self._roles, **choices)

    @cached_property
    def stored(self) -> dict[Local, Tensor]:
        """Every projection without norms: a LayerNorm's output spans all but one dimension."""
        run = self._plain
        found: dict[Local, Tensor] = {}
        for call in self._calls(run):
            for name, made in self._made(call).items():
                found[(name,)] = recover_any(call.reads[::-1], made)[1] / self._scale(name)
        writers = self._writers()
        found |= writers
        for call in self._calls(run):
            if isinstance(call, Attention):
                alone = recover_any(call.reads[::-1], call.alone)[1] / self._scale(Projection.V)
                found[(Projection.OV,)] = writers[(Projection.O,)] @ alone
        return found | self._experts()

    def folded(self) -> dict[Local, Tensor]:
        """Readers as maps of the residual stream, once that is divided by what the norm divides it by."""
        stored = self.stored
        if self._tiny.norm is None:
            return stored
        run = self._run()
        folded = dict(stored)
        for call in self._calls(run):
            for name, made in self._made(call).items():
                read, factor = which_gives(stored[(name,)] * self._scale(name), call.reads, made)
                gain = factor * self._gain(run, read)
                folded[(name,)] = stored[(name,)] @ gain
                if name is Projection.V and (Projection.OV,) in stored:
                    folded[(Projection.OV,)] = stored[(Projection.OV,)] @ gain
        for name, matrix in stored.items():
            if len(name) == 2 and name[0] is not Projection.DOWN:
                folded[name] = matrix @ self._gain(run, self._read_by_experts(run))
        return folded

    def adds_attending(self) -> Tensor:
        """What a layer adds to the residual stream where the feed-forward block's inside gives zeros."""
        run = self._run(attend=True, norms=False)
        stream = run.streams[0]
        return recover(stream, run.seen.last - stream) / self._scale(Projection.O)

    def _calls(self, run: Run) -> Iterator[Attention | FeedForward]:
        calls = [
            call for call, two in zip(run.seen.attentions, self._crossing, strict=True) if two == self._cross
        ]
        assert len(calls) <= 1, "a layer attends once"
        yield from calls
        if not self._cross:
            assert len(run.seen.feed_forwards) <= 1, "a layer has one dense feed-forward block"
            yield from run.seen.feed_forwards

    def _made(self, call: Attention | FeedForward) -> dict[Projection, Tensor]:
        made = call.made()
        if isinstance(call, Attention):
            if self._tiny.rope_pairs:
                for name, states in ((Projection.Q, call.query), (Projection.K, call.key)):
                    made[name] = _in_pairs(made[name], states.shape[-1], self._tiny.rope_pairs)
            return made
        return {self._named(name): states for name, states in made.items()}

    def _named(self, name: Projection) -> Projection:
        """Beside routed experts a feed-forward block is a shared one."""
        return SHARED[name] if self._expert_modules and name in SHARED else name

    def _scale(self, name: Projection) -> float:
        writes = name in (Projection.O, Projection.DOWN, Projection.SHARED_DOWN)
        return self._tiny.scales.get(name, self._tiny.residual_scale if writes else 1.0)

    def _writers(self) -> dict[Local, Tensor]:
        """O and Down: how the layer's output depends on what the blocks' insides gave."""
        run = self._run(zero=True, norms=False)
        gave = {call: call.gave.flatten(0, -2) for call in (*run.seen.attentions, *run.seen.feed_forwards)}
        if not gave:
            return {}
        matrix = recover(torch.cat(list(gave.values()), dim=1), run.seen.last)
        parts = dict(zip(gave, matrix.split([one.shape[1] for one in gave.values()], dim=1), strict=True))
        names = {
            call: Projection.O if isinstance(call, Attention) else self._named(Projection.DOWN)
            for call in self._calls(run)
        }
        return {(name,): parts[call] / self._scale(name) for call, name in names.items()}

    @cached_property
    def _expert_modules(self) -> list[nn.Module]:
        return experts_in(self._layer.module)

    def _experts(self) -> dict[Local, Tensor]:
        if self._cross:
            return {}
        hidden = self._layer.arguments[self._layer.stream].shape[-1]
        return {
            key: one
            for module in self._expert_modules
            for key, one in expert_matrices(module, hidden).items()
        }

    def _gain(self, run: Run, read: Tensor) -> Tensor:
        """How what is read depends on the residual stream, once that is divided."""
        try:
            came = [run.seen.before_norm(read)]
        except LookupError:
            came = [came for _, _, _, came in run.seen.normed]
        try:
            divided = [over(states) for states in came for over in (_over_rms, _over_deviation)]
            return recover_any(divided, read)[1]
        except AssertionError:
            self._assert_unnormed(run, read)
            return torch.eye(read.shape[-1], dtype=read.dtype)

    def _assert_unnormed(self, run: Run, read: Tensor) -> None:
        """What no norm gave depends linearly on what did not come out of a norm, and on what did."""
        if any(is_same(read, stream) for stream in run.streams):
            return
        came = [*run.streams, *(gave for _, _, gave, _ in run.seen.normed)]
        came += [call.gave for call in (*run.seen.attentions, *run.seen.feed_forwards)]
        rows = [
            one.flatten(0, -2)
            for one in came
            if one.numel() // one.shape[-1] == read.numel() // read.shape[-1]
        ]
        given, made = torch.cat(rows, dim=1), read.flatten(0, -2)
        assert residue(given, made) < 1e-4, "something other than a norm is in front"

    def _read_by_experts(self, run: Run) -> Tensor:
        modules = set(self._expert_modules)
        call = next(call for call in run.seen.silenced if call.within[-1] in modules)
        for read in call.reads:
            try:
                run.seen.before_norm(read)
            except LookupError:
                continue
            return read
        return call.reads[0]


def _reads_two(call: Attention) -> bool:
    """Whether keys are made of other states than queries."""
    made = call.made()
    read, _ = recover_any(call.reads[::-1], made[Projection.Q])
    try:
        recover_any((read,), made[Projection.K])
    except AssertionError:
        return True
    return False


def _in_pairs(made: Tensor, width: int, rotated: int) -> Tensor:
    """Rows as stored, of heads of which the last `rotated` are stored in pairs and used in halves."""
    heads = made.unflatten(-1, (-1, width)).clone()
    halves = heads[..., width - rotated :].unflatten(-1, (2, -1))
    heads[..., width - rotated :] = halves.transpose(-1, -2).flatten(-2)
    return heads.flatten(-2)


def _over_rms(stream: Tensor) -> Tensor:
    """What an RMS norm makes of the stream; epsilon, 1e-5 at most, is left to the tolerance."""
    return stream / stream.square().mean(-1, keepdim=True).sqrt()


def _over_deviation(stream: Tensor) -> Tensor:
    """What a LayerNorm makes of the stream before it takes the mean off; epsilon is left to the tolerance."""
    return stream / stream.var(-1, correction=0, keepdim=True).sqrt()
