"""Several models one after the other: which folder each goes to, which are done already, which failed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from audit.checkpoint import local_path, open_checkpoint
from audit.errors import DEFECT, AuditError, PathNotFoundError, UsageError
from audit.options import AuditOptions, format_layers
from audit.output import DEFAULT_ROOT, VECTORS, default_folder, read_report
from audit.provenance import source_files, version
from registry import models
from reports.comparison import Audited, Entry, Failed
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
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise PathNotFoundError(f"{file} cannot be read: {error.strerror}", "check the path") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is no text file", "list one model a line") from error
    names = tuple(name for line in lines if (name := line.partition("#")[0].strip()))
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
    """The report in the job's folder, if this version would make the same of the same files."""
    if not all((job.folder / name).is_file() for name in ("audit.json", "report.md", VECTORS)):
        return None
    try:
        report = read_report(job.folder / "audit.json")
    except AuditError:
        return None
    if report.provenance.tool_version != version() or _asked(options) != _done(report):
        return None
    return report if _same_files(report, job.model) else None


def _asked(options: AuditOptions) -> tuple[object, ...]:
    only = tuple(name.value for name in options.projections) if options.projections else None
    return options.full, options.fold_norm, format_layers(options.layer_slice), only, options.k


def _done(report: Report) -> tuple[object, ...]:
    done = report.settings
    return done.full, done.fold_norm, done.layers, done.only, done.k


def _same_files(report: Report, model: str) -> bool:
    """Whether the model is still what was audited: the Hub's commit, or the content of local files."""
    checkpoint = open_checkpoint(model, headers_only=True)
    if checkpoint.id != report.model.id or checkpoint.revision != report.model.revision:
        return False
    return checkpoint.revision is not None or source_files(checkpoint) == report.provenance.files
