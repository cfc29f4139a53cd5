"""Data sets from the Hub, through `datasets` itself, from a server on the loopback."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets
import huggingface_hub
import pytest
from dataset_server import DatasetServer
from hub_server import client_of
from image_files import COLOUR, GREY, check, write_parquet

from audit.errors import (
    AuditError,
    DataError,
    GatedRepoError,
    NetworkError,
    OfflineError,
    OutputError,
    RepoNotFoundError,
    UsageError,
)
from audit.train.datasets import DATASETS, as_published, load
from audit.train.datasets.known import DataSet, named

ON_THE_HUB = tuple(one for one in DATASETS if one.hub)


def write_repo(
    folder: Path, dataset: DataSet, *, config: str | None = None, splits: str = "train test"
) -> Path:
    """A repo as the Hub has it: a card that says which files are which split, and the files."""
    hub = dataset.hub
    assert hub is not None
    pixels = COLOUR if len(dataset.shape) == 3 else GREY
    write_parquet(folder / hub.config, pixels, hub.image, hub.label)
    files = "".join(f"  - split: {one}\n    path: {hub.config}/{one}-*\n" for one in splits.split())
    card = f"---\nconfigs:\n- config_name: {config or hub.config}\n  data_files:\n{files}---\n"
    (folder / "README.md").write_text(card)
    return folder


@contextmanager
def client(hub: DatasetServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Point `datasets` in this process at the server, with fresh caches below `folder`."""
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.url)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "datasets")
    monkeypatch.setattr(datasets.config, "HF_MODULES_CACHE", folder / "modules")
    with client_of(hub, folder, monkeypatch):
        yield


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DatasetServer]:
    """A server with every data set, and this process as its client."""
    with DatasetServer() as server, client(server, tmp_path, monkeypatch):
        for dataset in ON_THE_HUB:
            server.folders[dataset.hub.repo] = tmp_path / "repos" / dataset.name
        yield server


def refused(name: str, kind: type[AuditError], *words: str) -> str:
    """The error of its kind; it says what to do without the Hub, if it is not the disk's."""
    with pytest.raises(kind) as caught:
        load(name, None)
    assert type(caught.value) is kind
    assert caught.value.__cause__ is not None
    for word in words:
        assert word in caught.value.message
    return caught.value.hint


# What comes


@pytest.mark.parametrize("dataset", ON_THE_HUB, ids=lambda one: one.name)
def test_every_data_set_is_read_by_the_columns_that_are_declared(dataset, hub, tmp_path, capsys):
    write_repo(tmp_path / "repos" / dataset.name, dataset)
    images = load(dataset.name, None)
    check(images, COLOUR if len(dataset.shape) == 3 else GREY)
    assert images.name == dataset.name
    assert capsys.readouterr() == ("", "")


def process(hub: DatasetServer, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Load MNIST in a process of its own, where the libraries read their environment."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_XET": "1"}
    code = """
from audit.errors import AuditError
from audit.train.datasets import load
try:
    print(load("mnist", None).digest)
except AuditError as error:
    print(type(error).__name__, error)
"""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True, text=True, env=inherited | environment | {"no_proxy": "127.0.0.1"} | settings,
        timeout=120, check=False,
    )  # fmt: skip


def test_the_environment_says_which_hub_and_the_cache_serves_offline(tmp_path):
    with DatasetServer() as hub:
        hub.folders["ylecun/mnist"] = write_repo(tmp_path / "repo", named("mnist"))
        first = process(hub, tmp_path)
        asked = list(hub.asked)
        assert any("mnist/test-00000-of-00001.parquet" in one for one in asked)
        again = process(hub, tmp_path, HF_HUB_OFFLINE="1")
        assert hub.asked == asked
    assert (first.stderr, again.stderr) == ("", "")
    assert first.stdout == again.stdout
    assert as_published("mnist", first.stdout.strip()) is False


# What does not


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: [path.unlink() for path in folder.glob(name)]


def cut(folder: Path) -> None:
    for path in folder.glob("mnist/test*"):
        path.write_bytes(path.read_bytes()[:-300])


def html(folder: Path) -> None:
    for path in folder.glob("mnist/*"):
        path.write_bytes(b"<html>sign in</html>")


@pytest.mark.parametrize(
    ("spoil", "kind", "words"),
    [
        (cut, DataError, "what the Hub has sent of ylecun/mnist cannot be read"),
        (html, DataError, "what the Hub has sent of ylecun/mnist cannot be read"),
        (without("mnist/*"), RepoNotFoundError, "ylecun/mnist on the Hub has no mnist"),
        (lambda folder: write_repo(folder, named("mnist"), config="a"), RepoNotFoundError, "has no mnist"),
        (lambda folder: write_repo(folder, named("mnist"), splits="train"), RepoNotFoundError, "with train"),
    ],
    ids=["cut", "html", "no files", "another config", "no test split"],
)  # fmt: skip
def test_a_repo_that_is_not_what_it_was(hub, tmp_path, capsys, monkeypatch, spoil, kind, words):
    spoil(write_repo(tmp_path / "repos/mnist", named("mnist")))
    said: list[logging.LogRecord] = []
    listener = logging.Handler()
    listener.emit = said.append
    for library in ("datasets", "huggingface_hub"):
        monkeypatch.setattr(logging.getLogger(library), "handlers", [listener])
    assert "--dataset digits" in refused("mnist", kind, words)
    assert said == []
    assert capsys.readouterr() == ("", "")


def test_columns_that_are_not_there_are_named(hub, tmp_path):
    folder = write_repo(tmp_path / "repos/mnist", named("mnist"))
    write_parquet(folder / "mnist", GREY, "picture")
    with pytest.raises(
        DataError, match="train of ylecun/mnist has no column image: but picture, label, extra"
    ):
        load("mnist", None)


def test_an_image_on_the_hub_that_is_none_is_named(hub, tmp_path):
    folder = write_repo(tmp_path / "repos/cifar-10", named("cifar-10"))
    write_parquet(folder / "plain_text", GREY, "img")
    with pytest.raises(DataError, match="image 0 of train of uoft-cs/cifar10 is 28 x 28, not 32 x 32"):
        load("cifar-10", None)


@pytest.mark.parametrize(
    ("spoil", "kind", "words"),
    [
        (lambda hub: hub.folders.clear(), RepoNotFoundError, "the Hub has no data set ylecun/mnist"),
        (lambda hub: hub.gated.add("ylecun/mnist"), GatedRepoError, "ylecun/mnist is gated"),
        (lambda hub: setattr(hub, "status", 401), NetworkError, "could not be fetched"),
        (lambda hub: setattr(hub, "status", 403), NetworkError, "could not be fetched"),
    ],
    ids=["no repo", "gated", "401", "403"],
)
def test_a_hub_that_refuses(hub, tmp_path, capsys, spoil, kind, words):
    write_repo(tmp_path / "repos/mnist", named("mnist"))
    spoil(hub)
    hint = refused("mnist", kind, words)
    assert "https://huggingface.co/datasets/ylecun/mnist" in hint
    assert "--dataset digits" in hint
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        # the Hub's client tries again for half a minute before it says so
        (ConnectionError("Couldn't reach 'ylecun/mnist' on the Hub (LocalEntryNotFoundError)"), NetworkError),
        (FileNotFoundError("Couldn't find any data file at /here"), NetworkError),
        (TimeoutError("timed out"), NetworkError),
        (RuntimeError("Data processing error: CAS service error"), NetworkError),
        (huggingface_hub.errors.OfflineModeIsEnabled("no"), NetworkError),
        (OSError(28, "No space left on device"), OutputError),
        (PermissionError(13, "Permission denied"), OutputError),
        (datasets.exceptions.DatasetGenerationError("failed"), DataError),
        (KeyError("image"), RepoNotFoundError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_errors_of_the_library_are_translated_once(monkeypatch, error, kind):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    hint = refused("mnist", kind)
    assert ("HF_HOME" if kind is OutputError else "--data") in hint


def test_a_full_disk_behind_the_librarys_error_is_seen(monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise datasets.exceptions.DatasetGenerationError("failed") from OSError(28, "No space left on device")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    refused("mnist", OutputError, "No space left on device")


def test_offline_says_so(monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach 'ylecun/mnist' on the Hub (OfflineModeIsEnabled)")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets, "load_dataset", fail)
    assert refused("mnist", OfflineError, "HF_HUB_OFFLINE is set").startswith("unset it, or put ")


def test_without_the_extra_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    hint = refused("mnist", UsageError, "library `datasets`, which is not installed")
    assert hint.startswith("pip install 'gcont-audit[train]', or put train*.parquet and test*.parquet from ")
    assert "--dataset digits" in hint
