"""Texts as token ids: from Python's library, from files, by bytes and by BPE, and kept in a cache."""

import gzip
import json
import lzma
import os
import sys
import sysconfig
import time
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from audit.errors import AuditError, DataError, OutputError, PathNotFoundError, SelectionError, UsageError
from audit.train.text import DATASETS, Tokens, cache, load
from audit.train.text.bpe import folder_bpe
from audit.train.text.cache import ids_of
from audit.train.text.encoders import Bytes
from audit.train.text.pieces import lines_of

END = 256


def written(folder: Path, **files: str | bytes) -> Path:
    """A folder with files; `train_txt` becomes train.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        encoded = content.encode() if isinstance(content, str) else content
        (folder / name.replace("_", ".")).write_bytes(encoded)
    return folder


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Where the ids are kept."""
    return tmp_path / "out" / ".tokens"


def told(part: np.ndarray) -> list[bytes]:
    """Bytes as text again, one for each document."""
    ids = part.tolist()
    assert ids[-1] == END
    documents, last = [], 0
    for place, one in enumerate(ids):
        if one == END:
            documents.append(bytes(ids[last:place]))
            last = place + 1
    return documents


def refused(kind: type[AuditError], folder: Path, kept: Path, tokenizer: str = "bytes") -> AuditError:
    with pytest.raises(kind) as caught:
        load("", folder, tokenizer, kept)
    assert type(caught.value) is kind
    assert caught.value.hint
    return caught.value


class Listener:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.parts: list[list[object]] = []

    def begin(self, part: str, total_bytes: int | None) -> None:
        self.parts.append([part, total_bytes, 0])

    def advance(self, count: int, /) -> None:
        self.parts[-1][2] += count


# Python's library


def test_the_docstrings_of_a_library_are_read_and_nothing_else_of_it(tmp_path, kept, monkeypatch):
    root = tmp_path / "lib"
    for place in range(18):
        written(root, **{f"m{place:02}_py": f'"""Module {place}."""\nx = 1\n'})
    written(root / "pack", __init___py="", a_py="", bad_py='"""No Python."""\n(')
    (root / "pack" / "b.py").write_text(
        '"""Of b.\n\n    Indented."""\n"""Not one."""\nif True:\n    class C:\n        """Of C."""\n'
        '        def f(self):\n            """Of f: \\udc80\\d."""\n            lambda: """Not one"""\n'
        'async def g():\n    """Of g: é."""\n'
    )
    written(root / "m18" / "idlelib", x_py="def f():\n    '''Not the one at the top.'''\n")
    written(root / "pack", nul_py=b'"""No Python."""\0', x_txt='"""No Python."""')
    (root / "m99.py").symlink_to("nowhere.py")
    left_out = ("test", "pack/tests", "site-packages", "idlelib", "config-3.11", "tkinter")
    for other in left_out:
        written(root / other, x_py='"""Left out."""\n')
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(root))
    listener = Listener()
    tokens = load("stdlib", None, "bytes", kept, listener)
    train = [f"Module {place}.\n" for place in range(18)] + ["Not the one at the top.\n"]
    assert told(tokens.train) == [one.encode() for one in train]
    assert told(tokens.valid) == ["Of b.\n\nIndented.\n\nOf C.\n\nOf f: ?\\d.\n\nOf g: é.\n".encode()]
    assert (tokens.dataset, tokens.tokenizer, tokens.vocabulary) == ("stdlib", "bytes", 257)
    read = sum(
        file.stat().st_size
        for folder in (root, root / "pack", root / "m18" / "idlelib")
        for file in folder.glob("*.py")
        if file.exists()
    )
    sizes = [len(part) - ends for part, ends in ((tokens.train, 19), (tokens.valid, 1))]
    assert listener.parts == [
        ["docstrings", read, read],
        ["train", sizes[0], sizes[0]],
        ["valid", sizes[1], sizes[1]],
    ]
    written(root, m18_py='"""Another module."""\n')
    assert load("stdlib", None, "bytes", kept).digest != tokens.digest


def test_docstrings_are_found_in_every_branch(tmp_path, kept, monkeypatch):
    branches = ("try:", "except OSError:", "else:", "finally:")
    source = "\n".join(f'{one}\n    def f():\n        """Under {one}"""' for one in branches)
    root = written(tmp_path / "lib", **{f"m{place:02}_py": source for place in range(20)})
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(root))
    (document,) = told(load("stdlib", None, "bytes", kept).valid)
    assert document == b"Under try:\n\nUnder except OSError:\n\nUnder else:\n\nUnder finally:\n"


def test_this_pythons_library_is_a_megabyte_of_text(kept):
    tokens = load("stdlib", None, "bytes", kept)
    assert 500_000 < len(tokens.train) < 4_000_000
    assert len(tokens.valid) > 10_000
    assert any(document.startswith(b"JSON (JavaScript Object Notation)") for document in told(tokens.train))


def test_a_python_without_sources_says_so(tmp_path, kept, monkeypatch):
    written(tmp_path / "python311.zip", site_py='"""One is not enough."""')
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / "python311.zip"))
    with pytest.raises(DataError, match=r"python311\.zip holds no source files of Python's standard library"):
        load("stdlib", None, "bytes", kept)


# Files


def test_lines_of_files_become_bytes_and_markers_the_end_of_a_document(tmp_path, kept):
    folder = written(
        tmp_path / "prose",
        **{
            "train-1_txt": "é\n<|endoftext|>\nnot <|endoftext|>\n<|endoftext|>\n",
            "train-0_txt": "first\nlast without newline",
            "validation_txt": "v\n<|endoftext|>\r\nw\n",
            "test_txt": "no",
            "README_md": "no",
        },
    )
    (folder / "train-2.txt").mkdir()
    tokens = load("", folder, "bytes", kept)
    assert told(tokens.train) == [
        b"first\nlast without newline",
        "é\n".encode(),
        b"not <|endoftext|>\n",
    ]
    assert told(tokens.valid) == [b"v\n", b"w\n"]
    assert tokens.dataset == "prose"
    assert tokens.train.dtype == np.uint16
    assert isinstance(tokens.train, np.memmap)
    assert not tokens.train.flags.writeable
    assert load("mine", folder, "bytes", kept).dataset == "mine"


def test_files_are_read_in_the_order_of_their_names(tmp_path, kept, monkeypatch):
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda folder: iter(sorted(listed(folder), reverse=True)))
    folder = written(tmp_path / "a", train0_txt="first\n", train1_txt="second\n", valid_txt="v\n")
    assert told(load("", folder, "bytes", kept).train) == [b"first\n", b"second\n"]


def test_packed_or_plain_a_text_has_one_digest(tmp_path, kept):
    train, valid = b"one\ntwo\n" * 1000, b"three\n"
    plain = load("", written(tmp_path / "a", train_txt=train, valid_txt=valid), "bytes", kept)
    packed = load(
        "",
        written(tmp_path / "b", train_txt_xz=lzma.compress(train), valid_txt_gz=gzip.compress(valid)),
        "bytes",
        kept,
    )
    wiki = load("", written(tmp_path / "c", wiki_train_raw=train, wiki_valid_tokens=valid), "bytes", kept)
    assert plain.digest == packed.digest == wiki.digest
    assert plain.digest == sha256(b"bytes\0" + train + b"\xff\xfe" + valid + b"\xff\xfe").hexdigest()
    assert packed.train.tolist() == [*train, END]
    assert packed.valid.tolist() == [*valid, END]


def test_where_a_document_ends_is_part_of_the_digest(tmp_path, kept):
    one = load("", written(tmp_path / "a", train_txt="a\nb\n", valid_txt="c\n"), "bytes", kept)
    two = load("", written(tmp_path / "b", train_txt="a\n<|endoftext|>\nb\n", valid_txt="c\n"), "bytes", kept)
    assert one.digest != two.digest


@pytest.mark.parametrize("pack", [bytes, lzma.compress], ids=["plain", "xz"])
def test_the_last_twentieth_of_a_single_file_is_for_validation(tmp_path, kept, pack):
    name = "input_txt" if pack is bytes else "input_txt_xz"
    packed = pack(b"123456789\n" * 100)
    folder = written(tmp_path / "one", **{name: packed}, test_txt="no", wiki_test_raw="no")
    listener = Listener()
    tokens = load("", folder, "bytes", kept, listener)
    assert told(tokens.train) == [b"123456789\n" * 95]
    assert told(tokens.valid) == [b"123456789\n" * 5]
    size = len(packed)
    assert listener.parts == [["train", size, size], ["valid", size, size]]
    written(folder, **{name: pack(b"a\n" * 100)})
    assert told(load("", folder, "bytes", kept).valid) == [b"a\n" * 5]


def test_no_files_to_train_on_names_what_is_sought_and_what_is_there(tmp_path, kept):
    folder = written(tmp_path / "wiki", valid_txt="a\n", test_txt="b\n")
    message = str(refused(PathNotFoundError, folder, kept))
    assert "holds no train text: no train*.txt" in message
    assert "but test.txt, valid.txt: put" in message
    many = written(tmp_path / "many", **{f"{place}_md": "" for place in range(10)})
    assert "but 0.md, 1.md, 2.md, 3.md, 4.md, 5.md, 6.md, 7.md and 2 more" in str(
        refused(PathNotFoundError, many, kept)
    )
    assert "no files" in str(refused(PathNotFoundError, written(tmp_path / "empty"), kept))
    two = written(tmp_path / "two", **{"train-0_txt": "a\n", "train-1_txt": "b\n"})
    assert "holds no valid text" in str(refused(PathNotFoundError, two, kept))
    assert "there is no folder" in str(refused(PathNotFoundError, tmp_path / "nowhere", kept))


def packed_wrongly() -> dict[str, bytes]:
    text = b"some text that is long enough to be cut\n" * 50
    return {
        "train_txt_gz": gzip.compress(text)[:-20], "train_txt_xz": lzma.compress(text)[:-20],
        "train-a_txt_gz": b"no gzip", "train-a_txt_xz": b"no xz",
        "train-b_txt_gz": gzip.compress(text)[:10] + b"\xff" * 40,
    }  # fmt: skip


@pytest.mark.parametrize("name", packed_wrongly())
def test_a_damaged_file_is_named(tmp_path, kept, name):
    folder = written(tmp_path / "bad", valid_txt="a\n", **{name: packed_wrongly()[name]})
    assert f"{folder / name.replace('_', '.')} cannot be read" in refused(DataError, folder, kept).message
    assert list(kept.iterdir()) == []


def test_what_is_not_utf8_is_named_with_its_place(tmp_path, kept):
    folder = written(tmp_path / "latin", train_txt="fine\ncafé\n".encode("latin1"), valid_txt="a\n")
    assert "train.txt is not UTF-8: byte 8 does not belong there" in refused(DataError, folder, kept).message


@pytest.mark.parametrize(
    ("files", "part"),
    [
        ({"train_txt": "a\n", "valid_txt": "<|endoftext|>\n"}, "valid"),
        ({"train_txt": "a\n", "valid_txt": ""}, "valid"),
        ({"train_txt": "<|endoftext|>\n", "valid_txt": "a\n"}, "train"),
        ({"input_txt": "a single line"}, "valid"),
    ],
)
def test_a_part_without_text_is_refused(tmp_path, kept, files, part):
    folder = written(tmp_path / "hollow", **files)
    assert refused(DataError, folder, kept).message == f"the {part} text of hollow is empty"
    assert list(kept.iterdir()) == []


def test_names_that_are_none_are_told(tmp_path, kept):
    with pytest.raises(SelectionError, match="there is no text 'WIKITEXT_2': did you mean wikitext-2"):
        load("WIKITEXT_2", None, "bytes", kept)
    with pytest.raises(SelectionError, match="there are stdlib, wikitext-2, wikitext-103; --data names"):
        load("poems", None, "bytes", kept)
    with pytest.raises(UsageError, match="comes with Python and is read from no folder: leave out --data"):
        load("stdlib", tmp_path, "bytes", kept)
    with pytest.raises(PathNotFoundError, match="there is no tokenizer gpt3: it is bytes, gpt2, or a folder"):
        load("stdlib", None, "gpt3", kept)
    assert tuple(DATASETS) == ("stdlib", "wikitext-2", "wikitext-103")


def test_progress_is_told_in_bytes_as_they_lie_on_disk(tmp_path, kept):
    packed = lzma.compress(np.random.default_rng(0).integers(97, 122, 300_000, np.uint8).tobytes())
    folder = written(tmp_path / "a", train_txt_xz=packed, valid_txt="a\nb\n", valid2_txt="\n" * 3)
    listener = Listener()
    load("", folder, "bytes", kept, listener)
    assert listener.parts == [["train", len(packed), len(packed)], ["valid", 7, 7]]


def test_a_text_is_called_as_the_folder_it_lies_in(tmp_path, kept, monkeypatch):
    monkeypatch.chdir(written(tmp_path / "poems", train_txt="a\n", valid_txt="b\n"))
    assert load("", Path(), "bytes", kept).dataset == "poems"


# The cache


def test_what_is_kept_is_not_made_again(tmp_path, kept):
    folder = written(tmp_path / "a", train_txt="abc\n", valid_txt="d\n")
    first = load("", folder, "bytes", kept)
    names = sorted(path.name for path in kept.iterdir())
    key = names[0].split(".")[0]
    assert len(key) == 16
    assert names == [f"{key}.json", f"{key}.train.npy", f"{key}.valid.npy"]
    assert json.loads((kept / f"{key}.json").read_text())["digest"] == first.digest
    listener = Listener()
    again = load("", folder, "bytes", kept, listener)
    assert listener.parts == []
    assert (again.digest, again.train.tolist()) == (first.digest, first.train.tolist())
    written(folder, train_txt="other\n")
    assert told(load("", folder, "bytes", kept).train) == [b"other\n"]


def test_what_another_format_kept_is_made_anew(tmp_path, kept, monkeypatch):
    folder = written(tmp_path / "a", train_txt="abc\n", valid_txt="d\n")
    load("", folder, "bytes", kept)
    monkeypatch.setattr(cache, "_FORMAT", "another")
    listener = Listener()
    load("", folder, "bytes", kept, listener)
    assert [part for part, *_ in listener.parts] == ["train", "valid"]


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize("spoil", [cut_short, Path.unlink, lambda file: file.write_bytes(b"")])
@pytest.mark.parametrize("end", [".json", ".train.npy", ".valid.npy"])
def test_a_damaged_cache_is_made_anew(tmp_path, kept, spoil, end):
    folder = written(tmp_path / "a", train_txt="abc\n", valid_txt="d\n")
    first = load("", folder, "bytes", kept)
    spoil(next(path for path in kept.iterdir() if path.name.endswith(end)))
    again = load("", folder, "bytes", kept)
    assert (again.digest, told(again.train), told(again.valid)) == (first.digest, [b"abc\n"], [b"d\n"])


@pytest.mark.parametrize(
    "content",
    ["[]", "null", "5", "{}", '{"bytes": 1}', '{"bytes": []}', '{"bytes": {"train": "1"}}', "[" * 100_000],
    ids=lambda content: content[:25],
)
def test_a_cache_whose_json_has_another_shape_is_made_anew(tmp_path, kept, content):
    folder = written(tmp_path / "a", train_txt="abc\n", valid_txt="d\n")
    digest = load("", folder, "bytes", kept).digest
    next(kept.glob("*.json")).write_text(content)
    again = load("", folder, "bytes", kept)
    assert (again.digest, told(again.train), told(again.valid)) == (digest, [b"abc\n"], [b"d\n"])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: bytes(len(content)),
        lambda content: b"PK\x03\x04" + content[4:],
        lambda content: content.replace(b"{", b"(", 1),
        lambda content: content.replace(b"<u2", b"<i2"),
        lambda content: content.replace(b"(5,)", b"(4,)"),
    ],
    ids=["zeros", "a zip", "no dict", "another dtype", "another length"],
)
def test_ids_with_a_damaged_header_are_made_anew(tmp_path, kept, spoil):
    folder = written(tmp_path / "a", train_txt="abc\n", valid_txt="d\n")
    load("", folder, "bytes", kept)
    file = next(kept.glob("*.train.npy"))
    whole = file.read_bytes()
    file.write_bytes(spoil(whole))
    assert file.read_bytes() != whole
    tokens = load("", folder, "bytes", kept)
    assert (tokens.train.dtype, told(tokens.train)) == (np.uint16, [b"abc\n"])
    assert file.read_bytes() == whole


def test_the_files_of_ids_are_numpys(tmp_path, kept):
    folder = written(tmp_path / "a", train_txt="abc\n", valid_txt="d\n")
    load("", folder, "bytes", kept)
    read = np.load(next(kept.glob("*.train.npy")))
    assert (read.dtype, read.tolist()) == (np.uint16, [*b"abc\n", END])


class Stopped(Listener):
    """Is interrupted while the second part is read."""

    def advance(self, count: int, /) -> None:
        super().advance(count)
        if len(self.parts) == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("place", ["reading", "moving", "saying so"])
def test_a_stop_halfway_leaves_nothing_that_is_taken_for_whole(tmp_path, kept, monkeypatch, place):
    folder = written(tmp_path / "a", train_txt="abc\n", valid_txt="d\n")
    move = Path.replace

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if place == "moving":
            patch.setattr(Path, "replace", lambda file, to: (stop if "valid" in to.name else move)(file, to))
        elif place == "saying so":
            patch.setattr(cache, "write_file", stop)
        with pytest.raises(KeyboardInterrupt):
            load("", folder, "bytes", kept, Stopped() if place == "reading" else Listener())
    left = {"reading": [], "moving": [".train.npy"], "saying so": [".train.npy", ".valid.npy"]}
    assert sorted(path.name[16:] for path in kept.iterdir()) == left[place]
    listener = Listener()
    tokens = load("", folder, "bytes", kept, listener)
    assert len(listener.parts) == 2
    assert (told(tokens.train), told(tokens.valid)) == ([b"abc\n"], [b"d\n"])


def test_ids_that_are_gone_at_once_are_no_endless_loop(tmp_path, kept, monkeypatch):
    folder = written(tmp_path / "a", train_txt="abc\n", valid_txt="d\n")
    monkeypatch.setattr(cache, "write_file", lambda file, content: None)
    assert "the ids just written to" in refused(DataError, folder, kept).message


def test_what_killed_processes_left_is_removed_after_a_day(tmp_path, kept):
    for name, hours in {".draft.old": 25, ".draft.fresh": 23, "notes": 25}.items():
        written_at = time.time() - hours * 3600
        os.utime(written(kept / name, train_npy="half"), (written_at, written_at))
    # as one that its process removes at this moment
    (kept / ".draft.vanished").symlink_to(tmp_path / "nowhere")
    folder = written(tmp_path / "a", train_txt="abc\n", valid_txt="d\n")
    load("", folder, "bytes", kept)
    assert not (kept / ".draft.old").exists()
    assert (kept / ".draft.fresh" / "train.npy").read_text() == "half"
    assert (kept / "notes" / "train.npy").exists()


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    folder = written(tmp_path / "a", train_txt="abc\n", valid_txt="d\n")
    written(tmp_path, out="a file")
    with pytest.raises(OutputError, match=r"out/\.tokens cannot be written"):
        load("", folder, "bytes", tmp_path / "out" / ".tokens")


# BPE

SAMPLE = (
    "the cat's hat, the mat; they'd sat\n there  12 34\n\nthe   end\n \n a\t\tb \n'tis é\u2003the\u00a0cat\n"
    * 9
)


RUNS = [f"a{run}" for run in ("\n\n", "\n\n\n", " \n", "\n ", "\n  ", "\n\t")] * 9
"""White space at a text's end is one token, and so learnt as one: a cut in it is seen in the ids."""


def trained(*, end: bool = True) -> Tokenizer:
    """A small BPE of GPT-2's kind, by the library's own trainer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"] if end else [],
    )
    tokenizer.train_from_iterator([SAMPLE, *RUNS], trainer)
    return tokenizer


def saved(tokenizer: Tokenizer, folder: Path, kind: str) -> str:
    """The tokenizer's files in a folder, as three houses name them."""
    folder.mkdir()
    if kind == "tokenizer.json":
        tokenizer.save(str(folder / kind))
    else:
        for name, wanted in zip(tokenizer.model.save(str(folder)), kind.split(), strict=True):
            Path(name).rename(folder / wanted)
    return str(folder)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The same BPE in each kind of file."""
    root = tmp_path_factory.mktemp("tokenizers")
    kinds = ("encoder.json vocab.bpe", "vocab.json merges.txt", "tokenizer.json")
    tokenizer = trained()
    return {kind: saved(tokenizer, root / str(place), kind) for place, kind in enumerate(kinds)}


ALPHABET = st.sampled_from(
    [
        *"ab1'.\n\n\n   \t\r\x1c\x85\u00a0\u2003é",
        "\n ",
        "\n\n",
        "'s",
        " <|endoftext|>",
        "the",
        "a\n <|endoftext|>",
        "a\n\nb",
    ]
)


@given(st.lists(ALPHABET, max_size=60).map("".join))
@pytest.mark.parametrize("kind", ["encoder.json vocab.bpe", "tokenizer.json"])
def test_a_document_in_pieces_has_the_ids_of_the_whole(small, kind, document):
    encoder = folder_bpe(small[kind])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "_CHUNK", 0)
        patch.setattr(cache, "_BATCH", 1)
        pieces = np.concatenate(list(ids_of(lines_of(document), encoder))).tolist()
    whole = encoder.tokenizer.encode(document, add_special_tokens=False).ids
    assert pieces == [*whole, encoder.end]


@pytest.mark.parametrize("kind", ["encoder.json vocab.bpe", "vocab.json merges.txt", "tokenizer.json"])
def test_lines_are_really_encoded_apart_where_they_may_be(small, kind):
    encoder = folder_bpe(small[kind])
    assert encoder.may_cut("one\n", "two\n")
    assert encoder.may_cut(" \n", " = Title = \n")
    assert not encoder.may_cut("one \n", "two\n")
    assert not encoder.may_cut("\n", "two\n")
    assert not encoder.may_cut("one\n", "  two\n")
    assert not encoder.may_cut("one\n", "\n")
    assert not encoder.may_cut("one\n", " \n")
    assert not encoder.may_cut("one\n", " <|endoftext|>\n")
    assert encoder.may_cut("one\n", "<|endoftext|> two\n")
    assert not encoder.may_cut("one", "two\n")


@pytest.mark.parametrize("kind", ["encoder.json vocab.bpe", "vocab.json merges.txt", "tokenizer.json"])
def test_the_same_tokenizer_in_other_files_gives_the_librarys_ids(small, tmp_path, kept, kind):
    folder = written(tmp_path / "a", train_txt=SAMPLE + "<|endoftext|>\n" + SAMPLE, valid_txt="the cat\n")
    tokens = load("", folder, small[kind], kept)
    reference = trained()
    end = reference.token_to_id("<|endoftext|>")
    whole = reference.encode(SAMPLE).ids
    assert tokens.train.tolist() == [*whole, end, *whole, end]
    assert tokens.valid.tolist() == [*reference.encode("the cat\n").ids, end]
    assert tokens.vocabulary == reference.get_vocab_size()
    assert tokens.tokenizer == Path(small[kind]).name


def test_a_tokenizer_in_the_folder_one_stands_in_is_called_by_its_name(small, monkeypatch):
    monkeypatch.chdir(small["tokenizer.json"])
    assert folder_bpe(".").name == Path(small["tokenizer.json"]).name


def test_a_tokenizer_neither_adds_to_a_text_nor_cuts_it_off(tmp_path, kept, monkeypatch):
    changed, reference = trained(), trained()
    changed.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", reference.token_to_id("<|endoftext|>"))]
    )
    changed.enable_truncation(2)
    changed.enable_padding(length=40)
    name = saved(changed, tmp_path / "bpe", "tokenizer.json")
    monkeypatch.setattr(cache, "_CHUNK", 0)
    folder = written(tmp_path / "a", train_txt="the cat\nthe\n", valid_txt="a\n")
    whole = reference.encode("the cat\nthe\n").ids
    assert load("", folder, name, kept).train.tolist() == [*whole, reference.token_to_id("<|endoftext|>")]


def test_no_two_tokenizers_have_one_digest(tmp_path, kept):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merged, turned = [*alphabet, "ab", "aba", "bab"], ["ab", *alphabet, "aba", "bab"]
    names = []
    for words in (merged, turned):
        ids = {one: place for place, one in enumerate(words)}
        for merges in ("a b\nab a\n", "a b\nb ab\n"):
            place = tmp_path / f"bpe{len(names)}"
            names.append(str(written(place, vocab_json=json.dumps(ids), merges_txt=merges)))
    for end in (True, False):
        names.append(saved(trained(end=end), tmp_path / f"bpe{len(names)}", "tokenizer.json"))
    folder = written(tmp_path / "a", train_txt="aba", valid_txt="b")
    tokens = [load("", folder, name, kept) for name in names]
    assert len({one.digest for one in tokens}) == 6
    assert [one.train.tolist() for one in tokens[:4]] == [
        [merged.index("aba")], [merged.index("ab"), merged.index("a")],
        [turned.index("aba")], [turned.index("ab"), turned.index("a")],
    ]  # fmt: skip


def test_a_vocabulary_without_an_end_of_text_puts_nothing_between_documents(tmp_path, kept):
    name = saved(trained(end=False), tmp_path / "bpe", "vocab.json merges.txt")
    folder = written(tmp_path / "a", train_txt="the\n<|endoftext|>\ncat\n", valid_txt="a\n")
    reference = trained(end=False)
    assert load("", folder, name, kept).train.tolist() == [
        *reference.encode("the\n").ids,
        *reference.encode("cat\n").ids,
    ]


def prefixed(tokenizer: Tokenizer) -> None:
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)


def normalised(tokenizer: Tokenizer) -> None:
    tokenizer.normalizer = normalizers.Replace("e\nt", "a")


def unsplit(tokenizer: Tokenizer) -> None:
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def greedy(tokenizer: Tokenizer) -> None:
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", lstrip=True)])


def greedy_behind(tokenizer: Tokenizer) -> None:
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", rstrip=True)])


def over_lines(tokenizer: Tokenizer) -> None:
    tokenizer.add_tokens(["one\nthe"])
    tokenizer.add_special_tokens(["<|endoftext|>"])


@pytest.mark.parametrize("change", [prefixed, normalised, unsplit, greedy, greedy_behind, over_lines])
def test_a_tokenizer_of_another_kind_takes_documents_whole(tmp_path, kept, monkeypatch, change):
    reference = trained(end=change in (prefixed, normalised, unsplit))
    change(reference)
    name = saved(reference, tmp_path / "bpe", "tokenizer.json")
    monkeypatch.setattr(cache, "_CHUNK", 0)
    text = "one\nthe\n zz\n<|endoftext|>the<|endoftext|>\n the e\n"
    folder = written(tmp_path / "a", train_txt=text, valid_txt="a\n")
    tokens = load("", folder, name, kept)
    assert tokens.train.tolist() == [*reference.encode(text).ids, reference.token_to_id("<|endoftext|>")]
    assert tokens.vocabulary == reference.get_vocab_size()


@pytest.mark.parametrize("kind", ["vocab.json merges.txt", "tokenizer.json"])
@pytest.mark.parametrize(("size", "dtype"), [(65536, np.uint16), (65537, np.uint32)])
def test_ids_have_the_bytes_they_need(tmp_path, kept, size, dtype, kind):
    vocabulary = {one: place for place, one in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocabulary["a"] = size - 1
    if kind == "tokenizer.json":
        bpe = saved(Tokenizer(models.BPE(vocab=vocabulary, merges=[])), tmp_path / "bpe", kind)
    else:
        files = {"vocab_json": json.dumps(vocabulary), "merges_txt": "#version: 0.2\n\n"}
        bpe = str(written(tmp_path / "bpe", **files))
    folder = written(tmp_path / "a", train_txt="a", valid_txt="a")
    tokens = load("", folder, bpe, kept)
    assert (tokens.train.dtype, tokens.train.tolist(), tokens.vocabulary) == (dtype, [size - 1], size)
    assert load("", folder, bpe, kept).train.tolist() == [size - 1]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"vocab_json": "{", "merges_txt": ""}, "vocab.json is no JSON"),
        ({"vocab_json": "[]", "merges_txt": ""}, "holds no vocabulary, but list"),
        ({"vocab_json": '{"a": "b"}', "merges_txt": ""}, "gives 'a' no id"),
        ({"vocab_json": '{"a": true}', "merges_txt": ""}, "gives 'a' no id"),
        ({"vocab_json": '{"a": -1}', "merges_txt": ""}, "gives 'a' no id"),
        ({"vocab_json": '{"a": 4294967296}', "merges_txt": ""}, "gives 'a' no id"),
        ({"vocab_json": "[" * 100_000, "merges_txt": ""}, "vocab.json is no JSON"),
        ({"vocab_json": '{"a": 0}', "merges_txt": ""}, "lacks 255 of the 256 bytes"),
        ({"vocab_json": b"\xff", "merges_txt": ""}, "vocab.json cannot be read"),
        ({"tokenizer_json": '{"model": 1}'}, "tokenizer.json holds no tokenizer that can be read"),
        ({"tokenizer_json": Tokenizer(models.BPE()).to_str()}, "tokenizer.json holds an empty vocabulary"),
    ],
)
def test_a_broken_tokenizer_is_named(tmp_path, files, words):
    with pytest.raises(DataError, match=words):
        folder_bpe(str(written(tmp_path / "bpe", **files)))


def test_a_tokenizer_that_may_not_be_read_is_named(small, monkeypatch):
    def deny(*_: object) -> str:
        raise PermissionError("Permission denied")

    monkeypatch.setattr(Path, "read_text", deny)
    with pytest.raises(DataError, match=r"encoder\.json cannot be read: Permission denied"):
        folder_bpe(small["encoder.json vocab.bpe"])


def test_merges_of_another_vocabulary_are_refused(small, tmp_path):
    vocabulary = Path(small["vocab.json merges.txt"], "vocab.json").read_bytes()
    folder = written(tmp_path / "bpe", vocab_json=vocabulary, merges_txt="zz qq\n")
    with pytest.raises(DataError, match=r"merges\.txt holds no tokenizer"):
        folder_bpe(str(folder))


def test_a_folder_without_a_tokenizer_says_what_is_sought(tmp_path):
    written(tmp_path, vocab_json="{}")
    with pytest.raises(PathNotFoundError, match=r"no vocab\.json with merges\.txt, no tokenizer\.json"):
        folder_bpe(str(tmp_path))


def test_without_the_library_it_is_named(small, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(
        UsageError, match=r"`tokenizers`, which is not installed: pip install 'gcont-audit\[train\]'"
    ):
        folder_bpe(small["tokenizer.json"])


def test_bytes_are_those_of_the_text_however_long_it_is():
    document = "".join(f"line {place} é\n" for place in range(300_000))
    ids = np.concatenate(list(ids_of(lines_of(document), Bytes())))
    assert ids[:-1].astype(np.uint8).tobytes() == document.encode()
    assert ids[-1] == END


# Real prose


def test_real_prose_has_the_ids_of_its_documents_encoded_whole(tmp_path, kept):
    root = os.environ.get("GCONT_TEST_DATA")
    if not root:
        pytest.skip("GCONT_TEST_DATA is not set: it names the folder that holds english_prose/ and gpt2_bpe/")
    content = (Path(root) / "english_prose" / "valid.txt").read_text("utf-8")
    folder = written(tmp_path / "prose", train_txt="a\n", valid_txt=content)
    bpe = Path(root) / "gpt2_bpe"
    tokens: Tokens = load("", folder, str(bpe), kept)
    reference = Tokenizer(models.BPE.from_file(str(bpe / "encoder.json"), str(bpe / "vocab.bpe")))
    reference.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    whole = [
        one
        for document in content.split("<|endoftext|>\n")[:-1]
        for one in [*reference.encode(document).ids, 50256]
    ]
    assert (tokens.vocabulary, len(whole)) == (50257, 269_121)
    assert tokens.valid.tolist() == whole
