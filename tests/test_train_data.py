"""Data sets are read byte by byte as they are, from every kind of file, or refused with the file's name."""

import gzip
import io
import os
import pickle
import subprocess
import sys
import tempfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from image_files import (
    COLOUR,
    GREY,
    LABELS,
    check,
    idx,
    npy,
    png,
    write_archive,
    write_idx,
    write_npz,
    write_parquet,
)
from PIL import Image
from sklearn.datasets import load_digits

from audit.errors import DataError, PathNotFoundError, SelectionError, UsageError
from audit.train.datasets import DATASETS, as_published, load
from audit.train.datasets.encoded import decoded
from audit.train.datasets.idx import read_idx
from audit.train.datasets.known import named, published
from audit.train.datasets.npz import read_npz
from audit.train.images import Images

NAMES = tuple(one.name for one in DATASETS)
WITH_FILES = tuple(one.name for one in DATASETS if one.hub)

compressed = partial(gzip.compress, mtime=0)
"""The same bytes whenever it is called, as the names of tests must be."""


# What is known


def test_the_names_are_those_that_the_help_lists():
    assert NAMES == ("digits", "mnist", "fashion-mnist", "emnist-letters", "svhn", "cifar-10", "cifar-100")


def test_an_unknown_name_has_neighbours():
    with pytest.raises(SelectionError) as caught:
        load("fashion_mnist2", None)
    assert "fashion-mnist" in caught.value.hint
    with pytest.raises(SelectionError, match="digits, mnist, fashion-mnist"):
        load("?", None)


@pytest.mark.parametrize("name", WITH_FILES)
def test_advice_names_files_page_and_the_way_without(name):
    advice = named(name).advice
    assert "train*.parquet and test*.parquet from https://huggingface.co/datasets/" in advice
    assert "--data" in advice
    assert "--dataset digits" in advice
    assert ("idx3-ubyte.gz" in advice) == ("mnist" in name)


def test_import_is_light():
    heavy = {"datasets", "pyarrow", "sklearn", "PIL", "pandas"}
    code = f"import sys, audit.train.datasets; print({heavy} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


# digits


def test_digits_are_scikit_learns_and_always_split_alike():
    images = load("digits", None)
    assert (images.train_pixels.shape, images.test_pixels.shape) == ((1437, 64), (360, 64))
    assert as_published("digits", images.digest) is True
    values, labels = load_digits(return_X_y=True)
    assert images.test_pixels.max() == 255
    assert np.abs(np.diff(sorted({*images.train_pixels.ravel().tolist()})) - 255 / 16).max() < 1
    found = np.concatenate([images.train_pixels, images.test_pixels])
    back = np.c_[np.rint(found / 255 * 16), np.concatenate([images.train_labels, images.test_labels])]
    assert sorted(back.tolist()) == sorted(np.c_[values, labels].tolist())
    share = np.bincount(images.test_labels) / np.bincount(labels)
    assert np.abs(share - 360 / 1797).max() < 0.005


def test_digits_are_read_from_no_folder(tmp_path):
    with pytest.raises(UsageError, match="--data"):
        load("digits", tmp_path)


# MNIST itself


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_published_files_have_the_published_digest(name):
    root = os.environ.get("GCONT_TEST_DATA")
    if not root:
        pytest.skip("GCONT_TEST_DATA is not set: it names the folder that holds mnist/ and fashion_mnist/")
    folder = Path(root) / name.replace("-", "_")
    images = load(name, folder)
    assert as_published(name, images.digest) is True
    assert (images.train_pixels.shape, images.test_pixels.shape) == ((60000, 784), (10000, 784))
    if name == "mnist":
        assert images.scale == (0.1307, 0.3081)
        assert images.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    other = {"mnist": "fashion-mnist", "fashion-mnist": "mnist"}[name]
    with pytest.raises(SelectionError, match=f"ask for --dataset {name}"):
        load(other, folder)


def test_other_images_are_not_as_published(tmp_path):
    assert as_published("mnist", load("mnist", write_idx(tmp_path / "m")).digest) is False
    assert as_published("svhn", "0" * 64) is None
    assert published("0" * 64) is None


# idx


@pytest.mark.parametrize("packed", [True, False])
def test_idx_files_typed_by_hand(tmp_path, packed):
    check(load("mnist", write_idx(tmp_path / "m", packed=packed)))


def test_idx_files_named_with_a_dot(tmp_path):
    folder = write_idx(tmp_path / "m", packed=False)
    for path in list(folder.iterdir()):
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    check(load("mnist", folder))


@pytest.mark.parametrize("first", [1, 0])
def test_emnists_letters_start_at_0_whatever_the_files_say(tmp_path, first):
    images = load(
        "emnist-letters", write_idx(tmp_path, ("emnist-letters-train", "emnist-letters-test"), first=first)
    )
    check(images)


def test_a_missing_file_of_four_is_named(tmp_path):
    folder = write_idx(tmp_path / "m")
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(PathNotFoundError, match="lacks t10k-labels-idx1-ubyte"):
        load("mnist", folder)


IMAGES, COUNTS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
WHOLE = idx(GREY, 5, 28, 28)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        (IMAGES, compressed(WHOLE)[:-400], "cannot be read"),
        (IMAGES, compressed(WHOLE)[:-8] + b"\0" * 8, "cannot be read"),
        (IMAGES, WHOLE, "cannot be read"),
        (IMAGES, compressed(WHOLE[:-1]), "truncated"),
        (IMAGES, compressed(WHOLE + b"\0"), "goes on after"),
        (IMAGES, compressed(WHOLE[:9]), "no idx file"),
        (IMAGES, b"", "no idx file"),
        (IMAGES, compressed(idx(GREY, 5, 784)), "no idx file of bytes with 3 axes"),
        (IMAGES, compressed(WHOLE.replace(b"\x08", b"\x0d", 1)), "no idx file of bytes"),
        (IMAGES, compressed(idx(GREY, 5, 14, 56)), "holds images of 14 x 56, not of 28 x 28"),
        (IMAGES, compressed(idx(GREY, 2**32 - 1, 28, 28)), "truncated"),
        (IMAGES, compressed(idx([], 0, 28, 28)), "holds no images"),
        (COUNTS, compressed(idx(LABELS[:4], 4)), f"4 labels for the 5 images of {IMAGES}"),
        (COUNTS, compressed(idx([3, 0, 10, 1, 9], 5)), "label 10 for image 2"),
        (COUNTS, b"<html>sign in</html>", "cannot be read"),
    ],
)  # fmt: skip
def test_a_broken_idx_file_is_named(tmp_path, file, content, words):
    folder = write_idx(tmp_path / "m")
    (folder / file).write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        load("mnist", folder)
    assert file in caught.value.message
    assert caught.value.exit_code == 5


def test_letters_beyond_z_are_refused(tmp_path):
    folder = write_idx(tmp_path, ("emnist-letters-train", "emnist-letters-test"), first=1)
    (folder / "emnist-letters-train-labels-idx1-ubyte.gz").write_bytes(compressed(idx([27, 1, 2, 3, 4], 5)))
    with pytest.raises(DataError, match="label 27 for image 0: emnist-letters's go from 1 to 26"):
        load("emnist-letters", folder)


def peak_of(act: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(DataError):
            act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_what_a_header_claims_is_never_reserved(tmp_path):
    claims = idx([7] * 100, 2**32 - 1, 28, 28)
    plain, packed = tmp_path / "a", tmp_path / "b.gz"
    plain.write_bytes(claims)
    packed.write_bytes(compressed(claims))
    for path in (plain, packed):
        assert peak_of(lambda path=path: read_idx(path, (28, 28))) < 2_000_000
    folder = write_archive(tmp_path / "m", x_train=npy("|u1", "(4000000000, 28, 28)", b"7" * 100))
    assert peak_of(lambda: load("mnist", folder)) < 2_000_000


# what deflate can make of so many bytes at most is read, and no more
def test_a_gzip_bomb_is_not_unpacked_to_its_end(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(compressed(idx([], 100, 28, 28) + bytes(100_000_000)))
    assert peak_of(lambda: read_idx(path, (28, 28))) < 5_000_000


# npz


@pytest.mark.parametrize("name", ["mnist.npz", "whatever.npz"])
def test_an_npz_of_keras(tmp_path, name):
    check(load("mnist", write_npz(tmp_path / "m", name)))


@pytest.mark.parametrize("version", [1, 2, 3])
def test_an_npz_typed_by_hand(tmp_path, version):
    turned = np.asfortranarray(GREY).tobytes(order="A")
    y = b"".join(label.to_bytes(2, "big") for label in LABELS)
    x = npy("|u1", "(5, 28, 28)", turned, fortran=True, version=version)
    check(
        load(
            "mnist",
            write_archive(tmp_path / "m", x_train=x, y_train=npy(">i2", "(5L, 1)", y, version=version)),
        )
    )


@pytest.mark.parametrize("name", ["svhn", "cifar-10", "cifar-100"])
def test_colours_lie_innermost(tmp_path, name):
    check(load(name, write_npz(tmp_path / "m", "a.npz", COLOUR, y_train=np.array(LABELS)[:, None])), COLOUR)


def test_among_several_archives_the_one_of_the_name_is_read(tmp_path):
    folder = write_npz(tmp_path / "m", "fashion_mnist.npz")
    write_npz(folder, "mnist.npz", 255 - GREY)
    check(load("fashion-mnist", folder))
    check(load("mnist", folder), 255 - GREY)
    with pytest.raises(DataError, match=r"call the one to read emnist-letters\.npz"):
        load("emnist-letters", folder)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("opened",)


@pytest.mark.parametrize(
    ("key", "member", "words"),
    [
        ("x_train", npy("|u1", "(5, 28, 28)", GREY.tobytes()[:-1]), "does not hold the 3920 bytes"),
        ("x_train", npy("|u1", "(5, 28, 28)", GREY.tobytes() + b"7"), "does not hold the 3920 bytes"),
        ("x_train", npy("|u1", "(5, 14, 56)", GREY.tobytes()), r"uint8 \[5, 14, 56\]"),
        ("x_train", npy("<u2", "(5, 28, 28)", GREY.tobytes() * 2), r"uint16 \[5, 28, 28\]"),
        ("x_train", npy("<f4", "(5, 28, 28)", GREY.tobytes() * 4), "no integers but float32"),
        ("x_train", npy("|u1", "(1, 1, 5, 28, 28)", GREY.tobytes()), "impossible shape"),
        ("x_train", npy("|u1", "(0, 28, 28)", b""), "holds no images"),
        ("x_train", npy("|u1", "(-5, 28, 28)", GREY.tobytes()), "impossible shape"),
        ("x_train", b"\x93NUMPY\x01\x00\xff\xff{'descr'", "unreadable header"),
        ("x_train", GREY.tobytes(), "unreadable header"),
        ("x_train", b"", "unreadable header"),
        ("y_train", npy("|O", "(5,)", pickle.dumps([Evil()] * 5)), "pickled objects are never opened"),
        ("y_train", npy("|u1", "(4,)", bytes(4)), "4 labels for the 5 images"),
        ("y_train", npy("|u1", "(1, 5)", bytes(5)), "no row of labels"),
        ("y_train", npy("|u1", "()", bytes(1)), "no row of labels"),
        ("y_train", npy("<u8", "(5,)", b"\xff" * 40), "label -1 for image 0"),
        ("y_test", npy("<i4", "(2,)", (-1).to_bytes(4, "little", signed=True) * 2), "label -1 for image 0"),
    ],
)  # fmt: skip
def test_a_broken_npz_is_named(tmp_path, key, member, words):
    with pytest.raises(DataError, match=words) as caught:
        load("mnist", write_archive(tmp_path / "m", **{key: member}))
    assert f"{key} in" in caught.value.message
    assert "mnist.npz" in caught.value.message
    assert not Path("opened").exists()


def test_a_real_pickle_in_an_npz_is_not_opened(tmp_path):
    folder = write_npz(tmp_path / "m", y_train=np.array([Evil()] * 5, object))
    with pytest.raises(DataError, match="never opened"):
        load("mnist", folder)
    assert not Path("opened").exists()


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "cannot be read"), (b"PK\x03\x04 no more", "cannot be read")]
)
def test_what_is_no_archive_is_named(tmp_path, content, words):
    (tmp_path / "mnist.npz").write_bytes(content)
    with pytest.raises(DataError, match=f"mnist.npz {words}"):
        load("mnist", tmp_path)


def test_a_missing_key_says_which_there_are(tmp_path):
    with pytest.raises(DataError, match=r"holds no y_test: it has allow_pickle, x_train|it has x_train"):
        load("mnist", write_npz(tmp_path / "m", y_test=None))


def test_an_archive_packed_otherwise_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "mnist.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x_train.npy", npy("|u1", "(5, 28, 28)", GREY.tobytes()))
    with pytest.raises(DataError, match="packed in a way that NumPy does not use"):
        load("mnist", tmp_path)


# parquet


@pytest.mark.parametrize("place", ["", "mnist", "data"])
def test_parquet_files_of_the_hub(tmp_path, place):
    write_parquet(tmp_path / "m" / place)
    check(load("mnist", tmp_path / "m"))


def test_parquet_with_the_columns_of_cifar(tmp_path):
    folder = write_parquet(tmp_path / "m", COLOUR, "img", "fine_label")
    check(load("cifar-100", folder), COLOUR)
    with pytest.raises(DataError, match="has no column label: but img, fine_label, extra"):
        load("cifar-10", folder)


def test_a_jpeg_is_decoded_as_pillow_does(tmp_path):
    encoded = png(GREY[0], "JPEG")
    folder = write_parquet(tmp_path / "m")
    table = pa.table({"image": [{"bytes": encoded, "path": "a.jpg"}], "label": [1]})
    pq.write_table(table, folder / "test-00000-of-00001.parquet")
    expected = np.asarray(Image.open(io.BytesIO(encoded))).ravel()
    assert np.array_equal(load("mnist", folder).test_pixels[0], expected)


def test_images_without_a_struct_around_them(tmp_path):
    folder = write_parquet(tmp_path / "m")
    pq.write_table(pa.table({"image": [png(GREY[0])], "label": [1]}), folder / "test-00000-of-00001.parquet")
    assert np.array_equal(load("mnist", folder).test_pixels[0], GREY[0].ravel())


def huge_png() -> bytes:
    """A PNG that claims 100,000 x 100,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    header = (100_000).to_bytes(4) * 2 + bytes([8, 0, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        ([png(GREY[0])[:-200]], [1], "image 0 of .*test-00000-of-00001.parquet is neither a PNG nor a JPEG"),
        ([png(GREY[0]), b"GIF89a"], [1, 2], "image 1 of .* is neither"),
        ([png(GREY[0], "GIF")], [1], "image 0 of .* is neither"),
        ([png(COLOUR[0])], [1], "image 0 of .* is 32 x 32, not 28 x 28"),
        ([huge_png()], [1], "is neither|is 100000 x"),
        ([None], [1], "holds no image, but NoneType"),
        (["a.png"], [1], "holds no image, but str"),
        ([png(GREY[0])], [10], "label 10 for image 0"),
        ([png(GREY[0])], [-1], "label -1 for image 0"),
        ([png(GREY[0])], ["seven"], "label 'seven', which is no number"),
        ([png(GREY[0])], [None], "label 'None', which is no number"),
        ([], [], "holds no images"),
    ],
)
def test_a_row_that_is_no_labelled_image_is_named(tmp_path, images, labels, words):
    folder = write_parquet(tmp_path / "m")
    pq.write_table(pa.table({"image": images, "label": labels}), folder / "test-00000-of-00001.parquet")
    with pytest.raises(DataError, match=words):
        load("mnist", folder)


@pytest.mark.parametrize("cut", [0, 3, 100, -1, -9])
def test_a_truncated_parquet_file_is_named(tmp_path, cut):
    folder = write_parquet(tmp_path / "m")
    file = folder / "train-00001-of-00002.parquet"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"train-00001-of-00002\.parquet is no parquet file that can be read"):
        load("mnist", folder)


def test_a_part_that_is_missing_is_named(tmp_path):
    folder = write_parquet(tmp_path / "m")
    (folder / "test-00000-of-00001.parquet").unlink()
    with pytest.raises(PathNotFoundError, match=r"lacks test\*\.parquet"):
        load("mnist", folder)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install 'gcont-audit\[train\]'"):
        load("mnist", write_parquet(tmp_path / "m"))


# Folders


@pytest.mark.parametrize("name", WITH_FILES)
def test_a_folder_without_files_says_what_belongs_there(tmp_path, name):
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(PathNotFoundError) as caught:
            load(name, folder)
        assert str(folder) in caught.value.message
        assert caught.value.hint == named(name).advice


def test_the_same_images_have_the_same_digest_whatever_the_files(tmp_path):
    folders = (write_idx(tmp_path / "a"), write_npz(tmp_path / "b"), write_parquet(tmp_path / "c"))
    assert len({load("mnist", folder).digest for folder in folders}) == 1


# As the networks take them


def test_tensors_are_standardised_and_no_view_of_the_files_bytes(tmp_path):
    images = load("mnist", write_idx(tmp_path / "m"))
    x, y = images.train(torch.device("cpu"))
    raw = GREY.reshape(5, -1).astype(np.float64) / 255
    mean, deviation = raw.mean().round(4), raw.std().round(4)
    assert x.dtype == torch.float32
    np.testing.assert_allclose(x.numpy(), (raw - mean) / deviation, rtol=0, atol=1e-6)
    assert y.tolist() == LABELS
    x.zero_()
    y.zero_()
    check(images)


def test_bytes_that_may_not_be_written_to_pass_without_a_warning():
    pixels = np.frombuffer(GREY.tobytes(), np.uint8).reshape(5, -1)
    labels = np.frombuffer(np.array(LABELS).tobytes(), np.int64)
    images = Images("mnist", pixels, labels, pixels, labels)
    x, y = images.test(torch.device("cpu"))
    assert (x.shape, y.tolist()) == ((5, 784), LABELS)


# Any bytes


def attempt(read: Callable[[Path], object], content: bytes, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        with suppress(DataError):
            read(path)


def mutated(content: bytes) -> st.SearchStrategy[bytes]:
    """The content with a stretch of it replaced, or cut off."""
    places = st.integers(0, len(content))
    return st.builds(
        lambda at, new, skip, end: (content[:at] + new + content[at + skip :])[:end],
        places, st.binary(max_size=12), st.integers(0, 12), places | st.none(),
    )  # fmt: skip


SMALL = idx(range(12), 3, 2, 2)


@given(st.binary(max_size=200) | mutated(SMALL))
def test_no_idx_file_raises_anything_else(content):
    attempt(lambda path: read_idx(path, (2, 2)), content, "a")


@given(st.binary(max_size=200).map(compressed) | mutated(compressed(SMALL)))
def test_no_gzipped_idx_file_raises_anything_else(content):
    attempt(lambda path: read_idx(path, (2, 2)), content, "a.gz")


def archive_of(member: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr(zipfile.ZipInfo("y.npy"), member, compress_type=method)
    return file.getvalue()


ARRAY = npy("<i2", "(3, 2)", bytes(12))


@given(
    mutated(archive_of(ARRAY))
    | mutated(archive_of(ARRAY, zipfile.ZIP_STORED))
    | mutated(ARRAY).map(archive_of)
)
def test_no_npz_raises_anything_else(content):
    attempt(lambda path: read_npz(path, "y"), content, "a.npz")


@given(mutated(png(GREY[0])) | mutated(png(GREY[0], "JPEG")) | mutated(huge_png()))
def test_no_image_raises_anything_else(content):
    with suppress(DataError):
        assert len(decoded(content, named("mnist"), "image 3")) == 784


@given(st.data())
def test_no_parquet_file_raises_anything_else(parquet, data):
    content = data.draw(mutated(parquet))
    with tempfile.TemporaryDirectory() as folder:
        for name in ("train.parquet", "test.parquet"):
            (Path(folder) / name).write_bytes(content)
        with suppress(DataError):
            load("mnist", Path(folder))


@pytest.fixture(scope="module")
def parquet(tmp_path_factory) -> bytes:
    return (write_parquet(tmp_path_factory.mktemp("p")) / "train-00000-of-00002.parquet").read_bytes()
