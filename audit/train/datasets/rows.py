"""Rows of encoded images and labels, as parquet files and the Hub hold them, gathered to a part."""

from collections.abc import Iterable

import numpy as np

from audit.errors import DataError
from audit.train.datasets.encoded import bombs_refused, decoded
from audit.train.datasets.known import DataSet
from audit.train.datasets.part import Part

Row = tuple[object, object]
"""An image and its label: {"bytes": PNG or JPEG, "path": ...} or the bytes themselves, and an integer."""


def gathered(rows: Iterable[Row], dataset: DataSet, where: str) -> Part:
    """All rows as pixels and labels; raises DataError for the first that is neither."""
    pixels = bytearray()
    labels: list[int] = []
    with bombs_refused():
        for number, (image, label) in enumerate(rows):
            at = f"image {number} of {where}"
            pixels += decoded(image.get("bytes") if isinstance(image, dict) else image, dataset, at)
            if type(label) is not int or not -(2**63) <= label < 2**63:
                raise DataError(f"{at} has the label {str(label)[:40]!r}, which is no number of a class")
            labels.append(label)
    read = np.frombuffer(pixels, np.uint8).reshape(-1, dataset.inputs)
    return Part(read, np.array(labels, np.int64), where, where)
