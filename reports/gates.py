"""Gates: conditions on a report, written in one line, that make a program that watches over models fail.

    gate       = condition , { "and" , condition } ;
    condition  = measured | counted ;
    measured   = [ stack , "/" ] , projection , "." , quantity , ordering , number ;
    projection = "Q" | "K" | "V" | "O" | "OV" | "Gate" | "Up" | "Down"
               | "SharedGate" | "SharedUp" | "SharedDown" | "*" ;
    quantity   = ( "v1" | "u1" | "v2" | "u2" ) , [ "." , ( summary | "excess" ) ]
               | "evr3" , "." , space , [ "." , "excess" ]
               | "wa" , "." , space
               | ( "stable_rank" | "effective_rank" ) , "." , summary ;
    space      = "v" | "u" ;
    summary    = "min" | "max" | "mean" | "median" ;
    counted    = ( "findings" , ":" , ( severity | code ) | "coverage" , "." , "unknown" ) ,
                 [ ( ordering | "==" | "!=" ) , whole number ] ;
    severity   = "error" | "warning" | "info" ;
    ordering   = "<" | "<=" | ">" | ">=" ;

A number is a finite decimal, with an exponent if need be; a code is one of reports/codes.py. Blanks may stand
between any two of these, and case does not matter. docs/gates.md tells what each of them means.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite

from reports.codes import CODES, SEVERITIES, Code
from reports.comparison import ORDER
from reports.conditions import (
    EQUALITIES,
    EVERY,
    ORDERINGS,
    Comparison,
    Condition,
    FindingCount,
    Measurement,
    UnknownCount,
    Verdict,
    obstacles,
)
from reports.model import Finding, Report
from reports.quantities import QUANTITIES

LONGEST = 500
"""Characters of a gate; nobody writes a longer one by hand."""

_SHOWN = 20
"""Characters of what is left that an error shows."""

_BLANKS = re.compile(r"\s*")
_WORD = re.compile(r"[a-z][a-z0-9_-]*", re.IGNORECASE | re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_WHOLE = re.compile(r"[0-9]+")
_STACK = re.compile(r"[^/<>=!:]*/")

_FINDINGS, _COVERAGE, _UNKNOWN, _AND = "findings", "coverage", "unknown", "and"


class GateSyntaxError(ValueError):
    """A text that is no gate; the message says what was expected, and at which character."""


@dataclass(frozen=True)
class Fired:
    """A gate that fired: its text, and what was found."""

    gate: str
    reason: str


@dataclass(frozen=True)
class Gate:
    """Conditions that all must hold for the gate to fire; `text` is what they were read from."""

    text: str
    conditions: tuple[Condition, ...]

    @property
    def needs_report(self) -> bool:
        """Whether findings alone are too little to judge it."""
        return not all(isinstance(condition, FindingCount) for condition in self.conditions)

    def obstacle(self, *, full: bool, only: Collection[str] | None) -> str | None:
        """Why an audit with or without --full, and with this --only, cannot judge it; None where it may."""
        return next(obstacles(self.conditions, full=full, only=only), None)

    def judge(self, report: Report) -> Fired | None:
        """What it says of a report; None where it does not fire.

        A condition that cannot be judged counts as one that holds, so that the gate does not pass by it.
        """
        return self._fired([condition.judge(report) for condition in self.conditions])

    def judge_findings(self, findings: Sequence[Finding]) -> Fired | None:
        """As judge, where there are only findings; raises ValueError where it needs a report."""
        counts = [condition for condition in self.conditions if isinstance(condition, FindingCount)]
        if len(counts) < len(self.conditions):
            raise ValueError(f"{self.text!r} asks for more than findings")
        return self._fired([count.judge_findings(findings) for count in counts])

    def _fired(self, verdicts: Sequence[Verdict]) -> Fired | None:
        if any(verdict.holds is False for verdict in verdicts):
            return None
        return Fired(self.text, "; ".join(verdict.said for verdict in verdicts))


def judge_all(gates: Sequence[Gate], report: Report) -> tuple[Fired, ...]:
    """Those of the gates that fire, in their order."""
    return tuple(fired for gate in gates if (fired := gate.judge(report)) is not None)


def parse(text: str, codes: Sequence[Code] = CODES) -> Gate:
    """The gate a text stands for, on findings of these codes; raises GateSyntaxError for any that is none."""
    if len(text) > LONGEST:
        raise GateSyntaxError(f"longer than {LONGEST} characters")
    cursor = _Cursor(text, (*SEVERITIES, *(code.name for code in codes)))
    conditions = [_condition(cursor)]
    while not cursor.at_end:
        cursor.choose([_AND], f"{_AND!r} or the end")
        conditions.append(_condition(cursor))
    return Gate(text, tuple(conditions))


class _Cursor:
    """A place in a gate's text, always past blanks, and the ways to move on from it."""

    def __init__(self, text: str, kinds: Collection[str]) -> None:
        self.kinds = kinds
        self._text = text
        self._place = 0
        self._move(0)

    @property
    def at_end(self) -> bool:
        return self._place == len(self._text)

    def _move(self, place: int) -> None:
        found = _BLANKS.match(self._text, place)
        assert found is not None
        self._place = found.end()

    def expected(self, what: str, near: str | None = None) -> GateSyntaxError:
        """The error that something else stands here, or nothing; `near` is what may have been meant."""
        rest = self._text[self._place :]
        cut = rest if len(rest) <= _SHOWN else f"{rest[:_SHOWN]}…"
        where = f"before {cut!r}" if rest else "at the end"
        hint = f" (did you mean {near}?)" if near else ""
        return GateSyntaxError(f"expected {what} at character {self._place + 1}, {where}{hint}")

    def take(self, pattern: re.Pattern[str]) -> str | None:
        """What matches here, and moves on; None where nothing does."""
        found = pattern.match(self._text, self._place)
        if found is None:
            return None
        self._move(found.end())
        return found[0]

    def sign(self, *signs: str) -> str | None:
        """The first of the signs that stands here, and moves on; None where none does."""
        for sign in signs:
            if self._text.startswith(sign, self._place):
                self._move(self._place + len(sign))
                return sign
        return None

    def choose(self, choices: Collection[str], what: str) -> str:
        """The one of the words that stands here, whatever its case, and moves on."""
        found = _WORD.match(self._text, self._place)
        word = found[0].lower() if found else ""
        by_lower = {choice.lower(): choice for choice in choices}
        if word not in by_lower:
            near = get_close_matches(word, by_lower, n=1)
            raise self.expected(what, by_lower[near[0]] if near else None)
        self.take(_WORD)
        return by_lower[word]


def _condition(cursor: _Cursor) -> Condition:
    stack = _stack(cursor)
    if cursor.sign(EVERY):
        return _measurement(cursor, stack, EVERY)
    if stack is not None:
        return _measurement(cursor, stack, cursor.choose(ORDER, "a projection"))
    heads = (*ORDER, _FINDINGS, _COVERAGE)
    head = cursor.choose(heads, f"a projection, {_FINDINGS!r} or {_COVERAGE!r}")
    if head == _FINDINGS:
        _expect(cursor, ":")
        kind = cursor.choose(cursor.kinds, "a severity or the code of a finding")
        return FindingCount(kind, _count(cursor))
    if head == _COVERAGE:
        _expect(cursor, ".")
        cursor.choose([_UNKNOWN], repr(_UNKNOWN))
        return UnknownCount(_count(cursor))
    return _measurement(cursor, stack, head)


def _stack(cursor: _Cursor) -> str | None:
    """The name in front of a slash, its blanks made single; None where there is none."""
    start = cursor.expected("the name of a stack")
    taken = cursor.take(_STACK)
    if taken is None:
        return None
    name = " ".join(taken[:-1].split())
    if not name:
        raise start
    return name


def _measurement(cursor: _Cursor, stack: str | None, projection: str) -> Measurement:
    _expect(cursor, ".")
    quantity = QUANTITIES[_quantity(cursor)]
    return Measurement(stack, projection, quantity, _comparison(cursor))


def _comparison(cursor: _Cursor) -> Comparison:
    """What a measured number is compared with."""
    sign = cursor.sign(*ORDERINGS)
    if sign is None:
        raise cursor.expected(_either([*ORDERINGS]))
    infinite = cursor.expected("a finite number")
    number = cursor.take(_NUMBER)
    if number is None:
        raise cursor.expected("a number")
    if not isfinite(float(number)):
        raise infinite
    return Comparison(sign, float(number))


def _quantity(cursor: _Cursor) -> str:
    """The longest dotted name of a quantity that stands here."""
    firsts = [*dict.fromkeys(known.split(".")[0] for known in QUANTITIES)]
    name = cursor.choose(firsts, _either(firsts))
    while following := [known for known in QUANTITIES if known.startswith(f"{name}.")]:
        if not cursor.sign("."):
            if name in QUANTITIES:
                break
            raise cursor.expected("'.'")
        nexts = [*dict.fromkeys(known.removeprefix(f"{name}.").split(".")[0] for known in following)]
        name += "." + cursor.choose(nexts, _either(nexts))
    return name


def _either(words: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _expect(cursor: _Cursor, sign: str) -> None:
    if not cursor.sign(sign):
        raise cursor.expected(repr(sign))


def _count(cursor: _Cursor) -> Comparison:
    """What a count is compared with: more than none, where nothing is said."""
    sign = cursor.sign(*ORDERINGS, *EQUALITIES)
    if sign is None:
        return Comparison(">", 0)
    number = cursor.take(_WHOLE)
    if number is None:
        raise cursor.expected("a whole number")
    return Comparison(sign, int(number))
