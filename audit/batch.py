"""Several models one after the other: which folder each goes to, which are done already, which failed."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from audit.checkpoint import local_path, open_checkpoint, without_secrets
from audit.errors import DEFECT, AuditError, PathNotFoundError, StoppedError, UsageError
from audit.finished import finished, report_in
from audit.options import AuditOptions
from audit.output import DEFAULT_ROOT, default_folder
from registry import models
from reports.comparison import Audited, Entry, Failed
from reports.model import Report


@dataclass(frozen=True)
class Job:
    """One model of a batch: as the user named it, as it is opened, and where its report goes.

    The name is for reports: of a URL it leaves out what may be secret.
    """

    name: str
    model: str
    folder: Path


def plan_jobs(names: Sequence[str], root: Path) -> tuple[Job, ...]:
    """The jobs for the models named, each once: registry names, Hub ids, paths.

    Raises UsageError where two of them would write to the same folder.
    """
    if not all(name.strip() for name in names):
        raise UsageError("a model's name is empty", "name a Hub id, a path, or one of `gcont-audit models`")
    repos = {model.name: model.repo for model in models()}
    jobs: dict[Path, Job] = {}
    for name in dict.fromkeys(names):
        model = name if local_path(name) is not None else repos.get(name.lower(), name)
        job = Job(without_secrets(name), model, root / default_folder(model).relative_to(DEFAULT_ROOT))
        other = jobs.setdefault(job.folder, job)
        if not _same_model(other.model, model):
            raise UsageError(
                f"{other.name} and {name} would both be written to {job.folder}",
                "audit one of them on its own, with --out",
            )
    return tuple(jobs.values())


def _same_model(first: str, second: str) -> bool:
    paths = local_path(first), local_path(second)
    if paths[0] is None or paths[1] is None:
        return first == second
    return paths[0].resolve() == paths[1].resolve()


def names_in(file: Path) -> tuple[str, ...]:
    """The models a text file lists, one a line, # for comments; raises PathNotFoundError and UsageError."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise PathNotFoundError(f"{file} cannot be read: {error.strerror}", "check the path") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is no text file", "list one model a line") from error
    names = tuple(name for line in lines if (name := re.sub(r"(^|\s)#.*", "", line).strip()))
    if not names:
        raise UsageError(f"{file} names no model", "list one model a line")
    return names


def attempt(job: Job, options: AuditOptions, work: Callable[[Job], Report], *, fresh: bool = False) -> Entry:
    """The job's report, as it stands in its folder or made by `work`; or why there is none.

    `fresh`: what stands in its folder does not count. Raises StoppedError.
    """
    try:
        done = (
            None
            if fresh
            else finished(job.folder, options, partial(open_checkpoint, job.model, headers_only=True))
        )
        report = done or work(job)
    except StoppedError:
        raise
    except AuditError as error:
        return Failed(job.name, str(error), error.exit_code)
    except Exception as error:  # one model's trouble must not cost the others
        return Failed(job.name, f"{type(error).__name__}: {error}: a defect in gcont-audit", DEFECT)
    return Audited(job.name, job.folder.name, report, fresh=done is None)


def others(jobs: Sequence[Job], root: Path) -> Iterator[Audited]:
    """The reports in `root` that none of these jobs is about, by folder name."""
    ours = {job.folder.name for job in jobs}
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir()) if root.is_dir() else ()
    for folder in folders:
        if folder.name not in ours and (report := report_in(folder)) is not None:
            yield Audited(report.model.id, folder.name, report, fresh=False)
