"""`gcont-audit render`: a report written again from its audit.json, without the model."""

from pathlib import Path
from typing import Annotated

import typer

from audit.cli import options as o
from audit.cli.gating import read_gates, refuse_fired, refuse_unanswerable
from audit.cli.talk import Talk

Source = Annotated[
    Path,
    typer.Argument(metavar="REPORT", help="An audit.json, or the folder it lies in.", show_default=False),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="The folder to write. Default: the one audit.json lies in.",
        rich_help_panel=o.OUTPUT,
    ),
]


def render(
    report: Source,
    out: Out = None,
    fail_on: o.FailOn = None,
    format: o.StdoutFormat = o.Format.TABLE,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = 0,
) -> None:
    """Write a report again from its audit.json: tables and figures, without the model."""
    talk = Talk(quiet, verbose)
    with talk.errors():
        from audit.cli.auditing import Destination, show_report
        from audit.output import check_folder, read_report, write_again

        gates = read_gates(fail_on)
        file = report / "audit.json" if report.is_dir() else report
        read = read_report(file)
        refuse_unanswerable(gates, full=read.settings.full, only=read.settings.only)
        shown = o.Format.JSON if json else format
        destination = Destination(out or file.parent, shown, gates=gates)
        check_folder(destination.folder)
        with talk.busy("drawing"):
            write_again(read, file.parent, destination.folder)
        show_report(read, destination, talk)
        refuse_fired(read, gates)
