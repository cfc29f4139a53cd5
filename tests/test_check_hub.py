"""`gcont-audit check` of what is on the Hub, in its cache, or behind a URL."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hub_server
import huggingface_hub
import pytest
import torch
from checkpoints import HIDDEN, llama_config, llama_tensors, write_checkpoint
from hub_server import Fault, HubServer, client_of, names
from huggingface_hub import constants
from typer.testing import Result

from audit.checkpoint import origin

REPO = "org/tiny"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"
Q0 = "model.layers.0.self_attn.q_proj.weight"
Checked = Callable[..., dict[str, Any]]


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """Two shards, each larger than the first request for a header, one table in both."""
    table = torch.randn(20_000, HIDDEN, generator=torch.Generator().manual_seed(1))
    tables = {"model.embed_tokens.weight": table, "lm_head.weight": table.clone()}
    return write_checkpoint(tmp_path / "repo", llama_tensors() | tables, llama_config(), shards=2)


@pytest.fixture
def hub(tmp_path: Path, repo: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setattr(origin, "PAUSES", (0.0,) * 3)
    with HubServer() as server, client_of(server, tmp_path, monkeypatch):
        server.commit = server.add(REPO, repo)
        yield server


@pytest.fixture
def checked(cli: Callable[..., Result]) -> Checked:
    """Check, expect an exit code, and return what was found of the one model."""

    def run(*args: object, code: int = 0) -> dict[str, Any]:
        result = cli("check", *args, "--json")
        assert result.exit_code == code, result.output
        (model,) = json.loads(result.stdout)["models"]
        return model

    return run


def verdicts(model: dict[str, Any]) -> dict[str, str]:
    return {file["name"]: file["verdict"] for file in model["files"]}


def codes(model: dict[str, Any]) -> list[str]:
    return [finding["code"] for finding in model["findings"]]


def cached(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "cache").glob("models--*/snapshots/*/*")}


def blob(tmp_path: Path, name: str) -> Path:
    """The file behind a name in the cache."""
    (link,) = (tmp_path / "cache").glob(f"models--*/snapshots/*/{name}")
    return link.resolve()


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


ALL = {"config.json", INDEX, *SHARDS}


def test_a_hub_model_is_fetched_and_held_against_the_hubs_hashes(
    hub: HubServer, checked: Checked, repo: Path, tmp_path: Path
) -> None:
    model = checked(REPO)
    assert (model["model"], model["source"], model["revision"]) == (REPO, "hub", hub.commit)
    assert model["family"] == "llama"
    assert verdicts(model) == dict.fromkeys(ALL, "verified")
    assert cached(tmp_path) == ALL
    for file in model["files"]:
        content = (repo / file["name"]).read_bytes()
        assert file["sha256"] == hashlib.sha256(content).hexdigest()
        algorithm = "sha256" if file["name"] in SHARDS else "git-sha1"
        assert file["expected"]["algorithm"] == algorithm


def test_streaming_reads_every_byte_once_and_keeps_none(
    hub: HubServer, checked: Checked, repo: Path, tmp_path: Path
) -> None:
    model = checked(REPO, "--stream")
    assert verdicts(model) == dict.fromkeys(ALL, "verified")
    assert cached(tmp_path) == {"config.json", INDEX}
    assert codes(model) == ["duplicate-tensor"]
    for name in SHARDS:
        size = (repo / name).stat().st_size
        sent = sum(request.sent for request in hub.asked(name) if request.storage)
        assert size < sent <= size + 100_000


def test_what_is_found_is_the_same_wherever_it_is_read(
    hub: HubServer, checked: Checked, repo: Path, tmp_path: Path
) -> None:
    tensors = llama_tensors() | {Q0: torch.full((HIDDEN, HIDDEN), float("nan"))}
    zero = {"model.layers.1.mlp.up_proj.weight": torch.zeros(24, HIDDEN)}
    again = {
        "model.layers.2.self_attn.o_proj.weight": tensors["model.layers.0.self_attn.o_proj.weight"].clone()
    }
    write_checkpoint(repo, tensors | zero | again, llama_config(), shards=2)
    streamed, local = checked(REPO, "--stream", code=1), checked(repo, code=1)
    assert codes(streamed) == ["nan", "zero", "duplicate-tensor"]
    assert streamed["findings"] == local["findings"]
    assert checked(REPO, code=1)["findings"] == local["findings"]


@pytest.mark.parametrize("offline", [False, True])
def test_a_flipped_byte_in_the_cache_is_found(
    hub: HubServer, checked: Checked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    checked(REPO)
    flip(blob(tmp_path, SHARDS[1]), -100)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    model = checked(REPO, code=1)
    assert verdicts(model) == dict.fromkeys(ALL - {SHARDS[1]}, "verified") | {SHARDS[1]: "differs"}
    first = model["findings"][0]
    assert (first["code"], first["severity"], first["file"]) == ("hash-mismatch", "error", SHARDS[1])
    assert blob(tmp_path, SHARDS[1]).name in first["message"]


@pytest.mark.parametrize("of", ["folder", "file"])
def test_a_path_into_the_cache_is_known_by_its_blob(
    hub: HubServer, checked: Checked, tmp_path: Path, of: str
) -> None:
    checked(REPO)
    (snapshot,) = (tmp_path / "cache").glob("models--*/snapshots/*")
    path = snapshot if of == "folder" else snapshot / SHARDS[0]
    assert set(verdicts(checked(path)).values()) == {"verified"}
    flip(blob(tmp_path, SHARDS[0]), -1)
    assert verdicts(checked(path, code=1))[SHARDS[0]] == "differs"


@pytest.mark.parametrize("name", ["config.json", INDEX])
def test_a_small_file_that_changed_in_the_cache(
    hub: HubServer, checked: Checked, tmp_path: Path, name: str
) -> None:
    checked(REPO)
    path = blob(tmp_path, name)
    path.write_bytes(path.read_bytes() + b" ")
    model = checked(REPO, code=1)
    assert verdicts(model)[name] == "differs"
    assert "git's hash" in model["findings"][0]["message"]


def test_what_the_hub_sends_is_not_what_it_promised(
    hub: HubServer, checked: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_server, "_sha256", lambda path: "0" * 64)
    model = checked(REPO, "--stream", code=1)
    assert {name for name, said in verdicts(model).items() if said == "differs"} == {*SHARDS}


def test_quick_reads_headers_only(hub: HubServer, checked: Checked, tmp_path: Path) -> None:
    model = checked(REPO, "--quick")
    assert verdicts(model) == {"config.json": "verified", INDEX: "verified"} | dict.fromkeys(SHARDS, "unread")
    assert cached(tmp_path) == {"config.json", INDEX}
    assert sum(request.sent for request in hub.requests if request.storage) <= 200_000


def test_a_shard_that_the_repo_lacks(hub: HubServer, checked: Checked, repo: Path) -> None:
    (repo / SHARDS[0]).unlink()
    model = checked(REPO, code=1)
    first = model["findings"][0]
    assert (first["code"], first["file"]) == ("missing-shard", SHARDS[0])
    assert verdicts(model)[SHARDS[1]] == "verified"


def test_a_broken_header_on_the_hub(hub: HubServer, checked: Checked, repo: Path) -> None:
    flip(repo / SHARDS[0], 8)
    model = checked(REPO, "--stream", code=1)
    assert codes(model)[0] == "header"
    assert set(verdicts(model).values()) == {"verified"}


def test_a_network_that_fails_is_no_finding(hub: HubServer, cli: Callable[..., Result]) -> None:
    hub.faults.append(Fault(where=f"/storage/{REPO}", status=500, after=2))
    result = cli("check", REPO, "--stream")
    assert (result.exit_code, result.stdout) == (4, "")
    assert len(result.stderr.splitlines()) == 1


def test_a_network_that_fails_for_one_header_is_no_finding(
    hub: HubServer, cli: Callable[..., Result]
) -> None:
    hub.faults.append(Fault(where=f"/storage/{REPO}/{hub.commit}/{SHARDS[1]}", status=500))
    result = cli("check", REPO, "--quick")
    assert (result.exit_code, result.stdout) == (4, "")


def test_a_hub_that_is_away_leaves_the_cache(
    hub: HubServer, cli: Callable[..., Result], checked: Checked
) -> None:
    result = cli("check", "org/none")
    assert (result.exit_code, result.stdout) == (4, "")
    checked(REPO)
    hub.close()
    huggingface_hub.close_session()  # it would ask over a connection that is open still
    result = cli("check", REPO)
    assert result.exit_code == 0
    assert "using the cached copy" in result.stderr
    assert "hashes known for 4 of 4 files" in result.stdout


def test_an_etag_from_the_web_is_no_hash(hub: HubServer, checked: Checked) -> None:
    """Some servers' ETags look like SHA-256 and are none, such as those of Xet storage."""
    hub.faults.append(Fault(where="/storage/", alter={"ETag": f'"{"0" * 64}"'}))
    there = f"{hub.storage_url}/storage/{REPO}/{hub.commit}"
    model = checked(f"{there}?secret=1")
    assert model["source"] == "url"
    assert "secret" not in json.dumps(model)
    assert set(verdicts(model).values()) == {"unknown"}
    assert codes(model) == ["duplicate-tensor"]


def test_a_shard_that_is_not_behind_the_url(hub: HubServer, checked: Checked, repo: Path) -> None:
    (repo / SHARDS[1]).unlink()
    model = checked(f"{hub.storage_url}/storage/{REPO}/{hub.commit}", code=1)
    assert [(one["code"], one["file"]) for one in model["findings"] if one["severity"] == "error"] == [
        ("missing-shard", SHARDS[1])
    ]


def test_a_revision_and_what_goes_together(hub: HubServer, cli: Callable[..., Result], repo: Path) -> None:
    assert cli("check", REPO, "--revision", "nowhere").exit_code == 4
    assert cli("check", repo, "--revision", "main").exit_code == 2
    assert cli("check", REPO, "--stream", "--download").exit_code == 2
    assert names(hub.asked("/resolve/")) == set()
