"""Real indexes, configs and family files with rubbish in them are read or refused, and nothing else happens.

tests/fuzz/run.py tries millions more.
"""

import json
import subprocess
import sys
import time
import tomllib
from contextlib import suppress
from importlib import import_module, resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from checkpoints import llama_config, llama_tensors
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rubbish import nearly, nearly_text
from typed_by_hand import TYPED

from audit.checkpoint.files import INDEX, compare_index, parse_config, weight_files, weight_map
from audit.errors import AuditError, ShardIndexError
from audit.options import AuditOptions
from audit.understanding import understand
from registry import Contradiction, FamilyFileError, Layout, Miss, draft, match
from registry.family import parse_family

SHARDS = {name: f"model-0000{number}-of-00003.safetensors" for number, name in enumerate("abc", start=1)}
LLAMA = llama_config(), {name: tuple(tensor.shape) for name, tensor in llama_tensors().items()}
MODELS = {
    "llama": LLAMA,
    **{
        name: (dict(typed.config), {tensor: tuple(one.shape) for tensor, one in typed.tensors().items()})
        for name, typed in TYPED.items()
    },
}
FAMILIES = [
    one.read_text(encoding="utf-8")
    for one in sorted((resources.files("registry") / "families").iterdir(), key=str)
    if one.name.endswith(".toml")
]
WORDS = (
    '"', "'", "[", "]", "{", "}", "=", ".", "#", "*", "{layer}", "{expert}", "true", "nan", "-1", "9" * 5000,
    "0x" + "f" * 5000, "[" * 2000, "00:00:61", "1979-13-27", "\ud800", "\x00", '"""',
)  # fmt: skip


@given(nearly([{"metadata": {"total_size": 9}, "weight_map": SHARDS}]) | st.binary(max_size=40))
@example({"weight_map": {"a": "\ud800.safetensors"}})
@settings(max_examples=200)
def test_an_index_is_read_or_refused(said):
    text = said if isinstance(said, bytes) else json.dumps(said).encode()
    with suppress(ShardIndexError):
        chosen = weight_files({INDEX, *SHARDS.values()}, lambda: text, "m")
        assert set(chosen) <= set(SHARDS.values())
        assert not set(compare_index(weight_map(text, "m"), SHARDS).missing) & SHARDS.keys()


@given(st.data())
@settings(max_examples=200)
def test_a_config_is_understood_or_refused(data):
    config, shapes = MODELS[data.draw(st.sampled_from(sorted(MODELS)))]
    text = json.dumps(data.draw(nearly([config]))).encode()
    with suppress(AuditError):
        said = parse_config(text, "m")
        checkpoint: Any = SimpleNamespace(id="m", config=said, shapes=shapes)
        assert tomllib.loads(draft(shapes, said))["name"]
        layout = understand(checkpoint, AuditOptions())
        assert set(layout.claims) == set(shapes), "every tensor is accounted for"


@given(nearly_text(FAMILIES, WORDS))
@example("x = " + "9" * 5000)
@example('name = "x"\nsummary = "x"\nsource = "x"\nmodel_types = 0x' + "f" * 5000)
@example("x = " + "[" * 2000)
@settings(max_examples=150)
def test_a_family_file_is_a_family_or_refused(text):
    with suppress(FamilyFileError):
        family = parse_family(text, "own.toml")
        config, shapes = LLAMA
        assert isinstance(match(shapes, config, [family], family.name), Layout | Miss | Contradiction)


PROGRAM = Path(__file__).parent / "fuzz" / "run.py"


@pytest.mark.parametrize("target", ["header", "index", "config", "family", "gate"])
def test_the_program_tries_each_target_and_finds_nothing(target, tmp_path):
    done = subprocess.run(
        [sys.executable, PROGRAM, target, "--seconds", "0.5", "--found", tmp_path / "found"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    figures = dict(line.split("  ", 1) for line in done.stdout.splitlines() if "  " in line)
    assert int(figures["inputs"].split(",")[0]) > 20
    assert (figures["foreign exceptions"].strip(), figures["hangs"].strip()) == ("0", "0")
    assert not (tmp_path / "found").exists()


def test_the_program_keeps_what_breaks_a_reader_or_never_ends(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(PROGRAM.parent)
    run, targets = import_module("run"), import_module("targets")
    monkeypatch.setattr(run, "HANG", 0.1)

    def read(data: bytes) -> None:
        if data == b"own":
            raise KeyError(data)
        if data == b"foreign":
            raise ValueError(data)
        if data == b"endless":
            time.sleep(20)

    tally = run.Tally(tmp_path / "found")
    for data in (b"own", b"foreign", b"endless", b"fine"):
        tally.count(targets.Target(read, (KeyError,), (), ()), data)
    assert (tally.inputs, tally.read, tally.foreign, tally.hangs) == (4, 1, 1, 1)
    assert sorted(file.read_bytes() for file in (tmp_path / "found").iterdir()) == [b"endless", b"foreign"]
