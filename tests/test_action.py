"""The GitHub Action and the pre-commit hook: what they declare, and what the action's script runs."""

import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
(HOOK,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
DOCS = (ROOT / "docs" / "gates.md").read_text(encoding="utf-8")
STEPS: list[dict[str, Any]] = ACTION["runs"]["steps"]
SCRIPTS = {step["name"]: step["run"] for step in STEPS if "run" in step}


def test_every_input_is_used_and_every_one_used_is_declared() -> None:
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"\binputs\.([\w-]+)", text)) == set(ACTION["inputs"])
    assert {name for name, one in ACTION["inputs"].items() if one.get("required")} == {"model"}
    for name, one in ACTION["inputs"].items():
        assert one["description"].endswith("."), name
        assert one.get("required") or isinstance(one["default"], str), name


def test_it_is_a_composite_action_in_bash() -> None:
    assert ACTION["runs"]["using"] == "composite"
    for step in STEPS:
        assert ("run" in step) != ("uses" in step)
        assert step.get("shell", "bash") == "bash"
        assert ("shell" in step) == ("run" in step)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_bash_and_no_expression_is_pasted_into_it(name: str) -> None:
    assert "${{" not in SCRIPTS[name]
    done = subprocess.run(["bash", "-n"], input=SCRIPTS[name], text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_script_sees_the_inputs_as_variables_of_its_own() -> None:
    (step,) = (step for step in STEPS if "env" in step)
    for variable, value in step["env"].items():
        assert value == f"${{{{ inputs.{variable.lower().replace('_', '-')} }}}}"
        assert f"${variable}" in step["run"]


def ran(tmp_path: Path, code: int = 0, prints: str = "", **inputs: str) -> tuple[int, list[str], str]:
    """The action's last script with a stub in the program's place: exit code, its arguments, stdout."""
    stub = tmp_path / "bin" / "gcont-audit"
    stub.parent.mkdir()
    stub.write_text(f'#!/bin/bash\nprintf "%s\\0" "$@" > "$CALLED"\nprintf "%s" "{prints}"\nexit {code}\n')
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    called = tmp_path / "called"
    environment = {"PATH": f"{stub.parent}:{os.environ['PATH']}", "CALLED": str(called)}
    environment |= dict.fromkeys(("MODEL", "FAIL_ON", "ARGS", "SARIF"), "") | inputs
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", SCRIPTS["Audit"]],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, called.read_text().split("\0")[:-1], done.stdout


def test_inputs_become_arguments(tmp_path: Path) -> None:
    Path("no-glob").touch()
    gates = "findings:error\n\n  \n  Q.v1<0.5 and *.u1<1\n"
    code, called, printed = ran(
        tmp_path, prints="a table", MODEL="./my model", FAIL_ON=gates, ARGS="--only q,k\n --strict *"
    )
    assert (code, printed) == (0, "a table")
    assert called == [
        *("audit", "--only", "q,k", "--strict", "*"),
        *("--fail-on=findings:error", "--fail-on=  Q.v1<0.5 and *.u1<1"),
        *("--", "./my model"),
    ]


def test_nothing_but_a_model_is_needed(tmp_path: Path) -> None:
    assert ran(tmp_path, MODEL="org/name")[:2] == (0, ["audit", "--", "org/name"])


HOSTILE = "$(touch hacked)`touch hacked`;touch hacked\"'|&touch hacked"


def test_what_is_given_is_never_run(tmp_path: Path) -> None:
    code, called, _ = ran(
        tmp_path, MODEL=f"--out{HOSTILE}", FAIL_ON=HOSTILE, ARGS=HOSTILE, SARIF=f"-{HOSTILE}"
    )
    assert code == 0
    assert called == [
        "audit",
        *HOSTILE.split(),
        f"--fail-on={HOSTILE}",
        "--format=sarif",
        "--",
        f"--out{HOSTILE}",
    ]
    assert not Path("hacked").exists()


@pytest.mark.parametrize("code", [0, 1, 3])
def test_sarif_is_written_and_the_exit_code_kept(tmp_path: Path, code: int) -> None:
    ended, called, printed = ran(tmp_path, code, prints="{}", MODEL="m", SARIF="found.sarif")
    assert (ended, printed) == (code, "")
    assert called == ["audit", "--format=sarif", "--", "m"]
    assert Path("found.sarif").read_text() == "{}"


def test_without_a_report_there_is_no_sarif_to_upload(tmp_path: Path) -> None:
    assert ran(tmp_path, 4, MODEL="m", SARIF="found.sarif")[0] == 4
    assert not Path("found.sarif").exists()


def test_the_exit_code_is_kept_without_sarif(tmp_path: Path) -> None:
    assert ran(tmp_path, 1, MODEL="m")[0] == 1


def test_the_program_takes_such_a_line(cli, llama):
    _, called, _ = ran(llama.parent, MODEL=str(llama), FAIL_ON="Q.v1>1", ARGS="--only q", SARIF="found.sarif")
    result = cli(*called)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("{")


def test_the_hook_runs_check_on_safetensors_files() -> None:
    program, command = HOOK["entry"].split()
    assert (program, command) == ("gcont-audit", "check")
    assert HOOK["language"] == "python"
    assert HOOK["require_serial"] is True
    assert HOOK["types"] == ["file"]
    for name, taken in (
        ("a/model.safetensors", True),
        ("model.safetensors.index.json", False),
        ("safetensors", False),
    ):
        assert bool(re.search(HOOK["files"], name)) == taken


def test_the_workflow_in_the_documentation_is_one() -> None:
    blocks = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)]
    workflow, configuration = blocks
    steps = workflow["jobs"]["audit"]["steps"]
    (ours,) = (step["with"] for step in steps if "gcont-audit@" in step["uses"])
    assert set(ours) <= set(ACTION["inputs"])
    (upload,) = (step for step in steps if "upload-sarif" in step["uses"])
    assert upload["with"]["sarif_file"] == ours["sarif"]
    assert configuration["repos"][0]["hooks"] == [{"id": HOOK["id"]}]
    table = DOCS.partition("| input | is |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([\w-]+)` \|", table, re.M)) == set(ACTION["inputs"])
