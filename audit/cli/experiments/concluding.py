"""The end of `gcont-audit train`, of either kind of network: what the report leaves out, and the report."""

from collections.abc import Callable
from pathlib import Path

import typer
from rich.console import RenderableType

from audit.cli.talk import Talk, show
from audit.train.reporting import Written
from reports.training.document import to_json
from reports.training.model import Experiment


def conclude(
    written: Written,
    out: Path,
    to_terminal: Callable[[Experiment], RenderableType],
    talk: Talk,
    *,
    json: bool,
) -> None:
    """Print the report that was written, and say where."""
    tell_left_out(written.left_out, out, talk)
    if json:
        typer.echo(to_json(written.experiment), nl=False)
        return
    show(to_terminal(written.experiment))
    if not talk.quiet:
        typer.echo(f"Written to {out}: {', '.join(sorted(written.files))}", err=True)


def tell_left_out(count: int, out: Path, talk: Talk) -> None:
    """Say of how many runs in a folder the report is not."""
    if count:
        runs = "1 run in {} is" if count == 1 else f"{count} runs in {{}} are"
        talk.note(f"{runs.format(out)} unfinished or trained otherwise: left out")
