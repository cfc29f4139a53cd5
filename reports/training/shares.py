"""Continuity against the share of the coordinates whose rotation symmetry the activation breaks."""

from collections.abc import Iterator

from reports.markdown import table
from reports.training.figures import SHARES
from reports.training.measured import measured
from reports.training.model import AblationRuns, Experiment
from reports.training.notation import heading, spread

FEWEST = 3
"""Shares that make a curve."""

METRICS = ("W_v1", "W_u1", "W_wa_v", "Gcum_v1", "acc")


def by_share(experiment: Experiment) -> tuple[AblationRuns, ...]:
    """The ablations that differ by their share alone, least first, the first of each; none where too few."""
    found: dict[float, AblationRuns] = {}
    for one in experiment.ablations:
        if one.share is not None and one.whole:
            found.setdefault(one.share, one)
    return tuple(found[share] for share in sorted(found)) if len(found) >= FEWEST else ()


def share_lines(experiment: Experiment) -> Iterator[str]:
    """The section on it; no section where there are too few."""
    shown = by_share(experiment)
    if not shown:
        return
    yield from ("", f"## {SHARES.title}", "", f"![{SHARES.title}]({SHARES.file})", "", SHARES.caption, "")
    yield from table(
        ("share", "", *map(heading, METRICS)),
        (
            (f"{one.share:.0%}", one.name, *(spread(measured(one, metric)) for metric in METRICS))
            for one in shown
        ),
    )
