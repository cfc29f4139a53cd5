"""The docstrings of Python's standard library: English text that every Python carries.

The sources are parsed, never imported. Every module is a document, every twentieth is for validation.
"""

import ast
import json
import os
import sysconfig
import warnings
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from audit.errors import DataError
from audit.train.text.known import ADVICE, STDLIB
from audit.train.text.pieces import TRAIN, VALID, Piece, Text, lines_of
from audit.train.text.tokens import Progress

_NOT_THE_LIBRARY = {
    "site-packages", "dist-packages", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip",
}  # fmt: skip
_TESTS = {"test", "tests"}
_EVERY = 20


def stdlib_text(progress: Progress) -> Text:
    """All docstrings of this Python's library; raises DataError for a Python without its source files."""
    root = Path(sysconfig.get_path("stdlib"))
    documents = _documents(root, progress)
    if len(documents) < _EVERY:
        raise DataError(f"{root} holds no source files of Python's standard library", ADVICE)
    parts = {
        TRAIN: [one for place, one in enumerate(documents) if (place + 1) % _EVERY],
        VALID: documents[_EVERY - 1 :: _EVERY],
    }

    def read(part: str, progress: Progress) -> Iterator[Piece]:
        progress.begin(part, sum(len(one.encode()) for one in parts[part]))
        for document in parts[part]:
            yield from lines_of(document)
            progress.advance(len(document.encode()))

    return Text(STDLIB, sha256(json.dumps(documents).encode()).hexdigest(), read)


def _documents(root: Path, progress: Progress) -> list[str]:
    """What each module says of itself, sorted by path; modules without docstrings are left out."""
    files = sorted(_modules(root), key=lambda file: file.relative_to(root).as_posix())
    progress.begin("docstrings", sum(file.stat().st_size for file in files))
    documents = []
    for file in files:
        try:
            source = file.read_bytes()
        except OSError as error:
            raise DataError(f"{file} cannot be read: {error.strerror}", ADVICE) from error
        if docstrings := _docstrings(source):
            documents.append("\n\n".join(docstrings) + "\n")
        progress.advance(len(source))
    return documents


def _modules(root: Path) -> Iterator[Path]:
    for folder, below, names in os.walk(root):
        top = Path(folder) == root
        below[:] = [
            name
            for name in below
            if name not in _TESTS and not (top and (name in _NOT_THE_LIBRARY or name.startswith("config-")))
        ]
        files = (Path(folder, name) for name in names if name.endswith(".py"))
        # distributions leave links to files that are not installed
        yield from (file for file in files if file.is_file())


def _docstrings(source: bytes) -> list[str]:
    # parsing takes its time, and data tables have none
    if b'"""' not in source and b"'''" not in source:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    return [found for node in _documented(module) if (found := _text(ast.get_docstring(node)))]


def _documented(
    node: ast.AST,
) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """The module, and its classes and functions however deep, in the order of the source."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node
    for field in ("body", "handlers", "orelse", "finalbody"):
        statements = getattr(node, field, ())
        # the body of a lambda or of a conditional expression is one expression, not a list
        for statement in statements if isinstance(statements, list) else ():
            yield from _documented(statement)


def _text(docstring: str | None) -> str:
    # a docstring may hold half a surrogate pair, which no UTF-8 has
    return (docstring or "").encode("utf-8", "replace").decode()
