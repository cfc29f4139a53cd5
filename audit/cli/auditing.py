"""`gcont-audit MODEL`: audit one model. The default command."""

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from audit.cli import options as o
from audit.cli.gating import read_gates, refuse_fired, refuse_gaps, refuse_unanswerable
from audit.cli.progress import downloads, watching
from audit.cli.talk import Talk, show, stopped_by

if TYPE_CHECKING:
    from audit.checkpoint import Checkpoint
    from audit.options import AuditOptions
    from audit.partial import Partial
    from audit.plan import AuditPlan
    from audit.processes import Team
    from reports.gates import Gate
    from reports.model import Report

NOTHING = "nothing was measured yet"
"""What is said of an audit that was stopped before the first measurement."""

Find = Callable[[bool], "Checkpoint"]
"""Opens the checkpoint asked for; True: only its headers."""


@dataclass(frozen=True)
class Destination:
    """Where a report goes: a folder, and stdout in some format, with the gates that fire on it in SARIF.

    `fresh`: what is there does not count.
    """

    folder: Path
    format: o.Format
    fresh: bool = False
    gates: "tuple[Gate, ...]" = ()


def audit(
    model: o.Model,
    revision: o.Revision = None,
    stream: o.Stream = False,
    download: o.Download = False,
    family: o.Family = None,
    family_file: o.FamilyFile = None,
    full: o.Full = False,
    layers: o.Layers = None,
    only: o.Only = None,
    fold_norm: o.FoldNorm = False,
    strict: o.Strict = False,
    fail_on: o.FailOn = None,
    device: o.Device = "auto",
    max_memory: o.MaxMemory = None,
    out: o.Out = None,
    fresh: o.Fresh = False,
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
        from audit.processes.seat import find_seat, is_lonely

        talk = talk.led(leads=find_seat().leads)
        if is_lonely():
            talk.note("accelerate started one process; with --multi_gpu it starts several, on CPUs too")
        asked = AuditOptions(
            revision=revision,
            stream=o.streaming(stream, download),
            device=device,
            full=full,
            fold_norm=fold_norm,
            layers=layers,
            only=only,
            family=family,
            family_file=family_file,
            max_memory=max_memory,
        )
        gates = read_gates(fail_on)
        refuse_unanswerable(gates, full=asked.full, only=asked.projections)
        shown = o.Format.JSON if json else format
        destination = Destination(out or default_folder(model), shown, fresh, gates)

        def find_checkpoint(headers_only: bool) -> "Checkpoint":
            # what is to be heard is told once, when the checkpoint is opened for the work itself
            silent = replace(talk, quiet=talk.quiet or headers_only)
            return find(model, asked, silent, headers_only=headers_only)

        report = perform(find_checkpoint, asked, destination, talk)
        if report is not None:
            if strict:
                refuse_gaps(report)
            refuse_fired(report, gates)


def find(model: str, asked: "AuditOptions", talk: Talk, *, headers_only: bool = False) -> "Checkpoint":
    """The checkpoint a user named; a mistyped command is told apart from a model."""
    from audit.checkpoint import is_url, local_path, open_checkpoint

    _refuse_mistyped_command(model)
    afar = is_url(model) or (asked.stream and local_path(model) is None)
    with downloads(talk), talk.busy("reading headers") if headers_only or afar else nullcontext():
        checkpoint = open_checkpoint(model, asked.revision, headers_only=headers_only, stream=asked.stream)
    for note in checkpoint.notes:
        talk.note(note)
    return checkpoint


def perform(
    find_checkpoint: Find, asked: "AuditOptions", destination: Destination, talk: Talk
) -> "Report | None":
    """Print the report that is there already, or check the destination, audit, write it, and print it.

    None where another process does, and this one has measured a share.
    """
    from audit.finished import finished

    with _together() as team:
        team.device(asked.device)
        if not team.leads:
            _assist(lambda: find_checkpoint(False), asked, team)
            return None
        folder, report = destination.folder, None
        if not destination.fresh:
            report = finished(folder, asked, lambda: find_checkpoint(True))
        if report is None:
            refuse_too_little(lambda: find_checkpoint(True), asked)
            fresh = destination.fresh
            report = write(lambda: find_checkpoint(False), asked, folder, talk, team, fresh=fresh)
        else:
            talk.note(f"already audited, on {report.provenance.started[:10]}: --fresh audits again")
        show_report(report, destination, talk)
    return report


def refuse_too_little(find_headers: "Callable[[], Checkpoint]", asked: "AuditOptions") -> None:
    """Raise SelectionError for a --max-memory that is too little, before any weights are fetched."""
    if asked.ceiling is None:
        return
    from audit.pipeline import Pipeline, resolve_device
    from audit.plan import make_plan

    Pipeline(make_plan(find_headers(), asked), resolve_device(asked.device))


def write(
    find_checkpoint: "Callable[[], Checkpoint]",
    asked: "AuditOptions",
    folder: Path,
    talk: Talk,
    team: "Team",
    *,
    fresh: bool = False,
) -> "Report":
    """Check the folder, audit, and write the report there; what was measured before a stop is taken up.

    Raises StoppedError and AccessErrors, which tell what is kept.
    """
    from audit.errors import AccessError, StoppedError
    from audit.output import check_folder
    from audit.partial import opened

    check_folder(folder)
    with opened(folder, fresh=fresh) as store:
        try:
            return _write(find_checkpoint, asked, folder, store, talk, team)
        except KeyboardInterrupt as stop:
            raise StoppedError(stopped_by(stop), store.outcome or NOTHING) from stop
        except AccessError as error:
            if store.outcome is None:
                raise
            raise type(error)(error.message, f"{error.hint}; {store.outcome}") from error


def _write(
    find_checkpoint: "Callable[[], Checkpoint]",
    asked: "AuditOptions",
    folder: Path,
    store: "Partial",
    talk: Talk,
    team: "Team",
) -> "Report":
    from audit.audit import run
    from audit.checkpoint import without_secrets
    from audit.keys import keys_of
    from audit.output import write_audit
    from audit.pipeline import Pipeline
    from audit.plan import make_plan

    device = team.device(asked.device)
    plan = make_plan(team.in_turn(find_checkpoint), asked)
    talk.detail(describe(plan))
    store.take_up(keys_of(plan, device, Pipeline(plan, device).dtype))
    if store.known:
        talk.note(f"resumed: {len(store.known)} of {plan.count} measurements were there already")
    command = shlex.join(["gcont-audit", *map(without_secrets, sys.argv[1:])])
    with watching(plan, store.known, talk, team.size) as watcher:
        done = run(plan, command, watcher.measured, store, team, watcher.heard)
    tell_excess(done.report, talk)
    with talk.busy("drawing"), store.finishing():
        write_audit(done, folder, store.folder)
    return done.report


def tell_excess(report: "Report", talk: Talk) -> None:
    """Say that more memory was taken than --max-memory allowed, if it was."""
    from reports.view import size

    allowed, taken = report.provenance.max_memory_bytes, report.provenance.peak_anonymous_bytes
    if allowed is not None and taken is not None and taken > allowed:
        talk.note(
            f"{size(taken)} of memory were taken, more than the {size(allowed)} allowed: please report it"
        )


@contextmanager
def _together() -> "Iterator[Team]":
    """The processes that a launcher started; where all end, one of each machine tells why."""
    from audit.processes import joined

    try:
        with joined() as team:
            yield team
    except SystemExit as silently:
        raise typer.Exit(int(silently.code or 0)) from silently


def _assist(find_checkpoint: "Callable[[], Checkpoint]", asked: "AuditOptions", team: "Team") -> None:
    """Measure a share of the audit that another process leads."""
    from audit.pipeline import Pipeline
    from audit.plan import make_plan

    team.assist(lambda: Pipeline(make_plan(find_checkpoint(), asked), team.device(asked.device)))


def show_report(report: "Report", destination: Destination, talk: Talk) -> None:
    """Print a report on stdout in the format asked for, and say where it was written."""
    names = ("report.md", "figures", "audit.json", "vectors.safetensors")
    there = [name for name in names if (destination.folder / name).exists()]
    written = f"{destination.folder}: {', '.join(there)}"
    show_on_stdout(report, destination.format, destination.gates)
    if destination.format is o.Format.TABLE:
        from reports.view import printable

        typer.echo(f"\nWritten to {printable(written)}")
    else:
        talk.note(f"written to {written}")


def show_on_stdout(report: "Report", format: o.Format, gates: "Sequence[Gate]" = ()) -> None:
    """Print a report in one of the formats; SARIF tells of the gates that fire, too."""
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
        case o.Format.SARIF:
            from reports.gates import judge_all
            from reports.sarif import to_sarif

            typer.echo(to_sarif(report, judge_all(gates, report)), nl=False)


def describe(plan: "AuditPlan") -> str:
    """One line on what is about to happen."""
    from reports.view import size

    layers = " and ".join(f"{len(stack.layers)} layers" for stack in plan.stacks)
    return (
        f"{plan.checkpoint.id}: family {plan.layout.family}, {layers}, {plan.count} projections, "
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
