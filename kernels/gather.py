"""Putting a batch's images, uint8, into an array of activations."""

from typing import Any

import numpy as np

from .compilation import compiled
from .memory import CACHE_LINE, at, load_bytes, prefetch, put, store
from .simd import LANES, fused

F = np.float32

AHEAD = 8
"""How many images ahead of its use one is asked for."""


@compiled
def gather(images: Any, n_pixels: int, chunk: Any, out: Any) -> None:
    """Put the images of `chunk` into `out` as activations, grey level / 255, rounded once.

    `images` is uint8, one image of `n_pixels` after the other.
    """
    for r in range(chunk.rows):
        # In random order an image would be waited for, unless it has been asked for.
        later = at(chunk.order, min(chunk.first + r + AHEAD, chunk.n - 1)) * n_pixels
        for p in range(0, n_pixels, CACHE_LINE):
            prefetch(images, later + p)
        pixel = at(chunk.order, chunk.first + r) * n_pixels
        place = out.start + (chunk.row + r) * out.row
        for p in range(0, n_pixels - LANES + 1, LANES):
            store(out.data, place + p, _scaled(load_bytes(images, pixel + p)))
        for p in range(n_pixels - n_pixels % LANES, n_pixels):
            put(out.data, place + p, F(at(images, pixel + p)) / F(255))


@compiled
def _scaled(grey: Any) -> Any:
    """Return grey / 255: a product, and one correction by what is left of it, which is cheaper than a division."""
    product = grey * F(1 / 255)
    return fused(fused(product, F(-255), grey), F(1 / 255), product)
