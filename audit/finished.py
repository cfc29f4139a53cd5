"""Whether a model's report is there already, and still says what an audit would say now."""

from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open

from audit.checkpoint import Checkpoint
from audit.errors import AuditError
from audit.keys import layout_digest
from audit.options import AuditOptions, format_layers
from audit.output import LAYOUT, VECTORS, read_report, write_again
from audit.partial import tidy
from audit.provenance import config_digest, source_files, version
from audit.understanding import understand
from reports.figures import illustrations
from reports.model import Report


def finished(folder: Path, options: AuditOptions, find: Callable[[], Checkpoint]) -> Report | None:
    """The report in a folder, if it holds all that this version would find in the same files.

    `find` opens the checkpoint, of which the headers are enough. What the folder lacks of tables and figures
    is written again.
    """
    tidy(folder)
    report = report_in(folder)
    if report is None or report.provenance.tool_version != version() or not _covers(report, options):
        return None
    checkpoint = find()
    if not _same_files(report, checkpoint) or not _same_layout(folder, checkpoint, options):
        return None
    figures = (illustration.file for illustration in illustrations(report))
    if not all((folder / name).is_file() for name in ("report.md", *figures)):
        write_again(report, folder, folder)
    return report


def report_in(folder: Path) -> Report | None:
    """The report that a folder holds whole, figures and tables apart; None where it holds none."""
    try:
        whole = all((folder / name).is_file() for name in ("audit.json", VECTORS))
        return read_report(folder / "audit.json") if whole else None
    except (AuditError, OSError):  # OSError: a name that no file can have
        return None


def _covers(report: Report, options: AuditOptions) -> bool:
    """Whether the report was made with these settings, or with --full besides."""
    only = tuple(name.value for name in options.projections) if options.projections else None
    asked = (options.fold_norm, format_layers(options.layer_slice), only, options.k)
    done = report.settings
    return asked == (done.fold_norm, done.layers, done.only, done.k) and done.full >= options.full


def _same_files(report: Report, checkpoint: Checkpoint) -> bool:
    """Whether the model is still what was audited: the Hub's commit, or the content of local files."""
    if checkpoint.revision is not None or report.model.revision is not None:
        return (checkpoint.id, checkpoint.revision) == (report.model.id, report.model.revision)
    origin = report.provenance
    return (config_digest(checkpoint), source_files(checkpoint)) == (origin.config_sha256, origin.files)


def _same_layout(folder: Path, checkpoint: Checkpoint, options: AuditOptions) -> bool:
    """Whether the family asked for, or its declaration, still reads the checkpoint as it was read."""
    try:
        with safe_open(folder / VECTORS, framework="pt") as vectors:
            told: str | None = (vectors.metadata() or {}).get(LAYOUT)
    except (SafetensorError, OSError):
        return False
    return told == layout_digest(understand(checkpoint, options))
