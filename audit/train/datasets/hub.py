"""Data sets from the Hugging Face Hub, through the library `datasets`: its cache, token and offline mode.

Only data files are read; a repo's own code is never run.
"""

import errno
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub import errors as hub_errors

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
from audit.train.datasets.known import TEST, TRAIN, DataSet, HubRepo
from audit.train.datasets.part import Part
from audit.train.datasets.rows import Row, gathered

_BATCH = 1024

_OF_THE_DISK = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EACCES", "EPERM", "EROFS", "ENOTDIR", "EIO")
    if hasattr(errno, name)
}
"""Errors that come of the cache's disk, not of the network."""


@dataclass(frozen=True)
class Source:
    """What is asked of the Hub: the splits of a repo's configuration; its page, and what to do without it."""

    name: str
    repo: str
    config: str
    splits: tuple[str, ...]
    page: str
    advice: str


def hub_parts(dataset: DataSet, hub: HubRepo) -> tuple[Part, Part]:
    """The training and the test part, downloaded, or from the cache.

    Raises UsageError where `datasets` is not installed, the AccessErrors, OutputError where the cache cannot
    be written, and DataError for what came and is not what it should be.
    """
    source = Source(dataset.name, hub.repo, hub.config, (TRAIN, TEST), hub.page, dataset.advice)
    with hushed(library(source)):
        # rows are taken one by one, so that what goes wrong with one of them is no error of the Hub's
        train, test = (
            gathered(_rows(source, hub, which), dataset, f"{which} of {hub.repo}") for which in source.splits
        )
    return train, test


def library(source: Source) -> Any:
    """The library `datasets`; raises UsageError where it is not installed."""
    try:
        import datasets
    except ImportError as error:
        raise UsageError(
            f"{source.name} comes from the Hub through the library `datasets`, which is not installed",
            f"pip install 'gcont-audit[train]', or {source.advice}",
        ) from error
    return datasets


def _rows(source: Source, hub: HubRepo, which: str) -> Iterator[Row]:
    """Each image of a split, still encoded, and its label."""
    from datasets import Image, load_dataset

    columns = [hub.image, hub.label]
    with translated(source):
        split = load_dataset(hub.repo, hub.config, split=which)
        for column in columns:
            if column not in split.column_names:
                raise DataError(
                    f"{which} of {hub.repo} has no column {column}",
                    f"but {', '.join(split.column_names[:8])}",
                )
        encoded = split.select_columns(columns).cast_column(hub.image, Image(decode=False))
        for batch in encoded.iter(batch_size=_BATCH):
            yield from zip(*(batch[column] for column in columns), strict=True)


@contextmanager
def hushed(datasets: Any) -> Iterator[None]:
    """No words of the libraries, which can hold signed URLs, and progress bars on a terminal only.

    Whoever has set their verbosity hears them all the same.
    """
    logs = (huggingface_hub.logging, datasets.logging)
    levels = [log.get_verbosity() for log in logs]
    for log, level in zip(logs, levels, strict=True):
        log.set_verbosity(logging.CRITICAL if level == logging.WARNING else level)
    hidden = [] if sys.stderr.isatty() else [
        bars for bars in (datasets, huggingface_hub.utils) if not bars.are_progress_bars_disabled()
    ]  # fmt: skip
    for bars in hidden:
        bars.disable_progress_bars()
    try:
        yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.set_verbosity(level)
        for bars in hidden:
            bars.enable_progress_bars()


@contextmanager
def translated(source: Source) -> Iterator[None]:
    """Turn the libraries' errors into ours."""
    from datasets.exceptions import DatasetsError
    from pyarrow import ArrowException

    try:
        yield
    except (
        DatasetsError,
        ArrowException,
        hub_errors.HTTPError,  # type: ignore[attr-defined]  # httpx or httpx2, as the Hub client has it
        OSError,
        ValueError,
        KeyError,
        TypeError,
        RuntimeError,  # how hf_xet reports a transfer that failed
    ) as error:
        raise _our_error(error, source) from error


def _our_error(error: BaseException, source: Source) -> AuditError:
    """What an error of the libraries means to the user, with no token and no signed URL in it."""
    from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError, DatasetsError
    from pyarrow import ArrowException

    match error:
        case DatasetGenerationError(__cause__=(OSError() | hub_errors.HTTPError()) as cause):  # type: ignore[attr-defined]  # as above
            return _our_error(cause, source)
        case DatasetNotFoundError() if "gated" in str(error):
            return GatedRepoError(
                f"{source.repo} is gated", f"accept its terms at {source.page} and log in, or {source.advice}"
            )
        case DatasetNotFoundError():
            return RepoNotFoundError(f"the Hub has no data set {source.repo}", source.advice)
        case ConnectionError() if constants.HF_HUB_OFFLINE:
            return OfflineError(
                f"{source.repo} is not in the cache, and HF_HUB_OFFLINE is set",
                f"unset it, or {source.advice}",
            )
        case ArrowException() | DatasetGenerationError():
            return DataError(
                f"what the Hub has sent of {source.repo} cannot be read",
                f"delete it from the cache {constants.HF_HUB_CACHE}, or {source.advice}",
            )
        case OSError(errno=int() as number) if number in _OF_THE_DISK:
            return OutputError(
                f"the Hub's cache in {constants.HF_HOME} cannot be used: {error.strerror}",
                "set HF_HOME elsewhere",
            )
        case DatasetsError() | ValueError() | KeyError() | TypeError():
            return RepoNotFoundError(
                f"{source.repo} on the Hub has no {source.config} with {' and '.join(source.splits)}",
                source.advice,
            )
        case _:
            return NetworkError(
                f"{source.repo} could not be fetched from the Hub",
                f"check the network (and HF_ENDPOINT and HF_TOKEN, if set), or {source.advice}",
            )
