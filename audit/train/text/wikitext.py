"""WikiText from the Hugging Face Hub, through the library `datasets`: its own files' text, line by line."""

import json
from collections.abc import Iterator
from typing import Any

from audit.errors import DataError
from audit.train.datasets.hub import Source, hushed, library, translated
from audit.train.text.known import ADVICE, WIKITEXT
from audit.train.text.pieces import END, PARTS, TRAIN, Piece, Text
from audit.train.text.tokens import Progress

_REPO = "Salesforce/wikitext"
_PAGE = f"https://huggingface.co/datasets/{_REPO}"
_SPLITS = {part: "train" if part == TRAIN else "validation" for part in PARTS}
_COLUMN = "text"
_EMPTY_LINE = " \n"
"""As WikiText's files have it, where the Hub's rows hold nothing."""
_ROWS = 1024


def hub_text(name: str) -> Text:
    """The raw WikiText of this name, downloaded, or from the cache.

    Raises UsageError where `datasets` is not installed, the AccessErrors, OutputError where the cache cannot
    be written, and DataError for what came and is not what it should be.
    """
    source = Source(name, _REPO, WIKITEXT[name], tuple(_SPLITS.values()), _PAGE, ADVICE)
    datasets = library(source)
    with hushed(datasets):
        splits = {part: _split(datasets, source, split) for part, split in _SPLITS.items()}

    def read(part: str, progress: Progress) -> Iterator[Piece]:
        progress.begin(part, splits[part].info.splits[_SPLITS[part]].num_bytes)
        yield from _lines(splits[part], source, progress)
        yield END

    # of the repo's commit, the configuration and the split: the library offers it under no public name
    identity = {part: split._fingerprint for part, split in splits.items()}
    return Text(name, json.dumps(identity), read)


def _split(datasets: Any, source: Source, which: str) -> Any:
    with translated(source):
        split = datasets.load_dataset(source.repo, source.config, split=which)
        if _COLUMN not in split.column_names:
            raise DataError(
                f"{which} of {source.repo} has no column {_COLUMN}",
                f"but {', '.join(split.column_names[:8])}",
            )
        return split.select_columns([_COLUMN])


def _lines(split: Any, source: Source, progress: Progress) -> Iterator[Piece]:
    rows = split.iter(batch_size=_ROWS)
    while True:
        # only the reading: what goes wrong with a line further on is no error of the Hub's
        with translated(source):
            batch = next(rows, None)
        if batch is None:
            return
        for line in batch[_COLUMN]:
            if not isinstance(line, str):
                raise DataError(f"a row of {source.repo} holds no text, but {type(line).__name__}", ADVICE)
            yield line or _EMPTY_LINE
        progress.advance(sum(len(line.encode()) for line in batch[_COLUMN]))
