"""Encoders, encoder-decoders, vision and speech towers give the matrices that their modules multiply with."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from controls import Control
from extraction import mismatches, plan_of
from forward_pass import Computed, compute, compute_stacks
from reported import report_errors
from safetensors.torch import load_file, save_file
from tiny_encoders import TINY

from audit.plan import AuditPlan
from registry import Projection, families

Q, K, V = Projection.Q, Projection.K, Projection.V
O, OV = Projection.O, Projection.OV  # noqa: E741 - the field's own name
GATE, UP, DOWN = Projection.GATE, Projection.UP, Projection.DOWN

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Saved:
    """A model in a folder, and the matrices its forward pass computes with, by stack."""

    folder: Path
    computed: Computed | Mapping[str, Computed]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Saved]:
    """A tiny model by name, saved by transformers in its own way; each is built once."""
    made: dict[str, Saved] = {}

    def save(name: str) -> Saved:
        if name not in made:
            folder = tmp_path_factory.mktemp("model")
            tiny = TINY[name]
            model = tiny.build()
            model.save_pretrained(folder)
            computed = compute_stacks(tiny, model) if tiny.stacks else compute(tiny, model)
            made[name] = Saved(folder, computed)
        return made[name]

    return save


def wrong_in(model: Saved, plan: AuditPlan) -> set[tuple[str, Projection]]:
    """What the plan takes that the model does not multiply with, in the stacks that are watched."""
    return mismatches(model.computed, plan, partly=True)


# -------------------------------------------------------------------------------------- as transformers saves


@pytest.mark.parametrize("name", TINY)
def test_each_projection_is_what_the_forward_pass_multiplies_with(
    name: str, saved: Callable[[str], Saved]
) -> None:
    plan = plan_of(saved(name).folder)
    assert wrong_in(saved(name), plan) == set()
    assert plan.coverage.unknown == ()
    assert plan.findings == ()


@pytest.mark.parametrize("name", TINY)
def test_the_report_is_what_lapack_gives_for_these_matrices(name: str, saved: Callable[[str], Saved]) -> None:
    assert report_errors(saved(name).computed, plan_of(saved(name).folder)) == []


@pytest.mark.parametrize("name", TINY)
def test_folding_gives_what_readers_do_to_the_stream_before_the_norms_gain(
    name: str, saved: Callable[[str], Saved]
) -> None:
    plan = plan_of(saved(name).folder, fold_norm=True)
    assert wrong_in(saved(name), plan) == set()
    assert plan.findings == ()


@pytest.fixture(scope="module")
def every_folder(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Each tiny model saved, and not run."""
    folders = {name: tmp_path_factory.mktemp("model") for name in TINY}
    for name, folder in folders.items():
        TINY[name].build().save_pretrained(folder)
    return folders


@pytest.mark.xdist_group("every folder")
def test_every_stack_of_every_model_is_watched_in_one_of_its_builds(
    every_folder: Mapping[str, Path],
) -> None:
    watched: dict[str, set[str]] = {}
    there: dict[str, set[str]] = {}
    for name, tiny in TINY.items():
        model_type = name.partition(",")[0]
        stacks = {stack.layout.name for stack in plan_of(every_folder[name]).stacks}
        there.setdefault(model_type, set()).update(stacks)
        watched.setdefault(model_type, set()).update(tiny.stacks or stacks)
    assert watched == there


OF_OTHER_CODE = {"new"}
"""What the code that GTE's files on the Hub bring along calls itself."""


@pytest.mark.xdist_group("every folder")
def test_every_model_type_that_these_families_declare_is_built_here(
    every_folder: Mapping[str, Path],
) -> None:
    used: set[str] = set()
    built: set[str] = set()
    for name in TINY:
        layout = plan_of(every_folder[name]).layout
        used |= {layout.family, *(stack.family for stack in layout.stacks)}
        built |= set(model_types_in(json.loads((every_folder[name] / "config.json").read_text())))
    declared = {name for family in families() if family.name in used for name in family.model_types}
    assert declared - built == OF_OTHER_CODE


def model_types_in(config: Mapping[str, Any]) -> Iterator[str]:
    """A config's, and those of the configs in it."""
    if "model_type" in config:
        yield config["model_type"]
    for value in config.values():
        if isinstance(value, dict):
            yield from model_types_in(value)


# ------------------------------------------------------------------------------------------- with other heads


HEADS = tuple(
    head
    for name in sorted(dir(hf))
    if name.startswith("AutoModelFor") and hasattr(head := getattr(hf, name), "_model_mapping")
)
REFUSED = {
    ("t5gemma", "AutoModelForTextEncoding"),  # it is an encoder and a decoder
    ("beit", "AutoModelForSemanticSegmentation"),  # it wants four layers to look at
    ("deit", "AutoModelForImageClassification"),
}
"""Configs that transformers makes no such model of."""


@pytest.mark.parametrize("name", TINY)
def test_another_head_or_none_leaves_nothing_unknown(name: str, tmp_path: Path) -> None:
    config = TINY[name].config()
    for head in (hf.AutoModel, *HEADS):
        if type(config) in head._model_mapping and (name, head.__name__) not in REFUSED:
            folder = tmp_path / head.__name__
            head.from_config(config).save_pretrained(folder)
            plan = plan_of(folder)
            assert plan.coverage.unknown == (), head.__name__
            assert plan.findings == (), head.__name__


@pytest.mark.parametrize("name", [name for name, tiny in TINY.items() if tiny.model.base_model_prefix])
def test_a_base_model_saved_without_its_head_holds_the_same(
    name: str, saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    TINY[name].build().base_model.save_pretrained(tmp_path / "base")
    plan = plan_of(tmp_path / "base")
    stacks = {stack.layout.name for stack in plan.stacks}
    assert {
        (stack, projection) for stack, projection in wrong_in(saved(name), plan) if stack in stacks
    } == set()
    assert not TINY[name].stacks or stacks & TINY[name].stacks.keys()
    assert plan.coverage.unknown == ()


# ------------------------------------------------------------------------------------------ under other names


@dataclass(frozen=True)
class Elsewhere:
    """How files on the Hub, of older or other code, name what transformers names otherwise.

    `names` are parts of tensors' names to replace in order, `before` is put before all; `more` are tensors
    that such files hold besides; `keys` are config.json's, renamed, and `config` what it says otherwise.
    """

    names: tuple[tuple[str, str], ...] = ()
    before: str = ""
    more: Mapping[str, tuple[int, ...]] | None = None
    keys: Mapping[str, str] | None = None
    config: Mapping[str, Any] | None = None

    def write(self, source: Path, target: Path) -> Path:
        """A copy of a saved model, so named."""
        target.mkdir()
        tensors = {self._renamed(name): one for name, one in load_file(source / WEIGHTS).items()}
        assert tensors.keys() != load_file(source / WEIGHTS).keys() or self.more
        tensors |= {name: torch.rand(shape) for name, shape in (self.more or {}).items()}
        save_file(tensors, target / WEIGHTS)
        config = json.loads((source / "config.json").read_text())
        config = {(self.keys or {}).get(key, key): value for key, value in config.items()}
        (target / "config.json").write_text(json.dumps(config | dict(self.config or {})))
        return target

    def _renamed(self, name: str) -> str:
        for old, new in self.names:
            name = name.replace(old, new)
        return self.before + name


GAMMA = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))
WEIGHT_NORM = (
    ("parametrizations.weight.original0", "weight_g"),
    ("parametrizations.weight.original1", "weight_v"),
)

ELSEWHERE: Mapping[str, Elsewhere] = {
    "bert": Elsewhere(GAMMA, more={"bert.embeddings.position_ids": (1, 20)}),
    "roberta": Elsewhere(
        more={"roberta.embeddings.position_ids": (1, 20), "lm_head.decoder.weight": (32, 24)}
    ),
    "distilbert": Elsewhere(more={"vocab_projector.weight": (32, 24)}),
    "albert": Elsewhere(more={"predictions.decoder.weight": (32, 10)}),
    "deberta": Elsewhere((("cls.predictions.transform.", "lm_predictions.lm_head."),)),
    "deberta-v2": Elsewhere(
        (("cls.predictions.transform.", "lm_predictions.lm_head."),),
        more={"mask_predictions.dense.weight": (24, 24), "mask_predictions.classifier.weight": (1, 24)},
    ),
    "electra": Elsewhere(GAMMA),
    "esm": Elsewhere(
        ((".gamma", ".weight"), (".beta", ".bias")), more={"esm.embeddings.position_ids": (1, 20)}
    ),
    "altclip_text_model": Elsewhere((("encoder.layers.", "encoder.layer."),)),
    "nomic_bert": Elsewhere(
        (("nomic_bert.", ""),),
        keys={"hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head"},
    ),
    "gte": Elsewhere((("gte.", "new."),), config={"model_type": "new"}),
    "t5": Elsewhere(
        more={
            "encoder.embed_tokens.weight": (32, 24),
            "decoder.embed_tokens.weight": (32, 24),
            "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight": (32, 3),
        }
    ),
    "bart": Elsewhere(
        more={"model.encoder.embed_tokens.weight": (32, 24), "model.decoder.embed_tokens.weight": (32, 24)}
    ),
    "m2m_100": Elsewhere(
        more={
            "model.encoder.embed_positions.weights": (22, 24),
            "model.decoder.embed_positions.weights": (22, 24),
        }
    ),
    "vit_mae": Elsewhere((("decoder.decoder_encoder.layer.", "decoder.decoder_layers."),)),
    "clip_text_model": Elsewhere(before="text_model.", more={"text_model.embeddings.position_ids": (1, 20)}),
    "clip_vision_model": Elsewhere(
        before="vision_model.", more={"vision_model.embeddings.position_ids": (1, 5)}
    ),
    "siglip_text_model": Elsewhere(before="text_model."),
    "siglip_vision_model": Elsewhere(before="vision_model."),
    "siglip2_vision_model": Elsewhere(before="vision_model."),
    "altclip, the images": Elsewhere((("vision_model.encoder.layer.", "vision_model.encoder.layers."),)),
    "wav2vec2": Elsewhere(WEIGHT_NORM),
    "wavlm, pre-norm": Elsewhere(WEIGHT_NORM),
    "wav2vec2, pre-norm": Elsewhere(
        WEIGHT_NORM, more={"wav2vec2.encoder.layers.0.adapter_layer.linear_1.weight": (6, 24)}
    ),
}


@pytest.mark.parametrize("fold_norm", [False, True], ids=["stored", "folded"])
@pytest.mark.parametrize("name", ELSEWHERE)
def test_files_that_are_named_otherwise_hold_the_same(
    name: str, fold_norm: bool, saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    plan = plan_of(ELSEWHERE[name].write(saved(name).folder, tmp_path / "renamed"), fold_norm=fold_norm)
    assert wrong_in(saved(name), plan) == set()
    assert plan.coverage.unknown == ()
    assert plan.findings == ()


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod."])
@pytest.mark.parametrize("name", ["t5", "clip", "dinov2, gated", "wav2vec2"])
def test_wrappers_prefixes_are_seen_through(
    name: str, wrapper: str, saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    plan = plan_of(Elsewhere(before=wrapper).write(saved(name).folder, tmp_path / "wrapped"))
    assert wrong_in(saved(name), plan) == set()
    assert plan.coverage.unknown == ()


# ------------------------------------------------------------------------------------------ what must not be


def test_of_an_encoder_alone_only_the_encoder_is_there(saved: Callable[[str], Saved]) -> None:
    plan = plan_of(saved("t5, an encoder").folder)
    assert [stack.layout.name for stack in plan.stacks] == ["encoder"]
    assert len(plan.main.layers) == 2


def test_a_decoders_stacks_beside_it_are_its_cross_attention_and_the_encoder(
    saved: Callable[[str], Saved],
) -> None:
    stacks = {stack.layout.name: stack.layout for stack in plan_of(saved("whisper").folder).stacks}
    assert list(stacks) == ["", "cross-attention", "encoder"]
    assert stacks["cross-attention"].declared == (Q, K, V, O)
    assert [len(stack.layers) for stack in stacks.values()] == [3, 3, 2]


def test_albert_has_a_layer_for_each_group_it_shares(saved: Callable[[str], Saved]) -> None:
    assert len(plan_of(saved("albert").folder).main.layers) == 2


def test_a_real_albert_has_one_layer_and_no_neighbours(
    real: Callable[[str], Path], audited: Callable[..., dict[str, Any]]
) -> None:
    report = audited(real("rxnmapper-albert"))
    assert report["model"]["family"] == "albert"
    assert report["model"]["layers"] == 1
    assert report["coverage"]["unknown"] == []
    for projection in report["projections"].values():
        assert projection["continuity"]["v1"] is None
        assert projection["unmeasured"]["continuity"] == "one layer only, so there is no adjacent pair"


# ------------------------------------------------------------------------------------------ negative controls


def swapped(one: str, other: str) -> tuple[tuple[str, str], ...]:
    return ((one, "\0"), (other, one), ("\0", other))


def of(stack: str, *projections: Projection) -> set[tuple[str, Projection]]:
    return {(stack, projection) for projection in projections}


VALUES_FIRST = (('["Q", "K", "V"]', '["Q", "V", "K"]'),)
READERS = (Q, K, V, OV, UP)

CONTROLS = {
    "deberta: heads not interleaved": Control(
        "deberta", "deberta", (('repeat = "heads"\n', ""),), of("", Q, K, V, OV)
    ),
    "modernbert: K and V swapped": Control("modernbert", "modernbert", VALUES_FIRST, of("", K, V, OV)),
    "modernbert: Gate and Up swapped": Control(
        "modernbert", "modernbert", (('["Gate", "Up"]', '["Up", "Gate"]'),), of("", GATE, UP)
    ),
    "gte: Gate and Up swapped": Control(
        "gte", "gte", (('["Up", "Gate"]', '["Gate", "Up"]'),), of("", GATE, UP)
    ),
    "nomic_bert: Gate and Up swapped": Control(
        "nomic_bert", "nomic_bert", swapped("fc12", "fc11"), of("", GATE, UP)
    ),
    "jina_embeddings_v3: K and V swapped": Control(
        "jina_embeddings_v3", "jina_embeddings_v3", VALUES_FIRST, of("", K, V, OV)
    ),
    "blip_vision: K and V swapped": Control(
        "blip_vision_model", "blip_vision", VALUES_FIRST, of("", K, V, OV)
    ),
    "dinov2: Gate and Up swapped": Control(
        "dinov2, gated", "dinov2", (('["Gate", "Up"]', '["Up", "Gate"]'),), of("", GATE, UP)
    ),
    "moonshine: Gate and Up swapped": Control(
        "moonshine", "moonshine", (('["Up", "Gate"]', '["Gate", "Up"]'),), of("", GATE, UP)
    ),
    "t5: Gate and Up swapped": Control(
        "t5, gated", "t5", swapped("wi_0", "wi_1"), of("", GATE, UP) | of("encoder", GATE, UP)
    ),
    "t5: self-attention taken for cross-attention": Control(
        "t5",
        "t5",
        (("layer.1.EncDecAttention", "layer.0.SelfAttention"),),
        of("cross-attention", Q, K, V, O, OV),
    ),
    "mpnet: Q and K swapped": Control("mpnet", "mpnet", swapped("attn.q.", "attn.k."), of("", Q, K)),
    "vit: Q and K swapped": Control("vit", "vit", swapped("attention.query", "attention.key"), of("", Q, K)),
    "whisper: a norm in front of what the encoder gives": Control(
        "whisper", "whisper", (("cross = true\n", ""),), of("cross-attention", K, V, OV), fold_norm=True
    ),
    "mbart: cross-attention behind self-attention's norm": Control(
        "mbart",
        "mbart",
        (('"encoder_attn_layer_norm.weight"', '"self_attn_layer_norm.weight"'),),
        of("cross-attention", Q),
        fold_norm=True,
    ),
    "t5gemma: the gain taken as w": Control(
        "t5gemma",
        "t5gemma",
        (('gain = "1+w"', 'gain = "w"'),),
        of("", *READERS, GATE) | of("cross-attention", Q) | of("encoder", *READERS, GATE),
        fold_norm=True,
    ),
    "wav2vec2: its norms always in front": Control(
        "wav2vec2", "wav2vec2", (('when = "do_stable_layer_norm"\n', ""),), of("", *READERS), fold_norm=True
    ),
    "wav2vec2: its norms never in front": Control(
        "wav2vec2, pre-norm",
        "wav2vec2",
        (('when = "do_stable_layer_norm"', 'when = "no_such_key"'),),
        of("", *READERS),
        fold_norm=True,
    ),
    "xmod: its norms always in front": Control(
        "xmod", "xmod", (('when = "pre_norm"\n', ""),), of("", *READERS), fold_norm=True
    ),
    "esm: one norm for both blocks": Control(
        "esm",
        "esm",
        (('weight = ["LayerNorm.weight", "LayerNorm.gamma"', 'weight = ["attention.LayerNorm.gamma"'),),
        of("", UP),
        fold_norm=True,
    ),
    "clip_tower: the mean left in": Control(
        "clip_text_model",
        "clip_tower",
        (('kind = "layer"', 'kind = "rms"'),),
        of("", *READERS),
        fold_norm=True,
    ),
    "dinov2: the norms swapped": Control(
        "dinov2", "dinov2", swapped("norm1.", "norm2."), of("", *READERS), fold_norm=True
    ),
    "wav2vec2_conformer: one norm for both feed-forward blocks": Control(
        "wav2vec2-bert, in front",
        "wav2vec2_conformer",
        (("ffn1_layer_norm", "ffn2_layer_norm"),),
        of("first-ffn", UP),
        fold_norm=True,
    ),
}


@pytest.mark.parametrize("name", CONTROLS)
def test_a_family_declared_wrongly_fails(name: str, saved: Callable[[str], Saved], tmp_path: Path) -> None:
    control = CONTROLS[name]
    plan = plan_of(
        saved(control.model).folder,
        fold_norm=control.fold_norm,
        family_file=control.write(tmp_path / "wrong.toml"),
    )
    assert wrong_in(saved(control.model), plan) == control.wrong
