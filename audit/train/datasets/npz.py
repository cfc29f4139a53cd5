"""A NumPy archive as Keras keeps its data sets: x_train, y_train, x_test, y_test. Never a pickle.

The arrays' headers are read by NumPy, their values are not: numpy.load reserves what a header claims before
it looks for it.
"""

import warnings
import zipfile
import zlib
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
from numpy.lib.format import read_array_header_1_0, read_array_header_2_0, read_magic
from numpy.typing import NDArray

from audit.errors import DataError
from audit.train.datasets.known import TEST, TRAIN, DataSet
from audit.train.datasets.part import Part
from audit.train.datasets.stream import take

_MAX_RANK = 4
_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError,
)  # fmt: skip
"""What zipfile raises for archives that are broken, encrypted or packed in a way that it does not know."""


def npz_parts(dataset: DataSet, folder: Path) -> tuple[Part, Part] | None:
    """The training and the test part, None where the folder has no such archive.

    The archive is the one of the data set's name, or the only one there. Raises DataError for one that is not
    what it should be.
    """
    archives = sorted(folder.glob("*.npz"))
    chosen = [path for path in archives if path.stem.replace("_", "-") == dataset.name] or archives
    if not chosen:
        return None
    if len(chosen) > 1:
        raise DataError(f"{folder} holds several .npz", f"call the one to read {dataset.name}.npz")
    train, test = (_part(dataset, chosen[0], which) for which in (TRAIN, TEST))
    return train, test


def read_npz(path: Path, key: str) -> NDArray[Any]:
    """One array of integers out of an archive.

    Raises DataError, and nothing else, whatever the file holds; allocates no more than its size allows.
    """
    try:
        with ZipFile(path) as archive:
            member = next((one for one in archive.infolist() if one.filename == f"{key}.npy"), None)
            if member is None:
                raise DataError(f"{path} holds no {key}", f"it has {_keys(archive)}")
            if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
                raise DataError(f"{key} in {path} is packed in a way that NumPy does not use")
            with archive.open(member) as file:
                return _array(file, path, key)
    except _UNREADABLE as error:
        raise DataError(f"{path} cannot be read", str(error)[:200] or type(error).__name__) from error


def _part(dataset: DataSet, path: Path, which: str) -> Part:
    images, labels = read_npz(path, f"x_{which}"), read_npz(path, f"y_{which}")
    if images.dtype != np.uint8 or images.shape[1:] not in (dataset.shape, (dataset.inputs,)):
        raise DataError(
            f"x_{which} in {path} is {images.dtype} {list(images.shape)}",
            f"{dataset.name} is uint8 [N, {', '.join(map(str, dataset.shape))}]",
        )
    if labels.ndim == 0 or labels.size != len(labels):
        raise DataError(f"y_{which} in {path} is no row of labels, but {list(labels.shape)}")
    pixels = np.ascontiguousarray(images).reshape(len(images), dataset.inputs)
    return Part(pixels, labels.reshape(-1).astype(np.int64), f"x_{which} in {path}", f"y_{which} in {path}")


def _array(file: IO[bytes], path: Path, key: str) -> NDArray[Any]:
    try:
        shape, fortran, dtype = _header(file)
    except (ValueError, SyntaxError, TokenError) as error:
        reason = str(error).split("\n")[0][:200]
        raise DataError(f"{key} in {path} has an unreadable header", reason) from error
    if dtype.kind not in "iu":
        raise DataError(f"{key} in {path} holds no integers but {dtype}", "pickled objects are never opened")
    if len(shape) > _MAX_RANK or min(shape, default=0) < 0:
        raise DataError(f"{key} in {path} has an impossible shape")
    size = prod(shape) * dtype.itemsize
    values = take(file, size)
    if len(values) < size or file.read(1):
        raise DataError(f"{key} in {path} does not hold the {size} bytes that its header promises")
    return np.frombuffer(values, dtype).reshape(shape, order="F" if fortran else "C")


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """The shape that an array's header states, whether its first axis is the innermost, and its dtype."""
    read = read_array_header_1_0 if read_magic(file) == (1, 0) else read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of headers that Python 2 wrote
        shape, fortran, dtype = read(file)
    return shape, fortran, dtype


def _keys(archive: ZipFile) -> str:
    return ", ".join(name.removesuffix(".npy") for name in archive.namelist()[:8]) or "nothing"
