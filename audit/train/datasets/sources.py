"""A data set by its name, from wherever it is: scikit-learn, a folder, the Hub."""

from pathlib import Path

from audit.errors import PathNotFoundError, SelectionError, UsageError
from audit.train.datasets.digits import digits
from audit.train.datasets.hub import hub_parts
from audit.train.datasets.idx import idx_parts
from audit.train.datasets.known import DataSet, named, published
from audit.train.datasets.npz import npz_parts
from audit.train.datasets.parquet import parquet_parts
from audit.train.datasets.part import Part, assembled
from audit.train.images import Images

READERS = (idx_parts, npz_parts, parquet_parts)
"""Tried in this order; each gives None where the folder has none of its files."""


def load(name: str, folder: Path | None) -> Images:
    """The data set of this name, from the folder if one is named, else from the Hub.

    Raises SelectionError for an unknown name and for a folder that holds another data set than the one asked
    for, PathNotFoundError for files that are missing, DataError for those that are not what they should be,
    and without a folder what `hub_parts` raises.
    """
    dataset = named(name)
    if dataset.hub is None:
        if folder is not None:
            raise UsageError(f"{name} comes with scikit-learn and is read from no folder", "leave out --data")
        return digits()
    parts = hub_parts(dataset, dataset.hub) if folder is None else _read(dataset, folder)
    images = assembled(dataset, *parts)
    # Fashion-MNIST's files bear MNIST's names
    if (other := published(images.digest)) not in (None, name):
        raise SelectionError(
            f"what {folder or dataset.hub.repo} holds is {other}", f"ask for --dataset {other}"
        )
    return images


def _read(dataset: DataSet, folder: Path) -> tuple[Part, Part]:
    if not folder.is_dir():
        raise PathNotFoundError(f"there is no folder {folder}", dataset.advice)
    for reader in READERS:
        parts = reader(dataset, folder)
        if parts is not None:
            return parts
    raise PathNotFoundError(f"{folder} holds no files of {dataset.name}", dataset.advice)
