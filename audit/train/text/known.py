"""The texts that `gcont-audit train` knows by name, and what to do without the Hub."""

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType

from audit.errors import SelectionError

STDLIB = "stdlib"
"""The text that needs no file and no network: Python carries it."""

WIKITEXT: Mapping[str, str] = MappingProxyType(
    {"wikitext-2": "wikitext-2-raw-v1", "wikitext-103": "wikitext-103-raw-v1"}
)
"""Each text of https://huggingface.co/datasets/Salesforce/wikitext, and its configuration there."""

DATASETS: Mapping[str, str] = MappingProxyType(
    {
        STDLIB: "the docstrings of Python's standard library, 1.5 MB, without network",
        "wikitext-2": "2 million words of Wikipedia, from the Hub",
        "wikitext-103": "103 million words of Wikipedia, from the Hub",
    }
)
"""Every text by its name, and a few words on it."""

ADVICE = (
    f"put train*.txt and valid*.txt into a folder and name it with --data; --dataset {STDLIB} needs no files"
)
"""What to do where a text cannot be had."""


def check_named(name: str) -> None:
    """Raise SelectionError, with the nearest names, for a text that is not known."""
    if name in DATASETS:
        return
    near = get_close_matches(name.lower().replace("_", "-"), DATASETS, n=3)
    hint = f"did you mean {', or '.join(near)}?" if near else f"there are {', '.join(DATASETS)}"
    raise SelectionError(f"there is no text {name!r}", f"{hint}; --data names a folder of your own")
