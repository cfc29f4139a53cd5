"""Byte-level BPE as GPT-2 has it, from a folder or from the Hub, through the library `tokenizers`."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from huggingface_hub import constants

from audit.checkpoint.hub import fetch
from audit.checkpoint.refusals import translated
from audit.errors import DataError, NetworkError, OfflineError, PathNotFoundError, UsageError
from audit.train.text.pieces import END_OF_TEXT
from registry.experiments import GPT2_TOKENS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_REPO = "openai-community/gpt2"
_PAIRS = (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"))
_WHOLE = "tokenizer.json"
_OTHERWISE = "--tokenizer bytes needs no files"


@dataclass(frozen=True, eq=False)
class BPE:
    """A tokenizer of the library; `by_line` where a document may be encoded line by line, at safe places."""

    name: str
    vocabulary: int
    end: int | None
    identity: str
    tokenizer: "Tokenizer"
    by_line: bool

    def may_cut(self, line: str, following: str) -> bool:
        r"""Whether GPT-2's pattern parts the text here anyway, in the same way.

        The pattern: `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
        White space at a text's end is one token; inside it parts from what follows before its last character.
        A last space belongs to the word after it, so that nothing changes where the following line begins
        with one space. Nor where the white space is one newline, which has nothing to part from.
        """
        if not self.by_line or not line.endswith("\n"):
            return False
        if following.startswith(" "):
            # an added token takes no space before it
            return following[1:2].strip() != "" and not following.startswith(END_OF_TEXT, 1)
        return line[-2:-1].strip() != "" and following[:1].strip() != ""

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each, and no special tokens around them."""
        encoded = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(one.ids, np.uint32) for one in encoded]


def gpt2() -> BPE:
    """GPT-2's own, 50257 ids, from the Hub or its cache.

    Raises UsageError where `tokenizers` is not installed, the AccessErrors, OutputError where the Hub's cache
    cannot be written, and DataError for files that are not what they should be.
    """
    _check_installed(GPT2_TOKENS)
    try:
        with translated(_REPO, None):
            vocabulary, merges = (fetch(_REPO, name, None) for name in _PAIRS[1])
    except NetworkError as error:
        if constants.HF_HUB_OFFLINE:
            raise OfflineError(
                f"{_REPO} is not in the cache, and HF_HUB_OFFLINE is set", f"unset it; {_OTHERWISE}"
            ) from error
        raise
    return _pair(GPT2_TOKENS, vocabulary, merges)


def folder_bpe(name: str) -> BPE:
    """The tokenizer in a folder: encoder.json with vocab.bpe, vocab.json with merges.txt, or tokenizer.json.

    Raises PathNotFoundError for a folder or files that are not there, UsageError where `tokenizers` is not
    installed, and DataError for files that are not what they should be.
    """
    folder = Path(name)
    if not folder.is_dir():
        raise PathNotFoundError(
            f"there is no tokenizer {name}", f"it is bytes, {GPT2_TOKENS}, or a folder that holds one's files"
        )
    called = folder.resolve().name
    _check_installed(called)
    for pair in _PAIRS:
        first, second = (folder / one for one in pair)
        if first.is_file() and second.is_file():
            return _pair(called, first, second)
    if (folder / _WHOLE).is_file():
        return _whole(called, folder / _WHOLE)
    sought = [" with ".join(pair) for pair in _PAIRS]
    raise PathNotFoundError(f"{folder} holds no tokenizer: no {', no '.join([*sought, _WHOLE])}", _OTHERWISE)


def _check_installed(name: str) -> None:
    try:
        import tokenizers  # noqa: F401  # only whether it is there
    except ImportError as error:
        raise UsageError(
            f"{name} is read by the library `tokenizers`, which is not installed",
            f"pip install 'gcont-audit[train]'; {_OTHERWISE}",
        ) from error


def _pair(name: str, vocabulary: Path, merges: Path) -> BPE:
    """A tokenizer of GPT-2's kind, from its vocabulary and its merges."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    ids = _ids(_parsed(vocabulary), vocabulary)
    if missing := [one for one in pre_tokenizers.ByteLevel.alphabet() if one not in ids]:
        raise DataError(
            f"{vocabulary} lacks {len(missing)} of the 256 bytes", "it is no byte-level vocabulary"
        )
    pairs = [
        (left, right)
        for line in _content(merges).splitlines()
        if not line.startswith("#version") and line.count(" ") == 1
        for left, right in [line.split(" ")]
    ]
    tokenizer = _built(lambda: Tokenizer(models.BPE(vocab=ids, merges=pairs)), merges)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    identity = sha256(json.dumps([sorted(ids.items()), pairs]).encode()).hexdigest()
    return BPE(name, max(ids.values()) + 1, ids.get(END_OF_TEXT), identity, tokenizer, True)


def _whole(name: str, file: Path) -> BPE:
    """The tokenizer of a tokenizer.json; if it is not of GPT-2's kind, documents are encoded whole."""
    from tokenizers import Tokenizer

    content = _content(file)
    tokenizer = _built(lambda: Tokenizer.from_str(content), file)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    ids = tokenizer.get_vocab(with_added_tokens=True)
    if not ids:
        raise DataError(f"{file} holds an empty vocabulary", _OTHERWISE)
    identity = sha256(content.encode()).hexdigest()
    by_line = _is_gpt2s(_parsed(file))
    return BPE(name, max(ids.values()) + 1, ids.get(END_OF_TEXT), identity, tokenizer, by_line)


def _is_gpt2s(fields: Mapping[str, Any]) -> bool:
    """Whether nothing but GPT-2's pattern parts a text, and added tokens do not reach over a line's end."""
    splitter = fields.get("pre_tokenizer") or {}
    return (
        fields.get("normalizer") is None
        and (splitter.get("type"), splitter.get("add_prefix_space")) == ("ByteLevel", False)
        and splitter.get("use_regex", True)
        and all(
            added["content"] == END_OF_TEXT and not added["lstrip"] and not added["rstrip"]
            for added in fields.get("added_tokens") or ()
        )
    )


def _built(build: "Callable[[], Tokenizer]", file: Path) -> "Tokenizer":
    try:
        return build()
    except Exception as error:  # the library raises nothing narrower
        raise DataError(f"{file} holds no tokenizer that can be read", str(error)) from error


def _parsed(file: Path) -> Mapping[str, Any]:
    try:
        parsed = json.loads(_content(file))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is no JSON", "download it again") from error
    if not isinstance(parsed, dict):
        raise DataError(f"{file} holds no vocabulary, but {type(parsed).__name__}", "download it again")
    return parsed


def _ids(parsed: Mapping[str, Any], file: Path) -> dict[str, int]:
    wrong = [one for one, id_ in parsed.items() if type(id_) is not int or not 0 <= id_ < 1 << 32]
    if wrong:
        raise DataError(f"{file} gives {wrong[0]!r} no id", "download it again")
    return dict(parsed)


def _content(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read", str(error)) from error
