"""A check for the terminal: a line a file, then what was found, then one line that sums it up."""

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reports.integrity.model import Check, CheckedFile, Problem, Verdict
from reports.view import LISTED, MISSING, printable, size

LONGEST = 400
"""Characters of a message that are printed; a tensor's name alone may have a hundred million."""

WORDS: dict[Verdict, str] = {
    "verified": "as on the Hub",
    "differs": "DIFFERS",
    "unknown": "not known",
    "unread": MISSING,
}
"""What is said of a file's hash: `not known` where nobody told what it should be."""


def to_terminal(check: Check) -> RenderableType:
    """The whole check of one model as one renderable."""
    return Group(*_parts(check))


def _parts(check: Check) -> Iterator[RenderableType]:
    read_as = f"  {check.family}" if check.family else ""
    yield Text()
    yield Text.assemble((_cut(check.model), "bold"), read_as)
    yield _files(check.files)
    if check.problems:
        yield _problems(check.problems)
    yield Text(f" {summary(check)}")


def summary(check: Check) -> str:
    """One line: how much was looked at, what it was compared with, and what was found."""
    tensors = sum(file.tensors or 0 for file in check.files)
    whole = size(sum(file.size for file in check.files))
    counts = [
        f"{count} {word}{'s' if count != 1 and word != 'info' else ''}"
        for word in ("error", "warning", "info")
        if (count := sum(problem.severity == word for problem in check.problems))
    ]
    return f"{tensors} tensors, {whole}; {_compared(check)}; {', '.join(counts) or 'nothing found'}"


def _compared(check: Check) -> str:
    if check.quick:
        return "headers only"
    known = sum(file.verdict in ("verified", "differs") for file in check.files)
    return f"hashes known for {known} of {len(check.files)} files"


def _files(files: Sequence[CheckedFile]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("file", overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("tensors", justify="right", no_wrap=True)
    table.add_column("sha256", no_wrap=True)
    table.add_column("hash", no_wrap=True)
    for file in files:
        tensors = MISSING if file.tensors is None else str(file.tensors)
        digest = MISSING if file.sha256 is None else f"{file.sha256[:12]}…"
        style = "bold red" if file.verdict == "differs" else None
        word = Text(WORDS[file.verdict], style=style or "")
        table.add_row(Text(_cut(file.name)), size(file.size), tensors, digest, word)
    return table


def _problems(problems: Sequence[Problem]) -> RenderableType:
    """The findings, long lists of one kind cut short."""
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    groups: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.severity, problem.code), []).append(problem)
    for (severity, code), group in groups.items():
        told = [_cut(problem.finding.message) for problem in group[:LISTED]]
        if len(group) > LISTED:
            told.append(f"and {len(group) - LISTED} more; --json lists them")
        style = "bold red" if severity == "error" else "bold"
        for message in told:
            table.add_row(Text(f" {severity}", style=style), Text(code), Text(message))
    return Padding(table, (0, 0, 1, 0))


def _cut(text: str) -> str:
    return printable(text if len(text) <= LONGEST else f"{text[:LONGEST]}…")
