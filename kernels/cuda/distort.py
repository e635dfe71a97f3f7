"""Images distorted in one launch: see `gpunn.kernels.formulas.distortion`.

A part of `gpunn.kernels.cuda.contract`. The images are those that CPUs make, to the last bit.
"""

from typing import Any

import numpy as np

from ..distortion import Elastic, check_distort
from ..formulas.distortion import (
    BORDER,
    CHOICE,
    DOWN,
    DRAWS,
    HEIGHT,
    MIDDLE,
    RIGHT,
    ROTATION,
    SHEAR,
    WIDTH,
    Limits,
    Operations,
    affine_of,
    cosine_of,
    sine_of,
)
from .activations import ZERO, F
from .arrays import ARRAYS
from .elementwise import U32, hashed
from .jit import cuda, device_function, kernel
from .launch import Call, Operation, rectangles

I32 = np.int32
BYTE, HALF, STEP = U32(255), F(0.5), F(2.0**-23)


@Operation
def distort(images: Any, ease: Any, elastic: Elastic, limits: Limits, key: int, *, out: Any) -> list[Call]:
    """Put distorted `images` into `out`, both (n, rows x columns) uint8.

    `ease` (n,) float32 are factors of images' angles; `elastic`, with weights on the GPU, and `limits` say how far
    images are distorted, and `key`, a 32-bit number, which numbers are drawn.
    """
    found = check_distort(ARRAYS, images, ease, key, elastic, limits, out)
    grids = tuple(tuple(map(I32, grid)) for grid in (elastic.of_rows, elastic.of_columns))
    return [Call(_distort, *rectangles(*out.shape), (*found, *grids, tuple(limits), U32(key)))] if out.size else []


# A plain product and sum would be rounded once or twice, as the compiler likes.
@device_function
def _fma(left: Any, right: Any, summand: Any) -> Any:
    return cuda.fma(left, right, summand)


_sine, _cosine = (device_function(function_of(F, _fma)) for function_of in (sine_of, cosine_of))
_affine = device_function(affine_of(Operations(F, _fma, _sine, _cosine)))


@device_function
def _uniform(image: Any, number: int, key: Any) -> Any:
    """Return a draw as a number from -1 to 1."""
    return F(I32(I32(hashed(image, U32(number), key) >> U32(8)) - I32(2**23))) * STEP


@device_function
def _noise(image: Any, number: Any, key: Any) -> Any:
    """Return a draw as noise: nearly normal, of mean 0."""
    drawn = hashed(image, number, key)
    total = (drawn & BYTE) + (drawn >> U32(8) & BYTE) + (drawn >> U32(16) & BYTE) + (drawn >> U32(24))
    return F(I32(I32(total) - I32(MIDDLE)))


@device_function
def _grey(images: Any, image: int, row: int, column: int, rows: int, columns: int) -> Any:
    """Return the grey level at a place in the image with its border."""
    there = BORDER <= row < rows + BORDER and BORDER <= column < columns + BORDER
    return F(images[image, (row - BORDER) * columns + column - BORDER]) if there else ZERO


@device_function
def _within(place: Any, limit: Any) -> Any:
    """Return `place`, or the limit that it is beyond; 0 for NaN."""
    place = place if place > ZERO else ZERO
    return limit if place > limit else place


@kernel
def _distort(
    images: Any,
    ease: Any,
    down: Any,
    across: Any,
    out: Any,
    of_rows: Any,
    of_columns: Any,
    limits: Any,
    key: Any,
) -> None:
    p, r = cuda.grid(2)
    width, height = cuda.gridsize(2)
    rows, columns = down.shape[0], across.shape[1]
    n_down, n_across = of_rows[0], of_columns[0]
    middle, centre = F(rows - 1) * HALF, F(columns - 1) * HALF
    while r < out.shape[0]:
        image = U32(r)
        place = _affine(
            _uniform(image, ROTATION, key),
            _uniform(image, SHEAR, key),
            _uniform(image, HEIGHT, key),
            _uniform(image, WIDTH, key),
            _uniform(image, DOWN, key),
            _uniform(image, RIGHT, key),
            _uniform(image, CHOICE, key),
            Limits(limits[0], limits[1], limits[2], limits[3], limits[4]),
            ease[r],
            middle + F(BORDER),
            centre + F(BORDER),
        )
        c = p
        while c < out.shape[1]:
            row = c // columns
            column = c - row * columns
            first, left = (row + of_rows[2]) // of_rows[1], (column + of_columns[2]) // of_columns[1]
            dy, dx = ZERO, ZERO
            for j in range(first, min(n_down, first + of_rows[3])):
                of_dy, of_dx = ZERO, ZERO
                for i in range(left, min(n_across, left + of_columns[3])):
                    number, weight = U32(DRAWS + j * n_across + i), across[i, column]
                    of_dy = _fma(_noise(image, number, key), weight, of_dy)
                    of_dx = _fma(_noise(image, U32(number + n_down * n_across), key), weight, of_dx)
                dy, dx = _fma(down[row, j], of_dy, dy), _fma(down[row, j], of_dx, dx)
            y, x = F(row) - middle, F(column) - centre
            dy += _fma(x, place.yx, _fma(place.yy, y, place.top))
            dx += _fma(x, place.xx, _fma(place.xy, y, place.left))
            y, x = _within(dy, F(rows + BORDER)), _within(dx, F(columns + BORDER))
            above, beside = I32(y), I32(x)
            y, x = y - F(above), x - F(beside)
            one = _grey(images, r, above, beside, rows, columns)
            upper = _fma(_grey(images, r, above, beside + 1, rows, columns) - one, x, one)
            one = _grey(images, r, above + 1, beside, rows, columns)
            lower = _fma(_grey(images, r, above + 1, beside + 1, rows, columns) - one, x, one)
            out[r, c] = I32(_fma(lower - upper, y, upper) + HALF)
            c += width
        r += height
