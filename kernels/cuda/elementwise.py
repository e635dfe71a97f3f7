"""Elementwise operations of the contract: images to activations, activation functions, their slopes, and dropout."""

import functools
from typing import Any

import numpy as np

from ..formulas.dropout import COLUMN, LAST, ROUNDS, ROW, threshold
from .activations import ZERO, F, formula
from .arrays import FLOAT32, check_array, check_output, handles
from .jit import cuda, device_function, kernel
from .launch import launch, line, rectangles

BRIGHTEST = F(255)
NAN = F(np.nan)

U32, U64 = np.uint32, np.uint64
# Numba multiplies 32-bit numbers in 64 bits; the compiler removes the upper half, which the cast to 32 bits discards.
SPREAD_ROWS, SPREAD_COLUMNS, ALL_ONES = U64(ROW), U64(COLUMN), U64(2**32 - 1)
SHIFT1, SHIFT2, SHIFT3 = U32(ROUNDS[0][0]), U32(ROUNDS[1][0]), U32(LAST)
FACTOR1, FACTOR2 = (U64(multiplier) for _, multiplier in ROUNDS)


def gather_scale(images: Any, rows: Any, *, out: Any) -> None:
    """Put the images of a batch into `out` as activations, see `Kernels.gather_scale`.

    Where `rows` names no image, the row of `out` becomes NaN.
    """
    images, rows, out = handles(images=images, rows=rows, out=out)
    check_output(out, [images, rows], ndim=2)
    grey = images.dtype != FLOAT32
    check_array("images", images, np.dtype(np.uint8) if grey else FLOAT32, (*images.shape[:1], out.shape[1]))
    check_array("rows", rows, np.dtype(np.int64), out.shape[:1])
    if out.size:
        launch(_gather_scale(grey), *rectangles(*out.shape), images, rows, out)


@functools.cache
def _gather_scale(grey: bool) -> Any:
    @device_function
    def scale(pixel: Any) -> Any:
        return F(pixel) / BRIGHTEST if grey else F(pixel)

    @kernel
    def gather_scale(images: Any, rows: Any, out: Any) -> None:
        x, r = cuda.grid(2)
        width, height = cuda.gridsize(2)
        while r < out.shape[0]:
            row = rows[r]
            there = 0 <= row < images.shape[0]
            c = x
            while c < out.shape[1]:
                out[r, c] = scale(images[row, c]) if there else NAN
                c += width
            r += height

    return gather_scale


def bias_activate(z: Any, bias: Any, activation: str = "sigmoid", *, out: Any) -> None:
    """Compute out = f(z + bias), see `Kernels.bias_activate`."""
    z, bias, out = handles(z=z, bias=bias, out=out)
    check_output(out, [bias], first=z, ndim=2)
    check_array("z", z, FLOAT32, out.shape)
    check_array("bias", bias, FLOAT32, out.shape[1:])
    add_and_activate = _add_and_activate(activation)
    if out.size:
        launch(add_and_activate, *rectangles(*out.shape), z, bias, out)


@functools.cache
def _add_and_activate(activation: str) -> Any:
    activate, _ = formula(activation)

    @kernel
    def add_and_activate(z: Any, bias: Any, out: Any) -> None:
        c, y = cuda.grid(2)
        width, height = cuda.gridsize(2)
        while c < out.shape[1]:
            b = bias[c]
            r = y
            while r < out.shape[0]:
                out[r, c] = activate(z[r, c] + b)
                r += height
            c += width

    return add_and_activate


def hidden_delta(delta: Any, activations: Any, activation: str = "sigmoid", *, out: Any) -> None:
    """Compute out = delta * f'(z), see `Kernels.hidden_delta`."""
    delta, activations, out = handles(delta=delta, activations=activations, out=out)
    check_output(out, [activations], first=delta, ndim=2)
    check_array("delta", delta, FLOAT32, out.shape)
    check_array("activations", activations, FLOAT32, out.shape)
    multiply_by_slope = _multiply_by_slope(activation)
    if out.size:
        launch(multiply_by_slope, *line(out.size), delta, activations, out)


@functools.cache
def _multiply_by_slope(activation: str) -> Any:
    _, slope = formula(activation)

    @kernel
    def multiply_by_slope(delta: Any, a: Any, out: Any) -> None:
        i = cuda.grid(1)
        while i < out.size:
            out.flat[i] = delta.flat[i] * slope(a.flat[i])
            i += cuda.gridsize(1)

    return multiply_by_slope


def drop(activations: Any, key: int, first: int, share: float, *, out: Any) -> None:
    """Compute out = activations times dropout's mask, see `Kernels.drop`."""
    activations, out = handles(activations=activations, out=out)
    check_output(out, [], first=activations, ndim=2)
    check_array("activations", activations, FLOAT32, out.shape)
    if out.size:
        numbers = U32(key), U32(first), U32(threshold(share)), F(1 / (1 - share))
        launch(_drop, *rectangles(*out.shape), activations, *numbers, out)


@device_function
def _hash(h: Any) -> Any:
    """Return the rounds of `gpunn.kernels.formulas.dropout` of a uint32."""
    h = U32(h ^ U32(h >> SHIFT1))
    h = U32(U64(h) * FACTOR1 & ALL_ONES)
    h = U32(h ^ U32(h >> SHIFT2))
    h = U32(U64(h) * FACTOR2 & ALL_ONES)
    return U32(h ^ U32(h >> SHIFT3))


@kernel
def _drop(a: Any, key: Any, first: Any, least: Any, scale: float, out: Any) -> None:
    x, r = cuda.grid(2)
    width, height = cuda.gridsize(2)
    while r < out.shape[0]:
        row = (U64(first) + U64(r)) * SPREAD_ROWS
        c = x
        while c < out.shape[1]:
            place = U32(row + U64(c) * SPREAD_COLUMNS & ALL_ONES)
            out[r, c] = a[r, c] * (scale if _hash(U32(place ^ key)) >= least else ZERO)
            c += width
        r += height
