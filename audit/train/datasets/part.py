"""A training or a test part as it was read, held against what the data set is."""

from dataclasses import dataclass

import numpy as np

from audit.errors import DataError
from audit.train.datasets.known import DataSet
from audit.train.images import Images, Labels, Pixels


@dataclass(frozen=True, eq=False)
class Part:
    """Pixels [N, in] and labels [N] as the files count them, and the names of the files they came from."""

    pixels: Pixels
    labels: Labels
    images_from: str
    labels_from: str


def assembled(dataset: DataSet, train: Part, test: Part) -> Images:
    """Both parts as one, labels counted from 0.

    Raises DataError where a part is empty, where labels and images are not as many, and where a label is
    none of the classes.
    """
    for part in (train, test):
        _check_counts(part)
    # a copy of the data set whose labels start at 0 already has zeros, one as published has none
    first = min(dataset.first_label, int(train.labels.min()), int(test.labels.min()))
    first = first if first == dataset.first_label else 0
    for part in (train, test):
        _check_labels(part, first, dataset)
    return Images(dataset.name, train.pixels, train.labels - first, test.pixels, test.labels - first)


def _check_counts(part: Part) -> None:
    if len(part.pixels) == 0:
        raise DataError(f"{part.images_from} holds no images")
    if len(part.labels) != len(part.pixels):
        raise DataError(
            f"{part.labels_from} has {len(part.labels)} labels for the {len(part.pixels)} images of"
            f" {part.images_from}"
        )


def _check_labels(part: Part, first: int, dataset: DataSet) -> None:
    last = first + dataset.classes - 1
    wrong = np.flatnonzero((part.labels < first) | (part.labels > last))
    if len(wrong):
        raise DataError(
            f"{part.labels_from} has the label {part.labels[wrong[0]]} for image {wrong[0]}",
            f"{dataset.name}'s go from {first} to {last}",
        )
