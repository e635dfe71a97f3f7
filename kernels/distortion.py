"""Distorting images: what both machines are called with, and checks of it."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .checks import FLOAT32, Arrays, single, word
from .formulas.distortion import DEVIATION, Grid, Limits

UINT8 = np.dtype(np.uint8)


class Elastic(NamedTuple):
    """The grid of nodes for images of a shape, and the weights of its nodes, on the host or on a GPU."""

    of_rows: Grid
    of_columns: Grid
    down: Any
    """Weights of the rows of nodes for each row of an image, (rows, n) float32; they are scaled by the strength."""
    across: Any
    """Weights of the columns of nodes, (n, columns) float32."""


def elastic(shape: tuple[int, int], sigma: float, alpha: float) -> Elastic:
    """Return grid and weights, on the host, of distortions of `sigma` and strength `alpha` for images of `shape`.

    The noise of a node has the variance of the sum of the pixels' in its cell, if each
    had a uniform number from -1 to 1.
    """
    rows, columns = shape
    sigma = sigma if alpha else 0.0
    of_rows, of_columns = (Grid.of(sigma, size) for size in shape)
    strength = alpha * of_rows.spacing / DEVIATION

    def weights(grid: Grid, size: int, factor: float = 1.0) -> NDArray[np.float32]:
        found = np.array(grid.weights(sigma, size), np.float64).reshape(grid.n, size)
        return np.ascontiguousarray(found * factor, np.float32)

    down = np.ascontiguousarray(weights(of_rows, rows, strength).T)
    return Elastic(of_rows, of_columns, down, weights(of_columns, columns))


def limits(rotation: float, shear: float, scaling: float, shift: float, *, either: bool) -> Limits:
    """Return the numbers of the affine part, float32; angles are in degrees."""
    halves = (math.radians(rotation) / 2, math.radians(shear) / 2)
    return Limits(*map(np.float32, (*halves, scaling, shift, either)))


def check_distort(
    arrays: Arrays, images: Any, ease: Any, key: int, elastic: Elastic, limits: Limits, out: Any
) -> list[Any]:
    """Return images, `ease`, both weights and `out` in the form that kernels take.

    Raises `TypeError` or `ValueError` for what isn't as `gpunn.kernels.cpu.distort.distort` says.
    """
    word("key", key)
    for name, value in zip(Limits._fields, limits, strict=True):
        single(name, value)
    found = arrays.accept(images=images, ease=ease, down=elastic.down, across=elastic.across, out=out)
    images, ease, down, across, out = found
    n, rows, columns = len(images), len(down), across.shape[1]
    arrays.check_array("images", images, UINT8, (n, rows * columns))
    arrays.check_array("ease", ease, FLOAT32, (n,))
    arrays.check_array("down", down, FLOAT32, (rows, elastic.of_rows.n))
    arrays.check_array("across", across, FLOAT32, (elastic.of_columns.n, columns))
    arrays.check_array("out", out, UINT8, images.shape)
    if not arrays.is_writable(out) or arrays.overlap(out, images):
        raise ValueError("out must be writable and must not overlap the images")
    return found
