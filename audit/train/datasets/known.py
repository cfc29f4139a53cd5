"""Every data set that `gcont-audit train` knows: its shape, where the Hub keeps it, its checksum."""

from dataclasses import dataclass
from difflib import get_close_matches
from math import prod

from audit.errors import SelectionError

TRAIN, TEST = "train", "test"


@dataclass(frozen=True)
class HubRepo:
    """A data set on the Hub: its repo and configuration, and the columns that hold images and labels.

    The splits are called as in all of them, `train` and `test`.
    """

    repo: str
    config: str
    image: str = "image"
    label: str = "label"

    @property
    def page(self) -> str:
        """Where its files can be downloaded by hand."""
        return f"https://huggingface.co/datasets/{self.repo}/tree/main/{self.config}"


@dataclass(frozen=True)
class DataSet:
    """What is known of a data set before a byte of it is read.

    `shape` is an image's, [height, width] or [height, width, 3]; labels are counted from `first_label` in the
    files as published, and from 0 afterwards. `idx` starts the names of the training and the test part's idx
    files, where there are any. `digest` is `Images.digest` of files whose published checksums were compared.
    `hub` is None for what needs no download.
    """

    name: str
    shape: tuple[int, ...]
    classes: int
    hub: HubRepo | None = None
    idx: tuple[str, str] | None = None
    first_label: int = 0
    digest: str | None = None

    @property
    def inputs(self) -> int:
        """Values an image."""
        return prod(self.shape)

    @property
    def advice(self) -> str:
        """What to download and where to put it, and what needs no download."""
        first = f"--dataset {DIGITS} needs no files"
        if self.hub is None:
            return first
        wanted = f"train*.parquet and test*.parquet from {self.hub.page}"
        if self.idx is not None:
            files = (
                f"{part}-{kind}-ubyte.gz" for part in self.idx for kind in ("images-idx3", "labels-idx1")
            )
            wanted += f", or {', '.join(files)},"
        return f"put {wanted} into a folder and name it with --data; {first}"


DIGITS = "digits"
"""The data set that needs nothing: scikit-learn carries it."""

_MNIST_FILES = ("train", "t10k")

DATASETS = (
    # https://scikit-learn.org/stable/modules/generated/sklearn.datasets.load_digits.html
    DataSet(
        DIGITS,
        (8, 8),
        10,
        digest="3616d13d9b8a0a7a70107bddfd1b1572ec4785e7884f0571b848e039b01e1a3f",
    ),
    # https://huggingface.co/datasets/ylecun/mnist; digest of the files whose uncompressed md5 are
    # 6bbc9ace898e44ae57da46a324031adb (training images), a25bea736e30d166cdddb491f175f624 (their labels),
    # 2646ac647ad5339dbf082846283269ea and 27ae3e4e09519cfbb04c329615203637 (test)
    DataSet(
        "mnist",
        (28, 28),
        10,
        HubRepo("ylecun/mnist", "mnist"),
        _MNIST_FILES,
        digest="1e35582d42a90940c55b956deb61875c020b567ed20e3c5b174f52bf7809ed9b",
    ),
    # https://huggingface.co/datasets/zalando-datasets/fashion_mnist; uncompressed md5
    # f4a8712d7a061bf5bd6d2ca38dc4d50a, 9018921c3c673c538a1fc5bad174d6f9 (training),
    # 8181f5470baa50b63fa0f6fddb340f0a, 15d484375f8d13e6eb1aabb0c3f46965 (test)
    DataSet(
        "fashion-mnist",
        (28, 28),
        10,
        HubRepo("zalando-datasets/fashion_mnist", "fashion_mnist"),
        _MNIST_FILES,
        digest="ece172613115fb18b120bec8f6c02271af90b8b8f0a5af5c51cbd5ceed68e619",
    ),
    # https://huggingface.co/datasets/tanganke/emnist_letters: labels 0 to 25 there, 1 to 26 in the idx files.
    # Both hold the images transposed, and so they stay: turning them would only permute the network's inputs,
    # alike in every image, which a fully connected first layer cannot tell from no permutation.
    DataSet(
        "emnist-letters",
        (28, 28),
        26,
        HubRepo("tanganke/emnist_letters", "emnist-letters"),
        ("emnist-letters-train", "emnist-letters-test"),
        first_label=1,
    ),
    # https://huggingface.co/datasets/ufldl-stanford/svhn: the cropped digits, without the `extra` split
    DataSet("svhn", (32, 32, 3), 10, HubRepo("ufldl-stanford/svhn", "cropped_digits")),
    # https://huggingface.co/datasets/uoft-cs/cifar10
    DataSet("cifar-10", (32, 32, 3), 10, HubRepo("uoft-cs/cifar10", "plain_text", image="img")),
    # https://huggingface.co/datasets/uoft-cs/cifar100: the hundred classes, not the twenty above them
    DataSet(
        "cifar-100",
        (32, 32, 3),
        100,
        HubRepo("uoft-cs/cifar100", "cifar100", image="img", label="fine_label"),
    ),
)


def named(name: str) -> DataSet:
    """The data set of this name; raises SelectionError with the nearest names where there is none."""
    by_name = {one.name: one for one in DATASETS}
    if name in by_name:
        return by_name[name]
    near = get_close_matches(name.lower().replace("_", "-"), by_name, n=3)
    hint = f"did you mean {', or '.join(near)}?" if near else f"there are {', '.join(by_name)}"
    raise SelectionError(f"there is no data set {name!r}", hint)


def published(digest: str) -> str | None:
    """The name of the data set whose published files have this digest; None where no known one has."""
    return next((one.name for one in DATASETS if one.digest == digest), None)


def as_published(name: str, digest: str) -> bool | None:
    """Whether this is the data set as published, to the byte; None where its digest is not known."""
    expected = named(name).digest
    return None if expected is None else expected == digest
