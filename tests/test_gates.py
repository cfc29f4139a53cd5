"""--fail-on: what a gate says of a report typed by hand, what it refuses, and how the program ends."""

import ast
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from checkpoints import write_llama
from hypothesis import example, given
from hypothesis import strategies as st
from sample_report import pair, projection, sample_report

import audit
from registry import Projection
from reports import gates
from reports.codes import CODES, SEVERITIES
from reports.conditions import Comparison, Measurement
from reports.gates import LONGEST, Gate, GateSyntaxError, judge_all, parse
from reports.model import Continuity, Finding, Report, Spaces, Stack
from reports.quantities import QUANTITIES

ROOT = Path(__file__).parents[1]
DOCS = (ROOT / "docs" / "gates.md").read_text(encoding="utf-8")


def said(text: str, report: Report | None = None) -> str | None:
    """Why a gate fires; None where it does not."""
    fired = parse(text).judge(report or sample_report())
    return None if fired is None else fired.reason


# What is asked


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Q.v1", 0.75),
        ("Q.u1", 0.0625),
        ("Q.v2", 0.25),
        ("Q.u2", 0.125),
        ("O.v1", 0.0625),
        ("O.u1", 0.875),
        ("Q.v1.excess", 0.67),
        ("O.u1.excess", 0.795),
        ("Q.evr3.v", 0.9),
        ("Q.evr3.v.excess", 0.35),
        ("Q.wa.v", 0.5),
        ("Q.wa.u", 0.25),
        ("Q.stable_rank.min", 2),
        ("Q.stable_rank.max", 3),
        ("Q.stable_rank.mean", 2.5),
        ("Q.effective_rank.min", 10),
        ("Q.effective_rank.median", 15),
    ],
)
def test_a_number_of_the_report_is_compared(name: str, value: float) -> None:
    assert said(f"{name}<{value + 0.001}") == f"{name} is {value:g}"
    assert said(f"{name}>{value - 0.001}") == f"{name} is {value:g}"
    assert said(f"{name}<{value - 0.001}") is None
    assert said(f"{name}>{value + 0.001}") is None


@pytest.mark.parametrize(("summary", "value"), [("min", 0.1), ("max", 0.9), ("mean", 0.4), ("median", 0.2)])
@pytest.mark.parametrize(("key", "turn"), [("v1", 1), ("u1", -1)])
def test_a_series_over_pairs_is_summarised(summary: str, value: float, key: str, turn: int) -> None:
    cosines = [(0.2, 0.01), (0.9, 0.02), (0.1, 0.03)]
    pairs = tuple(pair(i, *cosine[::turn]) for i, cosine in enumerate(cosines))
    report = sample_report()
    q = replace(report.projections["Q"], pairs=pairs)
    assert said(f"Q.{key}.{summary}>0", replace(report, projections={"Q": q})) == (
        f"Q.{key}.{summary} is {value}"
    )


def test_a_zero_is_a_number_like_any_other() -> None:
    report = sample_report()
    q = replace(report.projections["Q"], pairs=(pair(0, 0.0, 0.5), pair(1, 0.5, 0.5)))
    assert said("Q.v1.min<0.1", replace(report, projections={"Q": q})) == "Q.v1.min is 0"


@pytest.mark.parametrize(
    ("operator", "below", "equal", "above"),
    [
        ("<", True, False, False),
        ("<=", True, True, False),
        (">", False, False, True),
        (">=", False, True, True),
    ],
)
def test_an_operator_means_what_it_does(operator: str, below: bool, equal: bool, above: bool) -> None:
    fires = [said(f"Q.v1{operator}{number}") is not None for number in ("0.7500001", "0.75", "0.7499999")]
    assert fires == [below, equal, above]


def test_digits_are_shown_until_the_value_is_on_its_side_of_the_number() -> None:
    report = sample_report()
    q = replace(report.projections["Q"], continuity=Continuity(0.4999999, None, None, None))
    assert said("Q.v1<0.5", replace(report, projections={"Q": q})) == "Q.v1 is 0.4999999"
    q = replace(q, continuity=Continuity(0.49999, None, None, None))
    assert said("Q.v1<0.6", replace(report, projections={"Q": q})) == "Q.v1 is 0.5"


NAN = "the first: Q of layer 2 holds NaN: not measured"
ODD = "the first: odd|0 [2, 2] matches no rule"


@pytest.mark.parametrize(
    ("gate", "reason"),
    [
        ("findings:error", f"findings:error is 1, {NAN}"),
        ("findings:warning>10", f"findings:warning is 11, {NAN}"),
        ("findings:warning>11", None),
        ("findings:info==11", f"findings:info is 11, {NAN}"),
        ("findings:nan", f"findings:nan is 1, {NAN}"),
        ("findings:nan>1", None),
        ("findings:nan!=1", None),
        ("findings:nan!=0", f"findings:nan is 1, {NAN}"),
        ("findings:nan==0", None),
        ("findings:unknown-tensor>=7", f"findings:unknown-tensor is 7, {ODD}"),
        ("findings:unknown-tensor<7", None),
        ("findings:weak-pair", None),
        ("findings:weak-pair==0", "findings:weak-pair is 0"),
        ("coverage.unknown", "coverage.unknown is 1, the first: odd|one"),
        ("coverage.unknown>1", None),
        ("coverage.unknown!=2", "coverage.unknown is 1, the first: odd|one"),
    ],
)
def test_findings_and_unknown_tensors_are_counted(gate: str, reason: str | None) -> None:
    assert said(gate) == reason


def test_a_gate_on_findings_needs_no_report() -> None:
    findings = [Finding("weak-pair", "info", "Q", 3, "Q turns away")]
    gate = parse("findings:weak-pair and findings:info<2")
    assert not gate.needs_report
    assert gate.judge_findings(findings) == gates.Fired(
        gate.text,
        "findings:weak-pair is 1, the first: Q turns away; findings:info is 1, the first: Q turns away",
    )
    assert gate.judge_findings([]) is None
    for text in ("findings:error and Q.v1<1", "coverage.unknown"):
        assert parse(text).needs_report
        with pytest.raises(ValueError, match="asks for more than findings"):
            parse(text).judge_findings(findings)


def test_every_projection_is_looked_at() -> None:
    assert said("*.v1<0.6") == "V.v1 is 0.5, likewise O"
    assert said("*.u1>0.8") == "O.u1 is 0.875"
    assert said("*.v1<0.06") is None


def test_other_stacks_are_named() -> None:
    other = Stack({"K": projection("v", (pair(0, 0.5, 0.5), pair(1, None, None)), 0.5, 0.95)}, "f", 3, 100)
    report = sample_report()
    report = replace(
        report, stacks={"text cross-attention": other}, model=replace(report.model, stack="text")
    )
    for name in ("text cross-attention", "text \t cross-attention ", "TEXT cross-Attention"):
        assert said(f"{name}/K.u1<1", report) is not None
        assert said(f"{name}/K.u1>1", report) is None
    assert said("text cross-attention/*.u1>0.9", report) == "text cross-attention/K.u1 is 0.95"
    assert said("text/Q.v1<1", report) == "text/Q.v1 is 0.75"
    assert said("*.u1>0.9", report) is None
    assert said("vision/Q.v1<0", report) == (
        "vision/Q.v1 is not measured: the model's stacks are text, text cross-attention"
    )


# What cannot be judged must not pass


@pytest.mark.parametrize(
    ("gate", "reason"),
    [
        ("Gate.v1<0", "Gate.v1 is not measured: the model has Q, V, O"),
        ("Q.evr3.u<0", "Q.evr3.u is not measured: 3 layers"),
        ("Q.evr3.u.excess<0", "Q.evr3.u.excess is not measured: 3 layers"),
        ("*.evr3.u<0", "*.evr3.u is not measured: 3 layers"),
        ("vision/Q.v1<0", "vision/Q.v1 is not measured: the model has one stack, without a name"),
    ],
)
def test_what_cannot_be_judged_fires(gate: str, reason: str) -> None:
    assert said(gate) == reason


def test_the_reason_is_the_reports_own() -> None:
    report = sample_report()
    q = report.projections["Q"]
    nothing = Continuity(None, None, None, None)

    def why(gate: str, **changes: object) -> str | None:
        return said(gate, replace(report, projections={"Q": replace(q, **changes)}))  # type: ignore[arg-type]

    order = "depends on the experts' order"
    assert why("Q.u1<0", continuity=nothing, unmeasured={"u": order}) == f"Q.u1 is not measured: {order}"
    alone = {"continuity": "one layer only"}
    assert why("Q.v1.min<0", pairs=(), unmeasured=alone) == "Q.v1.min is not measured: one layer only"
    assert why("Q.v1.excess<0", null=Spaces(None, None), unmeasured={}) == (
        "Q.v1.excess is not measured: the report has no value for it"
    )
    broken = {"layer 0": "NaN"}
    assert why("Q.stable_rank.min<0", stable_rank=(None,), unmeasured=broken) == (
        "Q.stable_rank.min is not measured: layer 0: NaN"
    )
    spectrum = {"effective_rank": "run with --full"}
    assert why("Q.effective_rank.max<0", effective_rank=None, unmeasured=spectrum) == (
        "Q.effective_rank.max is not measured: run with --full"
    )
    tied = {"wa": "exact ties"}
    for wa in (None, Spaces(None, None)):
        assert why("Q.wa.v<0", wa=wa, unmeasured=tied) == "Q.wa.v is not measured: exact ties"


def test_no_projection_at_all_fires() -> None:
    assert (
        said("*.v1<0", replace(sample_report(), projections={})) == "*.v1 is not measured: no projection is"
    )


def test_all_conditions_must_hold_and_a_false_one_is_enough() -> None:
    true, false, unknown = "Q.v1<1", "Q.v1>1", "Gate.v1<1"
    holds = {true: True, false: False, unknown: True}
    for first in holds:
        for second in holds:
            fires = said(f"{first} and {second}") is not None
            assert fires == (holds[first] and holds[second]), (first, second)
    assert said("Q.v1<1 and O.u1>0.5 and findings:weak-pair==0") == (
        "Q.v1 is 0.75; O.u1 is 0.875; findings:weak-pair is 0"
    )


def test_of_several_gates_those_that_fire_are_told_in_order() -> None:
    texts = ("O.u1>0.5", "Q.v1>1", "Q.v1<1")
    assert [one.gate for one in judge_all([parse(text) for text in texts], sample_report())] == [
        "O.u1>0.5",
        "Q.v1<1",
    ]


@pytest.mark.parametrize("gate", ["Q.wa.v<1", "*.effective_rank.min<1", "Q.v1<1 and Q.wa.u<1"])
def test_what_needs_full_is_told_beforehand(gate: str) -> None:
    assert parse(gate).obstacle(full=True, only=None) is None
    told = parse(gate).obstacle(full=False, only=None)
    assert told is not None
    assert "needs --full: audit with it, or leave the gate out" in told


def test_what_only_leaves_out_is_told_beforehand() -> None:
    only = (Projection.Q, Projection.OV)
    assert parse("K.v1<1").obstacle(full=False, only=None) is None
    assert parse("Q.v1<1 and K.v1<1").obstacle(full=False, only=only) == (
        "--only leaves K out: name it there, or leave the gate out"
    )
    for text in ("Q.v1<1", "OV.v1<1", "*.v1<1", "findings:error", "coverage.unknown"):
        assert parse(text).obstacle(full=False, only=only) is None


# The text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Q.v1<<0.5", "expected a number at character 6, before '<0.5'"),
        ("Q.v1<", "expected a number at character 6, at the end"),
        ("Q.v1 < nan", "expected a number at character 8, before 'nan'"),
        ("Q.v1<inf", "expected a number at character 6, before 'inf'"),
        ("Q.v1<٣", "expected a number at character 6, before '٣'"),
        ("Q.v1<1e999", "expected a finite number at character 6, before '1e999'"),
        ("Q.v1<0.5 or K.v1<1", "expected 'and' or the end at character 10, before 'or K.v1<1'"),
        (
            "Q.v1<0.5 an K.v1<1",
            "expected 'and' or the end at character 10, before 'an K.v1<1' (did you mean and?)",
        ),
        ("Q.v1<0.5 and", "expected a projection, 'findings' or 'coverage' at character 13, at the end"),
        ("Q.v1==0.5", "expected <=, <, >= or > at character 5, before '==0.5'"),
        ("Q.v1", "expected <=, <, >= or > at character 5, at the end"),
        ("Q", "expected '.' at character 2, at the end"),
        ("", "expected a projection, 'findings' or 'coverage' at character 1, at the end"),
        ("  (Q.v1<1)", "expected a projection, 'findings' or 'coverage' at character 3, before '(Q.v1<1)'"),
        (
            "SharedGat.v1<1",
            "expected a projection, 'findings' or 'coverage' at character 1, before 'SharedGat.v1<1' "
            "(did you mean SharedGate?)",
        ),
        (
            "Q.w1<1",
            "expected v1, u1... at character 3, before 'w1<1'",
        ),
        ("Q.stable_rank<1", "expected '.' at character 14, before '<1'"),
        (
            "Q.stable_rank.medain<1",
            "expected min, max, mean or median at character 15, before 'medain<1' (did you mean median?)",
        ),
        ("Q.v1.min.max<1", "expected <=, <, >= or > at character 9, before '.max<1'"),
        ("Q.evr3<1", "expected '.' at character 7, before '<1'"),
        ("/Q.v1<1", "expected the name of a stack at character 1, before '/Q.v1<1'"),
        (
            "findings:weak_pair",
            "expected a severity or the code of a finding at character 10, before 'weak_pair' "
            "(did you mean weak-pair?)",
        ),
        ("findings error", "expected ':' at character 10, before 'error'"),
        ("findings:nan>-1", "expected a whole number at character 14, before '-1'"),
        ("findings:nan>1.5", "expected 'and' or the end at character 15, before '.5'"),
        ("coverage.unkown", "expected 'unknown' at character 10, before 'unkown' (did you mean unknown?)"),
        ("vision/findings:error", "expected a projection at character 8, before 'findings:error'"),
        ("Q.v1<1" + " " * 20 + "x" * 30, f"expected 'and' or the end at character 27, before '{'x' * 20}…'"),
        ("Q.v1<1" + " " * LONGEST, f"longer than {LONGEST} characters"),
    ],
)
def test_an_error_names_the_place_and_what_was_expected(text: str, message: str) -> None:
    message = message.replace("v1, u1...", "v1, v2, evr3, wa, u1, u2, stable_rank or effective_rank")
    with pytest.raises(GateSyntaxError) as caught:
        parse(text)
    assert str(caught.value) == message


def test_blanks_and_case_do_not_matter() -> None:
    plain = parse("SharedGate.v1.min<=-.5e-1 and findings:weak-pair>3 and coverage.unknown")
    for text in (
        "sharedgate . V1 . MIN <= -0.05 AND Findings : Weak-Pair > 3 and\tcoverage . unknown > 0",
        "\n SHAREDGATE.v1.min<=-5E-02and FINDINGS:WEAK-PAIR>03 and Coverage.Unknown>0 ",
    ):
        assert parse(text).conditions == plain.conditions
    assert plain.conditions[0] == Measurement(
        None, "SharedGate", QUANTITIES["v1.min"], Comparison("<=", -0.05)
    )


def test_the_projections_are_the_registrys() -> None:
    for name in Projection:
        (condition,) = parse(f"{name.lower()}.v1<1").conditions
        assert isinstance(condition, Measurement)
        assert condition.projection == name


NAMES = [*(name.value for name in Projection), "*"]
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
MEASURED = st.builds(
    "{}.{} {}{!r}".format,
    st.sampled_from(NAMES),
    st.sampled_from(sorted(QUANTITIES)),
    st.sampled_from(["<", "<=", ">", ">="]),
    NUMBERS,
)
COUNTED = st.builds(
    "findings:{}{}{}".format,
    st.sampled_from([*SEVERITIES, *(code.name for code in CODES)]),
    st.sampled_from(["==", "!=", ">"]),
    st.integers(0, 10**30),
)


@given(texts=st.lists(MEASURED | COUNTED, min_size=1, max_size=4))
def test_every_gate_of_the_grammar_is_read_and_judged(texts: list[str]) -> None:
    gate = parse(" and ".join(texts))
    assert len(gate.conditions) == len(texts)
    for condition, text in zip(gate.conditions, texts, strict=True):
        number = re.split("[<>=!]+", text)[1]
        whole = text.startswith("findings")
        assert condition.comparison.number == (int(number) if whole else float(number))
        sign = condition.comparison.operator
        assert sign in text
        assert f"{sign}=" not in text
    gate.judge(sample_report())


PIECES = [
    "Q",
    "*",
    ".",
    "v1",
    "min",
    "<",
    "=",
    "0",
    "9" * 9,
    "e",
    "-",
    "/",
    ":",
    "findings",
    "nan",
    " and ",
    "\ud800",
]


@given(text=st.text() | st.lists(st.sampled_from(PIECES)).map("".join))
@example(text="findings:nan>" + "9" * 480)
@example(text="Q.v1<" + "9" * 480)
@example(text="Q.v1<1e" + "9" * 480)
@example(text="/" * LONGEST)
def test_any_text_is_a_gate_or_the_one_error(text: str) -> None:
    try:
        gate = parse(text)
    except GateSyntaxError as error:
        message = str(error)
    else:
        assert isinstance(gate, Gate)
        assert gate.text == text
        fired = gate.judge(sample_report())
        assert fired is None or fired.reason
        return
    assert re.fullmatch(r"(expected .+ at character [0-9]+, .+)|(longer than 500 characters)", message)


# The codes


def readme_codes() -> list[tuple[str, str]]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.partition("| code | severity |")[2].partition("\n\n")[0]
    return re.findall(r"^\| `([\w-]+)` \| (\w+) \|", table, re.M)


def test_the_codes_are_readmes() -> None:
    assert readme_codes() == [(code.name, code.severity) for code in CODES]
    assert len(CODES) > 10


def test_the_program_makes_findings_of_these_codes_only() -> None:
    made = set()
    for path in Path(audit.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Finding":
                code, severity = (
                    one.value if isinstance(one, ast.Constant) else None for one in node.args[:2]
                )
                if code is not None:
                    made.add((code, severity))
    assert made <= {(code.name, code.severity) for code in CODES}
    # what cannot be measured takes its code from what the numbers are
    assert {code.name for code in CODES} - {code for code, _ in made} == {"nan", "inf", "zero"}


# The documentation


def test_the_grammar_is_documented() -> None:
    (block,) = re.findall(r"```ebnf\n(.*?)```", DOCS, re.DOTALL)
    assert gates.__doc__ is not None
    drawn = [line.removeprefix("    ") for line in gates.__doc__.splitlines() if line.startswith("    ")]
    assert block.splitlines() == drawn


def test_every_gate_in_the_documentation_is_one() -> None:
    table = DOCS.partition("| condition | fires if |")[2].partition("\n\n")[0]
    shown = [text for text in re.findall(r"`([^`]*)`", table) if re.search("[<>=]|^findings|^coverage", text)]
    shown += re.findall(r"--fail-on '([^']+)'", DOCS.replace("Q.v1<<0.5", "Q.v1<0.5"))
    assert len(shown) > 15
    for text in shown:
        parse(text)


# The program


def test_a_gate_that_fires_ends_it_with_1_and_the_report_is_whole(cli, llama):
    watched = [word for text in ("Q.v1>=0", "Q.v1>1", "findings:info>=0") for word in ("--fail-on", text)]
    result = cli(llama, "--out", "out", *watched)
    value = json.loads(Path("out/audit.json").read_text())["projections"]["Q"]["continuity"]["v1"]
    assert result.exit_code == 1
    assert result.stderr == (
        f"error: --fail-on 'Q.v1>=0': Q.v1 is {value:.4g} (and 1 more gate fired): "
        "the report is written, and tells the rest\n"
    )
    without = cli(llama, "--out", "out")
    assert "already audited" in without.stderr
    assert result.stdout == without.stdout


def test_a_gate_that_does_not_fire_changes_nothing(cli, llama):
    assert cli(llama, "--out", "plain").exit_code == 0
    result = cli(llama, "--out", "out", "--fail-on", "Q.v1>1", "--fail-on", "findings:error")
    assert (result.exit_code, result.stderr) == (0, "")


def test_a_report_that_is_there_is_judged(cli, llama):
    assert cli(llama, "--out", "out").exit_code == 0
    again = cli(llama, "--out", "out", "--fail-on", "Q.v1>=0")
    assert again.exit_code == 1
    assert "already audited" in again.stderr
    assert "error: --fail-on 'Q.v1>=0': Q.v1 is " in again.stderr


def test_render_judges_a_report_without_the_model(cli, llama):
    assert cli(llama, "--out", "out", "--only", "q,k").exit_code == 0
    for file in llama.iterdir():
        file.unlink()
    before = Path("out/audit.json").read_bytes()
    fired = cli("render", "out", "--fail-on", "K.u1>=0", "--json")
    assert fired.exit_code == 1
    assert fired.stdout.encode() == before
    assert "error: --fail-on 'K.u1>=0': K.u1 is " in fired.stderr
    assert cli("render", "out", "--fail-on", "K.u1>1").exit_code == 0
    for gate, why in (("Q.wa.v<1", "Q.wa.v needs --full"), ("V.v1<1", "--only leaves V out")):
        refused = cli("render", "out", "--out", "new", "--fail-on", gate)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert why in refused.stderr
        assert not Path("new").exists()


SYNTAX = [
    (["Q.v1<<0.5"], "--fail-on 'Q.v1<<0.5': expected a number at character 6, before '<0.5'"),
    (["Q.v1<1", "--fail-on", "\x1b[2J"], "--fail-on '\\x1b[2J': expected a projection"),
    (["x" * 600], f"--fail-on '{'x' * 60}…': longer than 500 characters"),
]
SETTINGS = [
    (["Q.wa.v<1"], "--fail-on 'Q.wa.v<1': Q.wa.v needs --full: audit with it, or leave the gate out"),
    (["K.v1<1", "--only", "q"], "--fail-on 'K.v1<1': --only leaves K out: name it there, or leave"),
]


@pytest.mark.parametrize(
    ("command", "options", "line"),
    [("audit", *case) for case in (*SYNTAX, *SETTINGS)] + [("render", *case) for case in SYNTAX],
)
def test_a_gate_that_cannot_be_is_refused_before_any_work(cli, command, options, line):
    result = cli(command, "./nowhere", "--fail-on", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {line}")
    assert len(result.stderr.splitlines()) == 1


def test_strict_comes_first(cli, tmp_path):
    import torch

    gap = {"model.layers.1.self_attn.extra.weight": torch.ones(3, 4)}
    folder = write_llama(tmp_path / "m", planted=gap)
    both = cli(folder, "--strict", "--fail-on", "coverage.unknown")
    assert both.exit_code == 3
    assert "matches no rule" in both.stderr
    assert "--fail-on" not in both.stderr
    alone = cli(folder, "--fail-on", "coverage.unknown and findings:unknown-tensor")
    assert alone.exit_code == 1
    assert "coverage.unknown is 1, the first: model.layers.1.self_attn.extra.weight" in alone.stderr


def test_a_model_without_the_projection_does_not_pass(cli, llama):
    result = cli(llama, "--fail-on", "SharedGate.v1<0")
    assert result.exit_code == 1
    assert "SharedGate.v1 is not measured: the model has Q, K, V, O, OV, Gate, Up, Down" in result.stderr


def test_a_process_without_the_report_judges_nothing(cli, llama, monkeypatch):
    monkeypatch.setattr("audit.cli.auditing.perform", lambda *_: None)
    assert cli(llama, "--fail-on", "findings:info>=0").exit_code == 0
