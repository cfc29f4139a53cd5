"""Hub models streamed: the report of a copy, the bytes that were planned, and every fault of a network."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import write_llama
from hub_server import SIGNATURE, TOKEN, Fault, HubServer, client_of
from pausing import instead_of_waiting
from test_hub import REPO, SHARDS, cached_files, check_failure, gcont, report_of, write_repo
from typer.testing import Result

from audit.checkpoint import hub as hub_module
from audit.checkpoint import open_checkpoint, origin, stream
from audit.errors import NetworkError

KILLS = int(os.environ.get("GCONT_KILLS", "3"))
"""How often the process is killed in the test of that; the long run has 50."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    with HubServer() as server:
        server.add(REPO, write_repo(tmp_path / "repo"))
        yield server


@pytest.fixture
def here(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """The server and this process's client; small requests, and no patience lost in waiting."""
    monkeypatch.setattr(stream, "REQUEST", 600)
    monkeypatch.setattr(stream, "AHEAD", 5000)
    monkeypatch.setattr(origin, "PAUSES", (0.0,) * 4)
    with client_of(hub, tmp_path, monkeypatch):
        yield hub


@pytest.fixture
def local(audited: Callable[..., dict[str, Any]], tmp_path: Path, hub: HubServer) -> dict[str, Any]:
    """The report of the same files on this machine."""
    return audited(tmp_path / "repo", "--out", "local")


def weights(hub: HubServer) -> list[tuple[str, int, int]]:
    """The ranges of weights that storage was asked for: all but those at a file's start, with the header."""
    found = []
    for request in hub.requests:
        if request.storage and request.range and not request.range.startswith("bytes=0-"):
            first, last = request.range.removeprefix("bytes=").split("-")
            name = request.path.split("?")[0].rsplit("/", 1)[1]
            found.append((name, int(first), int(last) + 1))
    return found


def asked_bytes(hub: HubServer) -> int:
    return sum(stop - start for _, start, stop in weights(hub))


def numbers(report: dict[str, Any]) -> tuple[Any, ...]:
    """What a report says of the weights, and of the files' identity."""
    return report["projections"], report["findings"], report["coverage"], report["settings"]


# --- the good path


def test_a_streamed_audit_says_what_a_local_one_says_and_keeps_no_shard(
    here: HubServer, local: dict[str, Any], audited: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    report = audited(REPO, "--stream")
    assert numbers(report) == numbers(local)
    assert report["model"]["source"] == "hub"
    assert report["provenance"]["bytes_read"] == local["provenance"]["bytes_read"]
    found = {path.name for path in (tmp_path / "cache").rglob("*") if path.name.endswith(".safetensors")}
    assert found == set()
    assert max(path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file()) < 10_000
    hashes = {file["name"]: file["etag"] for file in report["provenance"]["files"]}
    assert hashes == {
        sibling.rfilename: sibling.lfs.sha256
        for sibling in hub_module.huggingface_hub.HfApi().model_info(REPO, files_metadata=True).siblings
        if sibling.rfilename in SHARDS
    }


@pytest.mark.parametrize(
    "asked", [(), ("--only", "q,k,v,o"), ("--layers", "1:3"), ("--full",), ("--fold-norm",)]
)
def test_what_is_asked_for_is_what_plan_says(
    here: HubServer,
    audited: Callable[..., dict[str, Any]],
    cli: Callable[..., Result],
    asked: tuple[str, ...],
) -> None:
    plan = json.loads(cli("plan", REPO, "--stream", "--json", *asked).stdout)
    here.requests.clear()
    report = audited(REPO, "--stream", *asked)
    ranges = weights(here)
    assert asked_bytes(here) == plan["bytes_to_read"] == report["provenance"]["bytes_read"]
    assert len(ranges) == plan["requests"]
    assert all(stop - start <= stream.REQUEST for _, start, stop in ranges)
    if asked != ("--full",):  # which looks at layers again, to compare them
        assert len(set(ranges)) == len(ranges)


def test_neighbours_are_joined_and_files_come_one_after_the_other(
    here: HubServer, audited: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "REQUEST", 2**23)
    monkeypatch.setattr(stream, "AHEAD", 2**26)
    audited(REPO, "--stream")
    checkpoint = open_checkpoint(REPO, headers_only=True)
    runs: dict[str, list[list[int]]] = {}
    planned = [name for name in checkpoint.tensors if "_proj" in name]
    for name in sorted(planned, key=lambda name: checkpoint.tensors[name].entry.start):
        at = checkpoint.tensors[name]
        here_runs = runs.setdefault(at.file.name, [])
        if here_runs and here_runs[-1][1] == at.entry.start:
            here_runs[-1][1] = at.entry.stop
        else:
            here_runs.append([at.entry.start, at.entry.stop])
    wanted = {(name, start, stop) for name, found in runs.items() for start, stop in found}
    assert set(weights(here)) == wanted
    assert len(wanted) < len(planned) / 2


def test_layers_are_streamed_in_the_order_of_the_file(
    here: HubServer,
    audited: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """In a file of their own layers lie as their names sort: 0, 1, 10, 11, 2."""
    monkeypatch.setattr("audit.pipeline.workers_for", lambda *of: 1)
    monkeypatch.setattr(stream, "CONNECTIONS", 1)
    here.add(REPO, write_llama(tmp_path / "deep", layers=12))
    checkpoint = open_checkpoint(REPO, headers_only=True)
    layer_at = {
        at.entry.start: int(name.split(".")[2]) for name, at in checkpoint.tensors.items() if "_proj" in name
    }
    audited(REPO, "--stream")
    passed = [layer_at[start] for _, start, _ in weights(here) if start in layer_at]
    assert [*dict.fromkeys(passed)] == [0, 1, 10, 11, *range(2, 10)]


def test_several_requests_are_in_flight(here: HubServer, cli: Callable[..., Result]) -> None:
    checkpoint = open_checkpoint(REPO, headers_only=True, stream=True)
    here.faults = [Fault("/storage/", stall=0.3)]
    large = next(name for name, at in checkpoint.tensors.items() if at.entry.nbytes > 10_000)
    at = checkpoint.tensors[large]
    extent = stream.Extent(at.file, at.entry.start, at.entry.start + 600 * 16)
    flow, started = stream.Stream([extent]), time.monotonic()
    buffer = bytearray(extent.size)
    flow.read(extent, memoryview(buffer))
    assert time.monotonic() - started < 16 * 0.3 / 2
    flow.close()


def test_the_cache_is_used_where_the_shards_are_there(
    here: HubServer, local: dict[str, Any], audited: Callable[..., dict[str, Any]]
) -> None:
    audited(REPO, "--download", "--only", "q")
    before = len(weights(here))
    report = audited(REPO, "--stream", "--fresh")
    assert numbers(report) == numbers(local)
    assert len(weights(here)) == before


def test_a_shard_in_the_cache_spares_its_download(
    here: HubServer, audited: Callable[..., dict[str, Any]], tmp_path: Path, local: dict[str, Any]
) -> None:
    audited(REPO, "--download", "--only", "q")
    next((tmp_path / "cache").glob(f"models--*/snapshots/*/{SHARDS[1]}")).unlink()
    here.requests.clear()
    assert numbers(audited(REPO, "--stream", "--fresh")) == numbers(local)
    assert {name for name, _, _ in weights(here)} == {SHARDS[1]}


def test_where_the_disk_has_no_room_it_streams_and_says_so(
    here: HubServer, cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(hub_module, "_free_bytes", lambda folder: 2_000_100_000)
    run = cli(REPO)
    assert run.exit_code == 0
    assert "do not fit on the disk of the Hub cache" in run.stderr
    assert "streaming them" in run.stderr
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    run = cli(REPO, "--download", "--fresh")
    assert (run.exit_code, run.stderr) == (0, "")
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 2


def test_stream_and_download_exclude_each_other(here: HubServer, cli: Callable[..., Result]) -> None:
    assert check_failure(cli(REPO, "--stream", "--download"), Path(), 2, "--stream", "--download") == []
    assert here.requests == []


def test_a_report_is_known_again_however_it_was_read(here: HubServer, cli: Callable[..., Result]) -> None:
    assert cli(REPO, "--stream").exit_code == 0
    before = len(weights(here))
    assert "already audited" in cli(REPO).stderr
    assert "already audited" in cli(REPO, "--stream").stderr
    assert len(weights(here)) == before


def test_a_private_repo_is_streamed_with_its_token_which_storage_never_sees(
    here: HubServer,
    audited: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    local: dict[str, Any],
) -> None:
    here.repos[REPO].private = True
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert numbers(audited(REPO, "--stream")) == numbers(local)
    assert all(request.authorized != request.storage for request in here.requests)


def test_signed_urls_that_lapse_are_renewed(
    here: HubServer, audited: Callable[..., dict[str, Any]], local: dict[str, Any]
) -> None:
    here.signature_serves = 5
    assert numbers(audited(REPO, "--stream")) == numbers(local)
    renewed = [request for request in here.requests if request.method == "HEAD"]
    assert len(renewed) > 4
    assert len({request.path for request in here.requests if request.storage}) > 4


def test_a_proxy_on_the_way_is_used(hub: HubServer, tmp_path: Path) -> None:
    """The Hub's host cannot be found but through the proxy, which here is the Hub itself."""
    run = gcont("http://hub.invalid", tmp_path, REPO, "--stream", http_proxy=hub.url, no_proxy="127.0.0.1")
    assert (run.returncode, run.stderr) == (0, "")
    assert report_of(tmp_path)["model"]["source"] == "hub"
    assert hub.asked("http://hub.invalid/")


def test_xet_storage_is_streamed_over_its_bridge(
    here: HubServer, audited: Callable[..., dict[str, Any]], local: dict[str, Any]
) -> None:
    here.xet = True
    assert numbers(audited(REPO, "--stream")) == numbers(local)


def test_a_mirror_that_tells_no_sizes(
    here: HubServer, audited: Callable[..., dict[str, Any]], local: dict[str, Any]
) -> None:
    here.tells_sizes = False
    assert numbers(audited(REPO, "--stream")) == numbers(local)


# --- what passes


PASSING = {
    "a reset in the midst of a body": Fault("/storage/", cut=100, reset=True, after=3, times=3),
    "a body that ends early": Fault("/storage/", cut=100, after=3, times=5),
    "less than was asked for": Fault("/storage/", short=50, after=3, times=3),
    "error 500": Fault("/storage/", status=500, after=3, times=3),
    "error 503 at the first word": Fault("/api/", status=503, times=2),
    "error 503 on the Hub itself": Fault("/resolve/", status=503, after=2, times=1),
    "too many requests": Fault("/storage/", status=429, headers={"Retry-After": "0"}, after=2, times=3),
    "too many requests until a date": Fault(
        "/storage/", status=429, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, after=2, times=2
    ),
    "a range that does not exist, once": Fault("/storage/", status=416, after=3, times=1),
    "everything instead of a part, once": Fault(
        "/storage/", status=200, body=b"x" * 5000, headers={}, after=3, times=1
    ),
    "another part than asked": Fault(
        "/storage/", alter={"Content-Range": "bytes 7-606/99999999"}, after=3, times=1
    ),
    "compressed on the way": Fault("/storage/", alter={"Content-Encoding": "gzip"}, after=3, times=1),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
def test_what_passes_is_waited_for(
    here: HubServer, audited: Callable[..., dict[str, Any]], local: dict[str, Any], fault: Fault
) -> None:
    here.faults = [Fault(**vars(fault))]
    report = audited(REPO, "--stream")
    assert here.faults[0].times == 0, "the fault did not come to pass"
    assert numbers(report) == numbers(local)


def test_retry_after_is_waited_for(here: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    file = open_checkpoint(REPO, headers_only=True).files[0]
    here.faults = [Fault("/storage/", status=429, headers={"Retry-After": "1"}, times=1)]
    begun, buffer = time.monotonic(), bytearray(10)
    assert file.origin is not None
    origin.fetch(file.origin, 8, memoryview(buffer))
    assert 1 <= time.monotonic() - begun < 10
    assert bytes(buffer) == (Path("../repo") / file.name).read_bytes()[8:18]


def test_a_file_that_has_another_size_all_at_once(here: HubServer) -> None:
    file = open_checkpoint(REPO, headers_only=True).files[0]
    here.faults = [Fault("/storage/", alter={"Content-Range": "bytes 8-17/99"})]
    assert file.origin is not None
    with pytest.raises(
        NetworkError, match=f"changed while it was read: it has 99 bytes, and had {file.size}"
    ):
        origin.fetch(file.origin, 8, memoryview(bytearray(10)))


def test_a_server_that_says_nothing_is_asked_again(
    here: HubServer,
    audited: Callable[..., dict[str, Any]],
    local: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub_module.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
    here.faults = [Fault("/storage/", stall=3, after=3, times=2)]
    assert numbers(audited(REPO, "--stream")) == numbers(local)


# --- what does not pass: one line, exit 4, what was measured is kept


LASTING = {
    "resets": (Fault("/storage/", cut=0, reset=True, after=40), "of org/tiny", "check the network"),
    "bodies that end early": (Fault("/storage/", cut=0, after=40), "of org/tiny", "check the network"),
    "error 500": (Fault("/storage/", status=500, after=40), "127.0.0.1 answered 500", "try again later"),
    "too many requests": (
        Fault("/storage/", status=429, headers={"Retry-After": "86400"}, after=40),
        "127.0.0.1 answered 429",
        "try again later",
    ),
    "416 for good": (Fault("/storage/", status=416, after=40), "changed while it was read", "shorter"),
    "everything instead of a part": (
        Fault("/storage/", status=200, body=b"x" * 5000, after=40),
        "sends all of",
        "--download",
    ),
    "another ETag": (Fault("/storage/", alter={"ETag": '"new"'}, after=40), "changed while", "ETag"),
    "another size": (
        Fault("/storage/", alter={"Content-Range": "bytes 600-1199/7"}, after=40),
        "another part",
        "proxy",
    ),
    "refused for good": (Fault("/storage/", status=403, after=40), "may not be read: 127.0.0.1", "403"),
    "gone": (Fault("/storage/", status=404, after=40), "there is no model-0000", "404"),
    "compressed": (Fault("/storage/", alter={"Content-Encoding": "gzip"}, after=40), "gzip-coded", "proxy"),
    "a teapot": (Fault("/storage/", status=418, after=40), "answered 418", "try again later"),
}


@pytest.mark.parametrize(("fault", "said", "hint"), LASTING.values(), ids=LASTING.keys())
def test_what_lasts_ends_with_one_line_and_what_was_measured_is_kept(
    here: HubServer,
    cli: Callable[..., Result],
    audited: Callable[..., dict[str, Any]],
    local: dict[str, Any],
    fault: Fault,
    said: str,
    hint: str,
) -> None:
    here.faults = [Fault(**vars(fault))]
    run = cli(REPO, "--stream")
    assert (run.exit_code, run.stdout) == (4, ""), run.stderr
    (error,) = run.stderr.splitlines()
    assert error.startswith("error: ")
    assert said in error
    assert hint in error
    assert "measurements are kept in" in error
    assert "the same command goes on from there" in error
    assert SIGNATURE not in error
    assert not Path("gcont-reports/org--tiny").exists()
    kept = list(Path("gcont-reports/org--tiny.partial").glob("*.safetensors"))
    assert kept
    here.faults, here.requests = [], []
    run = cli(REPO, "--stream", "--json")
    assert run.exit_code == 0
    assert f"resumed: {len(kept)} of 40" in run.stderr
    report = json.loads(run.stdout)
    assert numbers(report) == numbers(local)
    assert not Path("gcont-reports/org--tiny.partial").exists()
    again = asked_bytes(here)
    assert 0 < again < local["provenance"]["bytes_read"]


@pytest.mark.parametrize("command", [(), ("check",)], ids=["audit", "check"])
def test_told_to_stop_while_a_server_is_silent_it_stops(
    hub: HubServer, tmp_path: Path, command: tuple[str, ...]
) -> None:
    hub.faults = [Fault("/storage/", stall=60)]
    (tmp_path / "work").mkdir(exist_ok=True)
    process = started(hub, tmp_path, *command)
    while not hub.asked("/storage/"):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(8) == 130


def test_a_silent_server_is_left_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts that take ten seconds each count as much as the pauses between them."""
    clock = [0.0]

    class Silent:
        title = "a file"

        def take(self, start: int, stop: int) -> Iterator[bytes]:
            clock[0] += 10
            raise origin.PassingError(NetworkError("silent", "wait"))
            yield b""

    def wait(seconds: float) -> None:
        clock[0] += seconds

    instead_of_waiting(monkeypatch, wait)
    monkeypatch.setattr(origin.time, "monotonic", lambda: clock[0])
    with pytest.raises(NetworkError, match="silent"):
        origin.fetch(Silent(), 0, memoryview(bytearray(9)))
    assert 60 < clock[0] < 80


def test_memory_that_streaming_takes_is_named(here: HubServer, cli: Callable[..., Result]) -> None:
    run = cli(REPO, "--stream", "--max-memory", "100MB")
    assert (
        check_failure(run, Path(), 2, "go to Python, torch and the results, 151.0 MB of it to streaming")
        == []
    )


def test_a_token_that_is_withdrawn_on_the_way(
    here: HubServer, cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    here.repos[REPO].gated = True
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    here.signature_serves = 8
    here.faults = [Fault("/resolve/", status=403, headers={"X-Error-Message": "no more"}, after=7)]
    run = cli(REPO, "--stream")
    assert run.exit_code == 4
    (error,) = run.stderr.splitlines()
    assert f"the Hub refuses access to {REPO}" in error
    assert TOKEN not in error


def test_a_name_that_resolves_no_more(here: HubServer, cli: Callable[..., Result]) -> None:
    """As where the storage's host cannot be found: DNS is of no use to a name under .invalid."""
    there = "http://storage.invalid/model"
    told = {"Location": there, "X-Repo-Commit": "0" * 40, "X-Linked-Size": "9", "X-Linked-ETag": '"e"'}
    here.faults = [Fault("/model-", status=302, headers=told)]
    run = cli(REPO, "--stream")
    assert run.exit_code == 4
    assert "no connection" in run.stderr


@pytest.mark.parametrize(
    "location", ["ftp://127.0.0.1/x", "http://", "http://[::1", "file:///etc/passwd", "http://a b/"]
)
def test_a_redirect_to_what_is_no_web_address(
    here: HubServer, cli: Callable[..., Result], location: str
) -> None:
    told = {"Location": location, "X-Repo-Commit": "0" * 40, "X-Linked-Size": "9", "X-Linked-ETag": '"e"'}
    here.faults = [Fault("/model-", status=302, headers=told)]
    run = cli("plan", REPO, "--stream")
    assert (run.exit_code, run.stdout) == (4, ""), run.stderr
    assert len(run.stderr.splitlines()) == 1


# --- the process is killed


def test_killed_at_any_moment_it_goes_on_to_the_same_report(tmp_path: Path, hub: HubServer) -> None:
    """SIGKILL at random moments, each time resumed; every report is that of an undisturbed run."""
    hub.add(REPO, write_llama(tmp_path / "deep", layers=40, planted=embedded(40)))
    hub.faults = [Fault("/storage/", stall=0.05)]
    whole = tmp_path / "whole"
    whole.mkdir()
    assert gcont(hub.url, whole, REPO, "--stream", "--quiet").returncode == 0
    folder, moments = tmp_path / "killed", random.Random(0)
    (folder / "work").mkdir(parents=True)
    report = folder / "work/gcont-reports/org--tiny"
    partial = report.with_name(f"{report.name}.partial")
    kills = finished = 0
    while kills < KILLS:
        process = started(hub, folder)
        kept = len(list(partial.glob("[0-9a-f]*.safetensors")))
        begun, wait = len(weights(hub)), moments.uniform(0, 0.9)
        while process.poll() is None and len(weights(hub)) == begun:
            time.sleep(0.002)
        with suppress(subprocess.TimeoutExpired):
            process.wait(wait)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            assert len(list(partial.glob("[0-9a-f]*.safetensors"))) >= kept or report.exists()
        else:
            finished += 1
            assert numbers(report_of(folder)) == numbers(report_of(whole))
            shutil.rmtree(report)
    run = gcont(hub.url, folder, REPO, "--stream", "--quiet")
    assert (run.returncode, run.stderr) == (0, "")
    assert numbers(report_of(folder)) == numbers(report_of(whole))
    assert not partial.exists()
    assert not cached_files(folder) & {"model.safetensors"}
    print(f"{kills} kills, {finished} audits finished between them")


def embedded(layers: int) -> dict[str, torch.Tensor]:
    """Tensors between the layers' own, so that these lie apart and take a request each."""
    return {f"model.layers.{layer}.mlp.gate_proj.bias": torch.ones(24) for layer in range(layers)}


def started(hub: HubServer, folder: Path, *command: str) -> subprocess.Popen[bytes]:
    """A streaming audit, or another command, in a process of its own."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")} | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "no_proxy": "127.0.0.1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "audit", *command, REPO, "--stream", "--quiet"],
        env=environment,
        cwd=folder / "work",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
