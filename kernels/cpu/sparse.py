"""Sparse images: the positions and grey levels of their non-zero pixels."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..compilation import compiled
from .memory import at, count_zeros, put

PARTS = 2
"""Parts of an image, with about equally many non-zero pixels; their weights can be updated part by part."""

WORDS_A_LINE = 8
"""Words in a cache line."""

FARTHEST = 255
"""Largest distance between entries, in pixels; entries of grey level 0 bridge longer gaps."""


class NonzeroPixels(NamedTuple):
    """The non-zero pixels of images, packed four to a word, as images are read in random order.

    Part k of image i is words[starts[PARTS i + k] : starts[PARTS i + k + 1]]. Byte j of a word is the distance of its
    entry j from the previous entry, byte 4 + j the grey level. Part 0 starts at pixel 0 and ends with an entry for
    pixel `middle`, where part 1 starts. Entries of grey level 0 at the same pixel fill up the last word.
    """

    words: NDArray[np.uint64]
    starts: NDArray[np.int64]
    n_pixels: int
    """Number of pixels per image."""
    middle: int
    lines: int
    """Number of cache lines that is enough for 90% of the images."""


def find_nonzero(images: NDArray[np.uint8]) -> NonzeroPixels:
    """Return the non-zero pixels of `images` (n, n_pixels), C-contiguous."""
    n, n_pixels = images.shape
    # A sample is enough to find the pixel before which half of the non-zero ones lie.
    cumulative = np.cumsum(np.count_nonzero(images[:: max(1, n // 1000)], axis=0))
    middle = int(np.searchsorted(cumulative, cumulative[-1] / 2))
    flat = images.ravel()
    starts = np.zeros(PARTS * n + 1, np.int64)
    empty = np.zeros(0, np.uint64)
    _encode(flat, n_pixels, middle, starts, empty)
    np.cumsum(starts, out=starts)
    lengths = np.diff(starts[::PARTS])
    lines = int(np.percentile(lengths, 90)) // WORDS_A_LINE + 1 if n else 0
    words = np.zeros(starts[-1], np.uint64)
    _encode(flat, n_pixels, middle, starts, words)
    return NonzeroPixels(words, starts, n_pixels, middle, lines)


@compiled
def _encode(images: Any, n_pixels: int, middle: int, starts: Any, words: Any) -> None:
    """Fill `words`; if it is empty, store the number of words of each part k in starts[k + 1] instead."""
    counting = words.size == 0
    # Never write beyond a part's end: the images may be changed after their pixels were counted.
    for part in range(starts.size - 1):
        image = part // PARTS * n_pixels
        begin, end = (0, middle) if part % PARTS == 0 else (middle, n_pixels)
        entry, limit = (0, 0) if counting else (4 * at(starts, part), 4 * at(starts, part + 1))
        first, here = entry, begin
        p = begin
        while p < end:
            zeros = count_zeros(images, image + p) if p + 8 <= end else 0
            p += zeros
            grey = at(images, image + p) if zeros < 8 else 0
            if grey:
                while p - here > FARTHEST:
                    _put_entry(words, entry, limit, FARTHEST, 0)
                    entry += 1
                    here += FARTHEST
                _put_entry(words, entry, limit, p - here, grey)
                entry += 1
                here = p
            p += zeros < 8
        while part % PARTS == 0 and here < middle:
            _put_entry(words, entry, limit, min(FARTHEST, middle - here), 0)
            entry += 1
            here += min(FARTHEST, middle - here)
        if counting:
            put(starts, part + 1, (entry - first + 3) // 4)


@compiled
def _put_entry(words: Any, entry: int, limit: int, distance: int, grey: int) -> None:
    if entry < limit:
        offset = 8 * (entry % 4)
        put(words, entry // 4, at(words, entry // 4) | distance << offset | grey << 32 + offset)
