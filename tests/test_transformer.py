"""The small transformer against transformers' own models; each ablation against what it says."""

import json
import math
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM
from transformers_at_work import BY_NAME, THIN, runs, tokens

from audit.train.transformer.ablations import ABLATIONS
from audit.train.transformer.config import config_of
from audit.train.transformer.cost import cost_of, peak_of
from audit.train.transformer.model import RMSNorm, Shape, Transformer, parameter_count
from audit.train.transformer.settings import PRESETS, Run

SHAPE = Shape(vocabulary=11, width=16, layers=3, heads=4, ffn=24, context=8)
NAMES = [one.name for one in ABLATIONS]
SEQUENCES = torch.randint(0, 11, (2, 8), generator=torch.Generator().manual_seed(5))


def made(name: str, std: float = 0.3) -> Transformer:
    """A model with gains that are not all 1."""
    model = Transformer(SHAPE, BY_NAME[name], seed=3, std=std)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.uniform_(0.5, 1.5, generator=generator)
    return model


def test_the_papers_model_has_34_million_parameters() -> None:
    """2 x 50257 x 256 + 8 x (4 x 256^2 + 3 x 256 x 1024), and 17 gains of 256."""
    shape = PRESETS["paper"].settings.shape(50257)
    assert shape == Shape(50257, 256, 8, 4, 1024, 128)
    assert parameter_count(shape, BY_NAME["tf-silu"]) == 34_120_192 + 17 * 256
    assert parameter_count(shape, BY_NAME["tf-nonorm"]) == 34_120_192
    assert parameter_count(shape, BY_NAME["tf-tied"]) == 34_120_192 + 17 * 256 - 50257 * 256
    assert parameter_count(shape, BY_NAME["tf-gqa"]) == 34_120_192 + 17 * 256 - 8 * 2 * 128 * 256
    assert parameter_count(shape, BY_NAME["tf-qknorm"]) == 34_120_192 + 17 * 256 + 8 * 2 * 64


@pytest.mark.parametrize("name", NAMES)
def test_as_many_parameters_are_made_as_were_counted(name: str) -> None:
    counted = sum(one.numel() for one in made(name).parameters())
    assert counted == parameter_count(SHAPE, BY_NAME[name])


def test_matrices_are_drawn_from_the_stated_normal_distribution() -> None:
    model = Transformer(Shape(400, 64, 2, 4, 256, 8), BY_NAME["tf-silu"], seed=0)
    for name, parameter in model.state_dict().items():
        if parameter.dim() == 2:
            spread = parameter.numel() ** -0.5
            assert abs(float(parameter.mean())) < 4 * 0.02 * spread, name
            assert float(parameter.std()) == pytest.approx(0.02, rel=4 * spread), name
        else:
            assert bool((parameter == 1).all()), name


def test_seeds_draw_different_weights_and_ablations_of_a_shape_the_same() -> None:
    first, again, other = (Transformer(SHAPE, BY_NAME["tf-silu"], seed).state_dict() for seed in (1, 1, 2))
    relu = Transformer(SHAPE, BY_NAME["tf-relu"], 1).state_dict()
    name = "model.layers.1.mlp.up_proj.weight"
    assert torch.equal(first[name], again[name])
    assert torch.equal(first[name], relu[name])
    assert not torch.equal(first[name], other[name])


@pytest.mark.parametrize("name", [one.name for one in ABLATIONS if one.in_transformers])
def test_the_logits_are_those_of_transformers_on_the_saved_checkpoint(name: str, tmp_path: Path) -> None:
    model = made(name)
    run = Run(BY_NAME[name], 3)
    settings = replace(THIN, width=16, layers=3, heads=4, ffn=24)
    config = config_of(run, tokens(), settings)
    saved = {key: value.detach().clone() for key, value in model.named_parameters()}
    write_checkpoint(tmp_path, config, saved)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path)
    with torch.no_grad():
        expected = theirs(SEQUENCES).logits
        found = model(SEQUENCES)
    assert float(expected.std()) > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def write_checkpoint(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@contextmanager
def watched(*modules: nn.Module) -> Any:
    """What goes into and comes out of modules, by the module."""
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen[module] = (inputs[0], output)

    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": lambda x: x * torch.sigmoid(x),
    "relu": lambda x: x.clamp(min=0),
    "gelu": lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))),
    "none": lambda x: x,
}

HAS = {  # residual, norm, activation, kv heads, tied, qk norm, softmax, gate on V
    "tf-silu": (True, True, "silu", 4, False, False, True, False),
    "tf-relu": (True, True, "relu", 4, False, False, True, False),
    "tf-gelu": (True, True, "gelu", 4, False, False, True, False),
    "tf-none": (True, True, "none", 4, False, False, True, False),
    "tf-nores-silu": (False, True, "silu", 4, False, False, True, False),
    "tf-nonorm": (True, False, "silu", 4, False, False, True, False),
    "tf-gqa": (True, True, "silu", 2, False, False, True, False),
    "tf-tied": (True, True, "silu", 4, True, False, True, False),
    "tf-qknorm": (True, True, "silu", 4, False, True, True, False),
    "tf-linear": (True, True, "silu", 4, False, False, False, False),
    "tf-vgate": (True, True, "silu", 4, False, False, True, True),
}


def test_every_ablation_is_described_here() -> None:
    assert set(HAS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_ablation_removes_exactly_what_it_says(name: str) -> None:
    """Seen by hooks on the modules of the middle layer, the arithmetic between them written out here."""
    residual, norm, activation, kv_heads, tied, qk_norm, softmax, gate = HAS[name]
    model = made(name)
    layer: Any = model.model.layers[1]
    attention, mlp = layer.self_attn, layer.mlp
    with (
        torch.no_grad(),
        watched(
            layer, attention, mlp, layer.input_layernorm, layer.post_attention_layernorm,
            attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj,
            mlp.gate_proj, mlp.up_proj, mlp.down_proj, model.model.norm, model.lm_head,
        ) as seen,
    ):  # fmt: skip
        logits = model(SEQUENCES)
    stream, out = seen[layer]
    # residual connections, and norms where they stand
    middle = stream + seen[attention][1] if residual else seen[attention][1]
    torch.testing.assert_close(out, middle + seen[mlp][1] if residual else seen[mlp][1])
    for module, entering, gain in (
        (attention, stream, layer.input_layernorm), (mlp, middle, layer.post_attention_layernorm),
    ):  # fmt: skip
        torch.testing.assert_close(seen[module][0], normed(entering, gain.weight) if norm else entering)
    last = seen[model.model.norm]
    torch.testing.assert_close(last[1], normed(last[0], model.model.norm.weight) if norm else last[0])
    # the activation
    act = ACTIVATIONS[activation]
    gated = act(seen[mlp.gate_proj][1]) * seen[mlp.up_proj][1]
    torch.testing.assert_close(seen[mlp.down_proj][0], gated)
    # attention
    q = in_heads(seen[attention.q_proj][1], 4)
    k = in_heads(seen[attention.k_proj][1], kv_heads)
    value = seen[attention.v_proj][1]
    v = in_heads(act(value) if gate else value, kv_heads)
    if qk_norm:
        q, k = normed(q, attention.q_norm.weight), normed(k, attention.k_norm.weight)
    mixed = attended(q, k, v, softmax=softmax)
    torch.testing.assert_close(seen[attention.o_proj][0], mixed, rtol=1e-4, atol=1e-5)
    # the embeddings
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    torch.testing.assert_close(logits, seen[model.lm_head][0] @ model.lm_head.weight.T)


def normed(x: Tensor, gain: Tensor) -> Tensor:
    """RMSNorm, written out."""
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * gain


def in_heads(projected: Tensor, count: int) -> Tensor:
    """[B, T, count D] to [B, count, T, D]."""
    return projected.unflatten(-1, (count, -1)).transpose(1, 2)


def attended(q: Tensor, k: Tensor, v: Tensor, *, softmax: bool) -> Tensor:
    """Causal attention token by token and head by head, rotated as complex numbers; [B, T, width]."""
    batch, heads, length, width = q.shape
    frequency = 10000.0 ** (-torch.arange(width // 2) * 2 / width)

    def turned(x: Tensor, position: int) -> Tensor:
        half = width // 2
        as_complex = torch.complex(x[..., :half], x[..., half:])
        rotated = as_complex * torch.polar(torch.ones(half), position * frequency)
        return torch.cat([rotated.real, rotated.imag], dim=-1)

    mixed = torch.zeros(batch, length, heads * width)
    group = heads // k.shape[1]
    for b in range(batch):
        for h in range(heads):
            for t in range(length):
                scores = torch.stack(
                    [turned(q[b, h, t], t) @ turned(k[b, h // group, j], j) for j in range(t + 1)]
                ) / math.sqrt(width)
                weights = F.softmax(scores, dim=0) if softmax else scores / (t + 1)
                mixed[b, t, h * width : (h + 1) * width] = weights @ v[b, h // group, : t + 1]
    return mixed


@pytest.mark.parametrize("name", NAMES)
def test_no_token_sees_a_later_one(name: str) -> None:
    model = made(name)
    changed = SEQUENCES.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % 11
    with torch.no_grad():
        before, after = model(SEQUENCES), model(changed)
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])


def test_rmsnorm_works_in_float32_on_whatever_comes_in() -> None:
    large = torch.full((2, 8), 300.0, dtype=torch.float16)  # its square is above what float16 holds
    assert RMSNorm(8)(large).tolist() == [[1.0] * 8] * 2


def test_the_cost_is_that_of_the_usual_estimate() -> None:
    """6 for each weight a token meets, the embedding apart, and 12 L T D."""
    [run] = runs("tf-silu")
    cost = cost_of(run, PRESETS["paper"].settings, 50257)
    assert cost.parameters == 34_124_544
    assert cost.tokens == 10_000 * 128 * 128
    met = 34_124_544 - 50257 * 256
    assert cost.flops == pytest.approx(cost.tokens * (6 * met + 12 * 8 * 128 * 256))
    [tied] = runs("tf-tied")
    assert cost_of(tied, PRESETS["paper"].settings, 50257).flops == cost.flops


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA H200", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12), ("NVIDIA L40S", 362e12), ("NVIDIA GeForce GTX 1080", None),
        ("cpu", None),
    ],
)  # fmt: skip
def test_a_gpus_peak_is_known_by_its_name(name: str, peak: float | None) -> None:
    assert peak_of(name) == peak
