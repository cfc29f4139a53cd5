"""Parquet files as the Hub lays them out: train*.parquet and test*.parquet, images as PNG or JPEG."""

from collections.abc import Iterator
from pathlib import Path

from audit.errors import DataError, PathNotFoundError, UsageError
from audit.train.datasets.known import TEST, TRAIN, DataSet, HubRepo
from audit.train.datasets.part import Part
from audit.train.datasets.rows import Row, gathered

_BATCH = 1024


def parquet_parts(dataset: DataSet, folder: Path) -> tuple[Part, Part] | None:
    """The training and the test part, None where the folder has no parquet file of either.

    They may lie in the folder itself, or below it as in the repo. Raises PathNotFoundError where one part is
    missing, UsageError without pyarrow, DataError for files that are not what they should be.
    """
    if dataset.hub is None:
        return None
    places = (folder, folder / dataset.hub.config, folder / "data")
    for place in places:
        files = {which: sorted(place.glob(f"{which}*.parquet")) for which in (TRAIN, TEST)}
        if not any(files.values()):
            continue
        for which, found in files.items():
            if not found:
                raise PathNotFoundError(f"{place} lacks {which}*.parquet")
        train, test = (_part(dataset, dataset.hub, found) for found in files.values())
        return train, test
    return None


def _part(dataset: DataSet, hub: HubRepo, files: list[Path]) -> Part:
    where = str(files[0]) if len(files) == 1 else f"{files[0]} to {files[-1].name}"
    return gathered((row for path in files for row in read_parquet(path, hub)), dataset, where)


def read_parquet(path: Path, hub: HubRepo) -> Iterator[Row]:
    """Each image and its label; raises DataError where the file is broken or lacks a column."""
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise UsageError(
            f"{path} is read with pyarrow, which is not installed", "pip install 'gcont-audit[train]'"
        ) from error
    columns = [hub.image, hub.label]
    try:
        with ParquetFile(path) as file:
            for column in columns:
                if column not in file.schema_arrow.names:
                    raise DataError(f"{path} has no column {column}", f"but {_few(file.schema_arrow.names)}")
            for batch in file.iter_batches(batch_size=_BATCH, columns=columns):
                yield from zip(*(batch.column(name).to_pylist() for name in columns), strict=True)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"{path} is no parquet file that can be read", str(error).split("\n")[0][:200]
        ) from error


def _few(names: list[str]) -> str:
    return ", ".join(names[:8]) or "none"
