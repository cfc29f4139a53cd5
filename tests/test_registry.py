"""Families are data: what ships is sound, what a user writes is checked, and names alone may do."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from checkpoints import llama_config, llama_tensors, write_checkpoint, write_llama

import registry
from audit.checkpoint import open_checkpoint
from registry import FamilyFileError, Miss, Projection, families, match, models, published_for, read_family
from registry.family import parse_family

FOLDER = Path(registry.__file__).parent
FILES = sorted((FOLDER / "families").glob("*.toml"))

ODD = """\
name = "odd"
summary = "A llama-like model whose tensors have names that nobody else uses"
source = "https://example.org/odd"
model_types = ["odd"]
layers = ["stack/{layer}/"]

[projections]
Q = "ask"
K = "key"
V = "val"
O = "out"
Gate = "ffn.g"
Up = "ffn.u"
Down = "ffn.d"
"""

ODD_NAMES = {
    "self_attn.q_proj": "ask",
    "self_attn.k_proj": "key",
    "self_attn.v_proj": "val",
    "self_attn.o_proj": "out",
    "mlp.gate_proj": "ffn.g",
    "mlp.up_proj": "ffn.u",
    "mlp.down_proj": "ffn.d",
}

MINIMAL = {
    "name": '"x"',
    "summary": '"a family"',
    "source": '"https://example.org"',
    "model_types": '["x"]',
    "layers": '["h.{layer}."]',
}


def declaration(tail: str = '[projections]\nQ = "q"', **changes: str | None) -> str:
    """A minimal declaration with some keys changed (None: left out)."""
    keys = {key: value for key, value in (MINIMAL | changes).items() if value is not None}
    return "\n".join(f"{key} = {value}" for key, value in keys.items()) + "\n" + tail


def odd_checkpoint(folder: Path) -> Path:
    """The tiny llama under the names that ODD declares."""
    tensors = {}
    for name, value in llama_tensors().items():
        *_, layer, local = re.fullmatch(r"(model\.layers\.(\d+)\.)?(.+?)(?:\.weight)?", name).groups()
        tensors[f"stack/{layer}/{ODD_NAMES[local]}" if local in ODD_NAMES else name] = value
    config = llama_config(model_type="odd")
    return write_checkpoint(folder, tensors, config)


# What ships


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_shipped_family_is_a_declaration(path):
    family = parse_family(path.read_text(encoding="utf-8"), path.name)
    assert family.name == path.stem
    assert family in families()
    assert family.summary
    assert family.source.startswith("https://")
    assert family.model_types or family.architectures
    assert family.declared
    assert {"Q", "K", "V", "O", "Up", "Down"} <= set(family.declared)


def test_no_model_is_claimed_twice():
    """Of two families' globs, test_timm_vit.py tries that no name fits both."""
    for claims in ("model_types", "architectures"):
        claimed = [name for family in families() for name in getattr(family, claims)]
        assert len(claimed) == len(set(claimed))
    assert [family.name for family in families()] == [path.stem for path in FILES]


def test_known_models_are_of_known_families():
    names = {family.name for family in families()}
    assert len(models()) == 6
    for model in models():
        assert model.family in names
        assert model.repo.count("/") == 1
        assert model.layers > 0
        assert model.hidden_size > 0


def test_what_is_published_is_what_the_paper_prints():
    published = published_for("meta-llama/Llama-3.1-8B", 32, 4096)
    assert published.continuity == {
        "Q": {"v": 0.82}, "K": {"v": 0.77}, "V": {"v": 0.14}, "O": {"u": 0.89},
        "Gate": {"v": 0.80}, "Up": {"v": 0.63}, "Down": {"u": 0.74},
    }  # fmt: skip
    assert published.evr3 == {
        "Q": {"v": 0.55}, "K": {"v": 0.51}, "Up": {"v": 0.42}, "Gate": {"v": 0.53}, "V": {"v": 0.19},
        "OV": {"v": 0.24, "u": 0.61}, "O": {"u": 0.76}, "Down": {"u": 0.52},
    }  # fmt: skip
    assert "2605.04971" in published.source


@pytest.mark.parametrize(
    ("repo", "layers", "hidden"),
    [
        ("meta-llama/Llama-3.1-8B", 32, 4097),
        ("meta-llama/Llama-3.1-8B", 31, 4096),
        ("meta-llama/Llama-3.1-8B", 32, None),
        ("meta-llama/Llama-3.1-8B-Instruct", 32, 4096),
        ("someone/Llama-3.1-8B", 32, 4096),
        ("meta-llama/Llama-3.1-70B", 80, 8192),
        ("", 0, None),
    ],
)
def test_nothing_is_published_about_another_model(repo, layers, hidden):
    assert published_for(repo, layers, hidden) is None


def test_a_repo_is_known_in_any_case():
    assert published_for("Meta-Llama/llama-3.1-8b", 32, 4096) is not None


def test_published_keys_are_used():
    values = json.loads((FOLDER / "published.json").read_text())
    assert set(values) == {model.published for model in models() if model.published}


# Slips in a declaration


Q = '[projections]\nQ = "q"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (declaration(modeltypes='["x"]', model_types=None), "key `modeltypes`: did you mean `model_types`?"),
        (declaration(Q + '[config]\nlayer = ["n"]'), "unknown key `config.layer`: did you mean `layers`?"),
        (declaration(Q + '[norms.atention]\nkind = "rms"'), "did you mean `attention`?"),
        (declaration('[[fused]]\ntensor = "t"\norders = ["Q"]\norder = ["Q"]'), "did you mean `order`?"),
        (declaration(zebra="1"), "unknown key `zebra`"),
        (declaration(Q + '[norms.attention]\nweight = ["n"]'), "`norms.attention.kind`"),
        (declaration(Q + '[norms.ffn]\nkind = "batch"\nweight = ["n"]'), "`norms.ffn.kind`"),
        (declaration('[projections]\nquery = "q"'), "query"),
        (declaration("[projections]\nQ = 1"), "`projections.Q`"),
        (declaration('[[fused]]\ntensor = "t"\norder = ["Q", "X"]'), "fused.0.order.1"),
        (declaration('[[fused]]\ntensor = "t"\norder = ["Q"]\nrepeat = 0'), "fused.0.repeat"),
        (declaration(Q + '[config]\nheads = [{key = "a", value = 1}]'), "needs either `key` or `value`"),
        (declaration(Q + '[config]\nheads = [{when = "a"}]'), "needs either `key` or `value`"),
        (declaration(layers='["h.0."]'), "'h.0.' needs exactly one {layer}"),
        (declaration(layers='["{layer}.{layer}."]'), "exactly one {layer}"),
        (declaration(layers="[]"), "at least one prefix"),
        (declaration(layers='"h.{layer}."'), "`layers`"),
        (declaration(layers=None), "`layers`"),
        (declaration(name=None), "`name`"),
        (declaration(model_types=None), "a family needs `model_types` or `architectures`"),
        (declaration(model_types="[]"), "a family needs `model_types` or `architectures`"),
        (declaration(architecture='["x_*"]', model_types=None), "did you mean `architectures`?"),
        (declaration(architectures='"x_*"'), "`architectures`"),
        (declaration(source=None), "`source`"),
        (declaration(stored='"sideways"'), "`stored`"),
        (declaration(ignore='["*"]'), "`ignore`"),
        (declaration('[projections]\nOV = "ov"'), "OV is composed"),
        (declaration(Q + '[[fused]]\ntensor = "t"\norder = ["Q", "K"]'), "Q is declared twice"),
        (declaration('[[fused]]\ntensor = "t"\norder = ["Q", "Q"]'), "Q is declared twice"),
        (declaration(""), "at least one projection"),
        ("", "`name`"),
        ("name = ", "not valid TOML"),
        ('name = "a"\nname = "b"', "not valid TOML"),
        pytest.param("a = " + "[" * 5000, "not valid TOML", id="deep"),
    ],
)
def test_a_slip_is_named(text, said):
    with pytest.raises(FamilyFileError) as caught:
        parse_family(text, "mine.toml")
    assert str(caught.value).startswith("mine.toml: ")
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300


def test_the_smallest_declaration_is_one():
    family = parse_family(declaration(), "mine.toml")
    assert family.declared == (Projection.Q,)
    assert (family.stored, family.fused, family.ignore) == ("out_in", (), {})


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", "folder"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "mine.toml"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(FamilyFileError, match=r"mine\.toml: cannot be read"):
        read_family(path)


@pytest.mark.parametrize("text", [None, 'nome = "x"'])
def test_a_broken_family_file_is_a_usage_error(cli, llama, tmp_path, text):
    path = tmp_path / "mine.toml"
    if text is not None:
        path.write_text(text)
    result = cli(llama, "--family-file", path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "mine.toml" in result.stderr
    assert len(result.stderr.splitlines()) == 1


# A user's own family


def test_a_user_declares_a_model_in_fifteen_lines(cli, audited, tmp_path, llama):
    path = tmp_path / "odd.toml"
    path.write_text(ODD)
    assert len(ODD.splitlines()) <= 15
    folder = odd_checkpoint(tmp_path / "odd")

    unknown = cli(folder)
    assert unknown.exit_code == 3
    assert "--family-file" in unknown.stderr

    report, usual = audited(folder, "--family-file", path), audited(llama)
    assert report["model"]["family"] == "odd"
    assert report["findings"] == [
        {
            "code": "unknown-tensor", "severity": "warning", "projection": None, "layer": None,
            "message": "model.embed_tokens.weight [32, 16] matches no rule of odd",
        }
    ]  # fmt: skip
    assert report["projections"] == usual["projections"]


def test_a_declaration_of_a_known_name_replaces_it(audited, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(ODD.replace('"odd"', '"llama"'))
    report = audited(odd_checkpoint(tmp_path / "odd"), "--family-file", path)
    assert report["model"]["family"] == "llama"


def test_a_declaration_that_does_not_fit_says_what_it_looked_for(cli, llama, tmp_path):
    path = tmp_path / "odd.toml"
    path.write_text(ODD)
    result = cli(llama, "--family-file", path)
    assert result.exit_code == 3
    assert "stack/0/ask" in result.stderr


def test_family_overrides_the_config(audited, cli, tmp_path):
    folder = write_llama(tmp_path / "m", config={"model_type": "never-heard-of", "num_hidden_layers": 3})
    assert cli(folder).exit_code == 3
    report = audited(folder, "--family", "llama")
    assert (report["model"]["family"], report["model"]["model_type"]) == ("llama", "never-heard-of")


def test_an_unknown_family_name_names_its_neighbours(cli, llama):
    result = cli(llama, "--family", "lama")
    assert result.exit_code == 3
    assert "no family is called 'lama'" in result.stderr
    assert "nearest: llama" in result.stderr


# An architecture where there is no model type


TIMMS = parse_family(declaration(name='"timms"', architectures='["x_*", "y_?"]', model_types=None), "timms")
OTHER = parse_family(declaration(), "other")
H = {"h.0.q": (2, 2)}


@pytest.mark.parametrize("name", ["x_1", "x_tiny_224", "y_1"])
def test_an_architecture_is_claimed_by_globs(name):
    layout = match(H, {"architecture": name}, (OTHER, TIMMS))
    assert (layout.family, layout.model_type) == ("timms", None)


@pytest.mark.parametrize("name", ["x", "X_1", "ax_1", "y_12", ""])
def test_an_architecture_that_nobody_claims_is_named(name):
    found = match(H, {"architecture": name}, (OTHER, TIMMS))
    assert found.reason == f"architecture {name!r} is unknown"
    assert set(found.nearest) == {"x (all its tensors are here)", "timms (all its tensors are here)"}


def test_an_architecture_is_not_believed_without_its_tensors():
    found = match({"h.0.p": (2, 2)}, {"architecture": "x_1"}, (OTHER, TIMMS))
    assert found.reason == "architecture 'x_1' is of the family timms, and no tensor is named h.{layer}.q"


def test_a_model_type_wins_over_an_architecture():
    assert match(H, {"architecture": "x_1", "model_type": "x"}, (TIMMS, OTHER)).family == "x"
    assert match(H, {"architecture": "x_1", "text_config": {"model_type": "x"}}, (TIMMS, OTHER)).family == "x"
    found = match(H, {"architecture": "x_1", "model_type": "z"}, (TIMMS, OTHER))
    assert found.reason == "model_type 'z' is unknown"


@pytest.mark.parametrize(
    "config", [{}, {"architecture": None}, {"architecture": ["x_1"]}, {"architectures": "x_1"}]
)
def test_a_config_that_names_no_model_says_so(config):
    found = match(H, config, (OTHER, TIMMS))
    assert found.reason == "config.json has neither model_type nor architecture"


# Names alone


def gpt2_shapes(prefix: str = "") -> dict[str, tuple[int, ...]]:
    """GPT-2's names and shapes as transformers writes them, two layers of width 8."""
    shapes = {f"{prefix}wte.weight": (50, 8), f"{prefix}wpe.weight": (16, 8), f"{prefix}ln_f.weight": (8,)}
    for layer in range(2):
        at = f"{prefix}h.{layer}."
        shapes |= {f"{at}attn.c_attn.weight": (8, 24), f"{at}attn.c_proj.weight": (8, 8)}
        shapes |= {f"{at}mlp.c_fc.weight": (8, 32), f"{at}mlp.c_proj.weight": (32, 8)}
        shapes |= {f"{at}attn.bias": (1, 1, 16, 16), f"{at}ln_1.weight": (8,), f"{at}ln_2.bias": (8,)}
    return shapes


def bert_shapes(prefix: str = "") -> dict[str, tuple[int, ...]]:
    """BERT's names and shapes as transformers writes them, two layers of width 8."""
    shapes = {f"{prefix}embeddings.word_embeddings.weight": (50, 8), f"{prefix}pooler.dense.weight": (8, 8)}
    for layer in range(2):
        at = f"{prefix}encoder.layer.{layer}."
        shapes |= {f"{at}attention.self.{name}.weight": (8, 8) for name in ("query", "key", "value")}
        shapes |= {f"{at}attention.output.dense.weight": (8, 8), f"{at}intermediate.dense.weight": (32, 8)}
        shapes |= {f"{at}output.dense.weight": (8, 32), f"{at}output.LayerNorm.weight": (8,)}
    return shapes


@pytest.mark.parametrize("prefix", ["", "bert.", "module.", "_orig_mod.bert."])
def test_without_config_the_names_of_bert_are_enough(prefix):
    layout = match(bert_shapes(prefix), None, families())
    assert (layout.family, len(layout.layers), layout.missing, layout.unknown) == ("bert", 2, (), ())
    assert layout.layers[1].slots[Projection.DOWN].shape == (8, 32)


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_without_config_the_names_of_gpt2_are_enough(prefix):
    layout = match(gpt2_shapes(prefix), None, families())
    assert layout.family == "gpt2"
    assert layout.layers[0].slots[Projection.UP].shape == (32, 8), "Conv1D is turned to [out, in]"
    assert layout.unknown == ()


def test_a_fused_tensor_that_needs_the_config_says_so(cli, tmp_path):
    """GPT-NeoX interleaves Q, K, V head by head: only the number of heads tells them apart."""
    tensors = {"gpt_neox.embed_in.weight": torch.ones(9, 8)}
    shapes = {"attention.query_key_value": (24, 8), "attention.dense": (8, 8), "mlp.dense_h_to_4h": (32, 8)}
    for layer in range(2):
        for name, shape in (shapes | {"mlp.dense_4h_to_h": (8, 32)}).items():
            tensors[f"gpt_neox.layers.{layer}.{name}.weight"] = torch.ones(shape)
    result = cli(write_checkpoint(tmp_path / "m", tensors))
    assert result.exit_code == 3, "nothing is corrupt: something is absent"
    assert "without config.json" in result.stderr
    assert "belongs to these weights" not in result.stderr


def test_without_config_llama_names_are_several_families(cli, tmp_path):
    folder = write_checkpoint(tmp_path / "m", llama_tensors())
    assert open_checkpoint(str(folder)).config is None
    result = cli(folder)
    assert result.exit_code == 3
    assert "no config.json" in result.stderr
    for name in ("llama", "gemma"):
        assert name in result.stderr


def test_the_family_can_be_named_where_names_are_not_enough(audited, tmp_path):
    folder = write_checkpoint(tmp_path / "m", llama_tensors())
    report = audited(folder, "--family", "llama")
    assert (report["model"]["family"], report["model"]["hidden_size"]) == ("llama", 16)
    assert "OV" not in report["projections"], "grouped heads cannot be told from shapes"


def test_names_of_no_family(cli, tmp_path):
    result = cli(write_checkpoint(tmp_path / "m", {"conv.weight": torch.ones(3, 3)}))
    assert result.exit_code == 3
    assert "no family has these tensor names" in result.stderr


def test_every_tensor_is_accounted_for():
    shapes = bert_shapes() | {
        "encoder.layer.0.adapter.weight": (8, 8),
        "stray.weight": (2, 2),
        "s.bias": (2,),
    }
    layout = match(shapes, None, families())
    audited = {slot.tensor for layer in layout.layers for slot in layer.slots.values()}
    ignored = [name for names in layout.ignored.values() for name in names]
    assert sorted([*audited, *ignored, *layout.unknown]) == sorted(shapes)
    assert set(layout.unknown) == {"encoder.layer.0.adapter.weight", "stray.weight"}


def test_two_names_for_one_tensor_are_not_lost():
    shapes = bert_shapes() | {f"module.{name}": shape for name, shape in bert_shapes().items()}
    layout = match(shapes, None, families())
    audited = {slot.tensor for layer in layout.layers for slot in layer.slots.values()}
    ignored = [name for names in layout.ignored.values() for name in names]
    assert sorted([*audited, *ignored, *layout.unknown]) == sorted(shapes)


@pytest.mark.parametrize("part", ["gate", "up"])
def test_more_channels_than_down_reads_are_another_layout(cli, tmp_path, part):
    """Twice as many are a gate and a reader in one tensor."""
    name = f"model.layers.1.mlp.{part}_proj.weight"
    folder = write_llama(tmp_path / "m", planted={name: torch.ones(48, 16)})
    result = cli(folder)
    assert result.exit_code == 3
    assert (
        f"{name} makes 48 channels as {part.title()}, where model.layers.1.mlp.down_proj.weight reads 24"
        in (" ".join(result.stderr.split()))
    )


# Hostile and lopsided names


def test_a_first_layer_without_projections(tmp_path, audited):
    """Hybrid models start with layers of another kind; the width comes from the first that has one."""
    tensors = {
        name: value for name, value in llama_tensors().items() if "layers.0" not in name or "norm" in name
    }
    config = {"model_type": "llama", "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4}
    report = audited(write_checkpoint(tmp_path / "m", tensors, config))
    assert report["model"]["hidden_size"] == 16
    assert report["projections"]["Q"]["layers"] == [1, 2]
    assert {one["code"] for one in report["findings"]} == {"missing-projection"}


@pytest.mark.parametrize("config", [None, {"model_type": "bert"}])
def test_a_huge_layer_number_costs_nothing(config):
    """One name with nine digits must not make a list of as many missing layers."""
    script = f"""
import resource
resource.setrlimit(resource.RLIMIT_AS, (2**28, 2**28))
from registry import families, match
from registry.layout import Contradiction, Miss
shapes = {bert_shapes()!r}
shapes["encoder.layer.999999999.output.dense.weight"] = (8, 32)
found = match(shapes, {config!r}, families())
assert isinstance(found, Contradiction | Miss), type(found)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr[-500:]


def test_match_takes_any_names():
    for shapes in (
        {},
        {"": (1,)},
        {"model.layers..x": (2, 2)},
        {"model.layers.-1.mlp.up_proj.weight": (2, 2)},
    ):
        assert isinstance(match(shapes, {"model_type": "llama"}, families()), Miss)


def test_a_declaration_is_plain_toml():
    """Each file can be read by any TOML reader and says where it was read from."""
    for path in FILES:
        value = tomllib.loads(path.read_text(encoding="utf-8"))
        library = "transformers" if "model_types" in value else "pytorch-image-models"
        assert f"github.com/huggingface/{library}/blob/" in value["source"]
