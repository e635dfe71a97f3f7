"""Elementwise operations of the contract: images to activations, activation functions, their slopes, and dropout."""

import functools
from typing import Any

import numpy as np

from ..checks import FLOAT32
from ..formulas.dropout import Operations, hash_of, threshold
from .activations import FORMULAS, ZERO, F
from .arrays import CONTRACT, as_words, to_read
from .jit import cuda, device_function, kernel
from .launch import MOST_THREADS, Call, Operation, line, rectangles

BRIGHTEST, GREY = F(255), F(1 / 255)
NAN = F(np.nan)
PIXELS, NO_ROW = 4, -1

U32, U64 = np.uint32, np.uint64
ALL_ONES = U64(2**32 - 1)


@Operation
def gather_scale(images: Any, rows: Any, *, out: Any) -> list[Call]:
    """Put the images of a batch into `out` as activations, see `Kernels.gather_scale`.

    Where `rows` names no image, the row of `out` becomes NaN.
    """
    images, rows, out = CONTRACT.gather_scale(images, rows, out)
    if not out.size:
        return []
    words = as_words(images) if images.dtype != FLOAT32 else None
    if words is not None:
        return [Call(_gather_words, *rectangles(out.shape[0], words.shape[1]), (words, rows, out))]
    return [Call(_gather_scale(images.dtype != FLOAT32), *rectangles(*out.shape), (images, rows, out))]


# A division takes ten instructions. A product is off in the last bit for half the grey levels, and right to it when
# what is left over has been scaled too.
@device_function
def _scaled(grey: Any) -> Any:
    level = F(grey)
    near = level * GREY
    return near + (level - near * BRIGHTEST) * GREY


# Threads read words of four pixels that lie side by side, and write numbers that do: through shared memory.
@kernel
def _gather_words(words: Any, rows: Any, out: Any) -> None:
    held = cuda.shared.array(MOST_THREADS, np.uint32)
    x, y, width, height = cuda.threadIdx.x, cuda.threadIdx.y, cuda.blockDim.x, cuda.blockDim.y
    m, n_words = out.shape[0], words.shape[1]
    top = cuda.blockIdx.y * height
    while top < m:
        r = top + y
        row = rows[r] if r < m else NO_ROW
        there = 0 <= row < words.shape[0]
        left = cuda.blockIdx.x * width
        while left < n_words:
            if there and left + x < n_words:
                held[y * width + x] = words[row, left + x]
            cuda.syncthreads()
            for k in range(PIXELS):
                c = k * width + x
                if r < m and PIXELS * left + c < out.shape[1]:
                    pixel = U32(held[y * width + c // PIXELS] >> U32(8 * (c % PIXELS)) & U32(255))
                    out[r, PIXELS * left + c] = _scaled(pixel) if there else NAN
            cuda.syncthreads()
            left += cuda.gridDim.x * width
        top += cuda.gridDim.y * height


@functools.cache
def _gather_scale(grey: bool) -> Any:
    scale = _scaled if grey else F

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


@Operation
def bias_activate(z: Any, bias: Any, activation: str = "sigmoid", *, out: Any) -> list[Call]:
    """Compute out = f(z + bias), see `Kernels.bias_activate`."""
    z, bias, out = CONTRACT.bias_activate(z, bias, activation, out)
    return [Call(_add_and_activate(activation), *rectangles(*out.shape), (z, bias, out))] if out.size else []


@functools.cache
def _add_and_activate(activation: str) -> Any:
    activate, _ = FORMULAS[activation]

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


@Operation
def hidden_delta(delta: Any, activations: Any, activation: str = "sigmoid", *, out: Any) -> list[Call]:
    """Compute out = delta * f'(z), see `Kernels.hidden_delta`."""
    delta, activations, out = CONTRACT.hidden_delta(delta, activations, activation, out)
    return [Call(_multiply_by_slope(activation), *line(out.size), (delta, activations, out))] if out.size else []


@functools.cache
def _multiply_by_slope(activation: str) -> Any:
    _, slope = FORMULAS[activation]

    @kernel
    def multiply_by_slope(delta: Any, a: Any, out: Any) -> None:
        i = cuda.grid(1)
        while i < out.size:
            out.flat[i] = delta.flat[i] * slope(a.flat[i])
            i += cuda.gridsize(1)

    return multiply_by_slope


@Operation
def drop(activations: Any, key: int, first: int, share: float, *, out: Any) -> list[Call]:
    """Compute out = activations times dropout's mask, see `Kernels.drop`."""
    activations, out = CONTRACT.drop(activations, key, first, share, out)
    if not out.size:
        return []
    numbers = to_read(key, lambda: (U32(key),)), to_read(first, lambda: (U32(first),))
    mask = U32(threshold(share)), F(1 / (1 - share))
    return [Call(_drop, *rectangles(*out.shape), (activations, *numbers, *mask, out))]


# Numba computes with 32-bit numbers in 64 bits; the compiler removes the upper half, which the casts discard.
@device_function
def _add(left: Any, right: Any) -> Any:
    return U32(U64(left) + U64(right) & ALL_ONES)


@device_function
def _xor(left: Any, right: Any) -> Any:
    return U32(left ^ right)


@device_function
def _multiply(number: Any, factor: int) -> Any:
    return U32(U64(number) * U64(factor) & ALL_ONES)


@device_function
def _shift(number: Any, bits: int) -> Any:
    return U32(number >> U32(bits))


hashed = device_function(hash_of(Operations(_add, _xor, _multiply, _shift)))


@kernel
def _drop(a: Any, key: Any, first: Any, least: Any, scale: float, out: Any) -> None:
    x, r = cuda.grid(2)
    width, height = cuda.gridsize(2)
    own_key, begin = key[0], first[0]
    while r < out.shape[0]:
        row = _add(begin, U32(r))
        c = x
        while c < out.shape[1]:
            out[r, c] = a[r, c] * (scale if hashed(row, U32(c), own_key) >= least else ZERO)
            c += width
        r += height
