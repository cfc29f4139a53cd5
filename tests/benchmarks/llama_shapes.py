"""Checkpoints to measure on: the shapes, names and dtype of Llama-3.1-8B, with spectra of trained weights.

No benchmark itself. A projection is Gaussian noise and 16 planted directions, placed so that the leading
singular values come out as those of a real matrix. PROFILES holds sigma_2 ... sigma_17 over sigma_1, by
float64 LAPACK, of nine matrices of stories15M (Llama, 6 layers) and all-MiniLM-L6-v2 (BERT, 6 layers): of a
kind of projection the 24 or 30 there are were sorted by sigma_2 / sigma_1, and those at 1/6, 1/2 and 5/6
taken, so one is led by one direction, one typical, one nearly tied. The noise ends where the profile does, at
sigma_17. Layers are dealt the three in turn. The directions that face the residual stream turn a little from
layer to layer. Embeddings are left out: no program here reads them.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

# fmt: off
PROFILES = {
    "attention in": (  # Q and K
        (.560, .470, .420, .402, .390, .378, .370, .357, .351, .346, .339, .337, .336, .330, .327, .325),
        (.840, .821, .810, .809, .796, .790, .781, .780, .769, .761, .752, .676, .667, .643, .612, .605),
        (.972, .957, .938, .924, .909, .865, .774, .765, .691, .654, .651, .618, .606, .583, .566, .565),
    ),
    "attention out": (  # V and O
        (.827, .797, .783, .771, .762, .756, .746, .735, .733, .728, .725, .719, .713, .708, .705, .692),
        (.948, .917, .908, .898, .875, .861, .855, .846, .839, .835, .831, .824, .819, .815, .805, .795),
        (.977, .944, .939, .929, .918, .888, .880, .869, .865, .862, .850, .845, .837, .833, .825, .812),
    ),
    "ffn": (  # Gate, Up and Down
        (.640, .601, .575, .564, .548, .543, .540, .533, .516, .505, .500, .490, .488, .485, .478, .468),
        (.802, .749, .744, .731, .721, .713, .705, .676, .674, .666, .663, .662, .658, .657, .644, .639),
        (.935, .926, .863, .855, .845, .827, .815, .813, .795, .788, .781, .776, .770, .759, .751, .750),
    ),
}
"""sigma_2 ... sigma_17 over sigma_1 of real trained matrices."""
# fmt: on

TURN = 0.6
"""|cos| between a direction that faces the residual stream and the same in the next layer."""


@dataclass(frozen=True)
class Size:
    """The widths of a Llama."""

    hidden: int
    ffn: int
    heads: int
    kv_heads: int

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """[out, in] of each projection, by its name in a layer."""
        narrow = self.hidden * self.kv_heads // self.heads
        return {
            "self_attn.q_proj": (self.hidden, self.hidden),
            "self_attn.k_proj": (narrow, self.hidden),
            "self_attn.v_proj": (narrow, self.hidden),
            "self_attn.o_proj": (self.hidden, self.hidden),
            "mlp.gate_proj": (self.ffn, self.hidden),
            "mlp.up_proj": (self.ffn, self.hidden),
            "mlp.down_proj": (self.hidden, self.ffn),
        }

    @property
    def weights(self) -> int:
        """Entries of one layer's projections."""
        return sum(out * in_ for out, in_ in self.shapes.values())

    @property
    def largest(self) -> int:
        """Bytes of the largest projection in float32."""
        return 4 * max(out * in_ for out, in_ in self.shapes.values())


LLAMA_8B = Size(4096, 14336, 32, 8)
"""Llama-3.1-8B, of 32 layers: 436 MB a layer in bfloat16."""

SMALL = Size(1024, 3584, 8, 2)
"""A quarter as wide: 27 MB a layer."""


def write_llama(folder: Path, layers: int, size: Size = LLAMA_8B, seed: int = 0) -> Path:
    """A checkpoint of that many layers, one shard a layer, with its index and config; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    where: dict[str, str] = {}
    for layer, tensors in enumerate(_layers(size, layers, generator)):
        shard = f"model-{layer + 1:05}-of-{layers:05}.safetensors"
        save_file(tensors, folder / shard, metadata={"format": "pt"})
        where |= dict.fromkeys(tensors, shard)
    total = layers * 2 * (size.weights + 2 * size.hidden)
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "bfloat16",
        "hidden_size": size.hidden,
        "intermediate_size": size.ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def _layers(size: Size, layers: int, generator: torch.Generator) -> Iterator[dict[str, Tensor]]:
    facing: dict[str, Tensor] = {}
    for layer in range(layers):
        tensors = {}
        for place, (name, shape) in enumerate(size.shapes.items()):
            profile = _kind(name)[(layer + place) % 3]
            writes = name.endswith(("o_proj", "down_proj"))
            facing[name] = _turned(facing.get(name), shape[0] if writes else shape[1], generator)
            other = _orthonormal(torch.randn(16, shape[1] if writes else shape[0], generator=generator))
            sides = (facing[name], other) if writes else (other, facing[name])
            tensors[f"model.layers.{layer}.{name}.weight"] = _projection(shape, profile, *sides, generator)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{layer}.{norm}.weight"] = torch.ones(size.hidden, dtype=torch.bfloat16)
        yield tensors


def _kind(name: str) -> tuple[tuple[float, ...], ...]:
    if name.startswith("mlp"):
        return PROFILES["ffn"]
    return PROFILES["attention in" if name.endswith(("q_proj", "k_proj")) else "attention out"]


def _turned(before: Tensor | None, dim: int, generator: torch.Generator) -> Tensor:
    """Rows that keep TURN of those before them, 16 orthonormal ones to begin with."""
    fresh = _orthonormal(torch.randn(16, dim, generator=generator))
    return fresh if before is None else _orthonormal(TURN * before + sqrt(1 - TURN**2) * fresh)


def _orthonormal(rows: Tensor) -> Tensor:
    return torch.linalg.qr(rows.T).Q.T.contiguous()


def _projection(
    shape: tuple[int, int],
    profile: tuple[float, ...],
    left: Tensor,
    right: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Noise of which the largest singular value is the profile's last, and 16 directions above it.

    A direction of strength t in noise of standard deviation s comes out at sigma, with
    sigma^2 = (t^2 + out s^2) (t^2 + in s^2) / t^2 (Benaych-Georges and Nadakuditi 2012): solved for t here.
    Entries end with the standard deviation .02, as trained ones about have.
    """
    out, in_ = shape
    noise = profile[-1] / (sqrt(out) + sqrt(in_))
    sigma = torch.tensor([1.0, *profile[:-1]], dtype=torch.float64)
    free = sigma**2 - (out + in_) * noise**2
    strength = ((free + (free**2 - 4 * out * in_ * noise**4).clamp(min=0).sqrt()) / 2).sqrt().float()
    weight = torch.randn(shape, generator=generator).mul_(noise).addmm_(left.T * strength, right)
    return weight.mul_(0.02 / noise).bfloat16()
