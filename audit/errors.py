"""Every error a user can meet, with its exit code.

    AuditError
    ├── UsageError             2    the request itself cannot be met
    │   ├── PathNotFoundError         no file or folder where one was named
    │   ├── SelectionError            an option asks for what is not there, or a name nobody knows
    │   └── OutputError               the report cannot be written where it should go
    ├── UnsupportedError       3    understood, but not something this tool reads
    │   ├── UnknownFamilyError        no family matches the checkpoint
    │   ├── NoSafetensorsError        weights are absent, or only in formats that are never opened
    │   ├── UnsupportedDtypeError     quantised or exotic number formats
    │   └── CoverageError             with --strict: something in the layers was not measured
    ├── AccessError            4    the Hub did not give what was asked
    │   ├── RepoNotFoundError         no such repo or revision, or a private one without a token
    │   ├── GatedRepoError            the repo's terms must be accepted first
    │   ├── OfflineError              offline, and the file is not in the cache
    │   └── NetworkError              the connection or the server failed
    ├── CorruptError           5    the files contradict themselves
    │   ├── HeaderError               a safetensors header that cannot be right
    │   ├── ShardIndexError           an index that names what is not there
    │   ├── TruncatedError            fewer bytes than the header promises
    │   ├── ConfigError               a config.json that cannot be read or believed
    │   ├── ReportError               an audit.json that holds no report
    │   └── DataError                 a data set's file that is not what it says it is
    ├── GateError              1    the work was done, and something it was to guard against is there
    │   ├── FiredError                a condition of --fail-on holds, or cannot be judged
    │   ├── IntegrityError            `check` found an error or a warning
    │   └── BatchError                a model of a batch could not be audited
    └── StoppedError         130    Ctrl-C or SIGTERM; what was measured is kept
        └── PeerError                 of several processes another one ended

Lower-level errors are translated once, where they arise, with `from error`.
"""

from typing import ClassVar

DEFECT = 70
"""The exit code of a crash, which is a defect of ours."""


class AuditError(Exception):
    """One thing went wrong: `message` names it, `hint` says what to do next."""

    exit_code: ClassVar[int]

    def __init__(self, message: str, hint: str = "") -> None:
        """Keep the two halves apart, so that a terminal can set them off."""
        super().__init__(f"{message}: {hint}" if hint else message)
        self.message = message
        self.hint = hint


class UsageError(AuditError):
    """The request itself cannot be met."""

    exit_code = 2


class PathNotFoundError(UsageError):
    """A file or folder was named that does not exist."""


class SelectionError(UsageError):
    """--layers, --only or --device ask for what is not there, or an ablation or data set is unknown."""


class OutputError(UsageError):
    """The report cannot be written where it should go."""


class UnsupportedError(AuditError):
    """The checkpoint was understood, but holds nothing this tool reads."""

    exit_code = 3


class UnknownFamilyError(UnsupportedError):
    """No family in the registry matches the checkpoint."""


class NoSafetensorsError(UnsupportedError):
    """The weights are absent, or only in formats that are never opened."""


class UnsupportedDtypeError(UnsupportedError):
    """A projection is stored in a quantised or exotic number format."""


class CoverageError(UnsupportedError):
    """With --strict: the report is written, and something in the layers is not in it."""


class AccessError(AuditError):
    """The Hub did not give what was asked."""

    exit_code = 4


class RepoNotFoundError(AccessError):
    """No such repo or revision, or a private one asked for without a token."""


class GatedRepoError(AccessError):
    """The repo exists, but its terms have not been accepted with this token."""


class OfflineError(AccessError):
    """Offline mode is on, or the network is away, and the file is not in the cache."""


class NetworkError(AccessError):
    """The connection or the server failed."""


class CorruptError(AuditError):
    """The files contradict themselves."""

    exit_code = 5


class HeaderError(CorruptError):
    """A safetensors header cannot be right."""


class ShardIndexError(CorruptError):
    """model.safetensors.index.json names what is not there, or cannot be read."""


class TruncatedError(CorruptError):
    """A shard holds fewer bytes than its header promises."""


class ConfigError(CorruptError):
    """config.json cannot be read, or contradicts the tensors."""


class ReportError(CorruptError):
    """An audit.json holds no report that this version can read."""


class DataError(CorruptError):
    """A file of a data set is broken, or holds something other than its labelled images."""


class GateError(AuditError):
    """The work was done, and something it was to guard against is there."""

    exit_code = 1


class FiredError(GateError):
    """With --fail-on: the report is written, and a condition holds of it or cannot be judged."""


class IntegrityError(GateError):
    """`check` was done, and found an error or a warning in a model's files."""


class BatchError(GateError):
    """A model of a batch could not be audited; the others were."""


class StoppedError(AuditError):
    """The user pressed Ctrl-C, or SIGTERM told the process to end."""

    exit_code = 130


class PeerError(StoppedError):
    """Another process of the same work ended before it was done, so that this one does too."""
