"""Divide an audit among processes: each gets one stretch of the plan, and none much more than its share.

Pure, so that every process finds the same division on its own. Stretches rather than single layers: a process
then opens few shards, and with `full` all but its first visit follow one another. There a stretch that starts
in the middle of a series takes the factorisation in front once more, which is counted as work.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from audit.plan import Place, Task, Visit

Cost = Callable[[Visit], float]

_HALVINGS = 50


@dataclass(frozen=True)
class _Piece:
    """A visit to make, the one whose factorisation it needs, and whether the piece in front makes that."""

    visit: Visit
    before: Visit | None
    follows: bool
    own: float
    head: float

    def cost(self, *, first: bool) -> float:
        """What it takes, as the first of a stretch or after the piece in front."""
        return self.own if self.follows and not first else self.head + self.own


def divide(
    tasks: Sequence[Task], known: Collection[Place], parts: int, cost: Cost
) -> tuple[tuple[Task, ...], ...]:
    """The tasks of each of `parts` processes, without the places that are `known`.

    No division into stretches has a cheaper dearest part.
    """
    line = tuple(piece for task in tasks for piece in _pieces(task, known, cost))
    return tuple(tuple(_tasks(part)) for part in _stretches(line, parts))


def _pieces(task: Task, known: Collection[Place], cost: Cost) -> Iterator[_Piece]:
    before, follows = task.before, False
    for visit in task.visits:
        left = tuple(name for name in visit.projections if visit.place(name) not in known)
        if left:
            wanted = replace(visit, projections=left)
            yield _Piece(wanted, before, follows, cost(wanted), cost(before) if before else 0.0)
        before, follows = visit, bool(left)


def _tasks(part: Sequence[_Piece]) -> Iterator[Task]:
    """The pieces of a stretch, those that follow one another as one task."""
    start = 0
    for end in range(1, len(part) + 1):
        if end == len(part) or not part[end].follows:
            yield Task(tuple(piece.visit for piece in part[start:end]), part[start].before)
            start = end


def _stretches(line: Sequence[_Piece], parts: int) -> Iterator[Sequence[_Piece]]:
    """One stretch a part: none dearer than need be, and each near an equal share of what is left."""
    limit = _smallest_limit(line, parts)
    needed = [0] * (len(line) + 1)
    for start in reversed(range(len(line))):
        end = _reach(line, start, limit)
        needed[start] = 1 + needed[end] if end > start else parts + 1
    start = 0
    for left in range(parts, 0, -1):
        share = sum(piece.own for piece in line[start:]) / left
        end, load = start, 0.0
        while end < len(line):
            more = line[end].cost(first=end == start)
            enough = end > start and load + more / 2 > share and needed[end] < left
            if load + more > limit or enough:
                break
            end, load = end + 1, load + more
        yield line[start:end]
        start = end


def _smallest_limit(line: Sequence[_Piece], parts: int) -> float:
    """The least cost that no part need exceed. Filling one after the other is best here.

    A later start never costs more: the piece left to the part in front was at least as dear as its recall.
    """
    low, high = 0.0, 2 * sum(piece.cost(first=True) for piece in line)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _suffices(line, parts, middle):
            high = middle
        else:
            low = middle
    return high


def _suffices(line: Sequence[_Piece], parts: int, limit: float) -> bool:
    start = 0
    for _ in range(parts):
        start = _reach(line, start, limit)
    return start == len(line)


def _reach(line: Sequence[_Piece], start: int, limit: float) -> int:
    """Where a stretch ends that starts here and costs no more than the limit."""
    end, load = start, 0.0
    while end < len(line) and load + (more := line[end].cost(first=end == start)) <= limit:
        end, load = end + 1, load + more
    return end
