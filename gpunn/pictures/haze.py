"""Soft shadows that a digit lies in, narrower than what is taken for paper: they're told from it by its strokes.

A stroke has an edge, so that hardly more pixels show a tenth of its ink than half of it. Where many more do, the paper
is estimated again, in windows little wider than a stroke, and what is still left of the shadow is cut off.
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
"""Shares of the strongest ink below which a shadow's rest is cut off: the first that is enough."""
HAZY = 2.2
"""How many times as many pixels as half the ink must show a trace of it to be a shadow's."""
CLEAR = 1.5
"""How many times as many may be left of them."""
WINDOW = 3
"""Widths of a stroke in which the paper is seen, whatever lies on it."""


def without_haze(digit: Digit, closer: Callable[[int], Digit]) -> Digit:
    """Return the `digit` without the soft shadow it lies in, if any.

    `closer` returns the digit found where no stroke is as wide as some number of pixels.
    """
    if min(digit.ink.shape) < FIELD or _spread(digit, TRACES[0]) < HAZY:
        return digit
    window = round(WINDOW * stroke_width(digit.ink > 0.5))
    with suppress(DataError):
        digit = closer(window)
    trace = next((share for share in TRACES if _spread(digit, share) < CLEAR), TRACES[-1])
    return _cut_off(digit, trace)


def _spread(digit: Digit, trace: float) -> float:
    """Return how many times as many pixels as half the ink show the share `trace` of it."""
    return float((digit.ink > trace).sum() / (digit.ink > 0.5).sum())


def _cut_off(digit: Digit, trace: float) -> Digit:
    """Return the `digit` without what is below the share `trace` of the strongest ink."""
    ink = ((digit.ink - np.float32(trace)) / np.float32(1 - trace)).clip(0)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    top, left = digit.box[0] + int(rows[0]), digit.box[2] + int(columns[0])
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return replace(digit, ink=ink, box=(top, top + len(ink), left, left + ink.shape[1]))
