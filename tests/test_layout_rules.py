"""The rules that the layout of the code itself keeps."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import audit
import audit.cli
import registry
import reports
from registry import families

PACKAGES = (audit, registry, reports)
ROOT = Path(audit.__file__).parent.parent
MODULES = sorted(path for package in PACKAGES for path in Path(package.__file__).parent.rglob("*.py"))
IDS = [str(path.relative_to(ROOT)) for path in MODULES]
MAX_LINES = 350

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

every_module = pytest.mark.parametrize("path", MODULES, ids=IDS)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def public(node: Documented, name: str) -> Iterator[tuple[str, Documented]]:
    """A module or class and, by dotted name, all it offers."""
    yield name, node
    for child in node.body:
        if isinstance(child, Documented) and (not child.name.startswith("_") or child.name == "__init__"):
            inner = public(child, f"{name}.{child.name}")
            yield from inner if isinstance(child, ast.ClassDef) else [next(inner)]


def code_strings(tree: ast.Module) -> Iterator[str]:
    """Every string literal that is no docstring."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, Documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def imports(tree: ast.Module) -> Iterator[str]:
    """The absolute names a module imports, at its top or within."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module


def commands() -> dict[str, object]:
    """The functions behind the commands, by name."""
    return {one.callback.__name__: one.callback for one in audit.cli.app.registered_commands}


def test_the_three_packages_come_from_one_place():
    """Their names are common ones: another `registry` on the path must not be taken for ours."""
    assert {Path(package.__file__).parent.parent for package in PACKAGES} == {ROOT}
    for package in PACKAGES:
        assert (Path(package.__file__).parent / "py.typed").is_file()


@every_module
def test_modules_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@every_module
def test_what_is_public_has_a_docstring(path):
    bare = [name for name, node in public(parsed(path), path.stem) if not ast.get_docstring(node)]
    assert bare == []


@every_module
def test_no_family_is_named_outside_the_registry(path):
    """A new layout earns a new field in a declaration, never a branch on a name."""
    if path.is_relative_to(ROOT / "registry"):
        return
    names = {family.name for family in families()} | {name for f in families() for name in f.model_types}
    assert names & set(code_strings(parsed(path))) == set()


@every_module
def test_imports_flow_one_way(path):
    package = path.relative_to(ROOT).parts[0]
    outside = {name.split(".")[0] for name in imports(parsed(path))}
    if package != "audit":
        others = {"audit", "registry", "reports"} - {package}
        assert not outside & (others | {"torch", "safetensors", "typer", "huggingface_hub"})
    assert "transformers" not in outside
    assert "pickle" not in outside


@every_module
def test_nothing_unpickles_or_runs_foreign_code(path):
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in {"torch.load", "eval", "exec", "pickle.load", "pickle.loads"}
        if isinstance(node, ast.keyword):
            assert node.arg != "trust_remote_code"


@pytest.mark.parametrize("name", [*audit.cli.COMMANDS, audit.cli.DEFAULT])
def test_every_command_has_help(name):
    assert set(commands()) == {*audit.cli.COMMANDS, audit.cli.DEFAULT}
    assert (commands()[name].__doc__ or "").endswith(".")


@pytest.mark.parametrize("name", [*audit.cli.COMMANDS, audit.cli.DEFAULT])
def test_every_option_has_help(name):
    for parameter, hint in commands()[name].__annotations__.items():
        if parameter != "return":
            (about,) = hint.__metadata__
            assert about.help, f"{name}: {parameter}"
            assert about.help.endswith("."), f"{name}: {parameter}"


def test_the_public_names_are_there_and_in_order():
    for package in (audit, registry):
        for name in package.__all__:
            assert getattr(package, name) is not None
    assert audit.__all__ == sorted(audit.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        audit.no_such_name  # noqa: B018 - the look-up is what is tested
