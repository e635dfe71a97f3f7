"""Sparse images: the positions and grey levels of their non-zero pixels."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..compilation import compiled
from .memory import at, put

PARTS = 2
"""Parts of an image, of about as many non-zero pixels, whose weights can be updated one after the other."""

WORDS_A_LINE = 8
"""Words in a cache line."""

FARTHEST = 255
"""Pixels from one entry to the next; if more of them are zero, entries of grey level 0 lie on the way."""


class NonzeroPixels(NamedTuple):
    """The non-zero pixels of images, packed four to a word, because they are read in random order.

    Part k of image i is words[starts[PARTS i + k] : starts[PARTS i + k + 1]]. Byte j of a word says how far its entry j
    is from the one before, byte 4 + j how bright it is. Part 0 starts from pixel 0, and ends with an entry for pixel
    `middle`, from where part 1 goes on. Entries of grey level 0 at the same pixel fill up the last word.
    """

    words: NDArray[np.uint64]
    starts: NDArray[np.int64]
    n_pixels: int
    """Pixels of an image."""
    middle: int
    lines: int
    """Cache lines that nine in ten images fit in."""


def find_nonzero(images: NDArray[np.uint8]) -> NonzeroPixels:
    """Return the non-zero pixels of `images` (n, n_pixels), C-contiguous."""
    n, n_pixels = images.shape
    # A sample tells well enough where half of them come before.
    often = np.cumsum(np.count_nonzero(images[:: max(1, n // 1000)], axis=0))
    middle = int(np.searchsorted(often, often[-1] / 2))
    flat = images.ravel()
    starts = np.zeros(PARTS * n + 1, np.int64)
    nothing = np.zeros(0, np.uint64)
    _go_through(flat, n_pixels, middle, starts, nothing)
    np.cumsum(starts, out=starts)
    lengths = np.diff(starts[::PARTS])
    lines = int(np.percentile(lengths, 90)) // WORDS_A_LINE + 1 if n else 0
    words = np.zeros(starts[-1], np.uint64)
    _go_through(flat, n_pixels, middle, starts, words)
    return NonzeroPixels(words, starts, n_pixels, middle, lines)


@compiled
def _go_through(images: Any, n_pixels: int, middle: int, starts: Any, words: Any) -> None:
    """Fill `words`; or where there are none yet, put how many each part needs where the next one will start."""
    counting = words.size == 0
    # Nothing is put beyond a part's end, as somebody may change an image after its pixels were counted.
    for part in range(starts.size - 1):
        image = part // PARTS * n_pixels
        begin, end = (0, middle) if part % PARTS == 0 else (middle, n_pixels)
        entry, limit = (0, 0) if counting else (4 * at(starts, part), 4 * at(starts, part + 1))
        first, here = entry, begin
        for p in range(begin, end):
            grey = at(images, image + p)
            if grey:
                while p - here > FARTHEST:
                    _put_entry(words, entry, limit, FARTHEST, 0)
                    entry += 1
                    here += FARTHEST
                _put_entry(words, entry, limit, p - here, grey)
                entry += 1
                here = p
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
