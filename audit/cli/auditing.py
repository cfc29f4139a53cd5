"""`gcont-audit MODEL`: audit one model. The default command."""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from audit.cli import options as o
from audit.cli.talk import Talk, console, show

if TYPE_CHECKING:
    from audit.audit import Progress
    from audit.checkpoint import Checkpoint
    from audit.options import AuditOptions
    from audit.plan import AuditPlan
    from reports.model import Report


GAPS = ("unread-stack", "missing-projection", "missing-norm", "extra-layer", "odd-heads")
"""Findings that --strict does not let pass."""


@dataclass(frozen=True)
class Destination:
    """Where a report goes: a folder, and stdout in some format."""

    folder: Path
    format: o.Format


def audit(
    model: o.Model,
    revision: o.Revision = None,
    family: o.Family = None,
    family_file: o.FamilyFile = None,
    full: o.Full = False,
    layers: o.Layers = None,
    only: o.Only = None,
    fold_norm: o.FoldNorm = False,
    strict: o.Strict = False,
    device: o.Device = "auto",
    out: o.Out = None,
    format: o.StdoutFormat = o.Format.TABLE,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = 0,
) -> None:
    """Audit one model: its projections' leading directions, and how they run through depth."""
    talk = Talk(quiet, verbose)
    with talk.errors():
        from audit.options import AuditOptions
        from audit.output import default_folder

        asked = AuditOptions(
            revision=revision,
            device=device,
            full=full,
            fold_norm=fold_norm,
            layers=layers,
            only=only,
            family=family,
            family_file=family_file,
        )
        destination = Destination(out or default_folder(model), o.Format.JSON if json else format)
        report = perform(lambda: find(model, asked, talk), asked, destination, talk)
        if strict:
            refuse_gaps(report)


def find(model: str, asked: "AuditOptions", talk: Talk, *, headers_only: bool = False) -> "Checkpoint":
    """The checkpoint a user named; a mistyped command is told apart from a model."""
    from audit.checkpoint import open_checkpoint

    _refuse_mistyped_command(model)
    with _hub_progress(talk):
        checkpoint = open_checkpoint(model, asked.revision, headers_only=headers_only)
    for note in checkpoint.notes:
        talk.note(note)
    return checkpoint


def perform(
    find_checkpoint: "Callable[[], Checkpoint]", asked: "AuditOptions", destination: Destination, talk: Talk
) -> "Report":
    """Check the destination, audit, write the folder, print the result."""
    from audit.errors import StoppedError

    try:
        report = write(find_checkpoint, asked, destination.folder, talk)
    except KeyboardInterrupt as stop:
        raise StoppedError("stopped by Ctrl-C", "no report was written") from stop
    show_report(report, destination, talk)
    return report


def refuse_gaps(report: "Report") -> None:
    """Raise CoverageError for a report that does not tell of every matrix in the layers."""
    from audit.errors import CoverageError

    gaps = [f"{name} matches no rule" for name in report.coverage.unknown_in_layers]
    gaps += [one.message for one in report.findings if one.code in GAPS]
    if gaps:
        more = f" (and {len(gaps) - 1} more)" if gaps[1:] else ""
        raise CoverageError(
            f"{report.model.id}: {gaps[0]}{more}", "the report is written, and tells the rest"
        )


def write(
    find_checkpoint: "Callable[[], Checkpoint]", asked: "AuditOptions", folder: Path, talk: Talk
) -> "Report":
    """Check the folder, audit, and write the report there."""
    from audit.audit import run
    from audit.output import check_folder, write_audit
    from audit.pipeline import resolve_device
    from audit.plan import make_plan

    check_folder(folder)
    resolve_device(asked.device)
    plan = make_plan(find_checkpoint(), asked)
    talk.detail(describe(plan))
    with _progress(plan, talk) as progress:
        done = run(plan, shlex.join(["gcont-audit", *sys.argv[1:]]), progress)
    with talk.busy("drawing"):
        write_audit(done, folder)
    return done.report


def show_report(report: "Report", destination: Destination, talk: Talk) -> None:
    """Print a report on stdout in the format asked for, and say where it was written."""
    names = ("report.md", "figures", "audit.json", "vectors.safetensors")
    there = [name for name in names if (destination.folder / name).exists()]
    written = f"{destination.folder}: {', '.join(there)}"
    show_on_stdout(report, destination.format)
    if destination.format is o.Format.TABLE:
        from reports.view import printable

        typer.echo(f"\nWritten to {printable(written)}")
    else:
        talk.note(f"written to {written}")


def show_on_stdout(report: "Report", format: o.Format) -> None:
    """Print a report in one of the formats."""
    match format:
        case o.Format.TABLE:
            from reports.terminal import to_terminal

            show(to_terminal(report))
        case o.Format.MARKDOWN:
            from reports.markdown import to_markdown

            typer.echo(to_markdown(report, illustrated=False), nl=False)
        case o.Format.JSON:
            from reports.document import to_json

            typer.echo(to_json(report), nl=False)


def describe(plan: "AuditPlan") -> str:
    """One line on what is about to happen."""
    from reports.view import size

    count = sum(len(visit.projections) for visit in plan.visits)
    layers = " and ".join(f"{len(stack.layers)} layers" for stack in plan.stacks)
    return (
        f"{plan.checkpoint.id}: family {plan.layout.family}, {layers}, {count} projections, "
        f"{size(plan.bytes_to_read)} to read"
    )


def _refuse_mistyped_command(model: str) -> None:
    from difflib import get_close_matches

    from audit.cli import COMMANDS
    from audit.errors import PathNotFoundError

    near = get_close_matches(model, COMMANDS, n=1, cutoff=0.8)
    if near and not Path(model).exists():
        raise PathNotFoundError(
            f"there is no file or folder {model}", f"did you mean `gcont-audit {near[0]}`?"
        )


@contextmanager
def _hub_progress(talk: Talk) -> Iterator[None]:
    """Download bars only where someone sees them."""
    if talk.shows_progress:
        yield
        return
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            enable_progress_bars()


@contextmanager
def _progress(plan: "AuditPlan", talk: Talk) -> "Iterator[Progress]":
    """A bar over the projections to measure, on stderr; none where nobody would see it."""
    if not talk.shows_progress:
        yield lambda measured: None
        return
    from rich import progress as bars

    columns = (
        bars.TextColumn("{task.description:<24}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=console(stderr=True), transient=True) as bar:
        total = sum(len(visit.projections) for visit in plan.visits)
        task = bar.add_task("reading", total=total)
        yield lambda one: bar.update(task, advance=1, description=f"layer {one.layer}, {one.projection}")
