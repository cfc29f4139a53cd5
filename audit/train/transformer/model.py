"""A Llama-style decoder in one file, as transformers' LlamaForCausalLM computes it, with parts that come off.

    x = E[tokens]
    for each layer:   x = x + O softmax(Q K^T / sqrt(d_head)) V   of RMSNorm(x), RoPE on Q and K
                      x = x + Down (act(Gate h) * Up h)           of h = RMSNorm(x)
    logits = H RMSNorm(x)

Names of parameters are the Hub's, so that a state dict is a checkpoint. Axes: B sequences, T tokens, H heads,
D channels a head.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audit.train.transformer.ablations import Activation, TransformerAblation

ACTIVATIONS: Mapping[Activation, type[nn.Module]] = {
    "silu": nn.SiLU, "relu": nn.ReLU, "gelu": nn.GELU, "none": nn.Identity,
}  # fmt: skip

EPS = 1e-6
"""Of RMSNorm."""

THETA = 10_000.0
"""RoPE's base."""


@dataclass(frozen=True)
class Shape:
    """A decoder's dimensions."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    ffn: int
    context: int

    @property
    def head(self) -> int:
        """Channels a head."""
        return self.width // self.heads


class RMSNorm(nn.Module):
    """x / rms(x) times a gain; in float32 whatever comes in."""

    def __init__(self, width: int) -> None:
        """Gain 1."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] to the same."""
        wide = x.float()
        return self.weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + EPS)).to(x.dtype)


def rotate(x_BHTD: Tensor, cos_TD: Tensor, sin_TD: Tensor) -> Tensor:
    """RoPE: channels i and i + D/2 of a head turned by the token's angle (Su et al. 2021, as in Llama)."""
    first, second = x_BHTD.chunk(2, dim=-1)
    return x_BHTD * cos_TD + torch.cat([-second, first], dim=-1) * sin_TD


def angles(context: int, head: int) -> tuple[Tensor, Tensor]:
    """cos and sin of position times frequency, [context, head]."""
    frequency = THETA ** (-torch.arange(0, head, 2, dtype=torch.float32) / head)
    angle = torch.outer(torch.arange(context, dtype=torch.float32), frequency).repeat(1, 2)
    return angle.cos(), angle.sin()


class Attention(nn.Module):
    """Causal self-attention."""

    def __init__(self, shape: Shape, ablation: TransformerAblation) -> None:
        """Projections without biases."""
        super().__init__()
        self.heads, self.head = shape.heads, shape.head
        self.kv_heads = ablation.kv_heads or shape.heads
        self.softmax = ablation.softmax
        self.act_fn = ACTIVATIONS[ablation.activation]() if ablation.value_gate else nn.Identity()
        kv = self.kv_heads * shape.head
        self.q_proj = nn.Linear(shape.width, shape.width, bias=False)
        self.k_proj = nn.Linear(shape.width, kv, bias=False)
        self.v_proj = nn.Linear(shape.width, kv, bias=False)
        self.o_proj = nn.Linear(shape.width, shape.width, bias=False)
        self.q_norm = RMSNorm(shape.head) if ablation.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(shape.head) if ablation.qk_norm else nn.Identity()

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """[B, T, width] to the same."""
        batch, tokens, width = x.shape

        def heads(projected: Tensor, count: int) -> Tensor:
            return projected.view(batch, tokens, count, self.head).transpose(1, 2)

        q = self.q_norm(heads(self.q_proj(x), self.heads))
        k = self.k_norm(heads(self.k_proj(x), self.kv_heads))
        v = heads(self.act_fn(self.v_proj(x)), self.kv_heads)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k, v = (each.repeat_interleave(self.heads // self.kv_heads, dim=1) for each in (k, v))
        if self.softmax:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            mixed = _averaged(q, k, v)
        out: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return out


def _averaged(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention linear in its scores: mean over the keys j <= t of <q_t, k_j> / sqrt(D) v_j."""
    scores = torch.tril(q @ k.mT / math.sqrt(q.shape[-1]))
    seen = torch.arange(1, q.shape[-2] + 1, device=q.device, dtype=q.dtype)[:, None]
    return (scores / seen) @ v


class MLP(nn.Module):
    """Down (act(Gate x) * Up x)."""

    def __init__(self, shape: Shape, ablation: TransformerAblation) -> None:
        """Projections without biases."""
        super().__init__()
        self.act_fn = ACTIVATIONS[ablation.activation]()
        self.gate_proj = nn.Linear(shape.width, shape.ffn, bias=False)
        self.up_proj = nn.Linear(shape.width, shape.ffn, bias=False)
        self.down_proj = nn.Linear(shape.ffn, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, width] to the same."""
        out: Tensor = self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    """Attention, then MLP, each of the normed stream, each added to it."""

    def __init__(self, shape: Shape, ablation: TransformerAblation) -> None:
        """Without norms where the ablation takes them away."""
        super().__init__()
        self.residual = ablation.residual
        self.self_attn = Attention(shape, ablation)
        self.mlp = MLP(shape, ablation)
        self.input_layernorm = RMSNorm(shape.width) if ablation.norm else nn.Identity()
        self.post_attention_layernorm = RMSNorm(shape.width) if ablation.norm else nn.Identity()

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """[B, T, width] to the same."""
        x = self._joined(x, self.self_attn(self.input_layernorm(x), cos, sin))
        return self._joined(x, self.mlp(self.post_attention_layernorm(x)))

    def _joined(self, x: Tensor, branch: Tensor) -> Tensor:
        return x + branch if self.residual else branch


class Decoder(nn.Module):
    """Embeddings, layers, final norm: the part that the Hub calls `model`."""

    def __init__(self, shape: Shape, ablation: TransformerAblation) -> None:
        """See Transformer."""
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(Layer(shape, ablation) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.width) if ablation.norm else nn.Identity()
        self.cos: Tensor
        self.sin: Tensor
        cos, sin = angles(shape.context, shape.head)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, T] to [B, T, width]."""
        x = self.embed_tokens(tokens)
        cos, sin = self.cos[: tokens.shape[1]], self.sin[: tokens.shape[1]]
        for layer in self.layers:
            x = layer(x, cos, sin)
        normed: Tensor = self.norm(x)
        return normed


class Transformer(nn.Module):
    """The whole language model; all matrices drawn from N(0, std^2) by the seed."""

    def __init__(self, shape: Shape, ablation: TransformerAblation, seed: int, std: float = 0.02) -> None:
        """Drawn on the CPU, in the order of the parameters' names in the Hub's layout."""
        super().__init__()
        self.model = Decoder(shape, ablation)
        self.lm_head = nn.Linear(shape.width, shape.vocabulary, bias=False)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                if parameter.dim() == 2:
                    parameter.normal_(0, std, generator=generator)
        if ablation.tied:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [B, T] to logits [B, T, vocabulary]."""
        logits: Tensor = self.lm_head(self.model(tokens))
        return logits


def parameter_count(shape: Shape, ablation: TransformerAblation) -> int:
    """How many parameters a model has; none is made for it."""
    with torch.device("meta"):
        model = Decoder(shape, ablation)
    head = 0 if ablation.tied else shape.vocabulary * shape.width
    return sum(parameter.numel() for parameter in model.parameters()) + head
