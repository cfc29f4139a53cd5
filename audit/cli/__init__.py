"""The command line: one file a command; `gcont-audit MODEL` means `gcont-audit audit MODEL`."""

import contextlib
import io
import os
import sys
import threading
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from audit.cli.auditing import audit
from audit.cli.batching import batch
from audit.cli.checking import check
from audit.cli.declaring import families
from audit.cli.demo import demo
from audit.cli.experiments.command import train
from audit.cli.listings import models, schema
from audit.cli.planning import plan
from audit.cli.rendering import render

DEFAULT = "audit"
COMMANDS = ("demo", "plan", "check", "batch", "train", "render", "families", "models", "schema")

HELP = """What is inside a pretrained transformer's weights, without running the model.

Takes each projection's leading singular vectors, with an error bound, and measures how they run through depth: the geometric continuity of arXiv:2605.04971.

\b
Examples:
  gcont-audit demo                            real weights, no network
  gcont-audit Qwen/Qwen3-8B                   a model on the Hub
  gcont-audit ./my-model --full --out report  a folder, every singular value
  gcont-audit ./my-model --only q,k --json    two projections, JSON on stdout
  gcont-audit plan meta-llama/Llama-3.1-70B   what it would take
  gcont-audit check ./my-model                are the files whole and right
  gcont-audit batch gpt2-xl qwen3-8b          two models on one page
  gcont-audit train --table 5                 the experiments that explain it
"""  # noqa: E501 - the help formatter keeps every line break it is given

EPILOG = (
    "Exit codes: 0 done; 1 a model of a batch failed, or a gate fired; "
    "2 usage, or a path that does not exist; 3 unsupported; 4 network or access; "
    "5 corrupt files; 70 a defect of ours; 130 interrupted."
)


def _is_mistyped_command(args: list[str]) -> bool:
    """Whether the line is a word like a command and something for it to work on: a model stands alone."""
    from difflib import get_close_matches

    more = len(args) > 1 and not args[1].startswith("-")
    return more and bool(get_close_matches(args[0], COMMANDS, n=1, cutoff=0.8))


class DefaultGroup(TyperGroup):
    """A group whose default command takes every line that names no other."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command's name before a line that starts with a model or one of its options."""
        args = args or ["--help"]
        own = {
            option
            for parameter in self.get_params(ctx)
            for option in (*parameter.opts, *parameter.secondary_opts)
        }
        known = args[0] in self.commands or args[0].split("=")[0] in own
        if not known and not _is_mistyped_command(args):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Show the default command's options as the program's own."""
        default, own = self.commands[DEFAULT], self.params
        self.params = [*default.params, *own]
        try:
            super().format_help(ctx, formatter)
        finally:
            self.params = own

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The two forms a line can take."""
        return ["[OPTIONS] MODEL | COMMAND ..."]


app = typer.Typer(
    name="gcont-audit",
    cls=DefaultGroup,
    help=HELP,
    epilog=EPILOG,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"gcont-audit {version('gcont-audit')}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool,
        typer.Option(
            "--version", metavar="", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Nothing happens before the command."""


app.command(DEFAULT, hidden=True)(audit)
for command in (demo, plan, check, batch, train, render, families, models, schema):
    app.command()(command)


def _return_large_buffers() -> None:
    """Have glibc give matrices back to the system when they are freed, so that memory follows the work.

    Left alone, it learns to keep them in a heap that fragments as layers of many shapes come and go.
    """
    import ctypes

    threshold, one_megabyte = -3, 2**20  # M_MMAP_THRESHOLD of <malloc.h>
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another libc: it has ways of its own
        ctypes.CDLL(None).mallopt(threshold, one_megabyte)


def main() -> None:
    """The entry point of the console script."""
    _return_large_buffers()
    threads = threading.enumerate()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # a terminal without Unicode gets question marks, not a crash
            stream.reconfigure(errors="replace")
    try:
        code = app(standalone_mode=False)
    except Exception as error:
        # what typer raises for a line it cannot parse, and does not export: it has a message and an exit code
        if not hasattr(error, "format_message") or not hasattr(error, "exit_code"):
            raise
        command = getattr(getattr(error, "ctx", None), "info_name", None)
        asked = f"gcont-audit {command}" if command in COMMANDS else "gcont-audit"
        print(f"error: {error.format_message()}: see `{asked} --help`", file=sys.stderr)
        code = error.exit_code
    _end(code, threads)


def _end(code: Any, threads: Sequence[threading.Thread]) -> None:
    """End the process, whatever other threads than these are in the midst of, Python's or those of gloo."""
    distributed = sys.modules.get("torch.distributed")
    has_met = distributed is not None and distributed.is_available() and distributed.is_initialized()
    if has_met or any(thread not in threads for thread in threading.enumerate()):
        # one in a long factorisation would crash in an interpreter that is being taken down
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code or 0)
    sys.exit(code)
