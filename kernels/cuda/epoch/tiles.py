"""Products of images with neurons on a GPU: 4 x 4 sums in the registers of a thread.

Images are uint8, four pixels a word. Which images, or neurons, are a thread's own is chosen so that neighbouring
threads use different banks of shared memory. Four zero pixels are skipped. Grey levels are multiplied as the
numbers 0 to 255; the sums are scaled by `GREY` afterwards.

Loads of several numbers at once, as `tensor_cores` has them, would save a fifth of the instructions. Of every 64
multiplications 16 need a grey level turned into a float first, which some GPUs do slowly.

All sizes are known when a kernel is compiled: where an index only adds a constant to another, it costs no instruction.
"""

from typing import Any

import numpy as np

from ..jit import device_function
from .layout import TILE, WARP, WORDS_A_THREAD, CudaLayout

F = np.float32
U = np.uint64
"""Index type: unsigned, so that Numba adds no check for negative indices."""
U32 = np.uint32
ZERO = F(0)
GREY = F(1 / 255)
N_SUMS = TILE * TILE


@device_function
def divided(number: Any, divisor: Any) -> Any:
    """Return quotient and remainder of numbers from 0 to 2**32 - 1, for which Numba adds no check for negative ones."""
    quotient = U32(U32(number) // U32(divisor))
    return quotient, U32(U32(number) - quotient * U32(divisor))


@device_function
def clear(sums: Any) -> None:
    """Set all of `sums` (16,) to 0."""
    for k in range(N_SUMS):
        sums[k] = ZERO


@device_function
def _pixel(word: Any, number: int) -> Any:
    """Return the grey level of pixel `number` of four."""
    return F(U32(word >> U32(8 * number) & U32(255)))


def transfers(layout: CudaLayout) -> tuple[Any, Any]:
    """Return the functions that load a thread's part of a chunk into registers, and store it in shared memory."""
    n_words, x_stride, warps = layout.n_words, layout.x_stride, layout.threads // WARP

    @device_function
    def fetch(t: int, words: Any, order: Any, first: int, rows: int, into: Any) -> None:
        lane, row = t % WARP, t // WARP
        base = 0
        for i in range(WORDS_A_THREAD):
            if row < rows and base + lane < n_words:
                into[i] = words[U(order[U(first + row)]), U(base + lane)]
            base += WARP
            if base >= n_words:
                base = 0
                row += warps

    @device_function
    def store_to_shared(t: int, fetched: Any, rows: int, x: Any) -> None:
        lane, row = t % WARP, t // WARP
        base = 0
        for i in range(WORDS_A_THREAD):
            if row < rows and base + lane < n_words:
                x[U(row * x_stride + base + lane)] = fetched[i]
            base += WARP
            if base >= n_words:
                base = 0
                row += warps

    return fetch, store_to_shared


def tile_products(layout: CudaLayout) -> tuple[Any, Any]:
    """Return the functions that add a tile of X W, over a range of words, and one of X^T D, over `rows` images.

    Both add to `sums` (16,): of 4 images, or 4 pixels, the sums for 4 neurons each.
    """
    layer = layout.layers[0]
    stride, columns, width, x_stride = layer.stride, layer.width // TILE, layer.width, layout.x_stride
    apart = layout.groups * x_stride

    @device_function
    def add_forward(x: Any, row: int, w: Any, column: int, begin: int, end: int, sums: Any) -> None:
        for k in range(begin, end):
            place = row * x_stride + k
            x0, x1, x2, x3 = x[U(place)], x[U(place + apart)], x[U(place + 2 * apart)], x[U(place + 3 * apart)]
            if x0 | x1 | x2 | x3:
                weights = layer.weights + column + 4 * k * stride
                for q in range(4):
                    w0, w1 = w[U(weights + q * stride)], w[U(weights + q * stride + columns)]
                    w2, w3 = w[U(weights + q * stride + 2 * columns)], w[U(weights + q * stride + 3 * columns)]
                    grey = _pixel(x0, q)
                    sums[0] += grey * w0
                    sums[1] += grey * w1
                    sums[2] += grey * w2
                    sums[3] += grey * w3
                    grey = _pixel(x1, q)
                    sums[4] += grey * w0
                    sums[5] += grey * w1
                    sums[6] += grey * w2
                    sums[7] += grey * w3
                    grey = _pixel(x2, q)
                    sums[8] += grey * w0
                    sums[9] += grey * w1
                    sums[10] += grey * w2
                    sums[11] += grey * w3
                    grey = _pixel(x3, q)
                    sums[12] += grey * w0
                    sums[13] += grey * w1
                    sums[14] += grey * w2
                    sums[15] += grey * w3

    @device_function
    def add_update(x: Any, word: int, delta: Any, column: int, rows: int, sums: Any) -> None:
        for r in range(rows):
            four = x[U(r * x_stride + word)]
            if four:
                place = layer.delta + column + r * width
                d0, d1 = delta[U(place)], delta[U(place + columns)]
                d2, d3 = delta[U(place + 2 * columns)], delta[U(place + 3 * columns)]
                for q in range(4):
                    grey = _pixel(four, q)
                    sums[4 * q] += grey * d0
                    sums[4 * q + 1] += grey * d1
                    sums[4 * q + 2] += grey * d2
                    sums[4 * q + 3] += grey * d3

    return add_forward, add_update
