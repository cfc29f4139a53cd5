"""How commands talk: the result on stdout, everything else on stderr, one line for an error."""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import TYPE_CHECKING

import typer

from audit.errors import DEFECT, AuditError, StoppedError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_PATIENCE = 1.0
"""Seconds after a first signal in which a second one counts as the same."""

LONGEST_LINE = 4000
"""Characters that a line on stderr may have: a tensor's name alone may have a hundred million."""


class Stopped(KeyboardInterrupt):
    """The process was told to stop, by Ctrl-C or by SIGTERM."""


@dataclass(frozen=True)
class Talk:
    """How much to say."""

    quiet: bool = False
    verbosity: int = 0

    def led(self, *, leads: bool) -> "Talk":
        """How much a process says, of several that do the same: only errors where it does not lead."""
        return self if leads else replace(self, quiet=True, verbosity=0)

    def note(self, text: str) -> None:
        """Something the user should hear, unless asked to be quiet."""
        if not self.quiet:
            print(f"note: {_one_line(text)}", file=sys.stderr)

    def detail(self, text: str) -> None:
        """Something for those who asked for more."""
        if self.verbosity:
            print(_one_line(text), file=sys.stderr)

    @property
    def shows_progress(self) -> bool:
        """Whether anyone would see a progress bar."""
        return not self.quiet and sys.stderr.isatty()

    @contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """A word on stderr while something takes a moment; none where nobody would see it."""
        if not self.shows_progress:
            yield
            return
        with console(stderr=True).status(text):
            yield

    @contextmanager
    def traced(self) -> Iterator[None]:
        """Show the traceback of an error that somebody else will handle; only with -vv."""
        try:
            yield
        except Exception:
            if self.verbosity >= 2:
                traceback.print_exc()
            raise

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn an error into one line and its exit code; a traceback only with -vv."""
        with _stoppable():
            try:
                yield
            except AuditError as error:
                self._fail(str(error), error.exit_code)
            except KeyboardInterrupt as stop:
                self._fail(stopped_by(stop), StoppedError.exit_code)
            except BrokenPipeError:
                _stop_printing()
            except (typer.Exit, typer.Abort):
                raise
            except Exception as error:
                text = f"{type(error).__name__}: {error}: a defect in gcont-audit; -vv shows where"
                self._fail(text, DEFECT)

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Go on where whoever reads the result has enough of it."""
        try:
            yield
        except BrokenPipeError:
            _stop_printing()

    def _fail(self, text: str, code: int) -> None:
        if self.verbosity >= 2:
            traceback.print_exc()
        print(f"error: {_one_line(text)}", file=sys.stderr)
        raise typer.Exit(code)


def show(renderable: "RenderableType") -> None:
    """Print a result on stdout, as wide as the terminal, or 80 columns into a pipe."""
    drawing = console()
    with drawing.capture() as drawn:
        drawing.print(renderable)
    # not by rich, which ends the program with code 1 where nobody reads on
    sys.stdout.write(drawn.get())
    sys.stdout.flush()


def console(*, stderr: bool = False) -> "Console":
    """A rich console that respects NO_COLOR and pipes, and takes no text for markup."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False)


def stopped_by(stop: KeyboardInterrupt) -> str:
    """What stopped the work, in words."""
    return f"stopped by {stop.args[0] if isinstance(stop, Stopped) else 'Ctrl-C'}"


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM stop the work as Ctrl-C does, and either of them, when it comes again, end the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first: list[float] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if not first:
            first.append(time.monotonic())
            raise Stopped("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)
        if time.monotonic() - first[0] > _PATIENCE:
            os._exit(StoppedError.exit_code)

    signals = [each for each in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(each) != signal.SIG_IGN]
    before = {each: signal.signal(each, stop) for each in signals}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler if handler is not None else signal.SIG_DFL)


def _stop_printing() -> None:
    """Keep Python from complaining again when it closes a stdout that nobody reads."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _one_line(text: str) -> str:
    """A text fit for one line of a terminal; of one that quotes megabytes, both ends."""
    if len(text) > LONGEST_LINE:
        half = LONGEST_LINE // 2
        text = f"{text[:half]} ... {text[-half:]}"
    return "".join(character if character.isprintable() else " " for character in text)
