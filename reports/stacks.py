"""What is said of each stack around its tables: its heading, notes on how to read it, and what it lacks."""

import re
from collections.abc import Iterator, Mapping, Sequence

from reports.experts import with_experts
from reports.model import ProjectionReport, Report, Stack
from reports.view import MISSING, name_of, printable

_LAYERS = re.compile(r"layers? (\d{1,6}(?:-\d{1,6})?(?:, \d{1,6}(?:-\d{1,6})?)*)")


def described(stack: Stack) -> str:
    """`t5, 12 layers, hidden size 512`."""
    layers = f"{stack.layers} layer{'s' * (stack.layers != 1)}"
    return f"{printable(stack.family)}, {layers}, hidden size {stack.hidden_size or MISSING}"


def notes(stack: Stack) -> Iterator[str]:
    """What the tables of this stack in particular need said."""
    foreign = [name for name in ("K", "V", "OV") if name in stack.projections]
    if stack.cross and foreign:
        reads, their = ("reads", "its") if len(foreign) == 1 else ("read", "their")
        yield (
            f"{_listed(foreign)} {reads} another stack's output, the same in every layer: {their} v1 lies in "
            "that stack's space, not in the residual stream of this one."
        )
    if routed := with_experts(stack):
        yield (
            f"{_listed(list(routed))}: where a layer has routed experts, all of them stacked. The space that "
            "does not face the residual stream would depend on their order, and is left out."
        )
    skipping = [name for name, found in stack.projections.items() if _gap(found) > 1]
    if skipping:
        widest = max(_gap(stack.projections[name]) for name in skipping)
        yield (
            "Where a projection is not measured in every layer, the nearest two that are make a pair: those "
            f"of {', '.join(skipping)} lie up to {widest} layers apart."
        )


def _gap(found: ProjectionReport) -> int:
    return max((pair.gap for pair in found.pairs), default=1)


def _listed(names: Sequence[str]) -> str:
    """`K, V and OV`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def not_measured(report: Report) -> Iterator[str]:
    """`Q, K: layers 0-2, 4-6: linear attention`, with the stack in front where there are several."""
    for name, stack in report.every_stack.items():
        where = f"{name_of(report, name)}: " if report.stacks else ""
        for names, layers, reason in _lacking(stack.projections):
            yield f"{where}{', '.join(names)}: {layers}: {printable(reason)}"


def _lacking(projections: Mapping[str, ProjectionReport]) -> Iterator[tuple[list[str], str, str]]:
    """Projections, layers, reason: equal reasons in equal layers together."""
    together: dict[tuple[str, str], list[str]] = {}
    for name, found in projections.items():
        by_reason: dict[str, list[tuple[int, int]]] = {}
        for place, reason in found.unmeasured.items():
            if where := _LAYERS.fullmatch(place):
                by_reason.setdefault(reason, []).extend(_runs(where[1]))
        for reason, runs in by_reason.items():
            together.setdefault((_in_layers(runs), reason), []).append(name)
    for (layers, reason), names in together.items():
        yield names, layers, reason


def _runs(text: str) -> Iterator[tuple[int, int]]:
    """The ends of each run in `0-2, 4`."""
    for run in text.split(", "):
        first, _, last = run.partition("-")
        yield int(first), int(last or first)


def _in_layers(runs: Sequence[tuple[int, int]]) -> str:
    """`layers 0-2, 4` for runs in any order; those that touch become one."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(runs):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    text = ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in joined)
    return f"layer {text}" if text.isdigit() else f"layers {text}"
