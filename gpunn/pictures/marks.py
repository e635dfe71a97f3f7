"""Detection of marks that are no digits: lines, frames, bands, stains, and marks touching the border."""

import numpy as np
from numpy.typing import NDArray

from gpunn.pictures.components import Components
from gpunn.pictures.paper import SMALL

SOFT = 0.05
"""Maximum mean slope of a stain per hundredth of the sheet, as a fraction of its peak."""
LONG = 10
"""Minimum longer side of a sheet, in pixels, to detect lines."""


def contact(parts: Components) -> NDArray[np.intp]:
    """Return the number of border pixels of each part, (n,)."""
    labels = parts.labels
    edge = np.concatenate([labels[0], labels[-1], labels[1:-1, 0], labels[1:-1, -1]])
    return np.bincount(edge[edge >= 0], minlength=len(parts))


def longest_contact(parts: Components) -> NDArray[np.intp]:
    """Return the number of pixels of each part on the side of the picture it touches most, (n,)."""
    labels = parts.labels
    sides = [labels[0], labels[-1], labels[:, 0], labels[:, -1]]
    lengths: NDArray[np.intp] = np.max([np.bincount(side[side >= 0], minlength=len(parts)) for side in sides], axis=0)
    return lengths


def contacts(parts: Components) -> NDArray[np.intp]:
    """Return the number of places where each part touches the border, (n,); many for squared paper at an angle."""
    n = np.zeros(len(parts), np.intp)
    for side in (parts.labels[0], parts.labels[-1], parts.labels[:, 0], parts.labels[:, -1]):
        starts = (side >= 0) & (side != np.concatenate([[-1], side[:-1]]))
        n += np.bincount(side[starts], minlength=len(parts))
    return n


def soft(parts: Components, strength: NDArray[np.float32], noise: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which parts have no edges beyond their `noise` (n,), such as soft shadows and stains."""
    lag = max(2 if min(strength.shape) >= SMALL else 1, max(strength.shape) // 100)
    steps = np.zeros_like(strength)
    steps[lag:] = np.abs(strength[lag:] - strength[:-lag])
    steps[:, lag:] = np.maximum(steps[:, lag:], np.abs(strength[:, lag:] - strength[:, :-lag]))
    # A stroke's steps sum to its peak on the way up, and again on the way down.
    gentle = SOFT * lag * 100 / max(strength.shape)
    peaks = parts.peaks(strength)
    if min(strength.shape) < SMALL:  # the noise estimate is dominated by strokes
        noise = np.zeros_like(noise)
    found: NDArray[np.bool_] = parts.sums(steps**2) / parts.area - 4 * noise**2 < (gentle * peaks) ** 2
    return found


def bands(parts: Components, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which parts are filled bands from border to border, or flush with the border, such as shadows.

    None in narrow pictures, which may be a tightly cropped 1.
    """
    rows, columns = shape
    if min(shape) < SMALL or columns < 0.6 * rows:
        return np.zeros(len(parts), bool)
    filled = parts.area > 0.75 * parts.height * parts.width
    across = (parts.height > 0.97 * rows) | (parts.width > 0.97 * columns)
    found: NDArray[np.bool_] = (filled & across) | (longest_contact(parts) > 0.95 * parts.extent)
    return found


def lines(parts: Components, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which parts are straight horizontal or vertical lines from border to border, or nearly."""
    rows, columns = shape
    if max(shape) < LONG:
        return np.zeros(len(parts), bool)
    across = (parts.width > 0.97 * columns) & (parts.height < max(2, 0.06 * rows))
    down = (parts.height > 0.97 * rows) & (parts.width < max(2, 0.06 * columns))
    return across | down


def boxes(parts: Components, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which parts are frames: hollow, with straight strokes along all four sides of their box."""
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
