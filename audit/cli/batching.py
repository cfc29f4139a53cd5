"""`gcont-audit batch`: several models one after the other, and one page over all of them."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audit.cli import options as o
from audit.cli.talk import Talk, show, stopped_by

if TYPE_CHECKING:
    from collections.abc import Sequence

    from audit.batch import Job
    from audit.errors import StoppedError
    from audit.options import AuditOptions
    from reports.comparison import Entry
    from reports.model import Report

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MODEL",
        help="Names from `gcont-audit models`, Hub ids, or paths. Default: the paper's five further models.",
        show_default=False,
    ),
]
All = Annotated[
    bool, typer.Option("--all", metavar="", help="All six models of the paper.", rich_help_panel=o.SOURCE)
]
From = Annotated[
    Path | None,
    typer.Option(
        "--from", metavar="FILE", help="Models listed in a text file, one a line.", rich_help_panel=o.SOURCE
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="The folder for all reports and index.md. Default: gcont-reports.",
        rich_help_panel=o.OUTPUT,
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", metavar="", help="Print each model's outcome as JSON.", rich_help_panel=o.OUTPUT),
]


def batch(
    names: Names = None,
    all: All = False,
    file: From = None,
    full: o.Full = False,
    layers: o.Layers = None,
    only: o.Only = None,
    fold_norm: o.FoldNorm = False,
    device: o.Device = "auto",
    max_memory: o.MaxMemory = None,
    stream: o.Stream = False,
    download: o.Download = False,
    out: Out = None,
    fresh: o.Fresh = False,
    json: Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = 0,
) -> None:
    """Audit several models, and compare them on one page; what is done already is left as it is."""
    talk = Talk(quiet, verbose)
    with talk.errors():
        from audit.batch import names_in, plan_jobs
        from audit.options import AuditOptions
        from audit.output import DEFAULT_ROOT, check_page
        from audit.pipeline import resolve_device
        from registry import models

        _refuse_company()
        wanted = [*(names or ()), *(names_in(file) if file else ())]
        if all or not wanted:
            wanted += [model.name for model in models() if all or model.batch]
        root = out or Path(DEFAULT_ROOT)
        asked = AuditOptions(
            full=full,
            fold_norm=fold_norm,
            layers=layers,
            only=only,
            device=device,
            max_memory=max_memory,
            stream=o.streaming(stream, download),
        )
        jobs = plan_jobs(wanted, root)
        check_page(root)
        resolve_device(asked.device)
        entries = _perform(jobs, asked, root, talk, fresh=fresh)
        _show(entries, talk, json=json)
        _write_page(entries, jobs, root, talk)
        if not json:
            _say_where(entries, root, talk)
        _fail_if_any(entries)


def _refuse_company() -> None:
    """Raise UsageError where a launcher started several processes; the first says it for all."""
    from audit.errors import UsageError
    from audit.processes.seat import find_seat

    seat = find_seat()
    if not seat.leads:
        raise typer.Exit(UsageError.exit_code)
    if seat.size > 1:
        raise UsageError(
            f"a batch is the work of one process, and here are {seat.size}", "audit the models one by one"
        )


def _perform(
    jobs: "tuple[Job, ...]", asked: "AuditOptions", root: Path, talk: Talk, *, fresh: bool
) -> "list[Entry]":
    """Work through the jobs; when told to stop, the page over what is done is still written."""
    from audit.batch import attempt
    from audit.errors import StoppedError
    from reports.comparison import Failed

    entries: list[Entry] = []
    try:
        for number, job in enumerate(jobs, start=1):
            talk.note(f"{number} of {len(jobs)}: {job.name}")
            there = (job.folder / "audit.json").is_file()
            entry = attempt(job, asked, lambda job: _audit(job, asked, talk, fresh=fresh), fresh=fresh)
            entries.append(entry)
            if isinstance(entry, Failed):
                talk.note(f"{job.name} failed: {entry.message}")
            elif not entry.fresh:
                talk.note(f"{job.name} is done already, in {job.folder}")
            elif there:
                talk.note(f"{job.name} had changed, or the settings or the version: audited again")
    except (StoppedError, KeyboardInterrupt) as stop:
        _write_page(entries, jobs[: len(entries)], root, talk)
        done = f"{len(entries)} of {len(jobs)} models are done"
        raise StoppedError(*_told(stop, done, fresh=fresh)) from stop
    return entries


def _told(stop: "StoppedError | KeyboardInterrupt", done: str, *, fresh: bool) -> tuple[str, str]:
    """What stopped a batch, and what is kept of it."""
    from audit.cli.auditing import NOTHING

    again = "the same command without --fresh" if fresh else "the same command"
    if isinstance(stop, KeyboardInterrupt):
        return stopped_by(stop), f"{done}; {again} goes on from there"
    more = f"{again} goes on from there" if stop.hint == NOTHING else stop.hint
    return stop.message, f"{done}; {more}"


def _audit(job: "Job", asked: "AuditOptions", talk: Talk, *, fresh: bool) -> "Report":
    from audit.cli.auditing import find, refuse_too_little, write
    from audit.processes import ALONE

    with talk.traced():
        refuse_too_little(lambda: find(job.model, asked, replace(talk, quiet=True), headers_only=True), asked)
        return write(lambda: find(job.model, asked, talk), asked, job.folder, talk, ALONE, fresh=fresh)


def _write_page(entries: "list[Entry]", jobs: "Sequence[Job]", root: Path, talk: Talk) -> None:
    """The page over these models and every other report in the folder; none over nothing."""
    from audit.batch import others
    from audit.output import write_page

    everything = [*entries, *others(jobs, root)]
    if everything:
        with talk.busy("drawing"):
            write_page(everything, root)


def _show(entries: "list[Entry]", talk: Talk, *, json: bool) -> None:
    from reports.comparison import to_json
    from reports.index import to_terminal

    with talk.heard():
        if json:
            typer.echo(to_json(entries))
        else:
            show(to_terminal(entries))


def _say_where(entries: "list[Entry]", root: Path, talk: Talk) -> None:
    from reports.comparison import Audited
    from reports.index import PAGE
    from reports.view import printable

    some = any(isinstance(entry, Audited) for entry in entries)
    folders = ", and a folder for each model audited" if some else ""
    with talk.heard():
        typer.echo(f"\nWritten to {printable(str(root / PAGE))}{folders}")


def _fail_if_any(entries: "list[Entry]") -> None:
    """Raise BatchError where a model failed."""
    from audit.errors import BatchError
    from reports.comparison import Failed

    failed = [entry.name for entry in entries if isinstance(entry, Failed)]
    if failed:
        raise BatchError(
            f"{len(failed)} of {len(entries)} models failed: {', '.join(failed)}",
            "run the same line again once mended; what is done is skipped",
        )
