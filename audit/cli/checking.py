"""`gcont-audit check MODEL...`: whether the files are whole, agree, and hold numbers. Integrity only."""

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from audit.cli import options as o
from audit.cli.gating import read_gates, refuse_measurements
from audit.cli.talk import Talk, show

if TYPE_CHECKING:
    from audit.errors import AuditError
    from audit.options import AuditOptions
    from reports.gates import Fired, Gate
    from reports.integrity.model import Check, Outcome

TOLD = "what was found is on stdout"


class CheckFormat(StrEnum):
    """What stdout carries."""

    TABLE = "table"
    JSON = "json"
    SARIF = "sarif"


Models = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL",
        help="Hub ids (org/name), folders, .safetensors files or URLs. A local path wins.",
        show_default=False,
    ),
]
Quick = Annotated[
    bool,
    typer.Option(
        "--quick",
        metavar="",
        help="Headers, index and config.json only: the weights are not read.",
        rich_help_panel=o.MEASURE,
    ),
]
FailOn = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-on",
        metavar="COND",
        help="Exit with 1 only if this holds: findings:error, findings:CODE>3 (see docs/gates.md). "
        "May be given several times. Default: any error or warning.",
        show_default=False,
        rich_help_panel=o.MEASURE,
    ),
]
Format = Annotated[
    CheckFormat, typer.Option("--format", help="What to print on stdout.", rich_help_panel=o.OUTPUT)
]


def check(
    models: Models,
    revision: o.Revision = None,
    stream: o.Stream = False,
    download: o.Download = False,
    family: o.Family = None,
    family_file: o.FamilyFile = None,
    quick: Quick = False,
    fail_on: FailOn = None,
    format: Format = CheckFormat.TABLE,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = 0,
) -> None:
    """Check that files are whole, agree with one another and the Hub, and hold numbers."""
    talk = Talk(quiet, verbose)
    with talk.errors():
        from audit.options import AuditOptions
        from reports.integrity.codes import CHECK_CODES

        gates = read_gates(fail_on, CHECK_CODES)
        refuse_measurements(gates)
        asked = AuditOptions(revision=revision, family=family, family_file=family_file)
        streamed = o.streaming(stream, download)
        outcomes, failures = [], []
        for model in dict.fromkeys(models):
            outcome, error = _check(model, asked, streamed, quick, talk)
            outcomes.append(outcome)
            failures += [error] if error is not None else []
        if len(failures) < len(outcomes):
            _show(outcomes, CheckFormat.JSON if json else format, gates)
        _refuse(outcomes, failures, gates)


def _check(
    model: str, asked: "AuditOptions", stream: bool | None, quick: bool, talk: Talk
) -> "tuple[Outcome, AuditError | None]":
    """What a check of one model finds, or why there could be none."""
    from audit.checkpoint import without_secrets
    from audit.cli.progress import counting, downloads
    from audit.errors import AuditError, StoppedError
    from audit.integrity import check_model
    from reports.integrity.model import Unchecked

    named = without_secrets(model)
    try:
        with downloads(talk):
            found = check_model(
                model, asked, stream=stream, quick=quick, watch=lambda total: counting(total, named, talk)
            )
    except StoppedError:
        raise
    except AuditError as error:
        return Unchecked(named, str(error), error.exit_code), error
    for note in found.notes:
        talk.note(note)
    return found, None


def _show(outcomes: "Sequence[Outcome]", format: CheckFormat, gates: "Sequence[Gate]") -> None:
    """Print what was found in the format asked for."""
    from audit.provenance import version
    from reports.integrity import document
    from reports.integrity.model import Check
    from reports.integrity.terminal import to_terminal

    checks = [outcome for outcome in outcomes if isinstance(outcome, Check)]
    match format:
        case CheckFormat.TABLE:
            for one in checks:
                show(to_terminal(one))
        case CheckFormat.JSON:
            typer.echo(document.to_json(outcomes, version()), nl=False)
        case CheckFormat.SARIF:
            fired = {one.model: _fired(one, gates) for one in checks}
            typer.echo(document.to_sarif(checks, fired, version()), nl=False)


def _fired(check: "Check", gates: "Sequence[Gate]") -> "list[Fired]":
    findings = [problem.finding for problem in check.problems]
    return [fired for gate in gates if (fired := gate.judge_findings(findings)) is not None]


def _refuse(outcomes: "Sequence[Outcome]", failures: "Sequence[AuditError]", gates: "Sequence[Gate]") -> None:
    """Raise what a model could not be looked at for, else for what was found: gates decide where given."""
    from audit.errors import FiredError, IntegrityError
    from reports.integrity.model import Check

    if failures:
        first, others = failures[0], len(failures) - 1
        if others:
            first = type(first)(f"{first.message} (and {others} more could not be checked)", first.hint)
        raise first
    checks = [outcome for outcome in outcomes if isinstance(outcome, Check)]
    if gates:
        fired = [(check, one) for check in checks for one in _fired(check, gates)]
        if fired:
            check, one = fired[0]
            more = f" (and {len(fired) - 1} more)" if fired[1:] else ""
            raise FiredError(f"{check.model}: --fail-on {one.gate!r}: {one.reason}{more}", TOLD)
        return
    found = [(check, problem) for check in checks for problem in check.failing]
    if found:
        check, problem = found[0]
        more = f" (and {len(found) - 1} more)" if found[1:] else ""
        raise IntegrityError(f"{check.model}: {problem.finding.message}{more}", TOLD)
