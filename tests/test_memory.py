"""Memory: ceilings are read, planned from headers, kept to, and refused with the least that works."""

import json
import mmap
import os
import re
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
from checkpoints import SHAPES, llama_config, pack, write_checkpoint
from hypothesis import given
from hypothesis import strategies as st
from sample_report import sample_report

from audit import peak
from audit.checkpoint import Checkpoint, TensorReader, open_checkpoint
from audit.errors import SelectionError
from audit.options import AuditOptions, format_memory, parse_memory
from audit.peak import PeakWatch, anonymous_memory
from audit.plan import AuditPlan, make_plan, workers_for
from reports.document import from_json, to_json
from reports.view import provenance

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RssAnon is Linux's word")

BYTES = {
    "B": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4,
    "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4,
}  # fmt: skip

LLAMA_8B = {
    "self_attn.q_proj": (4096, 4096),
    "self_attn.k_proj": (1024, 4096),
    "self_attn.v_proj": (1024, 4096),
    "self_attn.o_proj": (4096, 4096),
    "mlp.gate_proj": (14336, 4096),
    "mlp.up_proj": (14336, 4096),
    "mlp.down_proj": (4096, 14336),
}
LARGEST_8B = 14336 * 4096 * 4


# What an amount of memory is


@given(st.integers(1, 10**15), st.integers(0, 10**6 - 1), st.sampled_from(sorted(BYTES)), st.booleans())
def test_an_amount_is_a_number_times_its_unit(whole, millionths, unit, spaced):
    text = f"{whole}.{millionths:06}{' ' * spaced}{unit}"
    assert parse_memory(text) == (whole * 10**6 + millionths) * BYTES[unit] // 10**6
    assert parse_memory(text.lower()) == parse_memory(text.upper()) == parse_memory(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("8GB", 8 * 10**9),
        ("6GiB", 6 * 2**30),
        ("500MB", 5 * 10**8),
        (".5g", 5 * 10**8),
        ("1234", 1234),
        ("2 k", 2000),
    ],
)
def test_usual_amounts(text, count):
    assert AuditOptions(max_memory=text).ceiling == count
    assert AuditOptions(max_memory=count).ceiling == count


@given(
    st.one_of(
        st.text(),
        st.sampled_from(
            ["", "GB", "-1GB", "0", "0.4B", "1e9", "8 XB", "8GBs", "nan", "inf", "٣GB", "1,5GB", "8GB/s"]
        ),
        st.integers(max_value=0).map(str),
    )
)
def test_anything_else_is_refused_in_one_line(text):
    if re.fullmatch(
        r"\s*([0-9]+\.?[0-9]*|\.[0-9]+)\s*([kmgt]?b?|[kmgt]ib)\s*", text, re.ASCII | re.IGNORECASE
    ):
        return
    with pytest.raises(
        SelectionError, match=r"--max-memory .* is no(thing at all| amount of memory): write 8GB"
    ):
        AuditOptions(max_memory=text)


@given(st.integers(1, 10**15))
def test_an_amount_that_is_printed_reads_as_no_less_and_hardly_more(count):
    assert count <= parse_memory(format_memory(count)) <= count * 1.01


# What is planned


def plan_of(folder: Path, **options: object) -> AuditPlan:
    return make_plan(open_checkpoint(str(folder)), AuditOptions(**options))  # type: ignore[arg-type]


def write_headers(folder: Path, layers: int, shapes: dict[str, tuple[int, int]]) -> Path:
    """A bf16 checkpoint whose weights are a hole in the file."""
    header: dict[str, object] = {}
    end = 0
    for layer in range(layers):
        for name, (out, in_) in shapes.items():
            start, end = end, end + 2 * out * in_
            offsets = {"dtype": "BF16", "shape": [out, in_], "data_offsets": [start, end]}
            header[f"model.layers.{layer}.{name}.weight"] = offsets
    folder.mkdir()
    text = pack(header)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(text)
        file.truncate(len(text) + end)
    config = llama_config(layers, hidden_size=4096, num_attention_heads=32, num_key_value_heads=8)
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 14336}))
    return folder


@pytest.fixture
def eight_billion(tmp_path):
    return write_headers(tmp_path / "8b", 32, LLAMA_8B)


def test_memory_grows_with_workers_and_not_with_depth(tmp_path):
    shallow = plan_of(write_headers(tmp_path / "shallow", 4, LLAMA_8B))
    deep = plan_of(write_headers(tmp_path / "deep", 80, LLAMA_8B))
    assert shallow.memory_bytes(1) < shallow.memory_bytes(2) < shallow.memory_bytes(3)
    assert (
        shallow.memory_bytes(2) - shallow.memory_bytes(1) >= LARGEST_8B // 2
    )  # the largest as stored, in bf16
    vectors = 80 * 2 * 4 * sum(out + in_ for out, in_ in (*LLAMA_8B.values(), (4096, 4096)))
    assert deep.memory_bytes(1) - shallow.memory_bytes(1) < 1.3 * vectors  # which are the result


def test_one_more_worker_would_leave_the_bound_of_a_leading_audit(eight_billion):
    plan = plan_of(eight_billion)
    bound = 2.5 * LARGEST_8B + 800e6
    workers = workers_for(plan, "cpu", 64)
    assert 1 < workers < 32
    assert plan.memory_bytes(workers) <= bound < plan.memory_bytes(workers + 1)
    assert workers_for(plan, "cpu", 2) == 2
    assert workers_for(plan, "mps", 64) == 1
    assert workers_for(plan, "cuda", 64) == 3


@pytest.mark.parametrize("full", [False, True])
def test_a_ceiling_lowers_the_number_of_workers(eight_billion, full):
    unlimited = plan_of(eight_billion, full=full)
    for workers in (1, 2, 3):
        takes = unlimited.memory_bytes(workers)
        assert workers_for(plan_of(eight_billion, full=full, max_memory=takes), "cpu", 8) == workers
        assert workers_for(plan_of(eight_billion, full=full, max_memory=takes), "cpu", 1) == 1
        if workers > 1:
            less = plan_of(eight_billion, full=full, max_memory=takes - 1)
            assert workers_for(less, "cpu", 8) == workers - 1


def test_no_more_workers_than_tasks(eight_billion):
    assert workers_for(plan_of(eight_billion, layers="0:2", max_memory="1TB"), "cpu", 8) == 2
    assert workers_for(plan_of(eight_billion, full=True, only="q", max_memory="1TB"), "cpu", 8) == 1


def test_without_a_ceiling_one_worker_goes_on_whatever_it_takes(eight_billion, monkeypatch):
    monkeypatch.setattr("audit.memory.physical_memory", lambda: 10**9)
    assert workers_for(plan_of(eight_billion, full=True), "cpu", 8) == 1
    monkeypatch.setattr("audit.memory.physical_memory", lambda: 10**12)
    assert workers_for(plan_of(eight_billion, full=True), "cpu", 8) == 8


@pytest.mark.parametrize("full", [[], ["--full"]])
def test_too_low_a_ceiling_is_refused_with_the_least_that_works(cli, eight_billion, full):
    refused = cli("plan", eight_billion, *full, "--max-memory", "200MB")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"error: --max-memory 200MB is too little for {eight_billion}")
    assert len(refused.stderr.splitlines()) == 1
    least = re.search(r"the least that works is (\S+?)(,|$)", refused.stderr.strip())
    assert least, refused.stderr
    allowed = cli("plan", eight_billion, *full, "--max-memory", least[1])
    assert allowed.exit_code == 0, allowed.stderr
    assert "which is enough for 1 worker\n" in allowed.stdout
    below = format_memory(int(parse_memory(least[1]) * 0.98))
    assert cli("plan", eight_billion, *full, "--max-memory", below).exit_code == 2


def test_a_refusal_names_what_takes_the_memory(cli, eight_billion):
    full = cli("plan", eight_billion, "--full", "--max-memory", "1GB").stderr
    assert re.search(r", whose (Gate|Up|Down) of layer 0 alone takes \d\.\d GB: the least", full)
    assert full.strip().endswith("or leave out projections with --only")
    small = cli("plan", eight_billion, "--only", "k", "--max-memory", "1MB").stderr
    assert re.search(r": \d+\.\d MB go to Python, torch and the results: the least that works is", small)


def test_a_plan_tells_the_memory_for_each_number_of_workers(cli, eight_billion):
    plan = json.loads(cli("plan", eight_billion, "--json", "--max-memory", "2GB").stdout)
    told = {int(workers): count for workers, count in plan["memory_bytes_by_workers"].items()}
    assert list(told) == sorted(told)
    assert told[plan["workers"]] == plan["memory_bytes"] <= plan["max_memory_bytes"] == 2 * 10**9
    assert plan["nominal_seconds"] > 0


# What is taken


def write_random(folder: Path, ffn: int, dtype: torch.dtype, layers: int = 2) -> Path:
    """Noise with a few strong directions, which are found as fast as those of trained weights."""
    generator, hidden = torch.Generator().manual_seed(0), ffn // 4

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    tensors = {}
    for layer in range(layers):
        for name, (out, in_) in SHAPES.items():
            wide = tuple({24: ffn, 16: hidden, 8: hidden // 2}[side] for side in (out, in_))
            weight = random(*wide) / wide[1] ** 0.5
            for strength in (5, 4, 3):
                weight += (
                    strength * torch.outer(random(wide[0]), random(wide[1])) / (wide[0] * wide[1]) ** 0.5
                )
            tensors[f"model.layers.{layer}.{name}.weight"] = weight.to(dtype)
    config = llama_config(layers, hidden_size=hidden, intermediate_size=ffn)
    return write_checkpoint(folder, tensors, config)


def peak_of(command: Sequence[object], threads: int) -> int:
    """The most anonymous memory that a program of its own has, as the kernel tells it every 4 ms."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "error"}
    with subprocess.Popen(
        [sys.executable, *map(str, command)], stdout=subprocess.DEVNULL, env=environment
    ) as run:
        status, most = Path(f"/proc/{run.pid}/status"), 0
        while run.poll() is None:
            found = re.search(r"RssAnon:\s+(\d+) kB", status.read_text())
            most = max(most, int(found[1]) * 1024 if found else 0)
            time.sleep(0.004)
    assert run.returncode == 0
    return most


def write_tied(folder: Path) -> Path:
    """Two layers of Down with the same eight leading directions, nearly tied: too much for float32."""
    generator = torch.Generator().manual_seed(0)
    out, in_ = (torch.linalg.qr(torch.randn(side, 8, generator=generator)).Q for side in (1024, 4096))
    leaders = 50 * (out * (1 + 1e-6 * torch.arange(8))) @ in_.T
    tensors = {
        f"model.layers.{layer}.mlp.down_proj.weight": leaders
        + torch.randn(1024, 4096, generator=generator) / 64
        for layer in (0, 1)
    }
    return write_checkpoint(folder, tensors, llama_config(2, hidden_size=1024, intermediate_size=4096))


def write_experts(folder: Path, hidden: int = 2048, inner: int = 256, count: int = 4) -> Path:
    """One layer of routed experts with one direction in common."""
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(hidden, generator=generator)
    tensors = {}
    for expert in range(count):
        for name in ("gate_proj", "up_proj"):
            weight = torch.randn(inner, hidden, generator=generator)
            weight += torch.outer(torch.randn(inner, generator=generator), common)
            tensors[f"model.layers.0.mlp.experts.{expert}.{name}.weight"] = weight.bfloat16()
        down = torch.randn(hidden, inner, generator=generator)
        tensors[f"model.layers.0.mlp.experts.{expert}.down_proj.weight"] = down.bfloat16()
    config = llama_config(1, model_type="deepseek_v3", hidden_size=hidden, v_head_dim=4)
    return write_checkpoint(folder, tensors, config)


@on_linux
@pytest.mark.parametrize(
    ("write", "options", "threads", "workers"),
    [
        (partial(write_random, ffn=8192, dtype=torch.bfloat16), ["--only", "gate,down"], 2, 2),
        (partial(write_random, ffn=4096, dtype=torch.float32), ["--fold-norm", "--only", "gate,ov"], 2, 1),
        (write_tied, ["--full", "--only", "down"], 1, 1),
        (partial(write_random, ffn=2048, dtype=torch.float32), ["--full", "--only", "q,ov,k"], 2, 2),
        (write_experts, ["--only", "up"], 1, 1),
        (write_experts, ["--full", "--only", "down"], 1, 1),
    ],
)
def test_an_audit_stays_below_what_is_stated_and_allowed(tmp_path, write, options, threads, workers):
    folder = write(tmp_path / "m")
    chosen = {"full": "--full" in options, "fold_norm": "--fold-norm" in options, "only": options[-1]}
    allowed = plan_of(folder, **chosen).memory_bytes(workers)
    line = ["-m", "audit", folder, "--quiet", "--out", tmp_path / "out", *options, "--max-memory", allowed]
    taken = peak_of(line, threads)
    assert allowed / 2 < taken <= allowed
    told = json.loads((tmp_path / "out" / "audit.json").read_text())["provenance"]
    assert (told["max_memory_bytes"], told["planned_memory_bytes"]) == (allowed, allowed)
    assert told["workers"] == workers
    assert 0.7 * taken < told["peak_anonymous_bytes"] < 1.02 * taken


# The watch


def test_the_watch_sees_memory_that_is_given_back(tmp_path):
    before = anonymous_memory()
    with PeakWatch() as watch:
        time.sleep(0.1)
        held = bytearray(b"x") * 80_000_000
        time.sleep(0.2)
        del held
    assert before + 75e6 < watch.peak < before + 200e6
    assert anonymous_memory() < before + 40e6


@on_linux
def test_pages_of_a_file_do_not_count(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"x" * 80_000_000)
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        before = anonymous_memory()
        with PeakWatch() as watch:
            assert sum(mapped[::4096]) == ord("x") * -(-80_000_000 // 4096)
        assert watch.peak < before + 20e6


def test_where_the_kernel_does_not_tell_the_most_ever_resident_is_taken(monkeypatch, tmp_path):
    monkeypatch.setattr(peak, "_STATUS", tmp_path / "nothing")
    with PeakWatch() as watch:
        pass
    known = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    assert watch.peak == pytest.approx(known, rel=0.01)
    (tmp_path / "nothing").write_text("Name: x\nVmRSS: 5 kB\n")
    assert anonymous_memory() == pytest.approx(known, rel=0.01)


def test_a_watch_ends_with_its_block():
    threads = threading.active_count()
    with PeakWatch():
        assert threading.active_count() == threads + 1
    with pytest.raises(ZeroDivisionError), PeakWatch():
        _ = 1 / 0
    assert threading.active_count() == threads


# What is told


def test_the_report_tells_peak_plan_and_ceiling(cli, llama, tmp_path):
    assert cli(llama, "--out", tmp_path / "out", "--max-memory", "3GiB").exit_code == 0
    line = re.search(r"^\| memory \| (.*) \|$", (tmp_path / "out" / "report.md").read_text(), re.MULTILINE)
    assert line
    assert re.fullmatch(
        r"\d+\.\d [MG]B peak of \d+\.\d MB planned for \d+ workers?, 3\.2 GB allowed", line[1]
    )


def test_a_peak_above_the_ceiling_is_told(cli, llama, tmp_path, monkeypatch):
    monkeypatch.setattr("audit.peak.anonymous_memory", lambda: 5 * 10**9)
    result = cli(llama, "--out", tmp_path / "out", "--max-memory", "1GB")
    assert result.exit_code == 0
    assert "5.0 GB of memory were taken, more than the 1.0 GB allowed: please report it" in result.stderr
    report = (tmp_path / "out" / "report.md").read_text()
    assert re.search(r"\| memory \| 5\.0 GB peak of .* 1\.0 GB allowed: more than that was taken", report)


def test_a_report_without_the_newer_keys_is_read():
    text = json.loads(to_json(sample_report()))
    for key in ("peak_anonymous_bytes", "planned_memory_bytes", "max_memory_bytes", "workers"):
        del text["provenance"][key]
    report = from_json(json.dumps(text))
    assert ("memory", "1.5 GB peak") in list(provenance(report))


@pytest.mark.parametrize("command", [[], ["plan"], ["batch"], ["demo"]])
def test_nonsense_is_a_usage_error_for_every_command(cli, llama, command):
    model = [] if command == ["demo"] else [llama]
    result = cli(*command, *model, "--max-memory", "much")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: --max-memory 'much' is no amount of memory: write 8GB, 500MB or 6GiB\n"


def test_too_low_a_ceiling_is_refused_before_anything_is_read_or_written(cli, llama, tmp_path, monkeypatch):
    monkeypatch.setattr(TensorReader, "read", lambda *_: pytest.fail("a weight was read"))
    result = cli(llama, "--out", tmp_path / "out", "--max-memory", "10MB")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--max-memory 10MB is too little for" in result.stderr
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("command", [[], ["batch"]])
def test_a_refusal_comes_before_weights_are_fetched(cli, llama, monkeypatch, command):
    def headers_of(
        model: str, revision: str | None = None, *, headers_only: bool = False, stream: bool | None = None
    ) -> Checkpoint:
        assert headers_only, "weights were fetched"
        return open_checkpoint(model)

    monkeypatch.setattr("audit.checkpoint.open_checkpoint", headers_of)
    result = cli(*command, llama, "--max-memory", "10MB")
    assert "--max-memory 10MB is too little for" in result.stderr
    assert result.exit_code == (1 if command else 2)
