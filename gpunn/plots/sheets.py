"""Levels to be coloured: weights of the first layer as pictures on one sheet, and confusion matrices."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

GREEN, RED, GREY = (0, 158, 115), (213, 94, 0), (128, 128, 128)
"""Colours, red, green and blue, of positive levels, negative ones, and what lies between pictures.

Okabe and Ito's bluish green and vermilion, which those who see fewer colours can tell apart.
"""

MOST_NEURONS = 64
"""Maximum number of neurons shown."""

MOST_COUNTED = 20
"""Maximum number of classes of a confusion matrix whose counts are written out."""

LARGEST = 40
"""Maximum number of points along a side of a neuron's picture."""

LONGEST = 400
"""Maximum number of points of a neuron whose inputs form no picture."""

SMALLEST_GUESSED = 8
"""Least side of images whose shape is unknown, and taken to be square: digits of 8 x 8 pixels are common."""


class WeightSheet(NamedTuple):
    """Weights of the first layer, a picture for each neuron.

    `levels` (rows, columns) are from -1 to 1, NaN between pictures, and infinite after the last one. `scale` is the
    weight from which on levels are 1. `caption` says what is shown and what is left out.
    """

    levels: NDArray[np.float64]
    scale: float
    caption: str


def weight_sheet(first: Sequence[NDArray[Any]], shape: tuple[int, int] | None) -> WeightSheet:
    """Lay out `first`, the weights (n_1, n_0) of each network's first layer; n_0 is the same in all.

    `shape` is that of the images, (rows, columns), or None if unknown. Of more than `MOST_NEURONS` neurons the first
    ones of each network are shown. The scale is that weight, without its sign, which one in a hundred of those shown
    exceeds. Weights that aren't finite become NaN.
    """
    of_each = max(1, MOST_NEURONS // len(first))
    shown = np.concatenate([weights[:of_each] for weights in first[:MOST_NEURONS]]).astype(np.float64)
    shown[~np.isfinite(shown)] = np.nan
    rows, columns = _picture_shape(shown.shape[1], shape)
    factor = math.ceil(max(rows, columns) / (LARGEST if rows > 1 else LONGEST))
    pictures = shrunk(shown.reshape(-1, rows, columns), factor)
    scale = _scale(np.abs(pictures[np.isfinite(pictures)]))
    down = math.ceil(len(pictures) / (8 if len(pictures) <= 4 * 8 else 12))
    caption = _neurons([len(weights) for weights in first], of_each)
    if rows > 1:
        caption += f", {rows} x {columns} each"
    if factor > 1:
        caption += f", averaged over {f'{factor} x {factor}' if rows > 1 else factor}"
    levels = np.clip(pictures / (scale or 1.0), -1, 1)
    return WeightSheet(_laid_out(levels, down) if rows > 1 else levels[:, 0], scale, caption)


def confusion_levels(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return levels for a confusion matrix (n_classes, n_classes): right answers are positive, wrong ones negative.

    A level's square is the share of the true class, so that one error in a hundred is still seen.
    """
    totals = np.maximum(1, confusion.sum(axis=1, keepdims=True))
    levels: NDArray[np.float64] = -np.sqrt(confusion / totals)
    np.fill_diagonal(levels, -levels.diagonal())
    return levels


def coloured(levels: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return `levels` (rows, columns) as colours, red, green, blue and opacity, (rows, columns, 4).

    Positive levels are green and negative ones red, more opaque the farther from zero, as suits pages light and dark;
    NaN is grey, and infinity has no colour.
    """
    colours = np.empty((*levels.shape, 4), np.uint8)
    colours[..., :3] = np.where((levels < 0)[..., None], RED, GREEN)
    colours[..., 3] = np.rint(255 * np.where(np.isfinite(levels), np.abs(levels), 0))
    colours[np.isnan(levels)] = (*GREY, 144)
    return colours


def shrunk(pictures: NDArray[Any], factor: int) -> NDArray[np.float64]:
    """Return `pictures` (..., rows, columns) with means of `factor` x `factor` points, of fewer at the far edges."""
    sums = pictures.astype(np.float64)
    for axis in (-2, -1):
        starts = np.arange(0, pictures.shape[axis], factor)
        counts = np.diff(starts, append=pictures.shape[axis])
        sums = np.add.reduceat(sums, starts, axis=axis) / (counts[:, None] if axis == -2 else counts)
    return sums


def _picture_shape(n_inputs: int, shape: tuple[int, int] | None) -> tuple[int, int]:
    """Return the shape in which `n_inputs` weights are shown: that of the images, a square, or one row."""
    if shape is not None and shape[0] * shape[1] == n_inputs:
        return shape
    side = math.isqrt(n_inputs)
    return (side, side) if side * side == n_inputs and side >= SMALLEST_GUESSED else (1, n_inputs)


def _scale(strengths: NDArray[np.float64]) -> float:
    """Return the strength of full colour: a few large weights should not leave the others pale."""
    if not strengths.size:
        return 0.0
    return float(np.percentile(strengths, 99, method="higher") or strengths.max())


def _neurons(sizes: Sequence[int], of_each: int) -> str:
    """Say which neurons of first layers of `sizes` are shown."""
    if len(sizes) == 1:
        which = "neurons" if sizes[0] > 1 else "neuron"
        cut = f"the first {of_each} of " if sizes[0] > of_each else ""
        return f"weights of {cut}the first layer's {sizes[0]:,} {which}"
    caption = "weights of the first layers' neurons"
    if max(sizes) > of_each:
        caption += f", at most {of_each} of each network"
    if len(sizes) > MOST_NEURONS:
        caption += f", of the first {MOST_NEURONS} of {len(sizes)} networks"
    return caption


def _laid_out(pictures: NDArray[np.float64], down: int) -> NDArray[np.float64]:
    """Return `pictures` (n, rows, columns) as one sheet, in `down` rows: see `WeightSheet`."""
    n, rows, columns = pictures.shape
    across = math.ceil(n / down)
    cells = np.full((down * across, rows + 1, columns + 1), np.inf)
    cells[:n] = np.nan
    cells[:n, :rows, :columns] = pictures
    sheet = cells.reshape(down, across, rows + 1, columns + 1).swapaxes(1, 2)
    return sheet.reshape(down * (rows + 1), across * (columns + 1))[:-1, :-1]
