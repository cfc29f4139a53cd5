"""`gcont-audit render`: a report written again from its audit.json, without the model."""

from pathlib import Path
from typing import Annotated

import typer

from audit.cli import options as o
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

        file = report / "audit.json" if report.is_dir() else report
        read = read_report(file)
        destination = Destination(out or file.parent, o.Format.JSON if json else format)
        check_folder(destination.folder)
        with talk.busy("drawing"):
            write_again(read, file.parent, destination.folder)
        show_report(read, destination, talk)
