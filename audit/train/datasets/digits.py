"""scikit-learn's digits, 8 x 8: the data set that needs no file and no network."""

import numpy as np

from audit.train.datasets.known import DIGITS
from audit.train.images import Images

_TEST_IMAGES = 360
_LEVELS = 16


def digits() -> Images:
    """1437 training and 360 test images, each class in the same share; always the same ones."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    values, labels = load_digits(return_X_y=True)
    # 0 to 16 become 0 to 255, halves upwards, in integers: no rounding depends on a machine
    levels = values.astype(np.int64)
    pixels = ((levels * 255 + _LEVELS // 2) // _LEVELS).astype(np.uint8)
    train, test, train_labels, test_labels = train_test_split(
        pixels, labels.astype(np.int64), test_size=_TEST_IMAGES, stratify=labels, random_state=0
    )
    return Images(DIGITS, train, train_labels, test, test_labels)
