"""Checkpoints typed by hand, of models that transformers has no code for: known matrices in their tensors.

What each tensor is called and how it is made of matrices was read in the published modelling code. So was
`split`, which does to the output of a fused tensor what that code does: it must give what the matrices give.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from forward_pass import Computed, Matrices
from torch import Tensor

from registry import Projection

Q, K, V, OV = Projection.Q, Projection.K, Projection.V, Projection.OV
O = Projection.O  # noqa: E741 - the field's own name
GATE, UP, DOWN = Projection.GATE, Projection.UP, Projection.DOWN
SHARED_GATE, SHARED_UP, SHARED_DOWN = Projection.SHARED_GATE, Projection.SHARED_UP, Projection.SHARED_DOWN

HIDDEN, LAYERS = 24, 3
Parts = dict[Projection, Tensor]
Tensors = dict[str, Tensor]
Norm = Literal["rms", "layer"]


@dataclass(frozen=True)
class Sizes:
    """One layer's heads, key-value heads, their width; its feed-forward blocks' widths; its experts."""

    heads: int = 6
    kv: int = 2
    head: int = 4
    inner: int = 44
    gated: bool = True
    experts: int = 0
    shared: int = 0
    hidden: int = HIDDEN


PLAIN = Sizes()
WIDE = Sizes(head=8)
UNGROUPED = Sizes(kv=6)
UNGATED = Sizes(kv=6, gated=False)


@dataclass(frozen=True)
class Layer:
    """One layer's matrices, [out, in], its experts' apart, and the gains of the norms in front of them."""

    sizes: Sizes
    matrices: Parts
    experts: tuple[Parts, ...]
    attention_gain: Tensor
    ffn_gain: Tensor
    experts_gain: Tensor

    def __getitem__(self, projection: Projection) -> Tensor:
        """A matrix that is no expert's."""
        return self.matrices[projection]

    def stored(self, index: int) -> Matrices:
        """What an audit should find in a layer of this number; O and V composed head by head."""
        return self._keyed(self.matrices, self.experts, self[V], index)

    def folded(self, norm: Norm | None, index: int) -> Matrices:
        """The same with the norm in front taken into the readers."""
        if norm is None:
            return self.stored(index)
        matrices = self.matrices | {name: fold(self[name], self.attention_gain, norm) for name in (Q, K, V)}
        for name in (GATE, UP, SHARED_GATE, SHARED_UP):
            if name in matrices:
                matrices[name] = fold(self[name], self.ffn_gain, norm)
        experts = tuple(
            {
                name: weight if name is DOWN else fold(weight, self.experts_gain, norm)
                for name, weight in expert.items()
            }
            for expert in self.experts
        )
        return self._keyed(matrices, experts, matrices[V], index)

    def _keyed(self, matrices: Parts, experts: tuple[Parts, ...], value: Tensor, index: int) -> Matrices:
        keyed: Matrices = {(name, index): weight for name, weight in matrices.items()}
        for number, expert in enumerate(experts):
            keyed |= {(name, index, number): weight for name, weight in expert.items()}
        return keyed | {(OV, index): self._composed(value)}

    def _composed(self, value: Tensor) -> Tensor:
        groups = self.sizes.heads // self.sizes.kv
        per_head = value.unflatten(0, (self.sizes.kv, self.sizes.head)).repeat_interleave(groups, dim=0)
        return self[O].double() @ per_head.flatten(0, 1).double()


def fold(weight: Tensor, gain: Tensor, norm: Norm) -> Tensor:
    """weight . diag(gain); a LayerNorm takes the mean of its input off first."""
    scaled = weight.double() * gain.double()
    return scaled - scaled.mean(dim=1, keepdim=True) if norm == "layer" else scaled


@dataclass(frozen=True)
class Stack:
    """A numbered list of layers: its prefix, how one layer is stored, how its fused outputs are split.

    `sizes` are those of each layer. `one_norm`: attention and feed-forward block read the same norm's output;
    `own_norm`: the experts read one of their own.
    """

    prefix: str
    store: Callable[[Layer], Tensors]
    split: Callable[[Tensors, Sizes, Tensor], Parts] | None = None
    norm: Norm | None = "rms"
    sizes: Sequence[Sizes] = (PLAIN,) * LAYERS
    one_norm: bool = False
    own_norm: bool = False

    def layers(self) -> list[Layer]:
        """Every number random: gains around 1, matrices around 0."""
        generator = torch.Generator().manual_seed(0)
        return [self._layer(sizes, generator) for sizes in self.sizes]

    def computed(self) -> Computed:
        """Every matrix that was typed."""
        layers = list(enumerate(self.layers()))
        return Computed(
            {key: one for index, layer in layers for key, one in layer.stored(index).items()},
            {key: one for index, layer in layers for key, one in layer.folded(self.norm, index).items()},
        )

    def _layer(self, sizes: Sizes, generator: torch.Generator) -> Layer:
        def gain() -> Tensor:
            return torch.rand(sizes.hidden, generator=generator) + 0.5

        attention_gain, ffn_gain = gain(), gain()
        ffn_gain = attention_gain if self.one_norm else ffn_gain
        experts_gain = gain() if self.own_norm else ffn_gain
        matrices = _attention(sizes, generator)
        if not sizes.experts:
            matrices |= _feed_forward((GATE, UP, DOWN), sizes, sizes.inner, generator)
        if sizes.shared:
            names = (SHARED_GATE, SHARED_UP, SHARED_DOWN)
            matrices |= _feed_forward(names, sizes, sizes.shared, generator)
        experts = tuple(
            _feed_forward((GATE, UP, DOWN), sizes, sizes.inner, generator) for _ in range(sizes.experts)
        )
        return Layer(sizes, matrices, experts, attention_gain, ffn_gain, experts_gain)


def _matrix(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    return torch.randn(rows, columns, generator=generator) / 10


def _attention(sizes: Sizes, generator: torch.Generator) -> Parts:
    query, key = sizes.heads * sizes.head, sizes.kv * sizes.head
    shapes = {
        Q: (query, sizes.hidden),
        K: (key, sizes.hidden),
        V: (key, sizes.hidden),
        O: (sizes.hidden, query),
    }
    return {name: _matrix(*shape, generator) for name, shape in shapes.items()}


def _feed_forward(
    names: tuple[Projection, ...], sizes: Sizes, inner: int, generator: torch.Generator
) -> Parts:
    *readers, down = names if sizes.gated else names[1:]
    matrices = {name: _matrix(inner, sizes.hidden, generator) for name in readers}
    return matrices | {down: _matrix(sizes.hidden, inner, generator)}


@dataclass(frozen=True)
class Typed:
    """A checkpoint: its config.json, its stacks by the names their families give them, what lies around them.

    Of the tensors around the stacks only the shapes are known.
    """

    config: Mapping[str, Any]
    main: Stack
    around: Mapping[str, tuple[int, ...]]
    beside: Mapping[str, Stack] = field(default_factory=dict)

    @property
    def stacks(self) -> dict[str, Stack]:
        """The main one first, under no name."""
        return {"": self.main, **self.beside}

    def tensors(self) -> Tensors:
        """All that model.safetensors holds."""
        generator = torch.Generator().manual_seed(1)
        tensors = {name: torch.randn(shape, generator=generator) for name, shape in self.around.items()}
        for stack in self.stacks.values():
            for index, layer in enumerate(stack.layers()):
                prefix = stack.prefix.format(index)
                tensors |= {prefix + name: tensor.contiguous() for name, tensor in stack.store(layer).items()}
        return tensors


# ------------------------------------------------------------------------------- how fused outputs are split


def blocks(tensor: str, fused: Tensors, sizes: Sizes, x: Tensor) -> Parts:
    """Q, K and V one after the other, as torch.split takes them."""
    heights = [heads * sizes.head for heads in (sizes.heads, sizes.kv, sizes.kv)]
    query, key, value = (x @ fused[tensor].T).split(heights, dim=-1)
    return {Q: query, K: key, V: value}


def per_head(tensor: str, fused: Tensors, sizes: Sizes, x: Tensor) -> Parts:
    """Each head's query, key and value together."""
    mixed = (x @ fused[tensor].T).view(*x.shape[:-1], sizes.heads, 3 * sizes.head)
    query, key, value = mixed.split(sizes.head, dim=-1)
    return {Q: query.flatten(-2), K: key.flatten(-2), V: value.flatten(-2)}


def per_group(tensor: str, fused: Tensors, sizes: Sizes, x: Tensor) -> Parts:
    """Each key-value head's queries, then its key, then its value."""
    groups = sizes.heads // sizes.kv
    mixed = (x @ fused[tensor].T).view(*x.shape[:-1], sizes.kv, groups + 2, sizes.head)
    query, key, value = mixed[..., :groups, :], mixed[..., -2, :], mixed[..., -1, :]
    return {Q: query.flatten(-3), K: key.flatten(-2), V: value.flatten(-2)}


def halves(
    tensor: str, order: tuple[Projection, Projection], fused: Tensors, sizes: Sizes, x: Tensor
) -> Parts:
    """Two parts of a feed-forward block, as torch.chunk takes them."""
    return dict(zip(order, (x @ fused[tensor].T).chunk(2, dim=-1), strict=True))


def every_other(tensor: str, fused: Tensors, sizes: Sizes, x: Tensor) -> Parts:
    """The even channels are activated, and the odd ones multiplied with them."""
    mixed = x @ fused[tensor].T
    return {GATE: mixed[..., ::2], UP: mixed[..., 1::2]}


def both(*splits: Callable[[Tensors, Sizes, Tensor], Parts]) -> Callable[[Tensors, Sizes, Tensor], Parts]:
    """Of a layer with more than one fused tensor."""
    return lambda fused, sizes, x: {
        name: made for one in splits for name, made in one(fused, sizes, x).items()
    }


# ------------------------------------------------------------------------------------ how matrices are fused


def stack_heads(layer: Layer, *names: Projection) -> Tensor:
    """Key-value head by key-value head, the rows of each of these projections."""
    groups = [layer[name].unflatten(0, (layer.sizes.kv, -1)) for name in names]
    return torch.cat(groups, dim=1).flatten(0, 1)


def under(names: Mapping[Projection, str], layer: Layer) -> Tensors:
    """Matrices as they are, under these names."""
    return {
        f"{name}.weight": layer[projection]
        for projection, name in names.items()
        if projection in layer.matrices
    }


def gains(attention: str, ffn: str, layer: Layer, *, bias: bool = False) -> Tensors:
    """The weights of the two norms, and where they are LayerNorms their biases."""
    found = {f"{attention}.weight": layer.attention_gain, f"{ffn}.weight": layer.ffn_gain}
    return found | {name.replace("weight", "bias"): -gain for name, gain in found.items() if bias}


LLAMA_ATTENTION = {name: f"self_attn.{name.value.lower()}_proj" for name in (Q, K, V, O)}
LLAMA_FFN = {GATE: "mlp.gate_proj", UP: "mlp.up_proj", DOWN: "mlp.down_proj"}
LLAMA = LLAMA_ATTENTION | LLAMA_FFN
LLAMA_NORMS = ("input_layernorm", "post_attention_layernorm")


def store_llama(layer: Layer, *, norms: tuple[str, str] = LLAMA_NORMS, bias: bool = False) -> Tensors:
    """Llama's names; with `bias` the norms have some."""
    return under(LLAMA, layer) | gains(*norms, layer, bias=bias)


def llama_like(model_type: str, *, sizes: Sequence[Sizes] = (PLAIN,) * LAYERS, **config: Any) -> Typed:
    """A model with Llama's tensors and config keys."""
    keys = {
        "num_hidden_layers": LAYERS,
        "hidden_size": HIDDEN,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
    }
    keys |= {"model_type": model_type, "intermediate_size": 44} | config
    return Typed(keys, Stack("model.layers.{}.", store_llama, sizes=sizes), AROUND_LLAMA)


AROUND_LLAMA = {
    "model.embed_tokens.weight": (32, HIDDEN),
    "model.norm.weight": (HIDDEN,),
    "lm_head.weight": (32, HIDDEN),
    "model.layers.0.self_attn.rotary_emb.inv_freq": (2,),
}


def with_layernorms(typed: Typed) -> Typed:
    """The same model with LayerNorms."""
    stack = Stack("model.layers.{}.", partial(store_llama, bias=True), norm="layer")
    return Typed(typed.config, stack, AROUND_LLAMA)


# ------------------------------------------------------------------------------------------------ the models


def _store_chatglm(layer: Layer) -> Tensors:
    plain = under({O: "self_attention.dense", DOWN: "mlp.dense_4h_to_h"}, layer) | gains(*LLAMA_NORMS, layer)
    qkv = torch.cat([layer[Q], layer[K], layer[V]])
    return plain | {
        "self_attention.query_key_value.weight": qkv,
        "self_attention.query_key_value.bias": torch.ones(len(qkv)),
        "mlp.dense_h_to_4h.weight": torch.cat([layer[GATE], layer[UP]]),
    }


def _store_chatglm_6b(layer: Layer) -> Tensors:
    names = {O: "attention.dense", UP: "mlp.dense_h_to_4h", DOWN: "mlp.dense_4h_to_h"}
    fused = {"attention.query_key_value.weight": stack_heads(layer, Q, K, V)}
    return under(names, layer) | gains(*LLAMA_NORMS, layer, bias=True) | fused


def _store_glm4v_tower(layer: Layer) -> Tensors:
    names = {O: "attention.dense", UP: "mlp.fc1", DOWN: "mlp.fc2"}
    fused = {"attention.query_key_value.weight": torch.cat([layer[Q], layer[K], layer[V]])}
    return under(names, layer) | gains(*LLAMA_NORMS, layer, bias=True) | fused


CHATGLM = {"model_type": "chatglm", "num_layers": LAYERS, "hidden_size": HIDDEN, "num_attention_heads": 6}
CHATGLM2 = CHATGLM | {"multi_query_attention": True, "multi_query_group_num": 2, "kv_channels": 8}
CHATGLM2 |= {"ffn_hidden_size": 44, "rmsnorm": True, "padded_vocab_size": 32}
AROUND_CHATGLM = {
    "transformer.embedding.word_embeddings.weight": (32, HIDDEN),
    "transformer.rotary_pos_emb.inv_freq": (2,),
    "transformer.encoder.final_layernorm.weight": (HIDDEN,),
    "transformer.output_layer.weight": (32, HIDDEN),
}
AROUND_GLM4V = AROUND_CHATGLM | {
    "transformer.vision.patch_embedding.cls_embedding": (1, 18),
    "transformer.vision.patch_embedding.position_embedding.weight": (5, 18),
    "transformer.vision.patch_embedding.proj.weight": (18, 3, 4, 4),
    "transformer.vision.boi": (1, 1, HIDDEN),
    "transformer.vision.eoi": (1, 1, HIDDEN),
    "transformer.vision.conv.weight": (HIDDEN, 18, 2, 2),
    "transformer.vision.linear_proj.linear_proj.weight": (HIDDEN, HIDDEN),
    "transformer.vision.linear_proj.gate_proj.weight": (44, HIDDEN),
    "transformer.vision.linear_proj.dense_h_to_4h.weight": (44, HIDDEN),
    "transformer.vision.linear_proj.dense_4h_to_h.weight": (HIDDEN, 44),
}
CHATGLM2_STACK = Stack(
    "transformer.encoder.layers.{}.",
    _store_chatglm,
    both(
        partial(blocks, "self_attention.query_key_value.weight"),
        partial(halves, "mlp.dense_h_to_4h.weight", (GATE, UP)),
    ),
    sizes=(WIDE,) * LAYERS,
)
TOWER = Sizes(heads=3, kv=3, head=6, inner=30, gated=False, hidden=18)


def _store_internlm2(layer: Layer) -> Tensors:
    names = {O: "attention.wo", GATE: "feed_forward.w1", UP: "feed_forward.w3", DOWN: "feed_forward.w2"}
    fused = {"attention.wqkv.weight": stack_heads(layer, Q, K, V)}
    return under(names, layer) | gains("attention_norm", "ffn_norm", layer) | fused


def _store_baichuan(layer: Layer) -> Tensors:
    names = LLAMA_FFN | {O: "self_attn.o_proj"}
    fused = {"self_attn.W_pack.weight": torch.cat([layer[Q], layer[K], layer[V]])}
    return under(names, layer) | gains(*LLAMA_NORMS, layer) | fused


def _split_baichuan(fused: Tensors, sizes: Sizes, x: Tensor) -> Parts:
    query, key, value = (x @ fused["self_attn.W_pack.weight"].T).unflatten(-1, (3, sizes.hidden)).unbind(-2)
    return {Q: query, K: key, V: value}


def _store_qwen(layer: Layer) -> Tensors:
    names = {O: "attn.c_proj", UP: "mlp.w1", GATE: "mlp.w2", DOWN: "mlp.c_proj"}
    fused = {"attn.c_attn.weight": torch.cat([layer[Q], layer[K], layer[V]])}
    return under(names, layer) | gains("ln_1", "ln_2", layer) | fused


def _store_qwen_vision(layer: Layer) -> Tensors:
    names = {O: "attn.out_proj", UP: "mlp.c_fc", DOWN: "mlp.c_proj"}
    fused = {"attn.in_proj.weight": stack_heads(layer, Q, K, V)}
    return under(names, layer) | gains("ln_1", "ln_2", layer, bias=True) | fused


def _store_qwen_audio(layer: Layer) -> Tensors:
    names = {Q: "attn.query", K: "attn.key", V: "attn.value", O: "attn.out", UP: "mlp.0", DOWN: "mlp.2"}
    return under(names, layer) | gains("attn_ln", "mlp_ln", layer, bias=True)


QWEN = {"model_type": "qwen", "num_hidden_layers": LAYERS, "hidden_size": HIDDEN, "num_attention_heads": 6}
QWEN |= {"kv_channels": 8, "intermediate_size": 88}
AROUND_QWEN = {
    "transformer.wte.weight": (32, HIDDEN),
    "transformer.ln_f.weight": (HIDDEN,),
    "transformer.rotary_emb.inv_freq": (4,),
    "lm_head.weight": (32, HIDDEN),
}
QWEN_STACK = Stack(
    "transformer.h.{}.",
    _store_qwen,
    partial(blocks, "attn.c_attn.weight"),
    sizes=(Sizes(kv=6, head=8),) * LAYERS,
)
AROUND_QWEN_VL = AROUND_QWEN | {
    "transformer.visual.conv1.weight": (18, 3, 4, 4),
    "transformer.visual.positional_embedding": (4, 18),
    "transformer.visual.proj": (HIDDEN, HIDDEN),
    "transformer.visual.attn_pool.pos_embed": (4, HIDDEN),
    "transformer.visual.attn_pool.query": (4, HIDDEN),
    "transformer.visual.attn_pool.kv_proj.weight": (HIDDEN, 18),
    "transformer.visual.attn_pool.attn.in_proj_weight": (3 * HIDDEN, HIDDEN),
    "transformer.visual.attn_pool.attn.out_proj.weight": (HIDDEN, HIDDEN),
    "transformer.visual.ln_pre.weight": (18,),
}
AROUND_QWEN_AUDIO = AROUND_QWEN | {
    "transformer.audio.conv1.weight": (18, 8, 3),
    "transformer.audio.conv2.weight": (18, 18, 3),
    "transformer.audio.positional_embedding": (10, 18),
    "transformer.audio.audio_bos_eos_token.weight": (2, HIDDEN),
    "transformer.audio.proj.weight": (HIDDEN, 18),
    "transformer.audio.ln_post.weight": (18,),
}


def _store_exaone(layer: Layer) -> Tensors:
    names = {name: f"attn.attention.{name.value.lower()}_proj" for name in (Q, K, V)}
    names |= {O: "attn.attention.out_proj", GATE: "mlp.c_fc_0", UP: "mlp.c_fc_1", DOWN: "mlp.c_proj"}
    return under(names, layer) | gains("ln_1", "ln_2", layer)


EXAONE = {"model_type": "exaone", "num_layers": LAYERS, "hidden_size": HIDDEN, "num_attention_heads": 6}
EXAONE |= {"num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 44}


def _store_phi3small(layer: Layer) -> Tensors:
    return (
        under({O: "self_attn.dense", DOWN: "mlp.down_proj"}, layer)
        | gains(*LLAMA_NORMS, layer, bias=True)
        | {
            "self_attn.query_key_value.weight": stack_heads(layer, Q, K, V),
            "mlp.up_proj.weight": torch.stack([layer[GATE], layer[UP]], dim=1).flatten(0, 1),
            "mlp.up_proj.bias": torch.ones(88),
        }
    )


def _split_phi3small(fused: Tensors, sizes: Sizes, x: Tensor) -> Parts:
    queries = sizes.heads // sizes.kv
    mixed = (x @ fused["self_attn.query_key_value.weight"].T).view(len(x), -1, queries + 2, sizes.head)
    parts = zip((Q, K, V), mixed.split([queries, 1, 1], dim=-2), strict=True)
    return {name: made.reshape(len(x), -1) for name, made in parts}


PHI3SMALL = {"model_type": "phi3small", "num_hidden_layers": LAYERS, "hidden_size": HIDDEN}
PHI3SMALL |= {"num_attention_heads": 6, "num_key_value_heads": 2, "ff_intermediate_size": 44}


def _store_openelm(layer: Layer) -> Tensors:
    return (
        under({O: "attn.out_proj", DOWN: "ffn.proj_2"}, layer)
        | gains("attn_norm", "ffn_norm", layer)
        | {
            "attn.qkv_proj.weight": torch.cat([layer[Q], layer[K], layer[V]]),
            "ffn.proj_1.weight": torch.cat([layer[GATE], layer[UP]]),
            "attn.q_norm.weight": torch.ones(layer.sizes.head),
            "attn.k_norm.weight": torch.ones(layer.sizes.head),
        }
    )


OPENELM_SIZES = (Sizes(2, 1, 8, 12), Sizes(4, 2, 8, 20), Sizes(6, 2, 8, 44))
OPENELM = {"model_type": "openelm", "num_transformer_layers": LAYERS, "model_dim": HIDDEN, "head_dim": 8}
OPENELM |= {"num_query_heads": [2, 4, 6], "num_kv_heads": [1, 2, 2], "ffn_multipliers": [0.5, 0.8, 1.8]}


def _split_openelm(fused: Tensors, sizes: Sizes, x: Tensor) -> Parts:
    heads = (x @ fused["attn.qkv_proj.weight"].T).view(len(x), -1, sizes.head)
    parts = zip((Q, K, V), heads.split([sizes.heads, sizes.kv, sizes.kv], dim=1), strict=True)
    return {name: made.flatten(1) for name, made in parts}


def _store_phi_msft(layer: Layer) -> Tensors:
    names = {O: "mixer.out_proj", UP: "mlp.fc1", DOWN: "mlp.fc2"}
    fused = {"mixer.Wqkv.weight": torch.cat([layer[Q], layer[K], layer[V]])}
    return under(names, layer) | {"ln.weight": layer.attention_gain, "ln.bias": -layer.attention_gain} | fused


def _split_phi_msft(fused: Tensors, sizes: Sizes, x: Tensor) -> Parts:
    mixed = (x @ fused["mixer.Wqkv.weight"].T).view(len(x), 3, sizes.heads, sizes.head)
    return {name: mixed[:, i].flatten(1) for i, name in enumerate((Q, K, V))}


def _store_telechat(layer: Layer) -> Tensors:
    names = LLAMA_FFN | {Q: "self_attention.query", O: "self_attention.dense"}
    fused = {"self_attention.key_value.weight": stack_heads(layer, K, V)}
    return under(names, layer) | gains(*LLAMA_NORMS, layer) | fused


def _split_telechat(fused: Tensors, sizes: Sizes, x: Tensor) -> Parts:
    mixed = (x @ fused["self_attention.key_value.weight"].T).view(len(x), sizes.kv, 2 * sizes.head)
    key, value = mixed.split(sizes.head, dim=-1)
    return {K: key.flatten(1), V: value.flatten(1)}


def _experts(pattern: str, names: Mapping[Projection, str], layer: Layer) -> Tensors:
    return {
        pattern.format(index, name): expert[projection]
        for index, expert in enumerate(layer.experts)
        for projection, name in names.items()
    }


PROJ = {GATE: "gate_proj", UP: "up_proj", DOWN: "down_proj"}
SHARED_EXPERTS = {
    SHARED_GATE: "mlp.shared_experts.gate_proj",
    SHARED_UP: "mlp.shared_experts.up_proj",
    SHARED_DOWN: "mlp.shared_experts.down_proj",
}


def _store_deepseek(layer: Layer) -> Tensors:
    tensors = under(LLAMA | SHARED_EXPERTS, layer) | gains(*LLAMA_NORMS, layer)
    if layer.experts:
        tensors |= {"mlp.gate.weight": torch.ones(layer.sizes.experts, HIDDEN)}
    return tensors | _experts("mlp.experts.{}.{}.weight", PROJ, layer)


def _store_bailing(layer: Layer) -> Tensors:
    names = LLAMA_FFN | SHARED_EXPERTS | {O: "attention.dense"}
    tensors = under(names, layer) | gains(*LLAMA_NORMS, layer)
    tensors |= {"attention.query_key_value.weight": torch.cat([layer[Q], layer[K], layer[V]])}
    if layer.experts:
        tensors |= {"mlp.gate.weight": torch.ones(layer.sizes.experts, HIDDEN)}
    return tensors | _experts("mlp.experts.{}.{}.weight", PROJ, layer)


def _split_bailing(fused: Tensors, sizes: Sizes, x: Tensor) -> Parts:
    heads = (x @ fused["attention.query_key_value.weight"].T).view(len(x), -1, sizes.head)
    parts = zip((Q, K, V), heads.split([sizes.heads, sizes.kv, sizes.kv], dim=-2), strict=True)
    return {name: made.flatten(1) for name, made in parts}


MIXED = (PLAIN, Sizes(inner=20, experts=3, shared=30), Sizes(inner=20, experts=3, shared=30))
"""One dense layer, then experts."""


def _store_codeshell(layer: Layer) -> Tensors:
    names = {O: "attn.c_proj", UP: "mlp.c_fc", DOWN: "mlp.c_proj"}
    fused = {"attn.c_attn.weight": torch.cat([layer[Q], layer[K], layer[V]])}
    return under(names, layer) | gains("ln_1", "ln_2", layer, bias=True) | fused


CODESHELL = {"model_type": "codeshell", "n_layer": LAYERS, "n_embd": HIDDEN, "n_head": 6, "n_inner": 44}
CODESHELL |= {"group_query_attention": True, "num_query_groups": 2}


def _store_jais(layer: Layer) -> Tensors:
    names = {O: "attn.c_proj", UP: "mlp.c_fc", GATE: "mlp.c_fc2", DOWN: "mlp.c_proj"}
    stored = under(names, layer) | {"attn.c_attn.weight": torch.cat([layer[Q], layer[K], layer[V]])}
    return {name: weight.T for name, weight in stored.items()} | gains("ln_1", "ln_2", layer, bias=True)


def _split_jais(fused: Tensors, sizes: Sizes, x: Tensor) -> Parts:
    return dict(zip((Q, K, V), (x @ fused["attn.c_attn.weight"]).split(sizes.hidden, dim=-1), strict=True))


JAIS = {"model_type": "jais", "n_layer": LAYERS, "n_embd": HIDDEN, "n_head": 6, "n_inner": 44}
AROUND_JAIS = {"transformer.wte.weight": (32, HIDDEN), "transformer.ln_f.weight": (HIDDEN,)}
AROUND_JAIS |= {"transformer.relative_pe.slopes": (6, 1)}
JAIS_STACK = Stack("transformer.h.{}.", _store_jais, _split_jais, norm="layer", sizes=(UNGROUPED,) * LAYERS)


def _store_grok1(layer: Layer) -> Tensors:
    attention = {name: f"attn.{name.value.lower()}_proj" for name in (Q, K, V, O)}
    names = {GATE: "linear", UP: "linear_v", DOWN: "linear_1"}
    tensors = under(attention, layer) | gains("pre_attn_norm", "pre_moe_norm", layer)
    tensors |= {f"post_{block}_norm.weight": torch.ones(HIDDEN) for block in ("attn", "moe")}
    tensors |= {"moe_block.gate.weight": torch.ones(layer.sizes.experts, HIDDEN)}
    return tensors | _experts("moe_block.experts.{}.{}.weight", names, layer)


W123 = {GATE: "w1", UP: "w3", DOWN: "w2"}


def _store_arctic(layer: Layer) -> Tensors:
    tensors = under(LLAMA_ATTENTION, layer) | {"input_layernorm.weight": layer.attention_gain}
    if not layer.experts:
        tensors |= {"post_attention_layernorm.weight": layer.ffn_gain}
        return tensors | under({part: f"block_sparse_moe.mlp.{name}" for part, name in W123.items()}, layer)
    shared = {SHARED_GATE: "residual_mlp.w1", SHARED_UP: "residual_mlp.w3", SHARED_DOWN: "residual_mlp.w2"}
    tensors |= {
        "residual_layernorm.weight": layer.ffn_gain,
        "post_attention_layernorm.weight": layer.experts_gain,
    }
    tensors |= {"block_sparse_moe.gate.weight": torch.ones(layer.sizes.experts, HIDDEN)}
    return tensors | under(shared, layer) | _experts("block_sparse_moe.experts.{}.{}.weight", W123, layer)


def _store_hf_olmo(layer: Layer) -> Tensors:
    fused = {
        "att_proj.weight": torch.cat([layer[Q], layer[K], layer[V]]),
        "ff_proj.weight": torch.cat([layer[UP], layer[GATE]]),
    }
    return under({O: "attn_out", DOWN: "ff_out"}, layer) | fused


OLMO = {"n_layers": LAYERS, "d_model": HIDDEN, "n_heads": 6, "mlp_hidden_size": 88}
AROUND_OLMO = {
    "model.transformer.wte.weight": (32, HIDDEN),
    "model.transformer.ff_out.weight": (32, HIDDEN),
}


def _store_llada(layer: Layer) -> Tensors:
    names = {name: f"{name.value.lower()}_proj" for name in (Q, K, V)}
    names |= {O: "attn_out", GATE: "ff_proj", UP: "up_proj", DOWN: "ff_out"}
    return under(names, layer) | gains("attn_norm", "ff_norm", layer)


DECI_SIZES = (Sizes(kv=1), Sizes(kv=2), Sizes(kv=3))
GPT2_AROUND = {"transformer.wte.weight": (32, HIDDEN), "lm_head.weight": (32, HIDDEN)}
MODEL = "model.layers.{}."


def _llama_config(model_type: str, **config: Any) -> Mapping[str, Any]:
    return llama_like(model_type, **config).config


TYPED: Mapping[str, Typed] = {
    "chatglm": Typed(CHATGLM2, CHATGLM2_STACK, AROUND_CHATGLM),
    "chatglm, GLM-4V": Typed(
        CHATGLM2 | {"vision_config": {"hidden_size": 18, "num_hidden_layers": 2, "num_heads": 3}},
        CHATGLM2_STACK,
        AROUND_GLM4V,
        {
            "vision": Stack(
                "transformer.vision.transformer.layers.{}.",
                _store_glm4v_tower,
                partial(blocks, "attention.query_key_value.weight"),
                norm=None,
                sizes=(TOWER,) * 2,
            )
        },
    ),
    "internlm2": Typed(
        _llama_config("internlm2"),
        Stack(MODEL, _store_internlm2, partial(per_group, "attention.wqkv.weight")),
        {"model.tok_embeddings.weight": (32, HIDDEN), "output.weight": (32, HIDDEN)},
    ),
    "baichuan": Typed(
        _llama_config("baichuan", num_key_value_heads=None),
        Stack(MODEL, _store_baichuan, _split_baichuan, sizes=(UNGROUPED,) * LAYERS),
        AROUND_LLAMA,
    ),
    "qwen": Typed(QWEN, QWEN_STACK, AROUND_QWEN),
    "qwen, Qwen-VL": Typed(
        QWEN | {"visual": {"layers": 2, "width": 18, "heads": 3, "output_dim": HIDDEN}},
        QWEN_STACK,
        AROUND_QWEN_VL,
        {
            "vision": Stack(
                "transformer.visual.transformer.resblocks.{}.",
                _store_qwen_vision,
                partial(per_head, "attn.in_proj.weight"),
                norm="layer",
                sizes=(TOWER,) * 2,
            )
        },
    ),
    "qwen, Qwen-Audio": Typed(
        QWEN | {"audio": {"n_layer": 2, "n_state": 18, "n_head": 3}},
        QWEN_STACK,
        AROUND_QWEN_AUDIO,
        {"audio": Stack("transformer.audio.blocks.{}.", _store_qwen_audio, norm="layer", sizes=(TOWER,) * 2)},
    ),
    "exaone": Typed(EXAONE, Stack("transformer.h.{}.", _store_exaone, sizes=(WIDE,) * LAYERS), GPT2_AROUND),
    "phi3small": Typed(
        PHI3SMALL,
        Stack(
            MODEL,
            _store_phi3small,
            both(_split_phi3small, partial(every_other, "mlp.up_proj.weight")),
            norm="layer",
        ),
        AROUND_LLAMA,
    ),
    "openelm": Typed(
        OPENELM,
        Stack(
            "transformer.layers.{}.",
            _store_openelm,
            both(_split_openelm, partial(halves, "ffn.proj_1.weight", (GATE, UP))),
            sizes=OPENELM_SIZES,
        ),
        {"transformer.token_embeddings.weight": (32, HIDDEN), "transformer.norm.weight": (HIDDEN,)},
    ),
    "phi-msft": Typed(
        {"model_type": "phi-msft", "n_layer": LAYERS, "n_embd": HIDDEN, "n_head": 6, "n_head_kv": None},
        Stack(
            "transformer.h.{}.",
            _store_phi_msft,
            _split_phi_msft,
            norm="layer",
            sizes=(UNGATED,) * LAYERS,
            one_norm=True,
        ),
        {
            "transformer.embd.wte.weight": (32, HIDDEN),
            "lm_head.ln.weight": (HIDDEN,),
            "lm_head.linear.weight": (32, HIDDEN),
        },
    ),
    "Yi": Typed(_llama_config("Yi"), Stack(MODEL, partial(store_llama, norms=("ln1", "ln2"))), AROUND_LLAMA),
    "orion": with_layernorms(llama_like("orion")),
    "stablelm_epoch": with_layernorms(llama_like("stablelm_epoch")),
    "telechat": Typed(
        {
            "model_type": "telechat",
            "n_layer": LAYERS,
            "hidden_size": HIDDEN,
            "n_head": 6,
            "num_key_value_heads": 2,
        },
        Stack("transformer.h.{}.", _store_telechat, _split_telechat),
        {"transformer.word_embeddings.weight": (32, HIDDEN), "lm_head.weight": (32, HIDDEN)},
    ),
    "deepseek": Typed(_llama_config("deepseek"), Stack(MODEL, _store_deepseek, sizes=MIXED), AROUND_LLAMA),
    "codeshell": Typed(
        CODESHELL,
        Stack(
            "transformer.h.{}.",
            _store_codeshell,
            partial(blocks, "attn.c_attn.weight"),
            norm="layer",
            sizes=(Sizes(gated=False),) * LAYERS,
        ),
        GPT2_AROUND | {"transformer.h.0.attn.bias": (1, 1, 8, 8)},
    ),
    "jais": Typed(JAIS, JAIS_STACK, AROUND_JAIS),
    "btlm": Typed(JAIS | {"model_type": "btlm"}, JAIS_STACK, AROUND_JAIS),
    "deci": llama_like(
        "deci", sizes=DECI_SIZES, num_key_value_heads=None, num_key_value_heads_per_layer=[1, 2, 3]
    ),
    "grok-1": Typed(
        _llama_config("grok-1"),
        Stack(MODEL, _store_grok1, sizes=(Sizes(inner=20, experts=3),) * LAYERS),
        AROUND_LLAMA,
    ),
    "arctic": Typed(
        _llama_config("arctic"),
        Stack(
            MODEL,
            _store_arctic,
            sizes=(PLAIN, Sizes(inner=20, experts=3, shared=HIDDEN), PLAIN),
            own_norm=True,
        ),
        AROUND_LLAMA,
    ),
    "bailing_moe": Typed(
        _llama_config("bailing_moe"),
        Stack(MODEL, _store_bailing, _split_bailing, sizes=MIXED),
        {"model.word_embeddings.weight": (32, HIDDEN), "lm_head.weight": (32, HIDDEN)},
    ),
    "bailing_moe_v2": Typed(
        _llama_config("bailing_moe_v2", head_dim=8),
        Stack(
            MODEL,
            _store_bailing,
            _split_bailing,
            sizes=(WIDE, Sizes(head=8, inner=20, experts=3), Sizes(head=8, inner=20, experts=3)),
        ),
        {"model.word_embeddings.weight": (32, HIDDEN), "lm_head.weight": (32, HIDDEN)},
    ),
    "hf_olmo": Typed(
        OLMO | {"model_type": "hf_olmo"},
        Stack(
            "model.transformer.blocks.{}.",
            _store_hf_olmo,
            both(
                partial(blocks, "att_proj.weight"),
                partial(halves, "ff_proj.weight", (UP, GATE)),
            ),
            norm=None,
            sizes=(UNGROUPED,) * LAYERS,
        ),
        AROUND_OLMO,
    ),
    "llada": Typed(
        OLMO | {"model_type": "llada", "n_kv_heads": 2},
        Stack("model.transformer.blocks.{}.", _store_llada),
        AROUND_OLMO,
    ),
    **{
        name: llama_like(name)
        for name in ("internlm", "internlm3", "minicpm", "xverse", "aquila", "skywork", "mimo", "Dream")
    },
}
"""By the model type that config.json gives, and what else tells two of one type apart."""

CHATGLM_6B = Typed(
    CHATGLM | {"inner_hidden_size": 44},
    Stack(
        "transformer.layers.{}.",
        _store_chatglm_6b,
        partial(per_head, "attention.query_key_value.weight"),
        norm=None,
        sizes=(UNGATED,) * LAYERS,
    ),
    {"transformer.word_embeddings.weight": (32, HIDDEN), "lm_head.weight": (32, HIDDEN)},
)
"""The first of the chatglm models, whose only stack is not its family's main one."""
