"""`gcont-audit families`: the listing, and the three steps to a model of one's own."""

import gc
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import HIDDEN, KV, llama_tensors, write_checkpoint, write_llama
from typer.testing import Result

from audit.checkpoint import TensorReader
from audit.explanation import explain, grouped
from registry import Layout, declaration, draft, families, match, read_family
from registry.family import parse_family

Cli = Callable[..., Result]

MINE = """\
name = "mine"
summary = "A layout with two rules of its own"
source = "https://example.org"
model_types = ["mine"]
layers = ["h.{layer}."]

[projections]
Q = "a.q"
K = "a.kv"
V = "a.kv"
O = "a.o"

[[fused]]
tensor = "m.both"
order = ["Gate", "Up"]

[norms.attention]
weight = ["n1.weight"]
kind = "rms"

[ignore]
tables = ["table.*"]
"a gate of attention" = ["h.*.a.gate"]
"""


@pytest.fixture
def mine(tmp_path: Path) -> tuple[Path, Path]:
    """A checkpoint typed by hand, of which some tensors are unknown, and its declaration."""
    tensors = {}
    for layer in range(3):
        named = {"a.q": (4, 4), "a.kv": (4, 4), "a.o": (4, 4), "m.both": (12, 4), "n1.weight": (4,)}
        named |= {"a.gate": (2, 4), "fc1.bias": (6,), "fc2.bias": (6,)}
        tensors |= {f"h.{layer}.{name}": torch.ones(shape) for name, shape in named.items()}
    tensors |= {"h.1.odd": torch.ones(2, 3), "table.0": torch.ones(9, 4), "stray": torch.ones(5, 5)}
    folder = write_checkpoint(tmp_path / "m", tensors, {"model_type": "mine", "num_attention_heads": 1})
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    return folder, path


def lines_of(result: Result) -> list[str]:
    assert result.exit_code == 0, result.stderr
    return [line.rstrip() for line in result.stdout.splitlines()]


# The listing


def test_the_listing_fits_a_terminal_and_says_how_many_there_are(cli: Cli) -> None:
    result = cli("families", COLUMNS="80")
    lines = lines_of(result)
    types = sum(len(family.model_types) for family in families())
    assert lines[-1] == f"{len(families())} families, {types} model types."
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in result.stdout
    named = {line.split()[0] for line in lines[3:-1] if line.startswith(" ") and line[1:2].strip()}
    assert named == {family.name for family in families()}


def test_a_family_without_model_types_says_what_tells_it(cli: Cli) -> None:
    text = " ".join(cli("families", COLUMNS="80").stdout.split())
    assert "(by `architecture` in config.json: names such as vit_*, flexivit_*, deit_*, deit3_*)" in text


def test_the_listing_as_json_names_stacks_and_sub_models(cli: Cli) -> None:
    listed = {one["name"]: one for one in json.loads(cli("families", "--json").stdout)}
    for family in families():
        one = listed[family.name]
        assert (one["stacks"], one["parts"]) == ([*family.stacks], [*family.parts])
        assert one["projections"] or one["parts"]


# --show


@pytest.mark.parametrize("name", [family.name for family in families()])
def test_a_declaration_is_printed_as_it_is(cli: Cli, tmp_path: Path, name: str) -> None:
    result = cli("families", "--show", name)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == declaration(name)
    path = tmp_path / "copy.toml"
    path.write_text(result.stdout, encoding="utf-8")
    assert read_family(path).name == name


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("lama", "nearest: llama"),
        ("mistral", "nearest: llama"),
        ("../llama", "nearest: llama"),
        ("", "lists them"),
        ("no such thing", "lists them"),
    ],
)
def test_an_unknown_name_names_its_neighbours(cli: Cli, name: str, near: str) -> None:
    result = cli("families", "--show", name)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"no family is called {name!r}" in result.stderr
    assert near in result.stderr


# --explain


def test_each_tensor_is_explained_for_people(cli: Cli, mine: tuple[Path, Path]) -> None:
    folder, path = mine
    lines = lines_of(cli("families", "--explain", folder, "--family-file", path, COLUMNS="100"))
    assert lines[0] == f"{folder}: family mine, 27 tensors"
    assert [" ".join(line.split()) for line in lines[4:]] == [
        "h.{0-2}.a.q 3 [4, 4] Q",
        "h.{0-2}.a.kv 3 [4, 4] K, V",
        "h.{0-2}.a.o 3 [4, 4] O",
        "h.{0-2}.m.both 3 [12, 4] Gate, Up",
        "",
        "h.{0-2}.n1.weight 3 [4] norm in front of",
        "Q, K, V",
        "",
        "h.{0-2}.a.gate 3 [2, 4] a gate of",
        "attention",
        "h.{0-2}.fc1.bias 3 [6] biases",
        "h.{0-2}.fc2.bias 3 [6] biases",
        "table.0 [9, 4] tables",
        "",
        "h.1.odd [2, 3] UNKNOWN, inside a",
        "layer",
        "stray [5, 5] UNKNOWN, outside",
        "the layers",
        "",
        "audited 12 tensors",
        "ignored 3 tensors: a gate of attention",
        "ignored 6 tensors: biases",
        "ignored 3 tensors: norms and scales",
        "ignored 1 tensor: tables",
        "unknown 2 tensors: 1 inside a layer, 1 outside",
    ]


def test_each_tensor_is_explained_as_json(cli: Cli, mine: tuple[Path, Path]) -> None:
    folder, path = mine
    told = json.loads(cli("families", "--explain", folder, "--family-file", path, "--json").stdout)
    assert (told["model"], told["family"], told["model_type"]) == (str(folder), "mine", "mine")
    rows = {one["name"]: one for one in told["tensors"]}
    assert len(told["tensors"]) == len(rows) == 3 * 8 + 3
    assert rows["h.2.a.kv"] == {
        "name": "h.2.a.kv", "shape": [4, 4], "kind": "projection", "rule": "K, V of layer 2", "inside": True
    }  # fmt: skip
    assert rows["h.0.a.gate"]["rule"] == "a gate of attention"
    assert {name for name, one in rows.items() if one["kind"] == "norm"} == {
        f"h.{i}.n1.weight" for i in range(3)
    }
    unknown = {name: one["inside"] for name, one in rows.items() if one["kind"] == "unknown"}
    assert unknown == {"h.1.odd": True, "stray": False}
    assert told["counts"] == {
        "audited": 12, "unknown_inside": 1, "unknown_outside": 1,
        "ignored": {"norms and scales": 3, "biases": 6, "a gate of attention": 3, "tables": 1},
    }  # fmt: skip


def test_the_counts_are_those_of_the_plan(cli: Cli, mine: tuple[Path, Path], llama: Path) -> None:
    for line in ([mine[0], "--family-file", mine[1]], [llama]):
        told = json.loads(cli("families", "--explain", *line, "--json").stdout)
        coverage = json.loads(cli("plan", *line, "--json").stdout)["coverage"]
        kinds = Counter(one["kind"] for one in told["tensors"])
        assert told["counts"]["audited"] == coverage["audited"] == kinds["projection"]
        assert told["counts"]["ignored"] == coverage["ignored"]
        assert sum(coverage["ignored"].values()) == kinds["norm"] + kinds["ignored"]
        unknown = [one["name"] for one in told["tensors"] if one["kind"] == "unknown"]
        assert sorted(unknown) == sorted(coverage["unknown"])


def test_unknown_tensors_stand_out_on_a_terminal(cli: Cli, mine: tuple[Path, Path]) -> None:
    folder, path = mine
    text = cli("families", "--explain", folder, "--family-file", path, FORCE_COLOR="1", TERM="xterm").stdout
    loud = {line.split()[0] for line in re.findall(r"\x1b\[1;31m ?(\S[^\x1b]*)", text)}
    assert {"h.1.odd", "stray"} <= loud
    assert not any("a.q" in line for line in loud)


def test_a_model_is_explained_from_its_headers(
    cli: Cli, llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TensorReader, "read", lambda *_: pytest.fail("a weight was read"))
    lines = [" ".join(line.split()) for line in lines_of(cli("families", "--explain", llama, COLUMNS="80"))]
    assert f"model.layers.{{0-2}}.self_attn.q_proj.weight 3 [{HIDDEN}, {HIDDEN}] Q" in lines
    assert f"model.layers.{{0-2}}.self_attn.k_proj.weight 3 [{KV}, {HIDDEN}] K" in lines
    assert not list(Path.cwd().iterdir())


def test_another_family_may_be_asked(cli: Cli, tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "m", config={"model_type": "never-heard-of", "num_hidden_layers": 3})
    assert cli("families", "--explain", folder).exit_code == 3
    assert lines_of(cli("families", "--explain", folder, "--family", "llama"))[-1] == "unknown   0 tensors"


@pytest.mark.parametrize(("model", "code"), [("./nowhere", 2), ("corrupt", 5)])
@pytest.mark.parametrize("option", ["--explain", "--draft"])
def test_errors_are_the_usual_ones(cli: Cli, tmp_path: Path, model: str, code: int, option: str) -> None:
    (tmp_path / "corrupt").mkdir()
    (tmp_path / "corrupt" / "model.safetensors").write_bytes(b"\xff" * 40)
    result = cli("families", option, model if code == 2 else tmp_path / "corrupt")
    assert (result.exit_code, result.stdout) == (code, "")
    assert len(result.stderr.splitlines()) == 1


def test_control_characters_do_not_reach_the_terminal(cli: Cli, tmp_path: Path) -> None:
    tensors = llama_tensors() | {"evil\x1b[2J\n.weight": torch.ones(2, 2)}
    config = {"model_type": "llama", "num_attention_heads": 4, "num_key_value_heads": 2}
    folder = write_checkpoint(tmp_path / "m", tensors, config)
    for option in ("--explain", "--draft"):
        result = cli("families", option, folder)
        assert result.exit_code == 0
        assert "\x1b" not in result.output
        assert "evil" in result.stdout


# Only what differs in numbers is told together


def told(names: Iterator[str] | list[str], rule: str = "r") -> list[tuple[str, int, int]]:
    from audit.explanation import Explained

    rows = grouped([Explained(name, (2, 2), "ignored", rule, False) for name in names])
    return [(row.name, row.count, row.possible) for row in rows]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.0.b", "a.1.b", "a.2.b"], [("a.{0-2}.b", 3, 3)]),
        (["a.10.b", "a.9.b", "a.8.b", "a.2.b"], [("a.{2, 8-10}.b", 4, 4)]),
        (["a.0.x.3.b", "a.1.x.3.b"], [("a.{0-1}.x.3.b", 2, 2)]),
        (["a.0.fc1", "a.1.fc1", "a.0.fc2", "a.1.fc2"], [("a.{0-1}.fc1", 2, 2), ("a.{0-1}.fc2", 2, 2)]),
        ([f"a_{i}/w" for i in range(5)], [("a_{0-4}/w", 5, 5)]),
        (["a.0.e.0", "a.0.e.1", "a.1.e.0"], [("a.{0-1}.e.{0-1}", 3, 4)]),
        (["x", "y"], [("x", 1, 1), ("y", 1, 1)]),
        (["7", "08"], [("{7-8}", 2, 2)]),
        ([], []),
    ],
)
def test_names_that_differ_in_numbers_are_one_line(
    names: list[str], expected: list[tuple[str, int, int]]
) -> None:
    assert told(names) == expected


LAYERS, EXPERTS = 61, 256


def mixture() -> tuple[dict[str, tuple[int, ...]], dict[str, object]]:
    """The names of a very large mixture of experts, with small shapes."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (9, 8), "lm_head.weight": (9, 8)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        shapes |= {f"{at}self_attn.{name}_proj.weight": (8, 8) for name in "qkvo"}
        shapes |= {f"{at}{name}.weight": (8,) for name in ("input_layernorm", "post_attention_layernorm")}
        shapes[f"{at}mlp.gate.weight"] = (EXPERTS, 8)
        for expert in range(EXPERTS):
            one = f"{at}mlp.experts.{expert}."
            shapes |= {f"{one}gate_proj.weight": (6, 8), f"{one}up_proj.weight": (6, 8)}
            shapes[f"{one}down_proj.weight"] = (8, 6)
    config = {
        "model_type": "qwen3_moe",
        "num_hidden_layers": LAYERS,
        "hidden_size": 8,
        "num_attention_heads": 2,
    }
    return shapes, config | {"num_key_value_heads": 2, "head_dim": 4}


@pytest.fixture
def _no_collection() -> Iterator[None]:
    """The garbage of a thousand other tests is not counted: going through it takes longer than the work."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collection")
def test_forty_seven_thousand_tensors_are_a_dozen_lines_and_take_no_time() -> None:
    """In processor time, beside matching, which a busy machine slows down as much; that takes a second."""
    shapes, config = mixture()
    runs = []
    for _ in range(3):
        clock = [time.process_time()]
        layout = match(shapes, config, families())
        clock.append(time.process_time())
        assert isinstance(layout, Layout)
        rows = grouped(explain(layout, shapes))
        clock.append(time.process_time())
        text = draft(shapes, config)
        clock.append(time.process_time())
        runs.append([later - earlier for earlier, later in pairwise(clock)])
    matching, explaining, drafting = map(min, zip(*runs, strict=True))
    assert explaining < 2 * matching
    assert drafting < 2 * matching
    assert len(rows) == 12
    assert sum(row.count for row in rows) == len(shapes)
    wanted = f"model.layers.{{0-{LAYERS - 1}}}.mlp.experts.{{0-{EXPERTS - 1}}}.up_proj.weight"
    assert (wanted, LAYERS * EXPERTS, "Up") in {(row.name, row.count, row.rule) for row in rows}
    family = parse_family(text, "the draft")
    assert family.experts is not None
    assert family.experts.projections["Up"] == "mlp.experts.{expert}.up_proj.weight"


# --draft


def test_a_draft_is_a_file_to_finish(cli: Cli, tmp_path: Path, llama: Path) -> None:
    folder = write_checkpoint(
        tmp_path / "own",
        {name.replace("model.layers", "trunk"): value for name, value in llama_tensors().items()},
        {"model_type": "own", "hidden_size": HIDDEN, "num_attention_heads": 4, "num_key_value_heads": 2},
    )
    unknown = cli(folder)
    assert unknown.exit_code == 3
    (advised,) = re.findall(r"`gcont-audit (families --draft \S+)`", unknown.stderr)
    result = cli(*advised.split())
    assert (result.exit_code, result.stderr) == (0, "")
    path = tmp_path / "own.toml"
    path.write_text(result.stdout, encoding="utf-8")
    assert read_family(path).layers == ("trunk.{layer}.",)
    explained = cli("families", "--explain", folder, "--family-file", path)
    assert lines_of(explained)[-1] == "unknown   0 tensors"


def test_a_known_model_is_drafted_all_the_same(cli: Cli, llama: Path) -> None:
    result = cli("families", "--draft", llama)
    assert f"note: {llama} is of a known family already: `gcont-audit families --show llama`" in result.stderr
    assert parse_family(result.stdout, "the draft").projections["Q"] == "self_attn.q_proj.weight"
    assert cli("families", "--draft", llama, "--quiet").stderr == ""


# What goes together


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--show llama --draft x", "--show and --draft ask for different things"),
        ("--show a --explain b --draft c", "--show and --explain and --draft ask for different things"),
        ("--show llama --family x", "--family goes with --explain only"),
        ("--draft x --family-file y", "--family-file goes with --explain only"),
        ("--revision main", "--revision goes with --explain or --draft only"),
        ("--show llama --json", "--json goes with --explain or the listing only"),
        ("--draft x --json", "--json goes with --explain or the listing only"),
    ],
)
def test_options_that_do_not_go_together_are_one_clear_error(cli: Cli, line: str, said: str) -> None:
    result = cli("families", *line.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("option", ["--show", "--explain", "--draft"])
def test_help_is_clear_about_each(cli: Cli, option: str) -> None:
    text = cli("families", "--help", COLUMNS="80").stdout
    assert re.search(rf"│ {option} +(NAME|MODEL) ", text)
    assert "A model of your own" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("line", [["--explain", "MODEL"], ["--draft", "MODEL"], ["--show", "llama"], []])
def test_nothing_is_coloured_or_too_wide_in_a_pipe(
    cli: Cli, llama: Path, line: list[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(llama.parent)
    result = cli("families", *[part.replace("MODEL", "llama") for part in line], COLUMNS="80")
    assert result.exit_code == 0, result.stderr
    assert "\x1b" not in result.output
    wide = [text for text in result.stdout.splitlines() if len(text) > (80 if "--show" not in line else 130)]
    assert wide == []
