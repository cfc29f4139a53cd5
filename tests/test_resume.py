"""A stopped audit goes on where it was: nothing is lost, nothing is made twice, nothing stale is taken up."""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import stopping
import torch
from checkpoints import llama_config, llama_tensors, write_checkpoint, write_llama
from hub_server import HubServer, client_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from stopping import MOMENTS, Stop
from test_mixture import MIXTRAL, mixtral
from torch import Tensor

from audit import AuditOptions, audit_model
from audit.audit import run
from audit.checkpoint import open_checkpoint
from audit.keys import keys_of
from audit.partial import LOCK, opened
from audit.pipeline import Pipeline
from audit.plan import AuditPlan, make_plan
from reports.model import Report

CPU = torch.device("cpu")
LAYERS = 4
NAMES = ("Q", "K", "V", "O", "OV", "Gate", "Up", "Down")
ALL = {f"{name}.{layer}" for name in NAMES for layer in range(LAYERS)}

MASKED = {"command", "started", "wall_seconds", "peak_memory_bytes", "peak_anonymous_bytes", "bytes_read"}
"""What differs from run to run."""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama of four layers in three shards, and beside it all its measurements, `leading` and `full`."""
    folder = tmp_path_factory.mktemp("measured")
    model = write_llama(folder / "m", LAYERS, shards=3)
    assert measure(model, folder / "leading")[0] == measure(model, folder / "full", full=True)[0] == ALL
    return folder


@pytest.fixture
def model(measured: Path, tmp_path: Path) -> Path:
    """A copy of it, with the same times, so that the measurements are of its files too."""
    return Path(shutil.copytree(measured / "m", tmp_path / "m"))


@pytest.fixture
def unfinished(measured: Path) -> Callable[[str], None]:
    """Give the output `out` all the measurements of one kind."""

    def copy(kind: str) -> None:
        shutil.copytree(measured / f"{kind}.partial", "out.partial")

    return copy


@pytest.fixture
def scattered(tmp_path: Path) -> Path:
    """The same with each tensor in a file of its own."""
    return scatter(tmp_path / "scattered", llama_tensors(LAYERS), llama_config(LAYERS))


def scatter(folder: Path, tensors: dict[str, Tensor], config: object) -> Path:
    return write_checkpoint(folder, tensors, config, shards=len(tensors))


def same(document: str) -> dict[str, Any]:
    """A report's JSON without what differs from run to run."""
    report: dict[str, Any] = json.loads(document)
    report["provenance"] = {key: value for key, value in report["provenance"].items() if key not in MASKED}
    return report


def same_vectors(one: Path, other: Path) -> bool:
    first, second = (load_file(folder / "vectors.safetensors") for folder in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def kept(folder: str = "out.partial") -> list[Path]:
    return sorted(Path(folder).glob("*.safetensors"))


def shard_of(model: Path, tensor: str) -> Path:
    for file in model.glob("*.safetensors"):
        with safe_open(file, framework="pt") as opened_file:
            if tensor in opened_file.keys():  # noqa: SIM118 - it is no mapping
                return file
    raise KeyError(tensor)


def touch(file: Path) -> None:
    """Let a file be written a second later than it was."""
    before = file.stat().st_mtime_ns
    os.utime(file, ns=(before, before + 10**9))


def change(model: Path, tensor: str) -> None:
    """Other numbers in one tensor, and another time of the one file that it is in."""
    file = shard_of(model, tensor)
    before, tensors = file.stat().st_mtime_ns, load_file(file)
    tensors[tensor] = tensors[tensor] * 1.5 + 0.25
    save_file(tensors, file)
    os.utime(file, ns=(before, before + 10**9))


def plan_of(model: Path, **options: Any) -> AuditPlan:
    asked = AuditOptions(device="cpu", **options)
    return make_plan(open_checkpoint(str(model)), asked)


def keys(plan: AuditPlan, device: torch.device = CPU) -> set[str]:
    return set(keys_of(plan, device, Pipeline(plan, CPU).dtype).values())


def measure(model: Path, out: Path = Path("out"), **options: Any) -> tuple[set[str], Report]:
    """What had to be measured (`Q.0`), and the report; all measurements are still in the partial folder."""
    new: set[str] = set()
    with opened(out) as store:
        plan = plan_of(model, **options)
        store.take_up(keys_of(plan, CPU, Pipeline(plan, CPU).dtype))
        done = run(plan, "a test", lambda one: new.add(f"{one.projection}.{one.layer}"), store)
    return new, done.report


# Stopped at any moment

MANY = ("before a measurement is kept", "before its file is whole", "before its file is in place")
STOPS = [
    *(Stop(moment, signal.SIGKILL, count) for moment, count in zip(MANY, (1, 5, 12), strict=True)),
    *(Stop(MANY[2], sign, 16) for sign in (signal.SIGTERM, signal.SIGINT)),
    *(Stop(MANY[0], sign) for sign in (signal.SIGTERM, signal.SIGINT)),
    *(Stop(moment, signal.SIGKILL) for moment in MOMENTS if moment not in MANY),
    Stop("before the report is written", signal.SIGTERM),
]


@pytest.mark.parametrize("flags", [[], ["--full"]], ids=["leading", "full"])
def test_stopped_again_and_again_the_report_is_the_uninterrupted_one(model, flags):
    """Each stop loses no more than what is in hand; and what is said to be kept is there."""
    assert stopping.run(model, "--out", "whole", *flags).code == 0
    for stop in STOPS[2::3] if flags else STOPS:
        done = len(kept())
        end = stopping.run(model, "--out", "out", *flags, stop=stop)
        now = len(kept())
        if stop.moment in MANY:
            # one file a measurement, and one for the run, which is not waited for
            assert now - done == (stop.count // 2 if stop.moment == MANY[2] else stop.count - 1)
        if done:
            assert f"note: resumed: {done} of {len(ALL)} measurements were there already\n" in end.stderr
        if stop.signal == signal.SIGKILL:
            assert end.code == -signal.SIGKILL
            assert "error" not in end.stderr
        else:
            by = "Ctrl-C" if stop.signal == signal.SIGINT else "SIGTERM"
            where = "measurements are kept in out.partial; the same command goes on from there"
            assert (end.code, end.stdout) == (130, "")
            assert end.error == f"error: stopped by {by}: {now} of {len(ALL)} {where}"
        if stop.moment == "before the partial folder is removed":
            shutil.rmtree("out")
    end = stopping.run(model, "--out", "out", *flags)
    assert end.code == 0, end.stderr
    assert same(Path("out/audit.json").read_text()) == same(Path("whole/audit.json").read_text())
    assert same_vectors(Path("out"), Path("whole"))
    assert sorted(os.listdir()) == ["out", "whole"]


def test_killed_from_outside_while_it_works(tmp_path):
    model = write_llama(tmp_path / "m", layers=10)
    assert stopping.run(model, "--out", "whole").code == 0
    for count, sign in ((1, "SIGKILL"), (20, "SIGTERM"), (40, "SIGINT"), (60, "SIGKILL")):
        with stopping.started(model, "--out", "out") as process:
            wait_for(lambda enough=count: len(kept()) >= enough, lambda: not process.is_alive())
            os.kill(process.pid, signal.Signals[sign])
            assert stopping.ended(process).code == (130 if sign != "SIGKILL" else -signal.SIGKILL)
        assert len(kept()) >= count
    assert stopping.run(model, "--out", "out").code == 0
    assert same(Path("out/audit.json").read_text()) == same(Path("whole/audit.json").read_text())
    assert sorted(os.listdir()) == ["out", "whole"]


@pytest.mark.parametrize(("sign", "size"), [("SIGTERM", 5000), ("SIGINT", 2)], ids=["long", "many"])
def test_a_stop_neither_waits_for_a_factorisation_nor_crashes_with_it(model, sign, size):
    """A thread that comes back from one into an interpreter that is being taken down would abort it."""
    with stopping.never_done(model, "-v", "--out", "out", size=size) as process:
        wait_for(lambda: "4 layers" in said_so_far(), process.poll)
        time.sleep(0.5)
        told = time.monotonic()
        process.send_signal(signal.Signals[sign])
        assert process.wait(60) == 130
    assert time.monotonic() - told < 10, "minutes are left of it"
    by = "Ctrl-C" if sign == "SIGINT" else sign
    assert said_so_far().splitlines()[1:] == [f"error: stopped by {by}: nothing was measured yet"]
    assert os.listdir() == []


def said_so_far() -> str:
    file = Path("../stderr")
    return file.read_text() if file.exists() else ""


def wait_for(condition: Callable[[], bool], ended: Callable[[], object]) -> None:
    """Until the condition holds; it is an error if the process ends before, or a minute passes."""
    began = time.monotonic()
    while not condition():
        assert not ended()
        assert time.monotonic() - began < 60
        time.sleep(0.005)


def test_a_stop_before_anything_is_understood_keeps_what_was_measured_before(cli, model, monkeypatch):
    assert stopping.run(model, "--out", "out", stop=STOPS[2]).code == -signal.SIGKILL

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("audit.plan.make_plan", interrupt)
    result = cli(model, "--out", "out")
    assert result.exit_code == 130
    assert result.stderr == (
        "error: stopped by Ctrl-C: what was measured before is kept in out.partial; "
        "the same command goes on from there\n"
    )
    assert len(kept()) == 6


def test_an_error_in_the_middle_keeps_what_is_finished(cli, model, monkeypatch):
    """A shard is cut short under the audit's hands; whole again, only what reads from it is measured."""
    shard = shard_of(model, "model.layers.3.mlp.down_proj.weight")
    content, real = shard.read_bytes(), Pipeline.measure

    def shortened(*args):
        for number, measured in enumerate(real(*args)):
            if number == 4:
                os.truncate(shard, 10_000)
            yield measured

    with monkeypatch.context() as patched:
        patched.setattr(Pipeline, "measure", shortened)
        result = cli(model, "--out", "out")
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (5, "", 1)
    assert f"{shard.name} ended while" in result.stderr
    there = len(kept())
    assert there >= 5

    shard.write_bytes(content)
    again = cli(model, "--out", "out", "--json")
    assert again.exit_code == 0, again.stderr
    resumed = int(again.stderr.split("resumed: ")[1].split()[0])
    assert 0 < resumed < there
    assert same(again.stdout) == same(cli(model, "--out", "whole", "--json").stdout)


def test_the_library_writes_and_resumes_nothing(model):
    assert stopping.run(model, "--out", "out", stop=STOPS[2]).code == -signal.SIGKILL
    before = {path: path.read_bytes() for path in Path("out.partial").iterdir()}
    audit_model(str(model))
    assert {path: path.read_bytes() for path in Path("out.partial").iterdir()} == before
    assert os.listdir() == ["out.partial"]


# What is taken up, and what is measured again


def worded(value: object) -> str:
    """A parameter in words; sets in an order, so that every worker has the same tests."""
    return ",".join(sorted(value)) or "nothing" if isinstance(value, set) else str(value)


def places(*names: str, layers: tuple[int, ...] = tuple(range(LAYERS))) -> set[str]:
    return {f"{name}.{layer}" for name in names for layer in layers}


@pytest.mark.parametrize(
    ("first", "second", "new"),
    [
        ({}, {}, set()),
        ({"full": True}, {"full": True}, set()),
        ({}, {"layers": "1:3"}, set()),
        ({}, {"only": "q,ov"}, set()),
        ({"layers": "0:3"}, {}, places(*NAMES, layers=(3,))),
        ({"layers": "::2"}, {"layers": "0:3"}, places(*NAMES, layers=(1,))),
        ({"only": "q,ov"}, {}, ALL - places("Q", "OV")),
        ({}, {"k": 3}, ALL),
        ({}, {"full": True}, ALL),
        ({"full": True}, {}, ALL),
        ({}, {"fold_norm": True}, ALL),
        ({"full": True}, {"full": True, "only": "v"}, set()),
        # with --full each layer but the first is compared with the one before
        ({"full": True}, {"full": True, "layers": "1:"}, places(*NAMES, layers=(1,))),
        ({"full": True}, {"full": True, "layers": "::2"}, places(*NAMES, layers=(2,))),
        ({"full": True}, {"full": True, "layers": "0"}, places(*NAMES, layers=(0,))),
    ],
    ids=worded,
)  # fmt: skip
def test_of_other_settings_what_they_share_is_taken_up(model, unfinished, first, second, new):
    match first:
        case {"full": True}:
            unfinished("full")
        case {"layers": _} | {"only": _}:
            measure(model, **first)
        case _:
            unfinished("leading")
    again, report = measure(model, **second)
    assert again == new
    alone = audit_model(str(model), AuditOptions(device="cpu", **second))
    assert replace(report, provenance=alone.provenance) == alone


@pytest.mark.parametrize("full", [False, True])
def test_what_is_left_gives_the_numbers_it_gives_among_all(tmp_path, full):
    """A last task has no more threads than it would have had beside others: sums would round differently."""
    generator = torch.Generator().manual_seed(0)
    tensors = {
        f"model.layers.{layer}.self_attn.{name}_proj.weight": torch.randn(256, 256, generator=generator)
        for layer in range(3)
        for name in "qk"
    }
    config = llama_config(3, hidden_size=256, num_key_value_heads=4)
    plan = plan_of(write_checkpoint(tmp_path / "m", tensors, config), full=full, only="q,k")
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        every = {one.place: one for one in Pipeline(plan, CPU, 2).measure(plan.tasks, {})}
        known = {place: one for place, one in every.items() if (place.projection, place.layer) != ("K", 2)}
        (left,) = Pipeline(plan, CPU, 2).measure(plan.tasks, known)
    finally:
        torch.set_num_threads(threads)
    among = every[left.place]
    for field in ("sigma", "v", "u", "residual", "gap", "bound"):
        assert torch.equal(getattr(left.triplets, field), getattr(among.triplets, field)), field


def read_from(shard: Path) -> set[str]:
    """The projections that a shard holds something of, told by the names that transformers gives them."""
    with safe_open(shard, framework="pt") as opened_shard:
        names = [name.split(".") for name in opened_shard.keys() if "_proj" in name]  # noqa: SIM118
    found = {f"{name[4].removesuffix('_proj').capitalize()}.{name[2]}" for name in names}
    return found | {f"OV.{name[2]}" for name in names if name[4] in ("v_proj", "o_proj")}


@pytest.mark.parametrize("how", ["other numbers", "written again", "another header", "another size"])
def test_a_changed_shard_costs_what_reads_from_it(model, unfinished, how):
    shard = shard_of(model, "model.layers.3.mlp.up_proj.weight")
    times = shard.stat().st_atime_ns, shard.stat().st_mtime_ns
    unfinished("leading")
    match how:
        case "other numbers":
            change(model, "model.layers.3.mlp.up_proj.weight")
        case "written again":
            touch(shard)
        case "another header":
            save_file(load_file(shard), shard, metadata={"format": "pt"})
            os.utime(shard, ns=times)
        case "another size":
            save_file(load_file(shard) | {"model.extra": torch.ones(3)}, shard)
            os.utime(shard, ns=times)
    again, report = measure(model)
    assert 0 < len(again) < len(ALL)
    assert again == read_from(shard)
    alone = audit_model(str(model), AuditOptions(device="cpu"))
    assert replace(report, provenance=alone.provenance) == alone


@pytest.mark.parametrize(
    ("tensor", "options", "new"),
    [
        ("self_attn.q_proj", {}, {"Q.2"}),
        ("self_attn.v_proj", {}, {"V.2", "OV.2"}),
        ("self_attn.q_proj", {"full": True}, {"Q.2", "Q.3"}),
        ("self_attn.v_proj", {"full": True}, {"V.2", "OV.2", "V.3", "OV.3"}),
        ("input_layernorm", {}, set()),
        ("input_layernorm", {"fold_norm": True}, {"Q.2", "K.2", "V.2", "OV.2"}),
        ("post_attention_layernorm", {"fold_norm": True}, {"Gate.2", "Up.2"}),
        ("post_attention_layernorm", {"fold_norm": True, "full": True}, {"Gate.2", "Up.2", "Gate.3", "Up.3"}),
    ],
    ids=worded,
)  # fmt: skip
def test_a_changed_tensor_costs_what_is_made_of_it(scattered, tensor, options, new):
    measure(scattered, **options)
    change(scattered, f"model.layers.2.{tensor}.weight")
    again, report = measure(scattered, **options)
    assert again == new
    alone = audit_model(str(scattered), AuditOptions(device="cpu", **options))
    assert replace(report, provenance=alone.provenance) == alone


def test_a_changed_expert_costs_its_stack(tmp_path):
    model = scatter(tmp_path / "mixture", mixtral(), MIXTRAL)
    measure(model)
    for tensor, new in (("w1", "Gate.3"), ("w3", "Up.3"), ("w2", "Down.3")):
        change(model, f"model.layers.3.block_sparse_moe.experts.1.{tensor}.weight")
        assert measure(model)[0] == {new}


def test_other_heads_in_the_config_cost_what_is_composed_by_them(model, unfinished):
    unfinished("leading")
    other = llama_config(LAYERS, num_attention_heads=2, num_key_value_heads=1)
    (model / "config.json").write_text(json.dumps(other))
    assert measure(model)[0] == places("OV")


OWN = """
name = "own"
summary = "A llama whose Gate and Up are one tensor"
source = "https://example.org"
model_types = ["llama"]
layers = ["model.layers.{layer}."]
[projections]
Q = "self_attn.q_proj.weight"
K = "self_attn.k_proj.weight"
V = "self_attn.v_proj.weight"
O = "self_attn.o_proj.weight"
Down = "mlp.down_proj.weight"
[[fused]]
tensor = "mlp.gate_up_proj.weight"
order = ["Gate", "Up"]
[norms.attention]
weight = ["input_layernorm.weight"]
kind = "rms"
[ignore]
rest = ["model.embed_tokens.weight", "model.norm.weight", "*.post_attention_layernorm.weight"]
"""


@pytest.mark.parametrize(
    ("said", "instead", "options", "new"),
    [
        ('"rms"', '"rms"\ngain = "1+w"', {}, set()),
        ('"rms"', '"rms"\ngain = "1+w"', {"fold_norm": True}, places("Q", "K", "V", "OV")),
        ('"rms"', '"layer"', {"fold_norm": True}, places("Q", "K", "V", "OV")),
        ('["Gate", "Up"]', '["Up", "Gate"]', {}, places("Gate", "Up")),
    ],
    ids=["gain, not folded", "gain", "kind", "order"],
)
def test_another_declaration_costs_what_it_takes_in_another_way(tmp_path, said, instead, options, new):
    tensors = llama_tensors(LAYERS)
    for layer in range(LAYERS):
        mlp = f"model.layers.{layer}.mlp."
        parts = [tensors.pop(f"{mlp}{part}_proj.weight") for part in ("gate", "up")]
        tensors[f"{mlp}gate_up_proj.weight"] = torch.cat(parts)
    model, own = write_checkpoint(tmp_path / "m", tensors, llama_config(LAYERS)), tmp_path / "own.toml"
    own.write_text(OWN)
    assert measure(model, family_file=own, **options)[0] == ALL
    own.write_text(OWN.replace(said, instead))
    assert measure(model, family_file=own, **options)[0] == new


def test_another_computing_dtype_costs_everything(model, unfinished):
    unfinished("leading")
    weight = torch.eye(16, dtype=torch.float64)
    shard = shard_of(model, "model.layers.0.self_attn.q_proj.weight")
    save_file(load_file(shard) | {"model.layers.0.self_attn.q_proj.weight": weight}, shard)
    assert measure(model)[0] == ALL
    assert measure(model, layers="0:1")[0] == set()


@pytest.mark.parametrize(
    ("name", "value"), [("version", lambda: "0"), ("FORMAT", -1), ("torch.__version__", "1.0")]
)
def test_another_version_costs_everything(model, unfinished, monkeypatch, name, value):
    unfinished("leading")
    monkeypatch.setattr(f"audit.keys.{name}", value)
    assert measure(model)[0] == ALL


def test_every_place_has_a_key_of_its_own_on_each_device(model):
    plan = plan_of(model)
    here, there = keys(plan), keys(plan, torch.device("cuda"))
    assert len(here) == len(there) == len(ALL)
    assert not here & there
    assert here == keys(plan_of(model)), "and the same in every process"


# Damage


def test_damaged_files_are_measured_again_and_nothing_else_is(model, unfinished):
    unfinished("leading")
    plan = plan_of(model)
    all_keys = keys_of(plan, CPU, Pipeline(plan, CPU).dtype)
    files = kept()
    whole = {file: file.read_bytes() for file in files}
    notes = Path("out.partial/run-1.json")

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def damage(data: st.DataObject) -> None:
        hurt = data.draw(st.lists(st.sampled_from(files), min_size=1, max_size=4, unique=True))
        damaged = {file: data.draw(spoilt(whole[file])) for file in hurt}
        notes.write_bytes(data.draw(st.binary(max_size=99) | st.sampled_from(NO_NOTES)))
        for file, content in (whole | damaged).items():
            if file.read_bytes() != content:
                file.write_bytes(content)
        with opened(Path("out")) as store:
            store.take_up(all_keys)
            lost = {all_keys[place] for place in all_keys.keys() - store.known.keys()}
            assert lost == {file.name[:64] for file in hurt if damaged[file] != whole[file]}
            assert all(place == measured.place for place, measured in store.known.items())

    @st.composite
    def spoilt(draw: st.DrawFn, content: bytes) -> bytes:
        at = draw(st.integers(0, len(content) - 1))
        flipped = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        cut = (b"", content[:at], content[at:] + content[:at], content + b"\0", flipped)
        return draw(
            st.sampled_from(cut) | st.sampled_from(files).map(whole.__getitem__) | st.binary(max_size=99)
        )

    damage()


NO_NOTES = [
    b"", b"[]", b"{}", b"7", b"[" * 9999, b'{"started": 1, "seconds": 2, "bytes_read": 3}',
    b'{"started": "2026-01-01", "seconds": NaN, "bytes_read": 3}',
    b'{"started": "2026-01-01", "seconds": "2", "bytes_read": 3}',
    b'{"started": "2026-01-01", "seconds": 1e999, "bytes_read": 3}',
    b'{"started": "2026-01-01", "seconds": -1, "bytes_read": 3}',
    b'{"started": "2026-01-01", "seconds": 1, "bytes_read": 3.5}',
    b'{"started": "2026-01-01", "seconds": 1, "bytes_read": 1' + b"0" * 400 + b"}",
    b'{"started": "soon", "seconds": 1, "bytes_read": 3}',
]  # fmt: skip


def test_damaged_notes_of_a_run_are_passed_over(model, unfinished):
    unfinished("leading")
    for notes in NO_NOTES:
        Path("out.partial/run-1.json").write_bytes(notes)
        new, report = measure(model)
        assert new == set()
        assert 0 <= report.provenance.wall_seconds < 60
        assert report.provenance.bytes_read == 0
        assert report.provenance.started > "2026-01-02"


def test_time_and_bytes_add_up_over_the_runs_that_were_taken_up(model):
    _, first = measure(model, layers="0:2")
    notes = Path("out.partial/run-1.json")
    told = json.loads(notes.read_text())
    assert told["bytes_read"] > 0, "known as it goes, since a killed process can tell nothing at its end"
    assert 0 < told["seconds"] <= first.provenance.wall_seconds
    notes.write_text(json.dumps(told | {"seconds": 5000.0, "started": "2020-01-01T00:00:00+00:00"}))

    new, second = measure(model)
    alone = audit_model(str(model), AuditOptions(device="cpu"))
    assert new == places(*NAMES, layers=(2, 3))
    assert second.provenance.bytes_read == alone.provenance.bytes_read
    assert 5000 < second.provenance.wall_seconds < 5060
    assert second.provenance.started == "2020-01-01T00:00:00+00:00"
    assert measure(model, k=3)[1].provenance.wall_seconds < 60, "nothing of those runs is in it"


# Whose folder it is


def test_files_of_others_in_the_partial_folder_are_left_there(cli, model, unfinished):
    unfinished("leading")
    mine = {"notes.txt": b"mine", f"{'0' * 64}.1.safetensors.bak": b"mine too", ".hidden": b""}
    for name, content in mine.items():
        Path("out.partial", name).write_bytes(content)
    Path("out.partial/folder").mkdir()
    result = cli(model, "--out", "out")
    assert result.exit_code == 0, result.stderr
    assert "resumed: 32 of 32" in result.stderr
    assert sorted(os.listdir("out.partial")) == sorted([*mine, "folder", LOCK])
    assert cli(model, "--out", "out", "--fresh").exit_code == 0, "it still is an audit's"
    assert {name: Path("out.partial", name).read_bytes() for name in mine} == mine


@pytest.mark.parametrize("what", ["folder", "file", "link"])
def test_a_folder_that_is_not_ours_is_not_touched(cli, model, what):
    if what == "file":
        Path("out.partial").write_text("mine")
    else:
        Path("mine").mkdir()
        Path("mine/thesis.tex").write_text("years of work")
        Path("mine").rename("out.partial") if what == "folder" else Path("out.partial").symlink_to("mine")
    before = {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")}
    for flags in ([], ["--fresh"]):
        result = cli(model, "--out", "out", *flags)
        assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
        assert "out.partial" in result.stderr
        assert "--out" in result.stderr
    assert {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")} == before


def test_an_empty_folder_of_that_name_is_taken(cli, model):
    Path("out.partial").mkdir()
    assert cli(model, "--out", "out").exit_code == 0
    assert os.listdir() == ["out"]


def test_a_link_to_an_output_folder_has_the_partial_folder_beside_what_it_points_to(cli, model):
    Path("disk").mkdir()
    Path("disk/real").mkdir()
    Path("out").symlink_to("disk/real")
    with opened(Path("out")) as store:
        assert store.folder == Path("disk/real.partial").resolve()
    assert cli(model, "--out", "out").exit_code == 0
    assert (sorted(os.listdir()), os.listdir("disk")) == (["disk", "out"], ["real"])


def test_two_audits_of_one_output_are_kept_apart(cli, model):
    """The other process holds the lock, and as soon as it is dead nobody does."""
    with stopping.started(model, "--out", "out", stop=Stop(MANY[0], signal.SIGSTOP, 3)) as process:
        wait_for(lambda: len(kept()) == 2, lambda: not process.is_alive())
        for flags in ([], ["--fresh"], ["--full"]):
            result = cli(model, "--out", "out", *flags)
            assert (result.exit_code, result.stdout) == (2, "")
            told = "error: another audit is writing to out: wait for it, or name another folder with --out\n"
            assert result.stderr == told
        assert len(kept()) == 2
        assert cli(model, "--out", "elsewhere").exit_code == 0
        process.kill()
        process.join()
    result = cli(model, "--out", "out")
    assert result.exit_code == 0
    assert "resumed: 2 of 32" in result.stderr


def test_where_there_are_no_locks_the_audit_does_without(cli, model, monkeypatch):
    with opened(Path("out")):
        assert cli(model, "--out", "out").exit_code == 2
        monkeypatch.setitem(sys.modules, "fcntl", None)
        assert cli(model, "--out", "out").exit_code == 0


# Done already


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From now on, nothing may be measured."""

    def forbid() -> None:
        monkeypatch.setattr(Pipeline, "measure", lambda *_: pytest.fail("something was measured"))

    return forbid


def test_a_finished_audit_returns_at_once_from_its_report(cli, model, idle):
    first = cli(model, "--json")
    date = json.loads(first.stdout)["provenance"]["started"][:10]
    report = {path: path.read_bytes() for path in Path("gcont-reports").rglob("*.*")}
    idle()
    again = cli(model, "--json")
    assert (again.exit_code, again.stdout) == (0, first.stdout)
    assert again.stderr.splitlines()[0] == f"note: already audited, on {date}: --fresh audits again"
    table = cli(model, "--quiet")
    assert (table.exit_code, table.stderr) == (0, "")
    assert "Written to gcont-reports/m: report.md" in table.stdout
    assert {path: path.read_bytes() for path in Path("gcont-reports").rglob("*.*")} == report


@pytest.mark.parametrize(
    "differs", [["--full"], ["--only", "k"], ["--layers", "1:"], ["--fold-norm"], ["--fresh"]], ids=str
)
def test_other_settings_are_no_finished_audit(cli, model, differs):
    assert cli(model, "--only", "q").exit_code == 0
    result = cli(model, "--only", "q", *differs)
    assert result.exit_code == 0
    assert "already" not in result.stderr


def test_a_declaration_of_ones_own_is_part_of_what_was_asked(cli, model, tmp_path):
    own, only = tmp_path / "own.toml", ("--only", "up")
    shown = cli("families", "--show", "llama").stdout
    own.write_text(shown)
    assert cli(model, *only, "--family-file", own).exit_code == 0
    assert "already audited" in cli(model, *only, "--family-file", own).stderr
    assert '"mlp.up_proj.weight"' in shown
    swapped = (
        shown.replace("up_proj", "x_proj").replace("gate_proj", "up_proj").replace("x_proj", "gate_proj")
    )
    own.write_text(swapped)
    result = cli(model, *only, "--family-file", own)
    assert result.exit_code == 0, result.stderr
    assert "already audited" not in result.stderr
    assert "already audited" not in cli(model, *only).stderr


def test_large_weights_changed_under_the_same_header_are_noticed(cli, model, monkeypatch):
    """Beyond 1 GiB only headers are hashed; the time tells."""
    monkeypatch.setattr("audit.provenance.HASHED_BYTES", 0)
    only = ("--only", "q")
    first = json.loads(cli(model, *only, "--json").stdout)
    file = first["provenance"]["files"][0]
    assert file["sha256"] is None
    assert file["modified"] == (model / file["name"]).stat().st_mtime_ns
    assert "already audited" in cli(model, *only).stderr
    assert outcome(cli("batch", model, *only, "--json")) == "unchanged"
    change(model, "model.layers.0.self_attn.q_proj.weight")
    assert outcome(cli("batch", model, *only, "--json")) == "audited"
    change(model, "model.layers.0.self_attn.q_proj.weight")
    second = cli(model, *only, "--json")
    assert "already audited" not in second.stderr
    assert json.loads(second.stdout)["projections"]["Q"] != first["projections"]["Q"]


def outcome(result: Any) -> str:
    (entry,) = json.loads(result.stdout)["models"]
    return str(entry["outcome"])


def test_killed_after_the_report_was_written_it_is_finished(cli, model, idle):
    stop = Stop("before the partial folder is removed", signal.SIGKILL)
    assert stopping.run(model, "--out", "out", stop=stop).code == -signal.SIGKILL
    assert sorted(os.listdir()) == ["out", "out.partial"]
    idle()
    assert "already audited" in cli(model, "--out", "out").stderr
    assert os.listdir() == ["out"]


def test_a_finished_report_does_not_cost_the_unfinished_one_of_other_settings(cli, model):
    """Not even one of which everything is measured, and only the writing is left."""
    assert cli(model, "--out", "out").exit_code == 0
    stop = Stop("before the report is in place", signal.SIGKILL)
    assert stopping.run(model, "--full", "--out", "out", stop=stop).code == -signal.SIGKILL
    assert "already audited" in cli(model, "--out", "out").stderr
    assert "resumed: 32 of 32" in cli(model, "--full", "--out", "out").stderr


def test_fresh_begins_at_the_beginning(cli, model):
    assert stopping.run(model, "--out", "out", stop=STOPS[2]).code == -signal.SIGKILL
    end = stopping.run(model, "--out", "out", "--fresh", stop=Stop(MANY[0], signal.SIGTERM, 3))
    assert end.stderr == (
        "error: stopped by SIGTERM: 2 of 32 measurements are kept in out.partial; "
        "the same command without --fresh goes on from there\n"
    )
    result = cli(model, "--out", "out")
    assert "resumed: 2 of 32" in result.stderr
    assert os.listdir() == ["out"]


# By the other commands


def test_the_demo_is_resumed_and_finished_too(cli, model, monkeypatch, idle):
    monkeypatch.setattr(import_module("audit.cli.demo"), "_weights", lambda: open_checkpoint(str(model)))
    real = Pipeline.measure

    def stopped(*args: Any) -> Iterator[Any]:
        for number, measured in enumerate(real(*args)):
            if number == 10:
                raise KeyboardInterrupt
            yield measured

    monkeypatch.setattr(Pipeline, "measure", stopped)
    first = cli("demo")
    assert first.exit_code == 130
    assert "10 of 32 measurements are kept in gcont-reports/all-MiniLM-L6-v2.partial" in first.stderr
    monkeypatch.setattr(Pipeline, "measure", real)
    assert "resumed: 10 of 32" in cli("demo").stderr
    idle()
    assert "already audited" in cli("demo").stderr


def test_a_batch_goes_on_within_a_model(cli, model, tmp_path):
    first = write_llama(tmp_path / "first")
    stop = Stop(MANY[0], signal.SIGTERM, 24 + 10)
    end = stopping.run("batch", first, model, stop=stop)
    assert (end.code, end.stdout) == (130, "")
    assert end.error == (
        "error: stopped by SIGTERM: 1 of 2 models are done; 9 of 32 measurements are kept in "
        "gcont-reports/m.partial; the same command goes on from there"
    )
    assert sorted(os.listdir("gcont-reports")) == ["first", "index.md", "index.png", "m.partial"]
    result = cli("batch", first, model, "--json")
    assert result.exit_code == 0
    assert "resumed: 9 of 32" in result.stderr
    assert [one["outcome"] for one in json.loads(result.stdout)["models"]] == ["unchanged", "audited"]
    assert sorted(os.listdir("gcont-reports")) == ["first", "index.md", "index.png", "m"]
    fresh = cli("batch", first, "--fresh", "--json")
    assert outcome(fresh) == "audited"


def test_a_batch_of_a_model_that_is_being_audited_goes_on_to_the_next(cli, model, tmp_path):
    with opened(Path("gcont-reports/m")):
        result = cli("batch", model, write_llama(tmp_path / "second"), "--json")
    assert result.exit_code == 1
    failed, fine = json.loads(result.stdout)["models"]
    assert (failed["exit_code"], fine["outcome"]) == (2, "audited")
    assert "another audit is writing to gcont-reports/m" in failed["error"]


# On the Hub


@pytest.mark.parametrize("links", [True, False])
def test_a_new_commit_costs_what_reads_from_its_new_files(cli, model, tmp_path, monkeypatch, links):
    """The Hub's content hash is the name of what the cache links to; without links the commit has to do."""
    if not links:
        monkeypatch.setattr("audit.checkpoint.hub._etag", lambda path: None)

    def interrupt(*_):
        raise KeyboardInterrupt

    with HubServer() as hub, client_of(hub, tmp_path, monkeypatch):
        hub.add("org/tiny", model)
        with monkeypatch.context() as patched:
            patched.setattr("audit.output.draw", interrupt)
            first = cli("org/tiny")
        assert "32 of 32 measurements are kept in gcont-reports/org--tiny.partial" in first.stderr
        tensor = "model.layers.3.mlp.up_proj.weight"
        changed = Path(shutil.copytree(model, tmp_path / "changed"))
        change(changed, tensor)
        hub.add("org/tiny", changed)
        again = cli("org/tiny", "--json")
        assert again.exit_code == 0
        unchanged = len(ALL - read_from(shard_of(changed, tensor)))
        assert (f"resumed: {unchanged} of 32" in again.stderr) == links
        assert ("resumed" in again.stderr) == links
        assert "already audited" in cli("org/tiny").stderr
    alone = json.loads(cli(changed, "--json").stdout)
    assert json.loads(again.stdout)["projections"] == alone["projections"]
