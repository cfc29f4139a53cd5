"""Files of labelled images typed by hand: idx, NumPy archives, parquet, PNG."""

import gzip
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from audit.train.images import Images

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 28, 28), np.uint8)
COLOUR = RNG.integers(0, 256, (5, 32, 32, 3), np.uint8)
LABELS = [3, 0, 9, 1, 9]


def idx(values: np.ndarray | list[int], *shape: int) -> bytes:
    """An idx file typed by hand."""
    axes = b"".join(axis.to_bytes(4, "big") for axis in shape)
    return bytes([0, 0, 8, len(shape)]) + axes + np.asarray(values, np.uint8).tobytes()


def npy(descr: str, shape: str, data: bytes, *, fortran: bool = False, version: int = 1) -> bytes:
    """An array in a .npy file typed by hand."""
    header = f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    return (
        b"\x93NUMPY"
        + bytes([version, 0])
        + len(header).to_bytes(2 if version == 1 else 4, "little")
        + header
        + data
    )


def png(pixels: np.ndarray, format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


def write_idx(
    folder: Path, names: tuple[str, str] = ("train", "t10k"), *, packed: bool = True, first: int = 0
) -> Path:
    """The four files, of the five images for training and the first two for testing."""
    folder.mkdir(exist_ok=True)
    for name, count in zip(names, (5, 2), strict=True):
        images = idx(GREY[:count], count, 28, 28)
        labels = idx([label + first for label in LABELS[:count]], count)
        for kind, content in (("images-idx3", images), ("labels-idx1", labels)):
            path = folder / f"{name}-{kind}-ubyte"
            if packed:
                path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
            else:
                path.write_bytes(content)
    return folder


def write_npz(folder: Path, name: str = "mnist.npz", images: np.ndarray = GREY, **planted: Any) -> Path:
    folder.mkdir(exist_ok=True)
    labels = np.array(LABELS)
    arrays = {"x_train": images, "y_train": labels, "x_test": images[:2], "y_test": labels[:2]} | planted
    np.savez_compressed(
        folder / name, allow_pickle=True, **{k: v for k, v in arrays.items() if v is not None}
    )
    return folder


def write_archive(folder: Path, **members: bytes) -> Path:
    """An archive of members as they are, as `write_npz` would have them where they are not given."""
    whole = {
        "x_train": npy("|u1", "(5, 28, 28)", GREY.tobytes()),
        "y_train": npy("|u1", "(5,)", bytes(LABELS)),
        "x_test": npy("|u1", "(2, 28, 28)", GREY[:2].tobytes()),
        "y_test": npy("|u1", "(2,)", bytes(LABELS[:2])),
    }
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "mnist.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for key, content in (whole | members).items():
            archive.writestr(f"{key}.npy", content)
    return folder


def write_parquet(
    folder: Path, images: np.ndarray = GREY, image: str = "image", label: str = "label", **planted: Any
) -> Path:
    """train and test, training in two shards, as the Hub lays them out."""
    folder.mkdir(exist_ok=True, parents=True)
    rows = [{"bytes": png(one), "path": None} for one in images]
    for file, part in {
        "train-00000-of-00002": slice(0, 3),
        "train-00001-of-00002": slice(3, 5),
        "test-00000-of-00001": slice(0, 2),
    }.items():
        columns = {image: rows[part], label: LABELS[part], "extra": ["x"] * len(rows[part])} | planted
        pq.write_table(pa.table(columns), folder / f"{file}.parquet")
    return folder


def check(images: Images, pixels: np.ndarray = GREY) -> None:
    """The five training and two test images, and nothing changed on the way."""
    expected = pixels.reshape(5, -1)
    assert images.train_pixels.dtype == np.uint8
    assert images.train_labels.dtype == np.int64
    assert np.array_equal(images.train_pixels, expected)
    assert np.array_equal(images.test_pixels, expected[:2])
    assert images.train_labels.tolist() == LABELS
    assert images.test_labels.tolist() == LABELS[:2]
