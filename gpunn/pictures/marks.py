"""Marks on a sheet that are no digit: lines, frames, bands, stains, and what leads out to the border."""

import numpy as np
from numpy.typing import NDArray

from gpunn.pictures.components import Components
from gpunn.pictures.paper import SMALL

SOFT = 0.05
"""The steepest that a stain grows in a hundredth of the sheet, on average, as a share of its middle."""
LONG = 10
"""Pixels along the longer side of a sheet on which lines can be told."""


def contact(parts: Components) -> NDArray[np.intp]:
    """Return how many pixels of each part lie on the border."""
    labels = parts.labels
    edge = np.concatenate([labels[0], labels[-1], labels[1:-1, 0], labels[1:-1, -1]])
    return np.bincount(edge[edge >= 0], minlength=len(parts))


def longest_contact(parts: Components) -> NDArray[np.intp]:
    """Return along how many pixels each part meets that side of the picture that it meets most."""
    labels = parts.labels
    sides = [labels[0], labels[-1], labels[:, 0], labels[:, -1]]
    lengths: NDArray[np.intp] = np.max([np.bincount(side[side >= 0], minlength=len(parts)) for side in sides], axis=0)
    return lengths


def contacts(parts: Components) -> NDArray[np.intp]:
    """Return in how many places each part meets the border, as squared paper at an angle does in many."""
    n = np.zeros(len(parts), np.intp)
    for side in (parts.labels[0], parts.labels[-1], parts.labels[:, 0], parts.labels[:, -1]):
        starts = (side >= 0) & (side != np.concatenate([[-1], side[:-1]]))
        n += np.bincount(side[starts], minlength=len(parts))
    return n


def soft(parts: Components, strength: NDArray[np.float32], noise: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which parts have no edge but their `noise` (n,) anywhere, as soft shadows and stains."""
    lag = max(2 if min(strength.shape) >= SMALL else 1, max(strength.shape) // 100)
    steps = np.zeros_like(strength)
    steps[lag:] = np.abs(strength[lag:] - strength[:-lag])
    steps[:, lag:] = np.maximum(steps[:, lag:], np.abs(strength[:, lag:] - strength[:, :-lag]))
    # Across a stroke all steps together climb to its middle and down again.
    gentle = SOFT * lag * 100 / max(strength.shape)
    peaks = parts.peaks(strength)
    if min(strength.shape) < SMALL:  # which shows more of strokes and their edges than of noise
        noise = np.zeros_like(noise)
    found: NDArray[np.bool_] = parts.sums(steps**2) / parts.area - 4 * noise**2 < (gentle * peaks) ** 2
    return found


def bands(parts: Components, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which parts are filled bands from border to border or lie flush with it, as shadows do.

    The picture of a 1 that was cut tightly is narrow itself.
    """
    rows, columns = shape
    if min(shape) < SMALL or columns < 0.6 * rows:
        return np.zeros(len(parts), bool)
    filled = parts.area > 0.75 * parts.height * parts.width
    across = (parts.height > 0.97 * rows) | (parts.width > 0.97 * columns)
    found: NDArray[np.bool_] = (filled & across) | (longest_contact(parts) > 0.95 * parts.extent)
    return found


def lines(parts: Components, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which parts are straight lines along a side that run from border to border, or nearly."""
    rows, columns = shape
    if max(shape) < LONG:
        return np.zeros(len(parts), bool)
    across = (parts.width > 0.97 * columns) & (parts.height < max(2, 0.06 * rows))
    down = (parts.height > 0.97 * rows) & (parts.width < max(2, 0.06 * columns))
    return across | down


def boxes(parts: Components, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which parts are frames: hollow, with four straight sides of their box."""
    found = np.zeros(len(parts), bool)
    large = (parts.height > 0.2 * shape[0]) & (parts.width > 0.2 * shape[1]) & (parts.extent >= 20)
    for number in np.flatnonzero(large & (parts.area < 0.5 * parts.height * parts.width)):
        part = (
            parts.labels[parts.top[number] : parts.bottom[number], parts.left[number] : parts.right[number]] == number
        )
        band = [max(1, round(0.08 * side)) for side in part.shape]
        sides = [part[: band[0]].any(axis=0), part[-band[0] :].any(axis=0)]
        sides += [part[:, : band[1]].any(axis=1), part[:, -band[1] :].any(axis=1)]
        inner = part[band[0] : -band[0], band[1] : -band[1]]
        found[number] = min(side.mean() for side in sides) > 0.9 and inner.mean() < 0.1
    return found
