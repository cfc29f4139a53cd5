"""Text files in a folder: which are for training, which for validation, and their lines, plain or packed."""

import gzip
import json
import lzma
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path
from typing import IO

from audit.errors import DataError, PathNotFoundError
from audit.train.text.known import ADVICE
from audit.train.text.pieces import END, END_OF_TEXT, TRAIN, VALID, Piece, Text
from audit.train.text.tokens import Progress, Silent

_NAMES = {
    TRAIN: re.compile(r"train.*\.txt(\.gz|\.xz)?|wiki\.train\.(raw|tokens)"),
    VALID: re.compile(r"valid.*\.txt(\.gz|\.xz)?|wiki\.valid\.(raw|tokens)"),
}
_TEXT = re.compile(r"(?!test|wiki\.test).*\.(txt(\.gz|\.xz)?|raw|tokens)")
_TRAINED_ON = 0.95
"""Of a text in one file; the rest is for validation."""

_SOUGHT = {
    TRAIN: "train*.txt (or .txt.gz, .txt.xz) or wiki.train.raw",
    VALID: "valid*.txt (or .txt.gz, .txt.xz) or wiki.valid.raw",
}
_SHOWN = 8


def folder_text(name: str, folder: Path) -> Text:
    """The text in a folder's files.

    The only text file of a folder, unless it is for validation, is cut at a line: its last twentieth is
    for validation.
    Raises PathNotFoundError where there are no such files, and DataError, when it is read, for a file that is
    damaged or is not UTF-8.
    """
    if not folder.is_dir():
        missing = f"{folder} is no folder" if folder.exists() else f"there is no folder {folder}"
        raise PathNotFoundError(missing, ADVICE)
    present = sorted(path for path in folder.iterdir() if path.is_file())
    found = {
        part: [path for path in present if pattern.fullmatch(path.name)] for part, pattern in _NAMES.items()
    }
    alone = [path for path in present if _TEXT.fullmatch(path.name)]
    if not found[VALID] and len(alone) == 1:
        return _single(name, alone[0])
    for part, paths in found.items():
        if not paths:
            raise PathNotFoundError(
                f"{folder} holds no {part} text: no {_SOUGHT[part]}, but {_listed(present)}", ADVICE
            )
    identity = {part: [_digest(path) for path in paths] for part, paths in found.items()}

    def read(part: str, progress: Progress) -> Iterator[Piece]:
        progress.begin(part, sum(path.stat().st_size for path in found[part]))
        for path in found[part]:
            yield from _pieces(_lines(path, progress), path)

    return Text(name, json.dumps(identity), read)


def _single(name: str, path: Path) -> Text:
    """The text of one file, cut in two at the end of a line."""

    def read(part: str, progress: Progress) -> Iterator[Piece]:
        cut = _TRAINED_ON * sum(len(line) for _, line in _lines(path, Silent()))
        progress.begin(part, path.stat().st_size)
        lines = ((at, line) for at, line in _lines(path, progress) if (at < cut) == (part == TRAIN))
        return _pieces(lines, path)

    about = f"the last twentieth of {path.name} is for validation"
    return Text(name, json.dumps({"cut": _digest(path)}), read, about)


def _pieces(lines: Iterator[tuple[int, bytes]], path: Path) -> Iterator[Piece]:
    """A file's lines as text; what its last marker leaves over is a document too."""
    open_document = False
    for at, line in lines:
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path} is not UTF-8: byte {at + error.start} does not belong there",
                "convert it, as in `iconv -f latin1 -t utf-8`",
            ) from error
        ends = text.rstrip("\r\n") == END_OF_TEXT
        open_document = not ends
        yield END if ends else text
    if open_document:
        yield END


def _lines(path: Path, progress: Progress) -> Iterator[tuple[int, bytes]]:
    """Each line of the unpacked file and the place where it begins."""
    at = told = 0
    with _translated(path), path.open("rb") as packed:
        for line in _unpacked(path, packed):
            yield at, line
            at += len(line)
            if (come := packed.tell()) > told:
                progress.advance(come - told)
                told = come


def _unpacked(path: Path, packed: IO[bytes]) -> Iterable[bytes]:
    if path.suffix == ".gz":
        return gzip.GzipFile(fileobj=packed)
    return lzma.LZMAFile(packed) if path.suffix == ".xz" else packed


def _digest(path: Path) -> str:
    with _translated(path), path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(f"{path} cannot be read", reason) from error


def _listed(present: list[Path]) -> str:
    names = [path.name for path in present[:_SHOWN]]
    more = len(present) - len(names)
    return (", ".join(names) + (f" and {more} more" if more else "")) or "no files"
