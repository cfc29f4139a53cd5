"""What a finished report fails on: gaps with --strict, and the gates of --fail-on."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audit.errors import SelectionError
    from reports.codes import Code
    from reports.gates import Gate
    from reports.model import Report

GAPS = ("unread-stack", "missing-projection", "missing-norm", "extra-layer", "odd-heads")
"""Findings that --strict does not let pass."""

TOLD = "the report is written, and tells the rest"


def read_gates(texts: Sequence[str] | None, codes: "Sequence[Code] | None" = None) -> "tuple[Gate, ...]":
    """The gates that were asked for, on findings of these codes, None for an audit's.

    Raises SelectionError for a text that is none.
    """
    from reports.codes import CODES
    from reports.gates import GateSyntaxError, parse

    gates = []
    for text in texts or ():
        try:
            gates.append(parse(text, codes or CODES))
        except GateSyntaxError as error:
            raise _refusal(text, str(error)) from error
    return tuple(gates)


def refuse_unanswerable(gates: "Sequence[Gate]", *, full: bool, only: Collection[str] | None) -> None:
    """Raise SelectionError for a gate on what an audit with these settings does not measure."""
    for gate in gates:
        if obstacle := gate.obstacle(full=full, only=only):
            raise _refusal(gate.text, obstacle)


def refuse_measurements(gates: "Sequence[Gate]") -> None:
    """Raise SelectionError for a gate on anything but findings."""
    for gate in gates:
        if gate.needs_report:
            raise _refusal(gate.text, "a check has findings only: findings:error, findings:CODE>3")


def _refusal(text: str, why: str) -> "SelectionError":
    from audit.errors import SelectionError

    cut = text if len(text) <= 60 else f"{text[:60]}…"
    return SelectionError(f"--fail-on {cut!r}", why)


def refuse_gaps(report: "Report") -> None:
    """Raise CoverageError for a report that does not tell of every matrix in the layers."""
    from audit.errors import CoverageError

    gaps = [f"{name} matches no rule" for name in report.coverage.unknown_in_layers]
    gaps += [one.message for one in report.findings if one.code in GAPS]
    if gaps:
        more = f" (and {len(gaps) - 1} more)" if gaps[1:] else ""
        raise CoverageError(f"{report.model.id}: {gaps[0]}{more}", TOLD)


def refuse_fired(report: "Report", gates: "Sequence[Gate]") -> None:
    """Raise FiredError for the gates that fire on a report."""
    from audit.errors import FiredError
    from reports.gates import judge_all

    fired = judge_all(gates, report)
    if fired:
        others = len(fired) - 1
        more = f" (and {others} more gate{'s' * (others > 1)} fired)" if others else ""
        raise FiredError(f"--fail-on {fired[0].gate!r}: {fired[0].reason}{more}", TOLD)
