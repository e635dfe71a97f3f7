"""Connected components of a mask, with 8-connectivity."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Components:
    """The components of a mask: `labels` (rows, columns) is the component's number, or -1 outside.

    `places` and `number` (pixels,) are the flat indices of the mask's pixels and their components. `area`, `top`,
    `bottom`, `left` and `right` (n,) are pixel counts and bounding boxes; `bottom` and `right` are exclusive.
    """

    labels: NDArray[np.intp]
    places: NDArray[np.intp]
    number: NDArray[np.intp]
    area: NDArray[np.intp]
    top: NDArray[np.intp]
    bottom: NDArray[np.intp]
    left: NDArray[np.intp]
    right: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.area)

    @property
    def height(self) -> NDArray[np.intp]:
        """Height of each component, (n,)."""
        return self.bottom - self.top

    @property
    def width(self) -> NDArray[np.intp]:
        """Width of each component, (n,)."""
        return self.right - self.left

    @property
    def extent(self) -> NDArray[np.intp]:
        """Longer side of each component's box, (n,)."""
        return np.maximum(self.height, self.width)

    def sums(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return the sum of `values` (rows, columns) over each component, (n,)."""
        sums: NDArray[np.float64] = np.bincount(
            self.number, weights=values.ravel()[self.places], minlength=len(self)
        ).astype(np.float64)
        return sums

    def peaks(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return the maximum of `values` (rows, columns) in each component, (n,)."""
        peaks = np.zeros(len(self))
        np.maximum.at(peaks, self.number, values.ravel()[self.places].astype(float))
        return peaks

    def mask(self, chosen: NDArray[Any]) -> NDArray[np.bool_]:
        """Return the mask (rows, columns) of the `chosen` components, given as numbers or a mask (n,)."""
        wanted = np.zeros(len(self) + 1, bool)  # the last is for the label -1
        wanted[:-1][chosen] = True
        return wanted[self.labels]


def components(mask: NDArray[np.bool_]) -> Components:
    """Return the components of `mask` (rows, columns).

    The mask is split into runs of pixels in a row. Touching runs of adjacent rows take the smaller of their numbers,
    with pointer jumping, until nothing changes.
    """
    rows, columns = mask.shape
    stride = columns + 2  # keeps runs of different rows apart in flat order
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, start = np.nonzero(edges == 1)
    stop = np.nonzero(edges == -1)[1]
    number = _join(row * stride + start, row * stride + stop, stride)
    names, number = np.unique(number, return_inverse=True)
    n = len(names)

    places, of_pixel = np.flatnonzero(mask), np.repeat(number, stop - start)
    labels = np.full(rows * columns, -1, np.intp)
    labels[places] = of_pixel
    top, left = np.full(n, rows), np.full(n, columns)
    bottom, right = np.zeros(n, np.intp), np.zeros(n, np.intp)
    np.minimum.at(top, number, row)
    np.maximum.at(bottom, number, row + 1)
    np.minimum.at(left, number, start)
    np.maximum.at(right, number, stop)
    area = np.bincount(of_pixel, minlength=n)
    return Components(labels.reshape(rows, columns), places, of_pixel, area, top, bottom, left, right)


def _join(start: NDArray[np.intp], stop: NDArray[np.intp], stride: int) -> NDArray[np.intp]:
    """Return for each run the smallest number of its component's runs."""
    first = np.searchsorted(stop, start + stride, "left")
    counts = np.searchsorted(start, stop + stride, "right") - first
    upper = np.repeat(np.arange(len(start)), counts)
    lower = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts - first, counts)
    number = np.arange(len(start))
    while True:
        smaller = np.minimum(number[upper], number[lower])
        changed = number.copy()
        # Also relabel the runs they are labelled by, so that whole components merge at once.
        for run in (upper, lower):
            np.minimum.at(changed, number[run], smaller)
            np.minimum.at(changed, run, smaller)
        changed = changed[changed]
        if np.array_equal(changed, number):
            return number
        number = changed


def dilated(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Dilate `mask` by a square of side 2 `radius` + 1."""
    grown = windowed(np.maximum, mask.astype(np.uint8), 2 * radius + 1)
    return grown.astype(bool)


def windowed(extreme: np.ufunc, values: NDArray[Any], size: int, axes: tuple[int, ...] = (0, 1)) -> NDArray[Any]:
    """Return the running `extreme`, np.maximum or np.minimum, of `values` in a window of `size` pixels (odd) on `axes`.

    Pixels outside are ignored. Window sizes are doubled step by step, so the cost grows with log(size).
    """
    ends = np.iinfo(values.dtype) if values.dtype.kind in "ui" else np.finfo(values.dtype)
    nothing = ends.min if extreme is np.maximum else ends.max
    for axis in axes:
        line = np.moveaxis(values, axis, 0)
        beyond = np.full((size // 2, *line.shape[1:]), nothing, values.dtype)
        line = np.concatenate([beyond, line, beyond])
        reach = 1
        while reach < size:
            step = min(reach, size - reach)
            line = extreme(line[:-step], line[step:])
            reach += step
        values = np.moveaxis(line, 0, axis)
    return np.ascontiguousarray(values)
