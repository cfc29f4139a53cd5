"""WikiText and GPT-2's tokenizer from the Hub, through the libraries, from a server on the loopback."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import dataset_server
import datasets
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_server import DatasetServer
from hub_server import Fault, HubServer, client_of
from test_train_hub import client
from tokenizers import pre_tokenizers

from audit.errors import (
    AuditError,
    DataError,
    GatedRepoError,
    NetworkError,
    OfflineError,
    RepoNotFoundError,
    UsageError,
)
from audit.train.text import load

ROWS: dict[str, list[str | None]] = {
    "train": ["", " = Title = \n", "", " Some text , é . \n", " More of it . \n"],
    "validation": ["", " = Other = \n", " Held out . \n"],
}
CONFIGS = {"wikitext-2": "wikitext-2-raw-v1", "wikitext-103": "wikitext-103-raw-v1"}


def write_repo(folder: Path, *, column: str = "text", config: str | None = None) -> None:
    """Both WikiTexts as the Hub has them: a card that says which files are which split, and the files."""
    card = "---\nconfigs:\n"
    for name in CONFIGS.values():
        (folder / name).mkdir(parents=True, exist_ok=True)
        card += f"- config_name: {config or name}\n  data_files:\n"
        for split, rows in ROWS.items():
            told = rows if "103" not in name else [*rows, " Of the larger . \n"]
            pq.write_table(pa.table({column: told}), folder / name / f"{split}-0.parquet")
            card += f"  - split: {split}\n    path: {name}/{split}-*\n"
    (folder / "README.md").write_text(f"{card}---\n")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DatasetServer]:
    """A server with WikiText, and this process as its client."""
    with DatasetServer() as server, client(server, tmp_path, monkeypatch):
        server.folders["Salesforce/wikitext"] = tmp_path / "repo"
        write_repo(tmp_path / "repo")
        yield server


def text_of(name: str, split: str) -> bytes:
    """The split as WikiText's own file has it: a line of white space where a row is empty."""
    lines = {"train": " \n = Title = \n \n Some text , é . \n More of it . \n",
             "validation": " \n = Other = \n Held out . \n"}[split]  # fmt: skip
    return (lines + (" Of the larger . \n" if name == "wikitext-103" else "")).encode()


@pytest.mark.parametrize("name", CONFIGS)
def test_the_hubs_rows_are_the_text_of_wikitexts_own_files(name, hub, tmp_path, capsys):
    tokens = load(name, None, "bytes", tmp_path / "tokens")
    assert tokens.train.tolist() == [*text_of(name, "train"), 256]
    assert tokens.valid.tolist() == [*text_of(name, "validation"), 256]
    assert tokens.dataset == name
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "wiki.train.raw").write_bytes(text_of(name, "train"))
    (folder / "wiki.valid.raw").write_bytes(text_of(name, "validation"))
    assert load(name, folder, "bytes", tmp_path / "tokens").digest == tokens.digest
    assert capsys.readouterr() == ("", "")


class Counting:
    """Counts the parts that begin and the bytes that are read."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.total = 0
        self.read = 0

    def begin(self, part: str, total_bytes: int | None) -> None:
        self.begun.append(part)
        self.total += total_bytes or 0

    def advance(self, count: int, /) -> None:
        self.read += count


def test_a_second_call_reads_no_text(hub, tmp_path):
    first, second = Counting(), Counting()
    tokens = load("wikitext-2", None, "bytes", tmp_path / "tokens", first)
    again = load("wikitext-2", None, "bytes", tmp_path / "tokens", second)
    assert (first.begun, second.begun) == (["train", "valid"], [])
    assert first.read == sum(len((row or "").encode()) for rows in ROWS.values() for row in rows)
    # the Hub counts what Arrow keeps, four bytes a row besides the text
    assert first.total == first.read + 4 * sum(len(rows) for rows in ROWS.values())
    assert again.digest == tokens.digest
    # the two texts lie beside each other
    assert load("wikitext-103", None, "bytes", tmp_path / "tokens").digest != tokens.digest


def refused(kind: type[AuditError], words: str, cache: Path) -> str:
    with pytest.raises(kind, match=words) as caught:
        load("wikitext-2", None, "bytes", cache)
    assert type(caught.value) is kind
    assert "--dataset stdlib needs no files" in caught.value.hint or kind is DataError
    return caught.value.hint


def test_a_hub_that_refuses(hub, tmp_path):
    hub.gated.add("Salesforce/wikitext")
    hint = refused(GatedRepoError, "Salesforce/wikitext is gated", tmp_path / "tokens")
    assert "https://huggingface.co/datasets/Salesforce/wikitext" in hint
    hub.folders.clear()
    refused(RepoNotFoundError, "the Hub has no data set Salesforce/wikitext", tmp_path / "tokens")
    hub.status = 403
    refused(NetworkError, "Salesforce/wikitext could not be fetched", tmp_path / "tokens")


def test_a_repo_that_is_not_what_it_was(hub, tmp_path):
    write_repo(tmp_path / "repo", config="a")
    refused(RepoNotFoundError, "has no wikitext-2-raw-v1 with train and validation", tmp_path / "tokens")


def test_a_column_that_is_not_there_is_named(hub, tmp_path):
    write_repo(tmp_path / "repo", column="words")
    refused(DataError, "train of Salesforce/wikitext has no column text: but words", tmp_path / "tokens")


def test_a_row_that_is_no_text_is_named(hub, tmp_path, monkeypatch):
    monkeypatch.setitem(ROWS, "validation", [" = Other = \n", None])
    write_repo(tmp_path / "repo")
    with pytest.raises(DataError, match="a row of Salesforce/wikitext holds no text, but NoneType"):
        load("wikitext-2", None, "bytes", tmp_path / "tokens")
    assert list((tmp_path / "tokens").iterdir()) == []


def test_rows_that_cannot_be_read_are_the_hubs_error(hub, tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> Iterator[None]:
        yield from ()
        raise pa.ArrowInvalid("no Arrow")

    monkeypatch.setattr(datasets.Dataset, "iter", fail)
    refused(DataError, "what the Hub has sent of Salesforce/wikitext cannot be read", tmp_path / "tokens")


def test_another_text_of_the_same_repo_and_name_is_made_anew(hub, tmp_path, monkeypatch):
    before = load("wikitext-2", None, "bytes", tmp_path / "tokens")
    monkeypatch.setitem(ROWS, "validation", [" Rewritten . \n"])
    write_repo(tmp_path / "repo")
    monkeypatch.setattr(dataset_server, "COMMIT", "6" * 40)
    after = load("wikitext-2", None, "bytes", tmp_path / "tokens")
    assert after.valid.tolist() == [*b" Rewritten . \n", 256]
    assert after.digest != before.digest


def test_without_the_extra_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    hint = refused(UsageError, "wikitext-2 comes from the Hub through the library `datasets`", tmp_path)
    assert hint.startswith("pip install 'gcont-audit[train]', or put train*.txt and valid*.txt into a folder")


def test_offline_says_so(tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach 'Salesforce/wikitext' on the Hub (OfflineModeIsEnabled)")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets, "load_dataset", fail)
    refused(OfflineError, "Salesforce/wikitext is not in the cache, and HF_HUB_OFFLINE is set", tmp_path)


# The tokenizer


@pytest.fixture
def model_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A server with a small tokenizer in the place of GPT-2's, and this process as its client."""
    folder = tmp_path / "gpt2"
    folder.mkdir()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = {one: place for place, one in enumerate([*alphabet, "ab", "<|endoftext|>"])}
    (folder / "vocab.json").write_text(json.dumps(ids))
    (folder / "merges.txt").write_text("#version: 0.2\na b\n")
    with HubServer() as server, client_of(server, tmp_path, monkeypatch):
        server.add("openai-community/gpt2", folder)
        yield server


@pytest.fixture
def prose(tmp_path: Path) -> Path:
    folder = tmp_path / "prose"
    folder.mkdir()
    (folder / "train.txt").write_text("abab")
    (folder / "valid.txt").write_text("ab")
    return folder


def test_gpt2s_files_come_from_the_hub_and_then_from_its_cache(model_hub, prose, tmp_path, monkeypatch):
    tokens = load("", prose, "gpt2", tmp_path / "tokens")
    assert (tokens.tokenizer, tokens.vocabulary) == ("gpt2", 258)
    assert tokens.train.tolist() == [256, 256, 257]
    assert tokens.valid.tolist() == [256, 257]
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    huggingface_hub.close_session()
    assert load("", prose, "gpt2", tmp_path / "other").digest == tokens.digest
    assert load("", prose, str(tmp_path / "gpt2"), tmp_path / "third").digest == tokens.digest


def test_a_tokenizer_that_cannot_be_had_offline_says_so(model_hub, prose, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    huggingface_hub.close_session()
    with pytest.raises(OfflineError, match="openai-community/gpt2 is not in the cache") as caught:
        load("", prose, "gpt2", tmp_path / "tokens")
    assert caught.value.hint == "unset it; --tokenizer bytes needs no files"


def test_gpt2_without_the_library_asks_nothing_of_the_hub(model_hub, prose, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UsageError, match="gpt2 is read by the library `tokenizers`, which is not installed"):
        load("", prose, "gpt2", tmp_path / "tokens")
    assert model_hub.requests == []


def test_a_hub_that_answers_nonsense_is_named(model_hub, prose, tmp_path):
    model_hub.faults.append(Fault(status=418))
    with pytest.raises(NetworkError, match="the Hub answered 418 for openai-community/gpt2"):
        load("", prose, "gpt2", tmp_path / "tokens")


def test_a_hub_without_the_tokenizer_says_so(prose, tmp_path, monkeypatch):
    with (
        HubServer() as server,
        client_of(server, tmp_path, monkeypatch),
        pytest.raises(RepoNotFoundError, match="there is no model openai-community/gpt2"),
    ):
        load("", prose, "gpt2", tmp_path / "tokens")
