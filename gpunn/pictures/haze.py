"""Removal of soft shadows around a digit that are too narrow to be estimated as paper.

A stroke has sharp edges: hardly more pixels exceed a tenth of its strength than half of it. If many more do, the paper
is estimated again with windows little wider than a stroke, and the rest of the shadow is cut off by a threshold.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np

from gpunn.datasets.framing import FIELD
from gpunn.errors import DataError
from gpunn.pictures.finding import Digit
from gpunn.pictures.framing import stroke_width

TRACES = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35)
"""Thresholds for the rest of a shadow, as fractions of the strongest ink; the first sufficient one is used."""
HAZY = 2.2
"""Minimum ratio of pixels above the lowest threshold to pixels above half the ink in a shadow."""
CLEAR = 1.5
"""Maximum such ratio after the shadow is removed."""
WINDOW = 3
"""Window for estimating the paper, in stroke widths."""


def without_haze(digit: Digit, closer: Callable[[int], Digit]) -> Digit:
    """Return the `digit` without a surrounding soft shadow, if any.

    `closer` finds the digit again with a given window in pixels, wider than any stroke.
    """
    if min(digit.ink.shape) < FIELD or _spread(digit, TRACES[0]) < HAZY:
        return digit
    window = round(WINDOW * stroke_width(digit.ink > 0.5))
    with suppress(DataError):
        digit = closer(window)
    trace = next((share for share in TRACES if _spread(digit, share) < CLEAR), TRACES[-1])
    return _cut_off(digit, trace)


def _spread(digit: Digit, trace: float) -> float:
    """Return the ratio of pixels with ink above `trace` to those above one half."""
    return float((digit.ink > trace).sum() / (digit.ink > 0.5).sum())


def _cut_off(digit: Digit, trace: float) -> Digit:
    """Return the `digit` without ink below the fraction `trace` of the strongest."""
    ink = ((digit.ink - np.float32(trace)) / np.float32(1 - trace)).clip(0)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    top, left = digit.box[0] + int(rows[0]), digit.box[2] + int(columns[0])
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return replace(digit, ink=ink, box=(top, top + len(ink), left, left + ink.shape[1]))
