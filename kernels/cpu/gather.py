"""Gathering a batch's inputs into an array of activations: uint8 grey levels are scaled, floats are copied."""

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from ..compilation import PART, compiled
from .memory import CACHE_LINE, at, load, load_bytes, prefetch, put, store
from .vectors import LANES, Static, fma

F = np.float32
ONE = Static(1)

PREFETCH_DISTANCE = 8
"""Prefetch distance, in images."""


@compiled
def gather(images: Any, n_pixels: int, chunk: Any, out: Any) -> None:
    """Write the images of `chunk` to `out` as activations: grey level / 255, rounded once, or float32 unchanged.

    `images` is flat, uint8 or float32, with `n_pixels` values per image.
    """
    line = in_a_line(images)
    for r in range(chunk.rows):
        # Images are read in random order: without prefetching, each would miss the cache.
        later = at(chunk.order, min(chunk.first + r + PREFETCH_DISTANCE, chunk.n - 1)) * n_pixels
        for p in range(0, n_pixels, line):
            prefetch(images, later + p)
        pixel = at(chunk.order, chunk.first + r) * n_pixels
        offset = out.start + (chunk.row + r) * out.row
        for p in range(0, n_pixels - LANES + 1, LANES):
            store(out.data, offset + p, inputs_at(images, pixel + p))
        for p in range(n_pixels - n_pixels % LANES, n_pixels):
            put(out.data, offset + p, input_at(images, pixel + p))


def inputs_at(images: Any, offset: Any) -> Any:
    """Return the 16 activations from images[offset] on."""
    raise NotImplementedError("for compiled code only")


def input_at(images: Any, offset: Any) -> Any:
    """Return the activation images[offset]."""
    raise NotImplementedError("for compiled code only")


def in_a_line(images: Any) -> int:
    """Return the number of values of `images` per cache line."""
    raise NotImplementedError("for compiled code only")


@overload(inputs_at, jit_options=PART)
def _inputs_at(images: Any, offset: Any) -> Any:
    def scaled(images: Any, offset: Any) -> Any:
        return _scaled(load_bytes(images, offset))

    def unchanged(images: Any, offset: Any) -> Any:
        return load(images, offset, ONE)

    return scaled if images.dtype == types.uint8 else unchanged


@overload(input_at, jit_options=PART)
def _input_at(images: Any, offset: Any) -> Any:
    def scaled(images: Any, offset: Any) -> Any:
        return F(at(images, offset)) / F(255)

    def unchanged(images: Any, offset: Any) -> Any:
        return at(images, offset)

    return scaled if images.dtype == types.uint8 else unchanged


@overload(in_a_line, jit_options=PART)
def _in_a_line(images: Any) -> Any:
    count = CACHE_LINE // (images.dtype.bitwidth // 8)

    def implementation(images: Any) -> Any:
        return count

    return implementation


@compiled
def _scaled(grey: Any) -> Any:
    """Return grey / 255: a product corrected by its remainder, which is cheaper than a division."""
    product = grey * F(1 / 255)
    return fma(fma(product, F(-255), grey), F(1 / 255), product)
