"""Several processes that make one audit together, as `accelerate launch` and torchrun start them.

A launcher starts the same command several times and sets environment variables, no more. Each process opens
the checkpoint, makes the same plan and measures its share. What one has measured goes to rank 0 at once:
small vectors only. That one leads: it keeps what is measured, and writes the report. Where a process fails,
all end with its reason. A process alone touches nothing of this.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from audit.errors import PeerError, StoppedError
from audit.processes.seat import find_seat
from audit.processes.team import ALONE, Effort, Team

__all__ = ["ALONE", "Effort", "Team", "joined"]


@contextmanager
def joined() -> Iterator[Team]:
    """The processes that a launcher started for this audit, this one among them, until the audit is done.

    Raises PeerError where another one ends; of those on a machine one does, the others exit in silence.
    """
    seat = find_seat()
    if seat.size == 1:
        yield ALONE
        return
    # torch's own word on a connection that closed is a stack trace; it is read when torch is loaded
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from audit.processes.ranks import Helper, Leader

    team = Leader(seat) if seat.leads else Helper(seat)
    try:
        team.connect()
        yield team
        team.part()
    except BaseException as error:
        ending = team.ending(error)
        if isinstance(ending, StoppedError | KeyboardInterrupt) and not team.speaks:
            raise SystemExit(PeerError.exit_code) from error
        if ending is error:
            raise
        raise ending from error
