"""Detection of how images are framed, to preprocess pictures the same way."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLE = 1000
"""Number of images examined."""

FIELD, MARGIN = 28, 4
"""Side of MNIST's field, and the margin around its centred 20 x 20 box, in pixels."""

CENTRED, SPREAD = 0.9, 0.6
"""Framing is "digit" if this fraction of images is centred within `SPREAD` pixels of the middle."""


def measured_framing(images: NDArray[Any], shape: Sequence[int]) -> str:
    """Return the framing of grey levels (n, n_pixels) in fields of `shape`: "digit" or "whole", see `ImageKind`.

    MNIST's digits are centred by mass in 28 x 28 and at most 20 pixels high and wide. Clothes fill the field, and
    characters of other sets are centred by their bounding box.
    """
    if tuple(shape) != (FIELD, FIELD):
        return "whole"
    sample = images[:: max(1, len(images) // SAMPLE)].reshape(-1, FIELD, FIELD)
    ink = sample > 0
    drawn = ink.any(axis=(1, 2))
    if not drawn.any():
        return "whole"
    sample, ink = sample[drawn], ink[drawn]
    rows, columns = sample.sum(axis=2, dtype=np.int64), sample.sum(axis=1, dtype=np.int64)
    positions = np.arange(FIELD)
    in_middle = np.ones(len(sample), bool)
    for mass in (rows, columns):
        centre = (mass * positions).sum(axis=1) / mass.sum(axis=1)
        in_middle &= np.abs(centre - FIELD / 2) <= SPREAD
    small = (_extent(ink.any(axis=2)) <= FIELD - 2 * MARGIN) & (_extent(ink.any(axis=1)) <= FIELD - 2 * MARGIN)
    return "digit" if (in_middle & small).mean() >= CENTRED else "whole"


def _extent(ink: Any) -> NDArray[np.intp]:
    """Return the number of pixels from the first to the last with ink, (n,)."""
    first, last = ink.argmax(axis=1), FIELD - 1 - ink[:, ::-1].argmax(axis=1)
    extent: NDArray[np.intp] = last - first + 1
    return extent
