"""A NumPy archive as Keras keeps its data sets: x_train, y_train, x_test, y_test. Never a pickle.

The archive is read here and not by numpy.load, which reserves what a header claims before it looks for it.
"""

import re
import zipfile
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
from numpy.typing import NDArray

from audit.errors import DataError
from audit.train.datasets.known import TEST, TRAIN, DataSet
from audit.train.datasets.part import Part
from audit.train.datasets.stream import Readable, take

_MAGIC = b"\x93NUMPY"
_MAX_HEADER = 10_000
_MAX_RANK = 4
_DESCR = re.compile(rb"'descr': *'([^']{1,20})'")
_ORDER = re.compile(rb"'fortran_order': *(True|False)")
_SHAPE = re.compile(rb"'shape': *\(((?:\d{1,10}L?[, ]*)*)\)")
_INTEGERS = re.compile(r"[<>|=]?[iu][1248]")
_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError
)  # fmt: skip
"""What zipfile raises for archives that are broken, encrypted or packed in a way it does not know."""


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


@dataclass(frozen=True)
class _Header:
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool


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


def _array(file: Readable, path: Path, key: str) -> NDArray[Any]:
    header = _header(file, f"{key} in {path}")
    size = prod(header.shape) * header.dtype.itemsize
    values = take(file, size)
    if len(values) < size or file.read(1):
        raise DataError(f"{key} in {path} does not hold the {size} bytes that its header promises")
    flat = np.frombuffer(values, header.dtype)
    return flat.reshape(header.shape[::-1]).T if header.fortran else flat.reshape(header.shape)


def _header(file: Readable, where: str) -> _Header:
    """The dtype and shape that an array's header states, of integers only."""
    start = take(file, 10)
    if start[:6] != _MAGIC or len(start) < 10:
        raise DataError(f"{where} is no NumPy array")
    # the header's length takes two bytes in format 1.0, four in those after
    length = int.from_bytes(start[8:10] if start[6] == 1 else start[8:10] + take(file, 2), "little")
    text = take(file, length) if length <= _MAX_HEADER else b""
    said = [key.search(text) for key in (_DESCR, _ORDER, _SHAPE)]
    if not all(said):
        raise DataError(f"{where} has an unreadable header")
    descr, order, axes = (found[1].decode("latin1") for found in said if found)
    if not _INTEGERS.fullmatch(descr):
        raise DataError(f"{where} holds no integers but {descr}", "pickled objects are never opened")
    shape = tuple(int(axis) for axis in re.findall(r"\d+", axes))
    if len(shape) > _MAX_RANK:
        raise DataError(f"{where} has an impossible shape")
    return _Header(np.dtype(descr), shape, order == "True")


def _keys(archive: ZipFile) -> str:
    return ", ".join(name.removesuffix(".npy") for name in archive.namelist()[:8]) or "nothing"
