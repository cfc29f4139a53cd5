"""Fixtures for every test: a clean environment, the command line in process, checkpoints to audit."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_llama
from hypothesis import settings
from typer.testing import CliRunner, Result

from audit.cli import app
from audit.train.writing import FILES

COLOURS_AND_SIZES = ("NO_COLOR", "FORCE_COLOR", "PY_COLORS", "TTY_COMPATIBLE", "COLUMNS", "LINES", "TERM")

settings.register_profile("gcont", deadline=None)
settings.load_profile("gcont")

for name in [name for name in os.environ if name.startswith("HF_")]:
    del os.environ[name]  # the Hub client reads them once, when it is imported


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let one worker run all tests of a tiny model, so that it is built and run forward once."""
    for item in items:
        name = getattr(item, "callspec", None) and item.callspec.params.get("name")
        if name is not None and "saved" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group(f"{item.path.stem} {name}"))


@pytest.fixture(autouse=True)
def _clean_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No Hub settings, no terminal's wishes, and a working folder of the test's own."""
    for name in [name for name in os.environ if name.startswith("HF_")]:
        monkeypatch.delenv(name)
    for name in (*COLOURS_AND_SIZES, "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)


@pytest.fixture(autouse=True)
def _figures_are_blank(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes seconds, so that only the tests marked `drawn` do it; the rest write empty figures."""
    if request.node.get_closest_marker("drawn") is None:
        monkeypatch.setattr("audit.output.draw", lambda report, illustration: b"")
        monkeypatch.setattr("audit.output.draw_models", lambda entries: b"")
        monkeypatch.setitem(FILES, "figures/continuity.png", lambda experiment: b"")
        monkeypatch.setattr("reports.training.figures.draw", lambda picture, experiment: b"")


@pytest.fixture
def cli() -> Callable[..., Result]:
    """Run a command line in this process: `cli("plan", folder, COLUMNS="80")`."""

    def run(*args: object, **environment: str) -> Result:
        return CliRunner().invoke(app, [str(arg) for arg in args], env=environment, prog_name="gcont-audit")

    return run


@pytest.fixture
def audited(cli: Callable[..., Result]) -> Callable[..., dict[str, Any]]:
    """Audit, expect success, and return the JSON from stdout."""

    def run(*args: object) -> dict[str, Any]:
        result = cli(*args, "--json")
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    return run


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """A tiny llama-like checkpoint of three layers."""
    return write_llama(tmp_path / "llama")


@pytest.fixture(scope="session")
def real() -> Callable[[str], Path]:
    """The folder of a real checkpoint, by name; skips where GCONT_TEST_DATA does not say where they are."""

    def find(name: str) -> Path:
        root = os.environ.get("GCONT_TEST_DATA")
        if not root:
            pytest.skip("GCONT_TEST_DATA is not set: it names the folder that holds checkpoints/")
        return Path(root) / "checkpoints" / name

    return find
