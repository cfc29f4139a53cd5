"""Tiny checkpoints written by hand, so that a test knows every tensor of what it audits."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

HIDDEN, HEADS, KV_HEADS, FFN = 16, 4, 2, 24
KV = HIDDEN // HEADS * KV_HEADS

SHAPES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (KV, HIDDEN),
    "self_attn.v_proj": (KV, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (FFN, HIDDEN),
    "mlp.up_proj": (FFN, HIDDEN),
    "mlp.down_proj": (HIDDEN, FFN),
}
"""[out, in] of each projection of a llama-like layer."""


def llama_config(layers: int = 3, **changes: object) -> dict[str, Any]:
    """What transformers would write beside such a model; a change to None leaves the key out."""
    config = {
        "model_type": "llama",
        "num_hidden_layers": layers,
        "hidden_size": HIDDEN,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "intermediate_size": FFN,
    }
    return {key: value for key, value in (config | changes).items() if value is not None}


def llama_tensors(layers: int = 3, dtype: torch.dtype = torch.float32, seed: int = 0) -> dict[str, Tensor]:
    """Seeded random weights under the names that transformers gives them."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    tensors = {"model.embed_tokens.weight": random(32, HIDDEN), "model.norm.weight": random(HIDDEN)}
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        tensors |= {f"{prefix}{name}.weight": random(*shape) for name, shape in SHAPES.items()}
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{prefix}{norm}.weight"] = random(HIDDEN)
    return tensors


def write_checkpoint(
    folder: Path, tensors: Mapping[str, Tensor], config: object = None, *, shards: int = 1
) -> Path:
    """A folder with config.json (None: without) and the tensors, with an index where there are shards."""
    folder.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    if shards == 1:
        save_file(dict(tensors), folder / "model.safetensors")
        return folder
    weight_map = {}
    for name, part in _parts(tensors, shards):
        save_file(part, folder / name)
        weight_map |= dict.fromkeys(part, name)
    write_index(folder, weight_map)
    return folder


def write_llama(
    folder: Path,
    layers: int = 3,
    *,
    dtype: torch.dtype = torch.float32,
    shards: int = 1,
    config: object = None,
    planted: Mapping[str, Tensor] | None = None,
) -> Path:
    """A llama-like checkpoint; `planted` tensors replace or join the random ones."""
    tensors = llama_tensors(layers, dtype) | dict(planted or {})
    return write_checkpoint(folder, tensors, config or llama_config(layers), shards=shards)


def write_index(folder: Path, weight_map: object) -> None:
    """The index of a sharded checkpoint."""
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def pack(header: object, data: bytes = b"") -> bytes:
    """The bytes of a safetensors file with this header, be it right or wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def _parts(tensors: Mapping[str, Tensor], shards: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    names = list(tensors)
    for number in range(shards):
        part = {name: tensors[name] for name in names[number::shards]}
        yield f"model-{number + 1:05d}-of-{shards:05d}.safetensors", part
