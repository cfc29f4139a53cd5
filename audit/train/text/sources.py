"""A text by its name, from wherever it is: Python's own library, a folder, the Hub; and its ids."""

from pathlib import Path

from audit.errors import UsageError
from audit.train.text.cache import cached
from audit.train.text.encoders import encoder_named
from audit.train.text.files import folder_text
from audit.train.text.known import STDLIB, check_named
from audit.train.text.pieces import Text
from audit.train.text.stdlib import stdlib_text
from audit.train.text.tokens import Progress, Silent, Tokens

_SILENT = Silent()


def load(
    dataset: str, data: Path | None, tokenizer: str, cache: Path, progress: Progress = _SILENT
) -> Tokens:
    """The ids of a text: of the files in the folder `data` if one is named, else of a text known by name.

    A folder's text is called `dataset`, or as the folder where that is empty. `tokenizer` is "bytes", "gpt2"
    or a folder. The folder `cache` keeps the ids, so that they are made once.
    Raises SelectionError for an unknown text, PathNotFoundError for files that are missing, UsageError for a
    library that is not installed, DataError for files that are not what they should be, OutputError for a
    cache that cannot be written, and the AccessErrors.
    """
    if data is None:
        check_named(dataset)
    encoder = encoder_named(tokenizer)
    return cached(_text(dataset, data, progress), encoder, cache, progress)


def _text(dataset: str, data: Path | None, progress: Progress) -> Text:
    if dataset == STDLIB:
        if data is not None:
            raise UsageError(f"{STDLIB} comes with Python and is read from no folder", "leave out --data")
        return stdlib_text(progress)
    if data is not None:
        return folder_text(dataset or data.resolve().name, data)
    # it loads torch by way of the images' package, and only the Hub's texts need it
    from audit.train.text.wikitext import hub_text

    return hub_text(dataset)
