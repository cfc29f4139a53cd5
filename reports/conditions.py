"""What a gate asks of a report: a number of a projection, a count of findings, or of unknown tensors.

Each condition is judged into a verdict in words. What cannot be judged is neither
true nor false, and says why.
"""

import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from reports.codes import SEVERITIES
from reports.model import Finding, Report, Stack
from reports.quantities import Quantity

ORDERINGS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
}
"""Operators between a measured number and another."""

EQUALITIES: Mapping[str, Callable[[float, float], bool]] = {"==": operator.eq, "!=": operator.ne}
"""Operators for counts besides: a measured number is never exactly another."""

_OPERATORS = {**ORDERINGS, **EQUALITIES}

EVERY = "*"
"""In place of a projection: each one that was measured."""


@dataclass(frozen=True)
class Verdict:
    """Whether a condition holds, None where that cannot be told, and what was found, in words."""

    holds: bool | None
    said: str


@dataclass(frozen=True)
class Comparison:
    """`< 0.5`."""

    operator: str
    number: float

    def holds(self, value: float) -> bool:
        """Whether a value stands in this relation to the number."""
        return _OPERATORS[self.operator](value, self.number)

    def shown(self, value: float) -> str:
        """A value in as few digits, four or more, as leave it on its side of the number."""
        texts = [f"{value:.{digits}g}" for digits in (4, 8, 17)]
        return next(text for text in texts if self.holds(float(text)) == self.holds(value))


@dataclass(frozen=True)
class Measurement:
    """`vision/Q.v1.min < 0.1`: a number of a projection, or of any, in a stack; None is the main one."""

    stack: str | None
    projection: str
    quantity: Quantity
    comparison: Comparison

    @property
    def name(self) -> str:
        """`vision/Q.v1.min`, as a user writes it."""
        return self._named(self.projection)

    def obstacle(self, *, full: bool, only: Collection[str] | None) -> str | None:
        """Why an audit with these settings cannot have the number; None where it may."""
        if self.quantity.full and not full:
            return f"{self.name} needs --full: audit with it, or leave the gate out"
        if only is not None and self.projection not in (EVERY, *only):
            return f"--only leaves {self.projection} out: name it there, or leave the gate out"
        return None

    def judge(self, report: Report) -> Verdict:
        """Whether the number, or that of any projection, stands in the relation."""
        stack = self._find(report)
        if stack is None:
            named = ", ".join(filter(None, (report.model.stack, *report.stacks)))
            why = f"the model's stacks are {named}" if named else "the model has one stack, without a name"
            return Verdict(None, f"{self.name} is not measured: {why}")
        names = stack.projections if self.projection == EVERY else (self.projection,)
        values = {
            name: value
            for name in names
            if name in stack.projections
            and (value := self.quantity.value(stack.projections[name])) is not None
        }
        if not values:
            return Verdict(None, f"{self.name} is not measured: {self._why_not(stack)}")
        hits = [name for name, value in values.items() if self.comparison.holds(value)]
        if not hits:
            return Verdict(False, "")
        first, *others = hits
        likewise = f", likewise {', '.join(others)}" if others else ""
        return Verdict(True, f"{self._named(first)} is {self.comparison.shown(values[first])}{likewise}")

    def _named(self, projection: str) -> str:
        stack = f"{self.stack}/" if self.stack is not None else ""
        return f"{stack}{projection}.{self.quantity.name}"

    def _find(self, report: Report) -> Stack | None:
        """The stack meant: the main one by its own name too, and whatever the case."""
        if self.stack is None:
            return report.main
        named = {(name or report.model.stack or ""): stack for name, stack in report.every_stack.items()}
        return next((each for name, each in named.items() if name.casefold() == self.stack.casefold()), None)

    def _why_not(self, stack: Stack) -> str:
        if self.projection == EVERY:
            reasons = [self.quantity.why_not(found) for found in stack.projections.values()]
            return reasons[0] if reasons else "no projection is"
        found = stack.projections.get(self.projection)
        if found is None:
            return f"the model has {', '.join(stack.projections) or 'no projection'}"
        return self.quantity.why_not(found)


@dataclass(frozen=True)
class FindingCount:
    """`findings:weak-pair > 3`: how many findings have a code, or a severity or a worse one."""

    kind: str
    comparison: Comparison

    def judge(self, report: Report) -> Verdict:
        """As judge_findings, of a report's."""
        return self.judge_findings(report.findings)

    def judge_findings(self, findings: Sequence[Finding]) -> Verdict:
        """Whether their number stands in the relation."""
        found = [finding.message for finding in findings if self._counts(finding)]
        return _counted(f"findings:{self.kind}", found, self.comparison)

    def _counts(self, finding: Finding) -> bool:
        if self.kind in SEVERITIES:
            return finding.severity in SEVERITIES[: SEVERITIES.index(self.kind) + 1]
        return finding.code == self.kind


@dataclass(frozen=True)
class UnknownCount:
    """`coverage.unknown > 0`: how many tensors no rule of the family claims."""

    comparison: Comparison

    def judge(self, report: Report) -> Verdict:
        """Whether their number stands in the relation."""
        return _counted("coverage.unknown", report.coverage.unknown, self.comparison)


Condition = Measurement | FindingCount | UnknownCount


def _counted(name: str, found: Sequence[str], comparison: Comparison) -> Verdict:
    first = f", the first: {found[0]}" if found else ""
    return Verdict(comparison.holds(len(found)), f"{name} is {len(found)}{first}")


def obstacles(conditions: Sequence[Condition], *, full: bool, only: Collection[str] | None) -> Iterator[str]:
    """Why an audit with these settings cannot have the numbers that conditions ask for."""
    for condition in conditions:
        if isinstance(condition, Measurement) and (why := condition.obstacle(full=full, only=only)):
            yield why
