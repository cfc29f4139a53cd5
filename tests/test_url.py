"""A checkpoint behind a URL: over the web, and through drivers of fsspec."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from checkpoints import write_llama
from hub_server import Fault, HubServer, client_of
from pausing import instead_of_waiting
from test_hub import check_failure, gcont
from typer.testing import Result

from audit.checkpoint import is_url, origin, without_secrets
from audit.output import default_folder

SECRETS = "?X-Sig=verysecret&b=2"


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A server of files with ranges, by the address `web.there`."""
    monkeypatch.setattr(origin, "PAUSES", (0.0,) * 3)
    with HubServer() as server, client_of(server, tmp_path, monkeypatch):
        commit = server.add("org/tiny", write_llama(tmp_path / "model"))
        server.there = f"{server.storage_url}/storage/org/tiny/{commit}"
        yield server


def numbers(report: dict[str, Any]) -> tuple[Any, ...]:
    return report["projections"], report["findings"], report["coverage"]


def test_a_file_on_the_web(web: HubServer, audited: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    local = audited(tmp_path / "model", "--out", "local")
    report = audited(f"{web.there}/model.safetensors{SECRETS}")
    assert numbers(report) == numbers(local)
    assert report["model"]["source"] == "url"
    assert report["model"]["id"] == f"{web.there}/model.safetensors"
    (file,) = report["provenance"]["files"]
    assert file["etag"]
    written = Path("gcont-reports")
    assert not any(b"verysecret" in path.read_bytes() for path in written.rglob("*") if path.is_file())
    asked = [one for one in web.asked("model.safetensors") if "index" not in one.path]
    assert asked
    assert all(SECRETS[1:] in request.path and request.range for request in asked)
    assert all("verysecret" not in request.path for request in web.asked("config.json"))


def test_it_is_known_again_until_it_changes(
    web: HubServer, cli: Callable[..., Result], tmp_path: Path
) -> None:
    address = f"{web.there}/model.safetensors"
    assert cli(address).exit_code == 0
    assert "already audited" in cli(address).stderr
    before = (tmp_path / "model/model.safetensors").stat().st_size
    write_llama(tmp_path / "model", planted={"model.layers.0.self_attn.q_proj.weight": torch.eye(16)})
    assert (tmp_path / "model/model.safetensors").stat().st_size == before
    run = cli(address, "--json")
    assert (run.exit_code, "already audited" in run.stderr) == (0, False)
    assert json.loads(run.stdout)["projections"]["Q"]["sigma"][0] == pytest.approx([1, 1])


def test_a_password_in_the_address_stays_out_of_the_report(
    web: HubServer, audited: Callable[..., dict[str, Any]]
) -> None:
    report = audited(f"{web.there}/model.safetensors".replace("http://", "http://me:verysecret@"))
    assert report["model"]["id"] == f"{web.there}/model.safetensors"
    assert any(request.authorized for request in web.requests)
    assert not any(b"verysecret" in path.read_bytes() for path in Path().rglob("*") if path.is_file())


def test_secrets_of_the_command_line_stay_out_of_the_report(web: HubServer, tmp_path: Path) -> None:
    """The report tells the command, which in a process of its own is the one that was typed."""
    address = f"{web.there}/model.safetensors".replace("http://", "http://me:verysecret@")
    run = gcont(web.url, tmp_path, f"{address}{SECRETS}", "--only", "q", no_proxy="127.0.0.1")
    assert (run.returncode, run.stderr) == (0, "")
    (report,) = (tmp_path / "work").rglob("audit.json")
    told = json.loads(report.read_text())["provenance"]["command"]
    assert told == f"gcont-audit {web.there}/model.safetensors --only q"
    written = [path for path in (tmp_path / "work").rglob("*") if path.is_file()]
    assert not any(b"verysecret" in path.read_bytes() for path in written)


def test_letters_that_an_address_must_spell_are_spelt(
    web: HubServer, audited: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    write_llama(tmp_path / "model/ü b")
    report = audited(f"{web.there}/ü b/model.safetensors?a=é c")
    assert report["model"]["id"] == f"{web.there}/%C3%BC%20b/model.safetensors"
    assert {"config.json", "model.safetensors"} == {
        one.path.split("?")[0].rsplit("/")[-1] for one in web.requests
    }


def test_redirects_in_circles_end_at_once(
    web: HubServer, cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(origin, "PAUSES", (60.0,) * 4)
    web.faults = [Fault("config.json", status=302, headers={"Location": f"{web.there}/config.json"})]
    run = cli(f"{web.there}/model.safetensors")
    assert check_failure(run, Path(), 4, "config.json cannot be read: its redirects lead in circles") == []
    web.faults = [Fault("config.json", status=302, headers={"Location": "ftp://127.0.0.1/config.json"})]
    run = cli(f"{web.there}/model.safetensors")
    assert check_failure(run, Path(), 4, "leads to what is no web address") == []


def test_a_mistyped_host_is_told_of_soon(cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    instead_of_waiting(monkeypatch, waited.append)
    run = cli("http://127.0.0.1:1/model.safetensors")
    assert check_failure(run, Path(), 4, "http://127.0.0.1:1/config.json cannot be read: no connection") == []
    assert waited == [0.5, 1.0, 2.0]


@pytest.mark.parametrize(
    "command", [["batch"], ["batch", "--json"], ["check"], ["check", "--json"], ["plan"]]
)
def test_no_command_tells_secrets(
    web: HubServer, cli: Callable[..., Result], command: list[str], tmp_path: Path
) -> None:
    good, bad = (f"{web.there}/{name}.safetensors{SECRETS}" for name in ("model", "none"))
    for address in (good, bad, good):
        run = cli(*command, address.replace("http://", "http://me:verysecret@"))
        assert (
            run.exit_code == (0 if address == good else 4 if command != ["batch"] else 1)
            or "batch" in command
        )
        assert "verysecret" not in run.stdout + run.stderr
    assert not any(b"verysecret" in path.read_bytes() for path in Path().rglob("*") if path.is_file())


@pytest.mark.parametrize("end", ["", "/"])
def test_a_folder_on_the_web_with_an_index(
    web: HubServer, audited: Callable[..., dict[str, Any]], tmp_path: Path, end: str
) -> None:
    folder = write_llama(tmp_path / "sharded", shards=3)
    commit = web.add("org/sharded", folder)
    report = audited(f"{web.storage_url}/storage/org/sharded/{commit}{end}")
    assert numbers(report) == numbers(audited(folder, "--out", "local"))
    assert len(report["provenance"]["files"]) == 3


def test_a_folder_on_the_web_with_one_file(web: HubServer, audited: Callable[..., dict[str, Any]]) -> None:
    assert audited(web.there)["model"]["layers"] == 3


def test_a_file_without_a_config_says_so(web: HubServer, cli: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "model/config.json").unlink()
    run = cli(f"{web.there}/model.safetensors", "--family", "llama")
    assert run.exit_code == 0, run.stderr
    assert "note: no config.json could be read beside" in run.stderr


def test_an_empty_config_is_as_good_as_none(
    web: HubServer, cli: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "model/config.json").write_bytes(b"")
    run = cli(f"{web.there}/model.safetensors", "--family", "llama")
    assert run.exit_code == 0, run.stderr
    assert "note: no config.json could be read beside" in run.stderr


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("model.safetensors", status=404), ("there is no http://127.0.0.1", "answers 404")),
        (Fault("model.safetensors", status=403), ("/model.safetensors may not be read", "answers 403")),
        (Fault("model.safetensors", status=500), ("answered 500",)),
        (Fault("model.safetensors", cut=0, reset=True), ("cannot be read", "check the network")),
        (Fault("config.json", status=500), ("answered 500",)),
    ],
    ids=["missing", "refused", "error 500", "reset", "error 500 of the config"],
)
def test_what_goes_wrong_on_the_web(
    web: HubServer, cli: Callable[..., Result], fault: Fault, words: tuple[str, ...]
) -> None:
    web.faults = [fault]
    run = cli(f"{web.there}/model.safetensors{SECRETS}")
    error = check_failure(run, Path(), 4, *words)
    assert all("verysecret" not in line for line in [*error, run.stderr])


def test_a_server_that_knows_no_ranges_is_told_of(web: HubServer, cli: Callable[..., Result]) -> None:
    web.knows_ranges = False
    run = cli(f"{web.there}/model.safetensors")
    assert (
        check_failure(run, Path(), 4, "127.0.0.1 sends all of http://127.0.0.1", "audit the copy") is not None
    )


def test_offline_is_respected(
    web: HubServer, cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert check_failure(cli(f"{web.there}/model.safetensors"), Path(), 4, "HF_HUB_OFFLINE is set") == []
    assert web.requests == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://", ("no web address",)),
        ("https://host name/model.safetensors", ("no web address",)),
        ("https://[::1/model.safetensors", ("is no URL",)),
        ("https://host:99999/model.safetensors", ("is no URL",)),
        ("nosuchscheme://a/model.safetensors", ("no driver is known for nosuchscheme://", "check the URL")),
        ("https://me:verysecret@ho st/m.safetensors?sig=verysecret", ("'https://ho st/m.safetensors'",)),
        ("https://me:verysecret@host:port/m.safetensors", ("'https://host/m.safetensors' is no URL",)),
        ("https://me:very#verysecret@host/m.safetensors", ("is no URL",)),
        ("zip://m.safetensors::http://me:verysecret@h/x?t=verysecret", ("zip://",)),
    ],
)
def test_what_is_no_url(cli: Callable[..., Result], url: str, words: tuple[str, ...]) -> None:
    run = cli(url)
    assert check_failure(run, Path(), 2, *words) == []
    assert "very" not in run.stderr


def test_options_that_are_for_hub_models(cli: Callable[..., Result]) -> None:
    url = "https://127.0.0.1:1/model.safetensors"
    assert check_failure(cli(url, "--revision", "main"), Path(), 2, "--revision is for Hub models") == []
    assert check_failure(cli(url, "--download"), Path(), 2, "--download is for Hub models") == []


# --- drivers of fsspec


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[fsspec.AbstractFileSystem]:
    system = fsspec.filesystem("memory")
    system.store.clear()
    for path in write_llama(tmp_path / "model", shards=2).iterdir():
        system.pipe(f"/bucket/model/{path.name}", path.read_bytes())
    yield system
    system.store.clear()


def test_a_folder_behind_a_driver(
    memory: fsspec.AbstractFileSystem, audited: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    report = audited("memory://bucket/model")
    assert numbers(report) == numbers(audited(tmp_path / "model", "--out", "local"))
    assert (report["model"]["source"], report["model"]["id"]) == ("url", "memory://bucket/model")


def test_a_file_behind_a_driver(
    memory: fsspec.AbstractFileSystem, audited: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    whole = write_llama(tmp_path / "whole")
    memory.pipe("/one/model.safetensors", (whole / "model.safetensors").read_bytes())
    memory.pipe("/one/config.json", (whole / "config.json").read_bytes())
    assert numbers(audited("memory://one/model.safetensors")) == numbers(audited(whole, "--out", "local"))


def test_nothing_there(memory: fsspec.AbstractFileSystem, cli: Callable[..., Result]) -> None:
    assert check_failure(cli("memory://bucket/none"), Path(), 4, "nothing at memory://bucket/none") == []
    run = cli("memory://bucket/none.safetensors")
    assert check_failure(run, Path(), 4, "there is no memory://bucket/none.safetensors")[1:] == []


def test_a_driver_that_fails(
    memory: fsspec.AbstractFileSystem, cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(origin, "PAUSES", (0.0,) * 3)
    failed: set[tuple[str, int | None]] = set()
    cat_file = type(memory).cat_file

    def failing(self: object, path: str, start: int | None = None, end: int | None = None) -> bytes:
        if (path, start) not in failed:
            failed.add((path, start))
            raise TimeoutError("secret words of a driver")
        return cat_file(self, path, start=start, end=end)

    monkeypatch.setattr(type(memory), "cat_file", failing)
    assert cli("memory://bucket/model").exit_code == 0
    monkeypatch.setattr(type(memory), "cat_file", lambda *a, **k: (_ for _ in ()).throw(OSError("secret")))
    run = cli("memory://bucket/model", "--fresh")
    assert (run.exit_code, "secret" in run.stderr) == (4, False)
    assert "cannot be read: OSError" in run.stderr


def test_a_driver_that_hangs(
    memory: fsspec.AbstractFileSystem, cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.checkpoint.driver.DRIVER_SECONDS", 0.2)
    monkeypatch.setattr(origin, "PAUSES", (0.0,) * 3)
    released = threading.Event()
    monkeypatch.setattr(type(memory), "cat_file", lambda *a, **k: released.wait(60))
    run = cli("memory://bucket/model")
    released.set()
    assert check_failure(run, Path(), 4, "cannot be read: TimeoutError") == []


def test_a_driver_that_is_not_installed(cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: object, **kwargs: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    run = cli("s3://bucket/model")
    assert check_failure(run, Path(), 2, "s3:// needs a driver that is not installed", "Install s3fs") == []


# --- names


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:pw@host/a/model.safetensors?sig=1#x", "https://host/a/model.safetensors"),
        ("s3://bucket/a", "s3://bucket/a"),
        ("org/name", "org/name"),
        ("a?b=c", "a?b=c"),
        ("https://host?x=a@b/c", "https://host"),
        ("https://me:pa#ss@host/a", "https://me"),
        ("https://me:p w@host/ä b?x", "https://host/ä b"),
        ("http://[::1]:80/a?x", "http://[::1]:80/a"),
    ],
)
def test_secrets_of_a_url_are_left_out(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
    assert is_url(text) == ("://" in text)


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        ("https://me:pw@host:80/a/b/model.safetensors?sig=1", "host--80--a--b"),
        ("https://host/a/other.safetensors", "host--a--other"),
        ("s3://bucket/a b/", "bucket--a--b"),
        ("https://../..", "model"),
    ],
)
def test_the_folder_of_a_url(url: str, folder: str) -> None:
    assert default_folder(url) == Path("gcont-reports") / folder
