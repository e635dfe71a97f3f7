"""Background around images, for networks that take larger ones."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunn.datasets.kind import ImageKind, fits_in
from gpunn.errors import ConfigurationError, DataError


def padded_kind(kind: ImageKind | None, shape: tuple[int, int]) -> ImageKind:
    """Return what images of `kind` are when padded to `shape`, (rows, columns).

    Raises `DataError` if theirs isn't known, isn't smaller, or they are padded already.
    """
    if kind is None or kind.shape is None:
        raise DataError("found images in unknown rows to pad: give a Split of images (n, rows, columns), or its kind")
    found = f"found images of {kind.shape[0]} x {kind.shape[1]} pixels"
    if kind.unpadded is not None:
        raise DataError(f"{found}, which are padded already: pad those of the data set")
    try:
        if fits_in(kind.shape, shape):
            return replace(kind, shape=shape, unpadded=kind.shape)
    except (ConfigurationError, TypeError, IndexError) as error:
        raise DataError(f"{found}, expected a shape (rows, columns) to pad them to, got {shape!r}") from error
    raise DataError(f"{found}, which can't be padded to {shape[0]} x {shape[1]}: expected a larger shape")


def padded(images: NDArray[Any], kind: ImageKind) -> NDArray[Any]:
    """Return images of `kind`, (n, n_pixels), made of those before they were padded: 0 around them.

    They are in the middle; of an odd number of rows or columns, one more is below or on the right.
    """
    assert kind.shape is not None
    assert kind.unpadded is not None
    (rows, columns), (height, width) = kind.shape, kind.unpadded
    top, left = (rows - height) // 2, (columns - width) // 2
    found = np.zeros((len(images), rows, columns), images.dtype)
    found[:, top : top + height, left : left + width] = images.reshape(-1, height, width)
    return found.reshape(len(images), -1)
