"""Every way to fail has its exit code, one line that names the thing, and leaves nothing half done."""

import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from checkpoints import llama_config, write_checkpoint, write_llama
from safetensors.torch import load_file

import audit.errors
from audit.errors import AuditError
from audit.pipeline import Pipeline

TREE = re.compile(r"^    [│├└─ ]*(?P<name>\w+Error) *(?P<code>\d+)?", re.MULTILINE)


def every_error() -> list[type[AuditError]]:
    return [
        kind
        for _, kind in inspect.getmembers(audit.errors, inspect.isclass)
        if issubclass(kind, AuditError) and kind is not AuditError
    ]


def failed(result, code: int) -> str:
    """The one line of an error, its exit code checked."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert result.stderr.endswith("\n")
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert "defect" not in line
    return line


# The tree


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_every_error_has_a_code_a_docstring_and_its_place_in_the_tree(kind):
    assert kind.exit_code in {1, 2, 3, 4, 5, 130}
    assert kind.__doc__
    code = None
    drawn = {}
    for entry in TREE.finditer(audit.errors.__doc__):
        code = entry["code"] or code
        drawn[entry["name"]] = code
    assert drawn[kind.__name__] == str(kind.exit_code)


def test_the_tree_draws_nothing_that_is_not_there():
    drawn = {entry["name"] for entry in TREE.finditer(audit.errors.__doc__)}
    assert drawn == {kind.__name__ for kind in every_error()} | {"AuditError"}


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_every_error_ends_the_command_with_its_code(cli, llama, monkeypatch, kind):
    def fail(*_):
        raise kind("the thing", "the next\nstep")

    monkeypatch.setattr(Pipeline, "measure", fail)
    result = cli(llama)
    assert (result.exit_code, result.stdout) == (kind.exit_code, "")
    assert result.stderr == "error: the thing: the next step\n"


# Unknown families


def test_a_real_model_of_an_unknown_family(cli, real):
    line = failed(cli(real("kwt1"), "--out", "out"), 3)
    assert "kwt" in line
    assert "--family-file" in line
    assert not Path("out").exists()


def test_an_invented_family_names_its_neighbours(cli, tmp_path):
    folder = write_llama(tmp_path / "m", config=llama_config(model_type="lama9"))
    line = failed(cli(folder), 3)
    assert "model_type 'lama9' is unknown" in line
    assert "nearest: llama (all its tensors are here)" in line
    assert "--family-file" in line


@pytest.mark.parametrize("out", [[], ["--out", "deep/down/out"]])
@pytest.mark.parametrize("line", [["UNKNOWN"], ["./nowhere"], ["UNKNOWN", "--device", "gpu"]])
def test_a_failure_leaves_nothing_behind(cli, tmp_path, line, out):
    unknown = write_llama(tmp_path / "m", config=llama_config(model_type="invented"))
    assert cli(*(unknown if word == "UNKNOWN" else word for word in line), *out).exit_code in (2, 3)
    assert list(Path.cwd().iterdir()) == []


# Values that are no numbers


@pytest.mark.parametrize("full", [[], ["--full"]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("code", "value"), [("nan", float("nan")), ("inf", float("inf")), ("inf", -float("inf")), ("zero", 0.0)]
)
def test_a_layer_without_numbers_is_a_finding(audited, tmp_path, code, value, dtype, full):
    healthy = write_llama(tmp_path / "healthy", layers=4, dtype=dtype)
    weight = torch.zeros(16, 24) if code == "zero" else torch.randn(16, 24)
    weight[3, 5] = value
    planted = {"model.layers.2.mlp.down_proj.weight": weight.to(dtype)}
    sick = write_llama(tmp_path / "sick", layers=4, dtype=dtype, planted=planted)

    before, report = audited(healthy, *full), audited(sick, *full)
    (finding,) = report["findings"]
    assert (finding["code"], finding["severity"]) == (code, "error")
    assert (finding["projection"], finding["layer"]) == ("Down", 2)

    down = report["projections"].pop("Down")
    expected = before["projections"].pop("Down")
    assert report["projections"] == before["projections"], "no other projection is touched"
    assert down["stable_rank"][2] is None
    assert down["sigma"][2] is None
    assert down["stable_rank"][:2] == expected["stable_rank"][:2]
    assert down["pairs"][0] == expected["pairs"][0]
    assert [pair["u1"] is None for pair in down["pairs"]] == [False, True, True]
    assert down["continuity"]["u1"] == down["pairs"][0]["u1"], "the mean is over what was measured"
    assert "layer 2" in down["unmeasured"]


@pytest.mark.parametrize("tensor", ["self_attn.v_proj", "self_attn.o_proj"])
def test_a_bad_factor_spoils_the_composite_too(audited, tmp_path, tensor):
    weight = torch.ones(8 if "v_" in tensor else 16, 16)
    weight[0, 0] = float("nan")
    folder = write_llama(tmp_path / "m", planted={f"model.layers.0.{tensor}.weight": weight})
    findings = audited(folder)["findings"]
    assert {(one["code"], one["projection"], one["layer"]) for one in findings} == {
        ("nan", "OV", 0),
        ("nan", "V" if "v_" in tensor else "O", 0),
    }


def test_a_zero_gain_that_folds_away_a_reader_is_a_finding(audited, tmp_path):
    planted = {"model.layers.1.input_layernorm.weight": torch.zeros(16)}
    folder = write_llama(tmp_path / "m", planted=planted)
    assert audited(folder)["findings"] == []
    found = {
        (one["code"], one["projection"], one["layer"]) for one in audited(folder, "--fold-norm")["findings"]
    }
    assert found >= {("zero", name, 1) for name in "QKV"}


def test_all_layers_bad_is_still_a_report(cli, tmp_path):
    planted = {
        f"model.layers.{layer}.self_attn.q_proj.weight": torch.full((16, 16), float("nan"))
        for layer in range(3)
    }
    folder = write_llama(tmp_path / "m", planted=planted)
    for format in ("table", "markdown", "json"):
        result = cli(folder, "--only", "q", "--format", format)
        assert result.exit_code == 0, result.stderr
        told = "Q of layer 2 holds NaN" if format == "json" else "likewise in layers 1-2"
        assert told in re.sub(r"\s+", " ", result.stdout)
    report = json.loads(result.stdout, parse_constant=lambda word: pytest.fail(f"{word} in JSON"))
    assert [one["code"] for one in report["findings"]] == ["nan"] * 3
    assert report["projections"]["Q"]["continuity"] == dict.fromkeys(("v1", "u1", "v2", "u2"))


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_magnitudes_whose_squares_overflow_are_measured_all_the_same(audited, tmp_path, scale):
    folder = write_llama(tmp_path / "m")
    tensors = {name: value * scale for name, value in load_file(folder / "model.safetensors").items()}
    big = write_checkpoint(tmp_path / "big", tensors, llama_config())
    plain, scaled = audited(folder), audited(big)
    assert scaled["findings"] == []
    for name, found in plain["projections"].items():
        assert scaled["projections"][name]["continuity"]["v1"] == pytest.approx(
            found["continuity"]["v1"], abs=1e-4
        )


# Quantised weights


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [
        (torch.uint8, "U8"),
        (torch.int8, "I8"),
        (torch.float8_e4m3fn, "F8_E4M3"),
        (torch.float8_e5m2, "F8_E5M2"),
    ],
    ids=str,
)
def test_a_quantised_projection_is_named_with_its_dtype_and_method(cli, tmp_path, dtype, stored):
    name = "model.layers.1.mlp.up_proj.weight"
    planted = {name: torch.ones(24, 16).to(dtype)}
    config = llama_config(quantization_config={"quant_method": "fp8"})
    folder = write_llama(tmp_path / "m", planted=planted, config=config)
    line = failed(cli(folder), 3)
    for expected in (name, stored, "fp8", "unquantised"):
        assert expected in line
    assert failed(cli("plan", folder), 3) == line


def test_packed_weights_under_other_names_are_told_for_quantised(cli, tmp_path):
    tensors = {"model.layers.0.self_attn.q_proj.qweight": torch.zeros(4, 4, dtype=torch.int32)}
    config = llama_config(1, quantization_config={"quant_method": "gptq", "bits": 4})
    line = failed(cli(write_checkpoint(tmp_path / "m", tensors, config)), 3)
    assert "gptq" in line


def test_packed_weights_of_a_fused_tensor_are_told_for_quantised(cli, tmp_path):
    """Four bits a weight leave a shape that fits no split, which is not the config's fault."""
    tensors = {"model.layers.0.self_attn.qkv_proj.weight": torch.zeros(384, 1, dtype=torch.uint8)}
    config = llama_config(1, model_type="phi3", quantization_config={"quant_method": "bitsandbytes"})
    line = failed(cli(write_checkpoint(tmp_path / "m", tensors, config)), 3)
    assert "bitsandbytes" in line


# Ctrl-C; what is kept then is told in test_resume.py


@pytest.mark.parametrize("existing", [False, True])
def test_ctrl_c_is_one_line_and_leaves_the_old_report(cli, llama, monkeypatch, existing):
    if existing:
        assert cli(llama, "--out", "out").exit_code == 0
    before = {path: path.read_bytes() for path in Path("out").rglob("*.*")}

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Pipeline, "measure", interrupt)
    line = failed(cli(llama, "--out", "out", "--fresh"), 130)
    assert line == "error: stopped by Ctrl-C: nothing was measured yet"
    assert {path: path.read_bytes() for path in Path("out").rglob("*.*")} == before
    assert [path.name for path in Path.cwd().iterdir()] == (["out"] if existing else [])


def test_a_real_sigint_stops_a_real_process(tmp_path):
    folder = write_llama(tmp_path / "m", layers=400)
    command = [sys.executable, "-m", "audit", str(folder), "--full", "-v", "--out", "out"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        started = process.stderr.readline()
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert "400 layers" in started
    assert (process.returncode, stdout) == (130, "")
    kept = r"\d+ of 3200 measurements are kept in out\.partial; the same command goes on from there"
    assert re.fullmatch(rf"error: stopped by Ctrl-C: (nothing was measured yet|{kept})\n", stderr)
    assert os.listdir() == ([] if "nothing" in stderr else ["out.partial"])


# Defects


def test_a_crash_is_one_line_and_its_own_exit_code(cli, llama, monkeypatch):
    def crash(*_):
        raise ZeroDivisionError("two\nlines \x1b[31m")

    monkeypatch.setattr(Pipeline, "measure", crash)
    result = cli(llama, "--out", "out")
    assert (result.exit_code, result.stdout) == (70, "")
    assert len(result.stderr.splitlines()) == 1
    assert "ZeroDivisionError: two lines" in result.stderr
    assert "\x1b" not in result.stderr
    assert "-vv" in result.stderr
    assert not Path("out").exists()

    loud = cli(llama, "-vv")
    assert loud.exit_code == 70
    assert "Traceback" in loud.stderr
    assert "in crash" in loud.stderr
    assert "Traceback" not in cli(llama, "-v").stderr


def test_an_error_shows_its_traceback_with_vv(cli):
    result = cli("./nowhere", "-vv")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: ")
