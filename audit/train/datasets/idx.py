"""The idx files of MNIST and its kin, plain or gzipped.

The format: two zero bytes, 8 for unsigned bytes, the number of axes, each axis as a big-endian 32-bit number,
then the values. http://yann.lecun.com/exdb/mnist/
"""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path

import numpy as np

from audit.errors import DataError, PathNotFoundError
from audit.train.datasets.known import DataSet
from audit.train.datasets.part import Part
from audit.train.datasets.stream import Readable, take
from audit.train.images import Pixels

_UNSIGNED_BYTES = 8


def idx_parts(dataset: DataSet, folder: Path) -> tuple[Part, Part] | None:
    """The training and the test part, None where the folder has none of their files.

    Raises PathNotFoundError where some of the four are missing, DataError for those that are not what they
    should be.
    """
    if dataset.idx is None:
        return None
    wanted = [name for part in dataset.idx for name in _names(part)]
    found = {name: path for name in wanted if (path := _path(folder, name))}
    if not found:
        return None
    if missing := [name for name in wanted if name not in found]:
        raise PathNotFoundError(f"{folder} lacks {' and '.join(missing)}", "plain or with .gz")
    train, test = (_part(dataset, *(found[name] for name in _names(part))) for part in dataset.idx)
    return train, test


def read_idx(path: Path, shape: tuple[int, ...]) -> Pixels:
    """The bytes [N, *shape] of an idx file.

    Raises DataError, and nothing else, whatever the file holds; allocates no more than its size allows.
    """
    try:
        with _opened(path) as file:
            return _read(file, path, shape)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read", _reason(error)) from error


def _names(part: str) -> tuple[str, str]:
    return f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"


def _path(folder: Path, name: str) -> Path | None:
    # where only the ending differs: some copies are named as an unpacked archive names them
    spellings = [f"{stem}{end}" for stem in (name, name.replace("-idx", ".idx")) for end in ("", ".gz")]
    return next((path for spelling in spellings if (path := folder / spelling).is_file()), None)


def _part(dataset: DataSet, images: Path, labels: Path) -> Part:
    pixels = read_idx(images, dataset.shape).reshape(-1, dataset.inputs)
    return Part(pixels, read_idx(labels, ()).astype(np.int64), images.name, labels.name)


@contextmanager
def _opened(path: Path) -> Iterator[Readable]:
    if path.suffix == ".gz":
        with gzip.open(path) as file:
            yield file
    else:
        with path.open("rb") as file:
            yield file


def _read(file: Readable, path: Path, shape: tuple[int, ...]) -> Pixels:
    rank = 1 + len(shape)
    header = take(file, 4 + 4 * rank)
    if header[:4] != bytes((0, 0, _UNSIGNED_BYTES, rank)) or len(header) < 4 + 4 * rank:
        raise DataError(f"{path} is no idx file of bytes with {rank} axes")
    count, *found = (int.from_bytes(header[at : at + 4]) for at in range(4, len(header), 4))
    if tuple(found) != shape:
        raise DataError(f"{path} holds images of {_times(found)}, not of {_times(shape)}")
    size = count * prod(shape)
    values = take(file, size)
    if len(values) < size:
        raise DataError(f"{path} is truncated: its header promises {size} values", "download it again")
    if file.read(1):
        raise DataError(f"{path} goes on after the {size} values that its header promises")
    return np.frombuffer(values, np.uint8).reshape(count, *shape)


def _times(shape: tuple[int, ...] | list[int]) -> str:
    return " x ".join(map(str, shape))


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
