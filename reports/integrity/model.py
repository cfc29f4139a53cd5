"""What a check of a checkpoint's files says: each file, and everything that is wrong with one."""

from dataclasses import dataclass
from typing import Literal

from reports.model import Finding, Severity

Verdict = Literal["verified", "differs", "unknown", "unread"]
"""`unknown`: nobody told what its hash should be. `unread`: its hash was not taken."""


@dataclass(frozen=True)
class Problem:
    """Something wrong, or worth knowing, in a file or a tensor; None where it is of the whole model."""

    code: str
    severity: Severity
    message: str
    file: str | None = None
    tensor: str | None = None

    @property
    def finding(self) -> Finding:
        """The same as gates and SARIF take it, its file told first."""
        where = f"{self.file}: " if self.file and not self.message.startswith(self.file) else ""
        return Finding(self.code, self.severity, None, None, where + self.message)


@dataclass(frozen=True)
class Digest:
    """A hash of a file's content, in hexadecimal.

    `git` is the SHA-1 of a git blob: of `blob <size>`, a zero byte, and the content.
    """

    algorithm: Literal["sha256", "git-sha1"]
    value: str


@dataclass(frozen=True)
class CheckedFile:
    """One file: how large, how many tensors (None: it holds none, or its header is broken), its hashes.

    `expected` is what the Hub says its hash is, `found` the hash of its bytes by the same algorithm;
    `sha256` is None where the bytes were not read.
    """

    name: str
    size: int
    tensors: int | None
    sha256: str | None
    expected: Digest | None
    found: Digest | None

    @property
    def verdict(self) -> Verdict:
        """Whether it is what the Hub says."""
        if self.sha256 is None:
            return "unread"
        if self.expected is None or self.found is None:
            return "unknown"
        return "verified" if self.found == self.expected else "differs"


@dataclass(frozen=True)
class Check:
    """What a check found in one model; `family` is None where the tensors were held against none.

    `quick`: headers only. `notes` are things the user should hear.
    """

    model: str
    source: Literal["local", "hub", "url"]
    revision: str | None
    family: str | None
    quick: bool
    files: tuple[CheckedFile, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()

    @property
    def failing(self) -> tuple[Problem, ...]:
        """The errors and the warnings."""
        return tuple(problem for problem in self.problems if problem.severity != "info")


@dataclass(frozen=True)
class Unchecked:
    """A model that could not be looked at at all, why, and the exit code that stands for it."""

    model: str
    message: str
    exit_code: int


Outcome = Check | Unchecked
