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
from hypothesis import given
from hypothesis import strategies as st

import registry
from audit.checkpoint import open_checkpoint
from registry import (
    Contradiction,
    FamilyFileError,
    Layout,
    Miss,
    Projection,
    families,
    match,
    models,
    published_for,
    read_family,
)
from registry.family import parse_family

FOLDER = Path(registry.__file__).parent
FILES = sorted((FOLDER / "families").glob("*.toml"))

OWN = {"residual-mlp"}
"""What the experiments leave: networks of one matrix a layer, described by a paper."""

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
    assert family.model_types or family.architectures or family.part_only
    whole = {"Up"} if family.name in OWN else {"Q", "K", "V", "O", "Up", "Down"}
    assert family.parts or whole <= set(family.declared)


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
FUSED = '[[fused]]\ntensor = "t"\norder = ["Q"]\n'
PACKED = '[[experts.packed]]\ntensor = "t"\n'
NORM = '[norms.ffn]\nweight = ["n"]\n'
STORED = 'expected "out_in", "in_out" or "hidden_in", not "sideways"'
PARTS = '"Q", "K", "V", "O", "Gate", "Up", "Down", "SharedGate", "SharedUp", "SharedDown" or "-"'
REPEATS = 'expected "once", "heads", "kv_heads", "rows" or a whole number of at least 1'
NAMES = "expected a string or a list of strings"
RULES = "expected a list, each entry a string or a table of key, value, when, times"
RULE = RULES.replace("a list, each entry ", "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # keys that are unknown
        (declaration(modeltypes='["x"]', model_types=None), "key `modeltypes`: did you mean `model_types`?"),
        (declaration(Q + '[config]\nlayer = ["n"]'), "unknown key `config.layer`: did you mean `layers`?"),
        (declaration(Q + '[norms.atention]\nkind = "rms"'), "`norms.atention`: did you mean `attention`?"),
        (declaration('[[fused]]\ntensor = "t"\norders = ["Q"]\norder = ["Q"]'), "did you mean `order`?"),
        (declaration(zebra="1"), "unknown key `zebra`"),
        (declaration(architecture='["x_*"]', model_types=None), "did you mean `architectures`?"),
        (declaration(heads='["n"]'), "unknown key `heads`: did you mean `config.heads`?"),
        (
            declaration(FUSED + "zebra = 1"),
            "`fused.0.zebra`: expected tensor, order, repeat, equal or stored",
        ),
        (
            declaration('[projections]\nquery = "q"'),
            "unknown key `projections.query`: expected Q, K, V, O, Gate",
        ),
        (declaration('[projections]\ngate = "q"'), "unknown key `projections.gate`: did you mean `Gate`?"),
        (
            declaration(Q + '[experts.projections]\ngate = "{expert}"'),
            "`experts.projections.gate`: did you mean",
        ),
        (
            declaration(Q + '[stacks.e.projections]\nupp = "q"'),
            "`stacks.e.projections.upp`: did you mean `Up`?",
        ),
        (declaration(Q + '[config]\nheads = [{kye = "a"}]'), "`config.heads.0.kye`: did you mean `key`?"),
        (declaration(Q + '[parts.text]\nprefix = ["a"]'), "`parts.text.prefix`: did you mean `prefixes`?"),
        # keys that are missing
        ("", "`name` is missing: expected a string"),
        (declaration(name=None), "`name` is missing: expected a string"),
        (declaration(source=None), "`source` is missing: expected a string"),
        (
            declaration(Q + '[norms.attention]\nweight = ["n"]'),
            '`norms.attention.kind` is missing: expected "rms", "layer"',
        ),
        (
            declaration('[[fused]]\ntensor = "t"'),
            f"`fused.0.order` is missing: expected a list, each entry {PARTS}",
        ),
        (
            declaration(Q + '[[low_rank]]\ndown = "a"\norder = []'),
            "`low_rank.0.up` is missing: expected a string",
        ),
        (declaration(Q + '[[unused]]\nreason = "r"'), "`unused.0.projections` is missing"),
        # values that are no such thing
        (
            declaration(Q + NORM + 'kind = "batch"'),
            '`norms.ffn.kind`: expected "rms", "layer" or "by_bias", not "batch"',
        ),
        (declaration(Q + NORM + 'kind = "rms"\ngain = 1'), '`norms.ffn.gain`: expected "w" or "1+w", not 1'),
        (declaration(stored='"sideways"'), f"`stored`: {STORED}"),
        (declaration(FUSED + 'stored = "sideways"'), f"`fused.0.stored`: {STORED}"),
        (declaration(PACKED + 'order = ["Up"]\nstored = "sideways"'), f"`experts.packed.0.stored`: {STORED}"),
        (
            declaration('[[fused]]\ntensor = "t"\norder = ["Q", "X"]'),
            f'`fused.0.order.1`: expected {PARTS}, not "X"',
        ),
        (declaration('[[fused]]\ntensor = "t"\norder = "Q"'), "`fused.0.order`: expected a list, each entry"),
        (declaration(FUSED + "repeat = 0"), f"`fused.0.repeat`: {REPEATS}, not 0"),
        (declaration(FUSED + 'repeat = "thrice"'), f'`fused.0.repeat`: {REPEATS}, not "thrice"'),
        (declaration(FUSED + "repeat = true"), f"`fused.0.repeat`: {REPEATS}, not true"),
        (declaration(FUSED + "repeat = []"), f"`fused.0.repeat`: {REPEATS}, not []"),
        (declaration(FUSED + 'equal = "yes"'), '`fused.0.equal`: expected true or false, not "yes"'),
        (declaration("[projections]\nQ = 1"), f"`projections.Q`: {NAMES}, not 1"),
        (declaration("[projections]\nQ = 1979-05-27"), f'`projections.Q`: {NAMES}, not "1979-05-27"'),
        (declaration("[projections]\nQ = {a = 1}"), f'`projections.Q`: {NAMES}, not {{"a": 1}}'),
        (declaration('[projections]\nQ = ["a", 1]'), "`projections.Q.1`: expected a string, not 1"),
        (declaration(Q + "[experts.projections]\nGate = 1"), f"`experts.projections.Gate`: {NAMES}, not 1"),
        (declaration(Q + '[config]\nheads = "n"'), f'`config.heads`: {RULES}, not "n"'),
        (declaration(Q + "[config]\nheads = [1]"), f"`config.heads.0`: {RULE}, not 1"),
        (declaration(Q + "[config]\nheads = [{key = 1}]"), "`config.heads.0.key`: expected a string, not 1"),
        (
            declaration(Q + '[config]\nheads = [{value = "1"}]'),
            "`config.heads.0.value`: expected a whole number",
        ),
        (
            declaration(Q + "[config.by_layer_type]\nfull = 1"),
            "`config.by_layer_type.full`: expected a table of heads",
        ),
        (
            declaration(Q + "[norms]\nattention = 1"),
            "`norms.attention`: expected a table with weight and kind, not 1",
        ),
        (
            declaration(Q + '[[instead]]\nreason = "r"\nwhere = "a"'),
            "`instead.0.where`: expected a list of strings",
        ),
        (
            declaration(Q + '[[instead]]\nreason = "r"\nwhere = [1]'),
            "`instead.0.where.0`: expected a string, not 1",
        ),
        (declaration(Q + "[stacks]\nencoder = 1"), "`stacks.encoder`: expected a table, not 1"),
        (
            declaration(Q + '[stacks.encoder]\nlayers = "h"'),
            "`stacks.encoder.layers`: expected a list of strings",
        ),
        (declaration(layers='"h.{layer}."'), '`layers`: expected a list of strings, not "h.{layer}."'),
        (declaration(architectures='"x_*"'), "`architectures`: expected a list of strings"),
        (declaration(ignore='["*"]'), "`ignore`: expected a table, each entry a list of strings"),
        (declaration(Q + "[ignore]\nint = 1"), "`ignore.int`: expected a list of strings, not 1"),
        (declaration(fused="1"), "`fused`: expected a list, each entry a table with tensor and order, not 1"),
        (declaration(fused="[1]"), "`fused.0`: expected a table with tensor and order, not 1"),
        (declaration(optional='["q"]'), '`optional.0`: expected "Q", "K", "V"'),
        (declaration(name=f'["{"x" * 999}"]'), '`name`: expected a string, not ["xxx'),
        # what a declaration's own checks say
        (
            declaration(Q + '[config]\nheads = [{key = "a", value = 1}]'),
            "`config.heads.0`: a rule needs either `key`",
        ),
        (
            declaration(Q + '[config]\nheads = [{when = "a"}]'),
            "`config.heads.0`: a rule needs either `key` or",
        ),
        (declaration(layers='["h.0."]'), "`layers`: 'h.0.' needs exactly one {layer}"),
        (declaration(layers='["{layer}.{layer}."]'), "exactly one {layer}"),
        (declaration(layers="[]"), "`layers`: at least one prefix is needed"),
        (declaration(layers=None), "`layers`: at least one prefix is needed"),
        (
            declaration(Q + '[stacks.encoder.projections]\nQ = "q"'),
            "`stacks.encoder.layers`: at least one prefix",
        ),
        (
            declaration(Q + '[stacks.encoder]\nlayers = ["{layer}"]'),
            "`stacks.encoder.projections`: at least one",
        ),
        (declaration(model_types=None), "a family needs `model_types` or `architectures`"),
        (declaration(model_types="[]"), "a family needs `model_types` or `architectures`"),
        (declaration('[projections]\nOV = "ov"'), "`projections.OV`: OV is composed"),
        (declaration("[projections]\nQ = []"), "`projections.Q`: a tensor's name is needed"),
        (declaration('[[fused]]\ntensor = "t"\norder = ["Q", "Q"]'), "`fused.0.order`: Q is declared twice"),
        (
            declaration('[[low_rank]]\ndown = "d"\nup = "u"\norder = ["K", "K"]'),
            "`low_rank.0.order`: K is declared",
        ),
        (declaration(PACKED + 'order = ["Up", "Up"]'), "`experts.packed.0.order`: Up is declared twice"),
        (declaration('[[fused]]\ntensor = "t"\norder = ["-"]'), "`fused.0.order`: at least one projection"),
        (declaration(Q + "[parts.text]\nprefixes = []"), "`parts.text.prefixes`: at least one is needed"),
        (
            declaration(Q + "[config]\nheads = [{value = 0}]"),
            "`config.heads.0.value`: expected a whole number of at",
        ),
        (declaration(PACKED + 'order = ["Q"]'), "`experts.packed.0.order`: Q is no part of an expert"),
        (
            declaration(Q + '[experts.projections]\nQ = "{expert}"'),
            "`experts.projections`: Q is no part of an expert",
        ),
        (
            declaration(Q + '[experts.projections]\nUp = "up"'),
            "`experts.projections.Up`: 'up' needs exactly one",
        ),
        (declaration(Q + '[[instead]]\nreason = "r"'), "`instead.0`: `where` or `without` must tell"),
        (
            declaration(Q + '[parts.text]\nprefixes = ["a"]'),
            "`parts`: a family made of sub-models has no layers",
        ),
        (declaration(""), "`projections`: at least one projection"),
        # what is no TOML
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


def test_a_projection_may_lie_in_one_of_several_places():
    """The first that a layer has: alone, fused, or in two steps."""
    text = declaration(
        Q + '[[fused]]\ntensor = "t"\norder = ["Q", "K"]\n[[fused]]\ntensor = "s"\norder = ["K"]'
    )
    assert parse_family(text, "mine.toml").declared == (Projection.Q, Projection.K)


def slip(text, place, new):
    """One value, name or sign of a declaration replaced, and perhaps a line left out or said twice."""
    pieces = re.split(r"(\s+|[][{}=,])", text)
    pieces[place % len(pieces)] = new
    return "".join(pieces)


TOKENS = (
    "", "1", "-1", "0", "true", "1.5", "inf", '""', '"x"', "[]", "{}", "[1]", "[[]]", "{a = 1}", "1979-05-27",
    "name", "layers", "Q", '"Q"', '["Q"]', '"{layer}"', '"{expert}"', '"["', "[fused]", "=", "\n", "#",
    "\x00",
)  # fmt: skip


@given(
    st.sampled_from(FILES), st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from(TOKENS)), max_size=3)
)
def test_an_edited_declaration_is_one_or_says_what_is_wrong(path, edits):
    """And one that is can be matched, whatever it says now."""
    text = path.read_text(encoding="utf-8")
    for place, new in edits:
        text = slip(text, place, new)
    family, said = parsed(text)
    if family is None:
        assert said.startswith("mine.toml: ")
        assert len(said) < 500
        return
    for shapes in (gpt2_shapes(), bert_shapes(), H):
        for config in (None, {"model_type": "x", "hidden_size": 8, "num_attention_heads": 2}):
            match(shapes, config, (family, *families()), family.name)


def parsed(text):
    """A family and no complaint, or the other way round."""
    try:
        return parse_family(text, "mine.toml"), ""
    except FamilyFileError as error:
        return None, str(error)


@pytest.mark.parametrize(
    "text",
    [
        declaration(Q, layers='["{x}.{layer}.{}."]'),
        declaration(Q, layers='["{layer}"]'),
        declaration("[parts.text]\nprefixes = ['']\nfamily = 'nobody'", layers=None),
        declaration("[parts.text]\nprefixes = ['']\nfamily = 'x'", layers=None),
        declaration("[parts.text]\nprefixes = ['h.']", layers=None),
        declaration("[parts.text]\nprefixes = []", layers=None),
        declaration(Q + "[ignore]\nall = ['[', '*']"),
        declaration(Q + "[config]\nheads = [{value = 0}]\nkv_heads = [{value = 0}]\nhidden = [{value = -1}]"),
        declaration(Q + "[config]\nlayers = [{value = -1}]"),
        declaration("[projections]\nQ = ''"),
        declaration('[[fused]]\ntensor = "q"\norder = []'),
        declaration('[[fused]]\ntensor = "q"\norder = ["-"]'),
        declaration(Q + '[[fused]]\ntensor = "q"\norder = []\nrepeat = "rows"'),
        declaration(Q + '[[fused]]\ntensor = "q"\norder = ["-", "K"]\nrepeat = "heads"\nequal = true'),
        declaration(Q + "[norms.attention]\nweight = []\nkind = 'rms'"),
    ],
)
def test_a_declaration_that_says_nonsense_can_still_be_matched(text):
    family, said = parsed(text)
    if said:
        return
    for shapes in (H, {"h.0.q": (3,)}, {"0q": (2, 2)}, {"{x}.0.{}.q": (2, 2)}, bert_shapes()):
        for config in (None, {}, {"hidden_size": 2, "num_attention_heads": 2, "num_hidden_layers": 2}):
            found = match(shapes, config, (family, *families()), family.name)
            assert isinstance(found, Layout | Miss | Contradiction)


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
            "message": "model.embed_tokens.weight [32, 16] matches no rule of odd", "stack": None,
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
    assert (layout.family, len(layout.main.layers), layout.main.lacks, layout.unknown) == ("bert", 2, (), ())
    assert layout.main.layers[1].slots[Projection.DOWN].shape == (8, 32)


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_without_config_the_names_of_gpt2_are_enough(prefix):
    layout = match(gpt2_shapes(prefix), None, families())
    assert layout.family == "gpt2"
    assert layout.main.layers[0].slots[Projection.UP].shape == (32, 8), "Conv1D is turned to [out, in]"
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
    audited = {slot.tensor for layer in layout.main.layers for slot in layer.slots.values()}
    ignored = [name for name, _ in layout.ignored()]
    assert sorted([*audited, *ignored, *layout.unknown]) == sorted(shapes)
    assert set(layout.unknown) == {"encoder.layer.0.adapter.weight", "stray.weight"}


def test_two_names_for_one_tensor_are_not_lost():
    shapes = bert_shapes() | {f"module.{name}": shape for name, shape in bert_shapes().items()}
    layout = match(shapes, None, families())
    audited = {slot.tensor for layer in layout.main.layers for slot in layer.slots.values()}
    ignored = [name for name, _ in layout.ignored()]
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
        if path.stem in OWN:
            assert value["source"] == "https://arxiv.org/abs/2605.04971"
            continue
        assert value["source"].startswith(("https://github.com/", "https://huggingface.co/"))
        assert "/blob/" in value["source"], "a file, not a folder"
