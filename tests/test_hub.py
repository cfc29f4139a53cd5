"""The Hub, through huggingface_hub itself, from a server on the loopback.

Most runs are processes of their own, as huggingface_hub reads its environment when it is imported; the
finer distinctions are made in this process, with its constants set instead.
"""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from checkpoints import pack, write_index, write_llama
from hub_server import SIGNATURE, TOKEN, Fault, HubServer, client_of, names
from huggingface_hub import constants
from typer.testing import Result

from audit.checkpoint import Checkpoint, files, open_checkpoint
from audit.errors import (
    AccessError,
    AuditError,
    CorruptError,
    NetworkError,
    OfflineError,
    OutputError,
    RepoNotFoundError,
    ShardIndexError,
    UsageError,
)

REPO = "org/tiny"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
NEEDED = {"config.json", "model.safetensors.index.json", *SHARDS}
DECOYS = ("pytorch_model.bin", "consolidated.safetensors", "tokenizer.json", "README.md")


def write_repo(folder: Path, layers: int = 5) -> Path:
    """A repo of two shards larger than a header's first request, beside what must not be fetched."""
    tables = {name: torch.ones(4096, 16) for name in ("model.embed_tokens.weight", "lm_head.weight")}
    write_llama(folder, layers, shards=2, planted=tables)
    for name in DECOYS:
        (folder / name).write_bytes(b"not for you")
    return folder


def gcont(endpoint: str, folder: Path, *args: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the command in `folder`/work, with a cache of its own beside it and no other Hub settings."""
    work = folder / "work"
    work.mkdir(exist_ok=True)
    unwanted = ("HF_", "HUGGING_FACE", "TRANSFORMERS", "PROXY")
    inherited = {
        key: value for key, value in os.environ.items() if not any(part in key.upper() for part in unwanted)
    }
    environment = {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(folder / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    return subprocess.run(
        [sys.executable, "-m", "audit", *args],
        capture_output=True,
        text=True,
        env=inherited | environment | settings,
        cwd=work,
        timeout=120,
        check=False,
    )


def report_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "work/gcont-reports/org--tiny/audit.json").read_text())


def cached_files(folder: Path) -> set[str]:
    return {path.name for path in (folder / "home/hub").glob("models--*/snapshots/*/*")}


def check_failure(
    run: subprocess.CompletedProcess[str] | Result, work: Path, code: int, *words: str
) -> list[str]:
    """The exit code, one line of error with these words in it, no secret, and nothing left behind."""
    found = run.returncode if isinstance(run, subprocess.CompletedProcess) else run.exit_code
    assert (found, run.stdout) == (code, ""), run.stderr
    *others, error = run.stderr.splitlines()
    assert error.startswith("error: ")
    for word in words:
        assert word in error
    assert TOKEN not in run.stderr
    assert SIGNATURE not in run.stderr
    assert [path for path in work.rglob("*") if path.name != "gcont-reports"] == []
    return others


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


# --- the good path, in processes of their own


@dataclass(frozen=True)
class Audited:
    """A first audit of the branch main, and what it took."""

    hub: HubServer
    folder: Path
    commit: str
    run: subprocess.CompletedProcess[str]

    def copy(self, to: Path) -> Path:
        """The same cache, for a further run."""
        shutil.copytree(self.folder / "home", to / "home", symlinks=True)
        return to


@pytest.fixture(scope="module")
def audited_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Audited]:
    folder = tmp_path_factory.mktemp("hub")
    with HubServer() as hub:
        commit = hub.add(REPO, write_repo(folder / "repo"))
        yield Audited(hub, folder, commit, gcont(hub.url, folder, REPO))


def test_a_hub_id_is_audited_and_only_what_it_needs_is_fetched(audited_once: Audited) -> None:
    hub, run = audited_once.hub, audited_once.run
    assert (run.returncode, run.stderr) == (0, "")
    report = report_of(audited_once.folder)
    assert report["model"]["id"] == REPO
    assert report["model"]["source"] == "hub"
    assert report["model"]["revision"] == audited_once.commit
    stored = {name: (audited_once.folder / "repo" / name).read_bytes() for name in SHARDS}
    told = {file["name"]: (file["size"], file["etag"]) for file in report["provenance"]["files"]}
    assert told == {name: (len(content), sha256(content).hexdigest()) for name, content in stored.items()}
    assert cached_files(audited_once.folder) == names(hub.asked("/resolve/")) == NEEDED
    bodies = [request for request in hub.requests if request.method == "GET" and request.sent]
    assert len(bodies) == 1 + len(NEEDED)


def snapshot(folder: Path, commit: str) -> list[Path]:
    return list((folder / f"home/hub/models--org--tiny/snapshots/{commit}").iterdir())


def test_offline_gives_the_same_numbers_from_the_cache(audited_once: Audited, tmp_path: Path) -> None:
    folder, before = audited_once.copy(tmp_path), len(audited_once.hub.requests)
    run = gcont(audited_once.hub.url, folder, REPO, "--quiet", HF_HUB_OFFLINE="1")
    assert (run.returncode, run.stderr) == (0, "")
    assert len(audited_once.hub.requests) == before
    first, again = report_of(audited_once.folder), report_of(folder)
    assert again["projections"] == first["projections"]
    assert again["model"] == first["model"]
    assert again["provenance"]["files"] == first["provenance"]["files"]


def test_a_hub_that_is_away_is_replaced_by_the_cache(audited_once: Audited, tmp_path: Path) -> None:
    run = gcont("http://127.0.0.1:1", audited_once.copy(tmp_path), REPO)
    note = f"note: the Hub cannot be reached; using the cached copy at {audited_once.commit}\n"
    assert (run.returncode, run.stderr) == (0, note)
    assert report_of(tmp_path)["projections"] == report_of(audited_once.folder)["projections"]


def test_plan_reads_headers_by_range_and_keeps_nothing_of_the_shards(hub: HubServer, tmp_path: Path) -> None:
    hub.add(REPO, write_repo(tmp_path / "main", layers=3), "main")
    tagged = hub.add(REPO, write_repo(tmp_path / "tagged"), "v1")
    run = gcont(hub.url, tmp_path, "plan", REPO, "--revision", "v1", "--json")
    assert (run.returncode, run.stderr) == (0, "")
    plan = json.loads(run.stdout)
    assert (plan["revision"], plan["layers"]) == (tagged, [0, 1, 2, 3, 4])
    assert plan["bytes_to_read"] == 5 * 4 * (
        16 * 16 + 8 * 16 + 8 * 16 + 16 * 16 + 24 * 16 + 24 * 16 + 16 * 24
    )
    shards = hub.asked(".safetensors?")
    assert names(shards) == set(SHARDS)
    assert all(request.range is not None and request.sent < 120_000 for request in shards)
    assert cached_files(tmp_path) == {"config.json", "model.safetensors.index.json"}
    blobs = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert max(path.stat().st_size for path in blobs) < 10_000


def test_a_private_repo_is_read_with_its_token_which_storage_never_sees(
    hub: HubServer, tmp_path: Path
) -> None:
    commit = hub.add(REPO, write_repo(tmp_path / "repo"), private=True)
    run = gcont(hub.url, tmp_path, REPO, "--revision", commit, "--only", "q", HF_TOKEN=TOKEN)
    assert (run.returncode, run.stderr) == (0, "")
    assert report_of(tmp_path)["model"]["revision"] == commit
    assert all(request.authorized != request.storage for request in hub.requests)
    written = (tmp_path / "work").rglob("*.*")
    assert not any(TOKEN.encode() in path.read_bytes() for path in written if path.is_file())


def test_a_cut_connection_is_taken_up_again_without_a_word(hub: HubServer, tmp_path: Path) -> None:
    commit = hub.add(REPO, write_repo(tmp_path / "repo"), "fix/a")
    hub.faults = [Fault("/storage/", cut=500, times=1)]
    run = gcont(hub.url, tmp_path, REPO, "--revision", "fix/a", "--only", "q")
    assert (run.returncode, run.stderr) == (0, "")
    assert report_of(tmp_path)["model"]["revision"] == commit


# --- what goes wrong, in processes of their own


def test_an_unknown_repo(hub: HubServer, tmp_path: Path) -> None:
    run = gcont(hub.url, tmp_path, "org/none")
    assert check_failure(run, tmp_path / "work", 4, "org/none", "check the name") == []


def test_a_gated_repo_says_where_its_terms_are(hub: HubServer, tmp_path: Path) -> None:
    hub.add(REPO, write_repo(tmp_path / "repo"), gated=True)
    run = gcont(hub.url, tmp_path, REPO)
    assert check_failure(run, tmp_path / "work", 4, f"{REPO} is gated", f"{hub.url}/{REPO}", "HF_TOKEN") == []


def test_a_connection_that_breaks_leaves_no_report(hub: HubServer, tmp_path: Path) -> None:
    hub.add(REPO, write_repo(tmp_path / "repo"))
    hub.faults = [Fault("/storage/", cut=500, reset=True)]
    run = gcont(hub.url, tmp_path, REPO)
    assert check_failure(run, tmp_path / "work", 4, REPO, "check the network") == []
    assert not cached_files(tmp_path) & set(SHARDS)


def test_a_hub_that_refuses_connections(tmp_path: Path) -> None:
    run = gcont("http://127.0.0.1:1", tmp_path, REPO)
    assert check_failure(run, tmp_path / "work", 4, REPO, "check the network") == []


def test_a_token_that_is_refused_is_not_shown_even_in_a_traceback(hub: HubServer, tmp_path: Path) -> None:
    hub.add(REPO, write_repo(tmp_path / "repo"))
    run = gcont(hub.url, tmp_path, REPO, "-vv", HF_TOKEN="hf_anothertoken")
    trace = check_failure(run, tmp_path / "work", 4, f"wants another token for {REPO}", "hf auth login")
    assert trace[0] == "Traceback (most recent call last):"
    assert "hf_anothertoken" not in run.stderr


def test_offline_without_the_model_in_the_cache(tmp_path: Path) -> None:
    run = gcont("http://127.0.0.1:1", tmp_path, REPO, HF_HUB_OFFLINE="1")
    words = (f"{REPO} is not in the cache", "HF_HUB_OFFLINE", "fetch the model while online")
    assert check_failure(run, tmp_path / "work", 4, *words) == []


def test_offline_with_a_shard_missing(audited_once: Audited, tmp_path: Path) -> None:
    folder = audited_once.copy(tmp_path)
    next(path for path in snapshot(folder, audited_once.commit) if path.name == SHARDS[1]).unlink()
    run = gcont(audited_once.hub.url, folder, REPO, HF_HUB_OFFLINE="1")
    words = (f"{REPO} is only partly in the cache", SHARDS[1], "fetch the model while online")
    assert check_failure(run, tmp_path / "work", 4, *words) == []


def test_xet_storage_that_fails_is_the_network_and_no_defect(hub: HubServer, tmp_path: Path) -> None:
    pytest.importorskip("hf_xet")
    hub.add(REPO, write_repo(tmp_path / "repo"))
    hub.xet = True
    run = gcont(hub.url, tmp_path, REPO, HF_HUB_DISABLE_XET="0")
    assert check_failure(run, tmp_path / "work", 4, SHARDS[0], REPO, "try again") == []
    assert hub.asked("/reconstructions/")


# --- the finer distinctions, in this process


@pytest.fixture
def here(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """The server, with this process's huggingface_hub pointed at it and a fresh cache."""
    with client_of(hub, tmp_path, monkeypatch):
        yield hub


def failure(*, headers_only: bool = False) -> AuditError:
    with pytest.raises(AuditError) as caught:
        open_checkpoint(REPO, headers_only=headers_only)
    return caught.value


def layout(checkpoint: Checkpoint) -> dict[str, tuple[object, ...]]:
    """Everything that tells one stored tensor from another, where it lies included."""
    return {
        name: (at.entry.dtype, at.entry.shape, at.entry.start, at.entry.stop, at.file.name, at.file.size)
        for name, at in checkpoint.tensors.items()
    }


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return write_repo(tmp_path / "repo")


def test_a_folder_of_the_same_name_wins_and_is_said(
    here: HubServer, repo: Path, cli: Callable[..., Result]
) -> None:
    here.add(REPO, repo)
    write_llama(Path(REPO), layers=2)
    run = cli("plan", REPO)
    assert run.exit_code == 0
    assert run.stderr == f"note: {REPO} is a folder here, so the Hub model of that name is not asked for\n"
    assert "2 layers" in run.stdout
    assert here.requests == []


def test_a_tiny_model_under_a_published_name_is_not_compared(
    here: HubServer, repo: Path, audited: Callable[..., dict[str, Any]]
) -> None:
    here.add("meta-llama/Llama-3.1-8B", repo)
    report = audited("meta-llama/Llama-3.1-8B")
    assert report["model"]["source"] == "hub"
    assert report.get("published") is None
    written = Path("gcont-reports/meta-llama--Llama-3.1-8B/report.md").read_text()
    assert "2605.04971, Table" not in written


@pytest.mark.parametrize("model", ["a b/c", "a/b/c", "org/tiny.git", "org/a--b"])
def test_a_malformed_id(here: HubServer, cli: Callable[..., Result], model: str) -> None:
    assert check_failure(cli(model), Path(), 2, model) == []
    assert here.requests == []


def test_a_private_repo_without_a_token(here: HubServer, repo: Path, cli: Callable[..., Result]) -> None:
    here.add(REPO, repo, private=True)
    assert check_failure(cli(REPO), Path(), 4, REPO, "or it is private", "HF_TOKEN") == []


def test_an_unknown_revision(here: HubServer, repo: Path, cli: Callable[..., Result]) -> None:
    here.add(REPO, repo)
    run = cli(REPO, "--revision", "v9")
    assert check_failure(run, Path(), 4, f"{REPO} has no revision v9", "--revision") == []


def test_a_repo_of_pickles_is_not_opened(here: HubServer, repo: Path, cli: Callable[..., Result]) -> None:
    for path in repo.glob("*safetensors*"):
        path.unlink()
    here.add(REPO, repo)
    words = (REPO, "pytorch_model.bin", "pickles are never opened", "save_pretrained")
    assert check_failure(cli(REPO), Path(), 3, *words) == []
    assert here.asked("/resolve/") == []


def test_an_index_that_names_a_shard_the_repo_lacks(
    here: HubServer, repo: Path, cli: Callable[..., Result]
) -> None:
    (repo / SHARDS[1]).unlink()
    here.add(REPO, repo)
    assert check_failure(cli(REPO), Path(), 5, REPO, SHARDS[1], "missing") == []


NOT_THE_HUB = "is not the Hub: check HF_ENDPOINT"
FAULTS = {
    "error 500": (Fault("/api/", status=500), NetworkError, f"the Hub answered 500 for {REPO}: try again"),
    "error 503": (Fault("/api/", status=503), NetworkError, f"the Hub answered 503 for {REPO}: try again"),
    "too busy": (Fault("/api/", status=429), NetworkError, f"too many requests to answer for {REPO}"),
    "unauthorised": (Fault("/api/", status=401), AccessError, f"the Hub wants a token for {REPO}: log in"),
    "forbidden": (Fault("/api/", status=403), AccessError, f"refuses access to {REPO}: use a token"),
    "login page": (Fault("/api/", status=200, body=b"<html>"), NetworkError, NOT_THE_HUB),
    "silence": (Fault("/api/", stall=5), NetworkError, "ReadTimeout"),
    "files forbidden": (
        Fault("/resolve/", status=403),
        AccessError,
        f"refuses access to {REPO}: use a token",
    ),
    "files of no Hub": (Fault("/resolve/", status=200), NetworkError, NOT_THE_HUB),
    "file gone": (
        Fault(SHARDS[1], status=404, headers={"X-Error-Code": "EntryNotFound"}),
        RepoNotFoundError,
        f"{REPO} lacks a file it lists",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_told_apart(
    here: HubServer, repo: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    fault, kind, words = FAULTS[name]
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    here.add(REPO, repo)
    here.faults = [replace(fault)]
    error = failure()
    assert type(error) is kind
    assert words in str(error)


def test_the_cache_stands_in_for_a_hub_that_fails(here: HubServer, repo: Path) -> None:
    commit = here.add(REPO, repo)
    first = open_checkpoint(REPO)
    here.faults = [Fault("/api/", status=500)]
    again = open_checkpoint(REPO)
    assert again.notes == (f"the Hub cannot be reached; using the cached copy at {commit}",)
    assert layout(again) == layout(first)


def test_the_cache_does_not_stand_in_for_a_repo_that_is_gone(here: HubServer, repo: Path) -> None:
    here.add(REPO, repo)
    open_checkpoint(REPO)
    del here.repos[REPO]
    assert type(failure()) is RepoNotFoundError


def test_a_branch_that_moved_is_followed_but_not_while_it_is_being_read(
    here: HubServer, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = here.add(REPO, repo)
    ask = huggingface_hub.HfApi.model_info

    def ask_and_move(*args: Any, **settings: Any) -> Any:
        told = ask(*args, **settings)
        here.add(REPO, write_repo(tmp_path / "moved", layers=2))
        return told

    with monkeypatch.context() as moving:
        moving.setattr(huggingface_hub.HfApi, "model_info", ask_and_move)
        held = open_checkpoint(REPO)
    assert (held.revision, held.config) == (first, json.loads((repo / files.CONFIG).read_text()))
    assert layout(held) == layout(open_checkpoint(str(repo)))
    assert layout(open_checkpoint(REPO)) == layout(open_checkpoint(str(tmp_path / "moved")))


def test_a_token_with_a_stray_character(here: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_cut…")
    with pytest.raises(AccessError, match="copy it anew") as caught:
        open_checkpoint(REPO)
    assert "hf_cut" not in str(caught.value)


def test_an_id_that_cannot_be_one_is_refused_offline_too(
    here: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="neither a path here nor a Hub id"):
        open_checkpoint("org/tiny.git")


def test_a_cache_that_cannot_be_written(here: HubServer, repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here.add(REPO, repo)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(repo / "config.json" / "below"))
    error = failure()
    assert type(error) is OutputError
    assert "set HF_HOME elsewhere" in str(error)


def test_a_full_disk(here: HubServer, repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **settings: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    here.add(REPO, repo)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", full)
    error = failure()
    assert type(error) is OutputError
    assert "free space" in str(error)


def test_only_a_header_in_the_cache_is_no_model(
    here: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.add(REPO, write_llama(tmp_path / "whole"))
    open_checkpoint(REPO, headers_only=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    error = failure()
    assert type(error) is OfflineError
    assert "only partly in the cache" in str(error)


def test_an_index_of_an_absurd_size_is_not_fetched(
    here: HubServer, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_JSON_BYTES", 1000)
    here.add(REPO, repo)
    assert "too large" in str(failure())
    assert not here.asked("/resolve/")


# --- headers read from afar say what the files themselves say


@pytest.mark.parametrize(
    "trait", ["plain", "subfolder", "long header", "untold sizes", "no ranges", "no index"]
)
def test_far_and_near_agree(here: HubServer, tmp_path: Path, trait: str) -> None:
    folder = write_repo(tmp_path / "repo")
    shape_repo(folder, here, trait)
    here.add(REPO, folder)
    near, far = open_checkpoint(str(folder)), open_checkpoint(REPO, headers_only=True)
    assert layout(far) == layout(near)
    assert far.config == near.config
    assert all(file.path is None for file in far.files)
    fetched = open_checkpoint(REPO)
    assert layout(fetched) == layout(near)
    assert fetched.config == near.config
    for ours, theirs in zip(fetched.files, near.files, strict=True):
        assert ours.path is not None
        assert theirs.path is not None
        assert ours.path.read_bytes() == theirs.path.read_bytes()


def shape_repo(folder: Path, server: HubServer, trait: str) -> None:
    """Give a repo or its server one of the traits that repos and servers have."""
    shard = folder / SHARDS[1]
    match trait:
        case "subfolder":
            (folder / "part").mkdir()
            for name in SHARDS:
                (folder / name).rename(folder / "part" / name)
            index = json.loads((folder / files.INDEX).read_text())["weight_map"]
            write_index(folder, {name: f"part/{at}" for name, at in index.items()})
        case "long header":
            content = shard.read_bytes()
            length = int.from_bytes(content[:8], "little")
            header = json.loads(content[8 : 8 + length]) | {"__metadata__": {"note": "x" * 150_000}}
            shard.write_bytes(pack(header, content[8 + length :]))
        case "untold sizes":
            server.tells_sizes = False
        case "no ranges":
            server.knows_ranges = False
        case "no index":
            (folder / files.INDEX).unlink()
            (folder / "consolidated.safetensors").unlink()


LIARS = {
    "empty": b"",
    "too short": b"\x01\x00",
    "an absurd length": b"\xff" * 64,
    "cut in its header": pack({})[:9],
    "a list": pack([1]),
    "no JSON": pack(b"{not json"),
    "no object": pack({"a": []}),
    "a number for a dtype": pack({"a": {"dtype": 5, "shape": [1], "data_offsets": [0, 4]}}, b"1234"),
    "one offset": pack({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}, b"1234"),
    "cut in its data": pack({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}, b"1234"),
    "too much data": pack({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"1234 and more"),
}


@pytest.mark.parametrize("liar", LIARS)
def test_a_header_that_lies_is_refused_from_afar_as_it_is_here(
    here: HubServer, tmp_path: Path, liar: str
) -> None:
    folder = tmp_path / "liar"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(LIARS[liar])
    with pytest.raises(CorruptError) as near:
        open_checkpoint(str(folder))
    here.add(REPO, folder)
    far = failure(headers_only=True)
    assert type(far) is near.type
    assert far.message == near.value.message


def test_headers_of_a_private_repo_are_read_without_telling_storage_the_token(
    here: HubServer, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    here.add(REPO, repo, private=True)
    assert layout(open_checkpoint(REPO, headers_only=True)) == layout(open_checkpoint(str(repo)))
    assert names(request for request in here.requests if request.storage) == set(SHARDS)
    assert all(request.authorized != request.storage for request in here.requests)


def test_an_index_that_promises_too_much_is_caught_from_afar(here: HubServer, repo: Path) -> None:
    index = json.loads((repo / files.INDEX).read_text())["weight_map"]
    write_index(repo, index | {"model.norm.bias": SHARDS[0]})
    here.add(REPO, repo)
    assert type(failure(headers_only=True)) is type(failure()) is ShardIndexError


def test_the_etag_is_the_hubs_where_the_cache_shares_its_blobs(
    here: HubServer, repo: Path, tmp_path: Path
) -> None:
    here.add(REPO, repo)
    before = [file.etag for file in open_checkpoint(REPO).files]
    for blob in (tmp_path / "cache/models--org--tiny/blobs").iterdir():
        shared = tmp_path / f"cache/blobs/shared-{blob.name[:4]}"
        shared.parent.mkdir(exist_ok=True)
        blob.rename(shared)
        blob.symlink_to(shared)
    assert [file.etag for file in open_checkpoint(REPO).files] == before
