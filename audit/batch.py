"""Several models one after the other: which folder each goes to, which are done already, which failed."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from audit.checkpoint import local_path, open_checkpoint
from audit.errors import DEFECT, AuditError, PathNotFoundError, UsageError
from audit.options import AuditOptions, format_layers
from audit.output import DEFAULT_ROOT, VECTORS, default_folder, read_report, write_again
from audit.provenance import config_digest, source_files, version
from registry import models
from reports.comparison import Audited, Entry, Failed
from reports.figures import illustrations
from reports.model import Report


@dataclass(frozen=True)
class Job:
    """One model of a batch: as the user named it, as it is opened, and where its report goes."""

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
        job = Job(name, model, root / default_folder(model).relative_to(DEFAULT_ROOT))
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


def attempt(job: Job, options: AuditOptions, work: Callable[[Job], Report]) -> Entry:
    """The job's report, as it stands in its folder or made by `work`; or why there is none."""
    try:
        done = finished(job, options)
        report = done or work(job)
    except AuditError as error:
        return Failed(job.name, str(error), error.exit_code)
    except Exception as error:  # one model's trouble must not cost the others
        return Failed(job.name, f"{type(error).__name__}: {error}: a defect in gcont-audit", DEFECT)
    return Audited(job.name, job.folder.name, report, fresh=done is None)


def finished(job: Job, options: AuditOptions) -> Report | None:
    """The report in the job's folder, if it holds all that this version would find in the same files.

    What it lacks of tables and figures is written again.
    """
    report = _report_in(job.folder)
    if report is None or report.provenance.tool_version != version() or not _covers(report, options):
        return None
    if not _same_files(report, job.model):
        return None
    figures = (illustration.file for illustration in illustrations(report))
    if not all((job.folder / name).is_file() for name in ("report.md", *figures)):
        write_again(report, job.folder, job.folder)
    return report


def others(jobs: Sequence[Job], root: Path) -> Iterator[Audited]:
    """The reports in `root` that none of these jobs is about, by folder name."""
    ours = {job.folder.name for job in jobs}
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir()) if root.is_dir() else ()
    for folder in folders:
        if folder.name not in ours and (report := _report_in(folder)) is not None:
            yield Audited(report.model.id, folder.name, report, fresh=False)


def _report_in(folder: Path) -> Report | None:
    if not all((folder / name).is_file() for name in ("audit.json", VECTORS)):
        return None
    try:
        return read_report(folder / "audit.json")
    except AuditError:
        return None


def _covers(report: Report, options: AuditOptions) -> bool:
    """Whether the report was made with these settings, or with --full besides."""
    only = tuple(name.value for name in options.projections) if options.projections else None
    asked = (options.fold_norm, format_layers(options.layer_slice), only, options.k)
    done = report.settings
    return asked == (done.fold_norm, done.layers, done.only, done.k) and done.full >= options.full


def _same_files(report: Report, model: str) -> bool:
    """Whether the model is still what was audited: the Hub's commit, or the content of local files."""
    checkpoint = open_checkpoint(model, headers_only=True)
    if checkpoint.revision is not None or report.model.revision is not None:
        return (checkpoint.id, checkpoint.revision) == (report.model.id, report.model.revision)
    origin = report.provenance
    return (config_digest(checkpoint), source_files(checkpoint)) == (origin.config_sha256, origin.files)
