"""The report's folder appears whole or not at all, holds what it says, and never anybody else's files."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from checkpoints import FFN, HIDDEN, KV, llama_config, write_llama
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from sample_mixture import sample_mixture

import audit.output
from audit.audit import run
from audit.checkpoint import open_checkpoint
from audit.errors import OutputError
from audit.options import AuditOptions
from audit.output import check_folder, write_again
from audit.plan import make_plan
from reports.document import DocumentError, from_json, to_json

FILES = ["audit.json", "figures", "report.md", "vectors.safetensors"]
FIGURES = ["continuity.png", "heatmap.png", "lag.png"]
"""What three layers have to show: no path, and with --full spectra besides."""

CONTROLS = "\x1b[31m\x07\x9b\x7f\u202e\r\n"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def here() -> list[str]:
    return sorted(os.listdir())


# Where it goes


@pytest.mark.parametrize("out", ["out", "deep/down/out", "with space/ü"])
def test_the_folder_named_is_the_report(cli, llama, out):
    assert cli(llama, "--out", out).exit_code == 0
    assert sorted(os.listdir(out)) == FILES
    assert sorted(os.listdir(f"{out}/figures")) == FIGURES
    assert os.stat(out).st_mode & 0o777 == 0o755
    assert here() == [Path(out).parts[0]], "nothing temporary stays behind"


@pytest.mark.parametrize(
    ("model", "folder"),
    [
        ("m", "m"),
        ("./m/", "m"),
        ("m/model.safetensors", "m"),
        ("org/name", "name"),
        ("one.safetensors", "one"),
    ],
)
def test_the_default_folder_is_named_after_the_model(cli, model, folder):
    write_llama(Path("m"))
    write_llama(Path("org/name"))
    (write_llama(Path("one")) / "model.safetensors").rename("one.safetensors")
    Path("one/config.json").rename("config.json")
    result = cli(model)
    assert result.exit_code == 0, result.stderr
    assert os.listdir("gcont-reports") == [folder]


def test_a_link_to_a_folder_can_take_the_report(cli, llama):
    Path("disk").mkdir()
    Path("out").symlink_to("disk")
    assert cli(llama, "--out", "out").exit_code == 0
    assert sorted(os.listdir("out")) == FILES


def test_a_link_stays_a_link_and_its_folder_takes_the_new_report(cli, llama):
    assert cli(llama, "--out", "disk").exit_code == 0
    Path("out").symlink_to("disk")
    assert cli(llama, "--only", "q", "--out", "out").exit_code == 0
    assert Path("out").is_symlink()
    assert json.loads(Path("disk/audit.json").read_text())["settings"]["only"] == ["Q"]
    assert here() == ["disk", "out"]


def test_the_working_folder_can_be_named(cli, llama):
    """Either it works, or it is refused before the work: never an error after it."""
    result = cli(llama, "--out", ".")
    if result.exit_code == 0:
        assert here() == FILES
    else:
        assert "Device or resource busy" not in result.stderr
    assert result.exit_code in (0, 2)


# Replaced, refused


def test_an_older_report_is_replaced(cli, llama):
    assert cli(llama, "--out", "out").exit_code == 0
    old = contents(Path("out"))
    assert cli(llama, "--out", "out", "--only", "q").exit_code == 0
    assert sorted(os.listdir("out")) == FILES
    assert all(contents(Path("out"))[name] != old[name] for name in FILES if name in old)
    assert here() == ["out"]


def test_an_empty_folder_is_used(cli, llama):
    Path("out").mkdir()
    assert cli(llama, "--out", "out").exit_code == 0
    assert sorted(os.listdir("out")) == FILES


@pytest.mark.parametrize(
    ("name", "text"),
    [("thesis.tex", "years of work"), ("audit.json", "{}"), ("audit.json", '{"schema": "other/1"}'),
     ("audit.json", "[]"), ("audit.json", "\x00"), ("report.md", "# mine")],
)  # fmt: skip
def test_a_folder_of_something_else_is_not_touched(cli, llama, name, text):
    Path("out").mkdir()
    Path("out", name).write_text(text)
    result = cli(llama, "--out", "out")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "holds something other than a report" in result.stderr
    assert "--out" in result.stderr
    assert contents(Path("out")) == {name: text.encode()}
    assert here() == ["out"]


def test_a_users_own_notes_in_a_report_are_never_deleted(cli, llama):
    assert cli(llama, "--out", "out").exit_code == 0
    Path("out/notes.txt").write_text("mine")
    assert cli(llama, "--out", "out").exit_code == 0
    assert cli(llama, "--out", "out", "--fresh").exit_code == 2
    assert Path("out/notes.txt").read_text() == "mine"


def test_a_users_own_figure_in_a_report_is_never_deleted(cli, llama):
    assert cli(llama, "--out", "out").exit_code == 0
    Path("out/figures/mine.png").write_text("mine")
    assert cli(llama, "--out", "out", "--fresh").exit_code == 2
    assert Path("out/figures/mine.png").read_text() == "mine"


def test_figures_of_the_reports_own_stacks_are_replaced_and_no_others(tmp_path):
    """`continuity-encoder.png` is ours as long as audit.json tells of an encoder."""
    out = tmp_path / "out"
    write_again(sample_mixture(), Path("nowhere"), out)
    figures = sorted(os.listdir(out / "figures"))
    assert [name for name in figures if "-" in name] == [
        "continuity-cross-attention.png",
        "continuity-encoder.png",
    ]
    assert "experts.png" in figures
    check_folder(out)
    (out / "figures/continuity-mine.png").write_text("mine")
    with pytest.raises(OutputError, match="something other than a report"):
        check_folder(out)


@pytest.mark.parametrize("stacks", ['["encoder"]', '{"encoder": 3}', '[["encoder"]]', "3", "null", "true"])
def test_stacks_that_are_none_make_nothing_ours(stacks, tmp_path):
    out = tmp_path / "out"
    (out / "figures").mkdir(parents=True)
    (out / "figures/mine.png").write_text("mine")
    (out / "audit.json").write_text(f'{{"schema": "gcont-audit/1", "stacks": {stacks}}}')
    with pytest.raises(OutputError, match="something other than a report"):
        check_folder(out)


def test_the_model_itself_is_not_overwritten(cli, llama):
    before = contents(llama)
    assert cli(llama, "--out", llama).exit_code == 2
    assert contents(llama) == before


def test_a_file_in_the_place_of_the_folder(cli, llama):
    Path("out").write_text("mine")
    result = cli(llama, "--out", "out")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "out is a file" in result.stderr
    assert Path("out").read_text() == "mine"


@pytest.mark.parametrize("out", ["file/out", "file/deep/out", "/dev/null/out", "x" * 300])
def test_a_place_that_cannot_be_written_is_refused_before_the_work(cli, llama, monkeypatch, out):
    Path("file").write_text("mine")
    monkeypatch.setattr("audit.audit.run", lambda *_: pytest.fail("worked in vain"))
    result = cli(llama, "--out", out)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "cannot be written" in result.stderr
    assert "--out" in result.stderr
    assert here() == ["file"]


# Written whole or not at all


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
        (
            SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
            "No space",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_leaves_the_old_report_and_no_litter(cli, llama, monkeypatch, existing, error, said):
    if existing:
        assert cli(llama, "--out", "out").exit_code == 0
        before = contents(Path("out"))

    def fail(tensors, path, **_):
        Path(path).write_bytes(b"half")
        raise error

    monkeypatch.setattr(audit.output, "save_file", fail)
    result = cli(llama, "--out", "out", "--fresh")
    assert (result.exit_code, result.stdout) == (2, ""), result.stderr
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert here() == (["out", "out.partial"] if existing else ["out.partial"]), "measurements are kept"
    if existing:
        assert contents(Path("out")) == before


@pytest.mark.parametrize("step", [1, 2])
def test_a_failing_rename_brings_the_old_report_back(cli, llama, monkeypatch, step):
    assert cli(llama, "--out", "out").exit_code == 0
    before = contents(Path("out"))
    rename, calls = Path.rename, []

    def fail(self, target):
        calls.append(self)
        if len(calls) == step:
            raise OSError(errno.EBUSY, "Device or resource busy")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    result = cli(llama, "--out", "out", "--fresh")
    assert result.exit_code == 2
    assert contents(Path("out")) == before
    assert here() == ["out", "out.partial"]


@pytest.mark.parametrize("interrupted", ["save_file", "to_json", "to_markdown", "draw", "_replace"])
def test_ctrl_c_while_writing_leaves_the_old_report(cli, llama, monkeypatch, interrupted):
    assert cli(llama, "--out", "out").exit_code == 0
    before = contents(Path("out"))

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(audit.output, interrupted, interrupt)
    assert cli(llama, "--out", "out", "--fresh").exit_code == 130
    assert contents(Path("out")) == before
    assert here() == ["out", "out.partial"]


# What is in it


@pytest.mark.parametrize("flags", [[], ["--full"]])
def test_vectors_are_unit_vectors_of_the_right_shapes(cli, llama, flags):
    assert cli(llama, "--out", "out", *flags).exit_code == 0
    vectors = load_file("out/vectors.safetensors")
    report = json.loads(Path("out/audit.json").read_text())
    sizes = {"Q": (HIDDEN, HIDDEN), "K": (KV, HIDDEN), "V": (KV, HIDDEN), "O": (HIDDEN, HIDDEN)}
    sizes |= {"OV": (HIDDEN, HIDDEN), "Gate": (FFN, HIDDEN), "Up": (FFN, HIDDEN), "Down": (HIDDEN, FFN)}
    parts = {"v", "u", "sigma"} | ({"spectrum"} if flags else set())
    assert set(vectors) == {
        f"{name}.{layer}.{part}" for name in sizes for layer in range(3) for part in parts
    }
    for name, (rows, columns) in sizes.items():
        for layer in range(3):
            v, u, sigma = (vectors[f"{name}.{layer}.{part}"] for part in ("v", "u", "sigma"))
            assert (v.shape, u.shape, sigma.shape) == ((2, columns), (2, rows), (2,))
            for rows_of in (v, u):
                gram = rows_of.double() @ rows_of.double().T
                assert torch.allclose(gram, torch.eye(2, dtype=torch.float64), atol=1e-5)
            assert sigma.tolist() == pytest.approx(report["projections"][name]["sigma"][layer])
    assert len(vectors.get("K.0.spectrum", [0] * KV)) == KV


def test_the_vectors_alone_give_the_continuity(cli, llama):
    assert cli(llama, "--out", "out").exit_code == 0
    vectors = load_file("out/vectors.safetensors")
    report = from_json(Path("out/audit.json").read_text(encoding="utf-8"))
    for pair in report.projections["Down"].pairs:
        first, second = (vectors[f"Down.{layer}.u"][0].double() for layer in pair.layers)
        assert abs(float(first @ second)) == pytest.approx(pair.u1, abs=1e-6)


def test_the_vectors_say_whose_they_are(cli, llama):
    assert cli(llama, "--out", "out").exit_code == 0
    with safe_open("out/vectors.safetensors", framework="pt") as opened:
        told = opened.metadata()
    assert len(told.pop("layout")) == 64
    assert told == {"schema": "gcont-audit/1", "model": str(llama), "revision": ""}


@pytest.mark.parametrize(
    "options", [AuditOptions(), AuditOptions(full=True, fold_norm=True, layers=slice(0, 2))]
)
def test_a_report_survives_its_json(tmp_path, options):
    planted = {
        "model.layers.1.self_attn.q_proj.weight": torch.zeros(16, 16),
        "model.layers.0.extra.weight": torch.ones(3, 3),
    }
    folder = write_llama(tmp_path / "m", planted=planted)
    report = run(make_plan(open_checkpoint(str(folder)), options), "gcont-audit m").report
    assert {finding.code for finding in report.findings} == {"zero", "unknown-tensor"}
    again = from_json(to_json(report))
    assert again == report
    assert to_json(again) == to_json(report)


def test_a_json_of_a_later_version_may_hold_more_keys(cli, llama):
    assert cli(llama, "--out", "out").exit_code == 0
    value = json.loads(Path("out/audit.json").read_text())
    value["later"] = value["model"]["later"] = {"x": 1}
    assert from_json(json.dumps(value)).model.family == "llama"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "gcont-audit/1"}', "NaN", "\x00"])
def test_a_json_that_is_no_report(text):
    with pytest.raises(DocumentError):
        from_json(text)


def test_a_json_of_another_schema(cli, llama):
    assert cli(llama, "--out", "out").exit_code == 0
    text = Path("out/audit.json").read_text().replace("gcont-audit/1", "gcont-audit/2")
    with pytest.raises(DocumentError, match="gcont-audit/2"):
        from_json(text)


def test_provenance_identifies_the_files(cli, llama):
    import hashlib

    report = json.loads(cli(llama, "--json").stdout)["provenance"]
    content = (llama / "model.safetensors").read_bytes()
    (file,) = report["files"]
    assert (file["name"], file["size"]) == ("model.safetensors", len(content))
    assert file["sha256"] == hashlib.sha256(content).hexdigest()


# Text from outside


@pytest.mark.parametrize(
    "line",
    ["MODEL", "MODEL -v", "MODEL --format markdown", "MODEL --json", "plan MODEL", "plan MODEL --json"],
)
def test_control_characters_in_tensor_names_stay_there(cli, tmp_path, line):
    planted = {f"model.layers.0.{CONTROLS}weight": torch.ones(2, 2)}
    folder = write_llama(tmp_path / "m", planted=planted)
    result = cli(*(folder if word == "MODEL" else word for word in line.split()))
    assert result.exit_code == 0, result.stderr
    assert not {character for character in result.output if not character.isprintable()} - {"\n"}


@pytest.mark.parametrize("line", ["MODEL", "plan MODEL", "MODEL --json", "MODEL --only x"])
def test_control_characters_in_paths_stay_there(cli, line):
    folder = write_llama(Path("evil\x1b[31m\x9b\x07"))
    result = cli(*(folder if word == "MODEL" else word for word in line.split()))
    assert not {character for character in result.output if not character.isprintable()} - {"\n"}


def test_an_error_about_a_hostile_tensor_is_printable(cli, tmp_path):
    planted = {f"model.layers.0.{CONTROLS}weight": torch.ones(2, 2)}
    folder = write_llama(tmp_path / "m", planted=planted, config=llama_config(model_type=CONTROLS))
    result = cli(folder)
    assert result.exit_code == 3
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.strip().isprintable()


def test_markup_in_names_is_text(cli, tmp_path):
    planted = {"model.layers.0.[bold]x[/bold].weight": torch.ones(2, 2)}
    folder = write_llama(tmp_path / "[red]m[", planted=planted)
    for line in ([folder], ["plan", folder]):
        result = cli(*line, COLUMNS="300")
        assert result.exit_code == 0, result.stderr
        assert "[bold]x[/bold]" in result.stdout
        assert "[red]m[" in result.stdout
    assert r"\[bold\]x\[/bold\]" in cli(folder, "--format", "markdown").stdout
