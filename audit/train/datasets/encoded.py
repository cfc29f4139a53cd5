"""PNG and JPEG images as the bytes of their pixels."""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

from audit.errors import DataError
from audit.train.datasets.known import DataSet


@contextmanager
def bombs_refused() -> Iterator[None]:
    """Refuse images that claim to be huge where Pillow only warns; around many, since it takes its time."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def decoded(encoded: object, dataset: DataSet, where: str) -> bytes:
    """The pixels of one image, row by row, colours innermost.

    Its size is looked at before it is unpacked. Raises DataError, and nothing else, whatever the bytes.
    """
    from PIL import Image

    if not isinstance(encoded, bytes):
        raise DataError(f"{where} holds no image, but {type(encoded).__name__}")
    height, width, *colours = dataset.shape
    try:
        image = Image.open(BytesIO(encoded), formats=("PNG", "JPEG"))
        if image.size != (width, height):
            raise DataError(f"{where} is {image.width} x {image.height}, not {width} x {height}")
        return image.convert("RGB" if colours else "L").tobytes()
    except (
        OSError, SyntaxError, ValueError, EOFError, IndexError, OverflowError, zlib.error, struct.error,
        Image.DecompressionBombError, Image.DecompressionBombWarning,
    ) as error:  # fmt: skip
        raise DataError(f"{where} is neither a PNG nor a JPEG that can be read") from error
