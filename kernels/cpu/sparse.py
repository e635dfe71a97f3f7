"""Sparse examples: the positions and values of their non-zero inputs, grey levels of images or any numbers."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..checks import check_array, check_below
from ..compilation import compiled
from .memory import at, nonzero_bits, put, trailing_zeros

PARTS = 2
"""Parts of an image, with about equally many non-zero pixels; their weights can be updated part by part."""

WORDS_A_LINE = 8
"""Words in a cache line."""

GROUPS_A_LINE = 4
"""Groups of four numbers, 4 bytes each, in a cache line."""

FARTHEST: Any = np.int64(255)
"""Largest distance between entries, in pixels; entries of grey level 0 bridge longer gaps."""

NONE: Any = np.int64(0)
"""No entries, distance or grey level; typed like `FARTHEST`, as Numba compiles again for literals."""


class NonzeroPixels(NamedTuple):
    """The non-zero pixels of images, packed four to a word, as images are read in random order.

    Part k of image i is words[starts[PARTS i + k] : starts[PARTS i + k + 1]]. Byte j of a word is the distance of its
    entry j from the previous entry, byte 4 + j the grey level. Part 0 starts at pixel 0 and ends with an entry for
    pixel `middle`, its last; distances of part 1 count from there. Entries of grey level 0 at the same pixel fill up
    the last word.
    """

    words: NDArray[np.uint64]
    starts: NDArray[np.int64]
    n_pixels: int
    """Number of pixels per image."""
    middle: int
    """The last pixel of part 0."""
    lines: int
    """Number of cache lines that is enough for 90% of the images."""


class NonzeroNumbers(NamedTuple):
    """The non-zero inputs of examples, any numbers, four to a group.

    Part k of example i is the groups starts[PARTS i + k] to starts[PARTS i + k + 1]; all but the first part are empty.
    Entry j of group g has the position columns[4 g + j] and the value values[4 g + j]. Values of 0 fill up a row's last
    group.
    """

    columns: NDArray[np.int32]
    values: NDArray[np.float32]
    starts: NDArray[np.int64]
    n_pixels: int
    """Number of inputs per example."""
    lines: int
    """Number of cache lines of `columns`, and of `values`, that is enough for 90% of the examples."""


def nonzero_numbers(
    values: NDArray[np.float32], columns: NDArray[Any], ends: NDArray[Any], n_pixels: int
) -> NonzeroNumbers:
    """Return the rows of a matrix in compressed sparse row (CSR) form, of `n_pixels` columns; copied.

    Row i has `values` and `columns`, (m,) float32 and integers, from ends[i] to ends[i + 1], in any order; entries of
    the same column add up. `ends` (n + 1,) are integers. Raises `TypeError` for other dtypes, `ValueError` if rows
    aren't parts of the arrays, and `IndexError` for a column that isn't there.
    """
    check_array("values", values, np.dtype(np.float32), (len(values),))
    for name, array in (("columns", columns), ("ends", ends)):
        if array.dtype.kind not in "iu" or array.ndim != 1:
            raise TypeError(f"found {name} of {array.ndim} dimensions and dtype {array.dtype}, expected integers (m,)")
    ends = ends.astype(np.int64)
    lengths = np.diff(ends)
    inside = len(ends) and ends[0] == 0 and ends[-1] <= len(values) and not (lengths < 0).any()
    if not inside or len(columns) != len(values):
        raise ValueError(f"found rows that aren't parts of {len(values)} values and {len(columns)} columns in turn")
    if n_pixels > np.iinfo(np.int32).max:
        raise ValueError(f"found {n_pixels} columns, expected fewer than 2^31")
    values, columns = values[: ends[-1]], columns[: ends[-1]]
    check_below("columns", columns, n_pixels)
    groups = -(-lengths // 4)
    last = np.cumsum(groups)
    starts = np.zeros(PARTS * len(groups) + 1, np.int64)
    for part in range(1, PARTS + 1):
        starts[part::PARTS] = last
    places = np.arange(len(values)) + np.repeat(4 * (last - groups) - ends[:-1], lengths)
    padded = NonzeroNumbers(
        np.zeros(4 * starts[-1], np.int32),
        np.zeros(4 * starts[-1], np.float32),
        starts,
        n_pixels,
        int(np.percentile(groups, 90)) // GROUPS_A_LINE + 1 if len(groups) else 0,
    )
    padded.columns[places], padded.values[places] = columns, values
    check_below("columns", padded.columns, n_pixels)  # they might have been changed meanwhile
    return padded


class Team(Protocol):
    """Threads: `run` calls a function with the numbers of `threads` threads, and returns the results."""

    threads: int

    def run(self, work: Callable[[int], Any]) -> list[Any]:
        """Call work(0), work(1), ... at the same time."""


def find_nonzero(images: NDArray[np.uint8], team: Team | None = None) -> NonzeroPixels:
    """Return the non-zero pixels of `images` (n, n_pixels), C-contiguous; the threads of `team`, if any, share them."""
    n, n_pixels = images.shape
    # A sample is enough to find the pixel up to which half of the non-zero ones lie.
    cumulative = np.cumsum(np.count_nonzero(images[:: max(1, n // 1000)], axis=0))
    middle = int(np.searchsorted(cumulative, cumulative[-1] / 2))
    threads = 1 if team is None else team.threads
    cuts = [n * thread // threads for thread in range(threads + 1)]
    # An upper bound: each part has entries of grey level 0 that bridge gaps, lead to its end, or fill its last word.
    most = [np.count_nonzero(images[a:b]) + PARTS * (b - a) * (n_pixels // FARTHEST + 4) for a, b in pairwise(cuts)]
    room = np.cumsum([0, *(entries // 4 for entries in most)])
    starts, words = np.zeros(PARTS * n + 1, np.int64), np.empty(room[-1], np.uint64)

    def encode(thread: int) -> NDArray[np.int64]:
        first, last = cuts[thread : thread + 2]
        # Numba would compile for arrays that are read-only and for others.
        unchanged = images[first:last].ravel()
        unchanged.flags.writeable = False
        ends = np.zeros(PARTS * (last - first) + 1, np.int64)
        _encode(unchanged, n_pixels, middle, ends, words[room[thread] : room[thread + 1]])
        return ends

    used = 0
    for ends, first, begin in zip([encode(0)] if team is None else team.run(encode), cuts, room, strict=False):
        starts[PARTS * first : PARTS * first + len(ends)] = ends + used
        words[used : used + ends[-1]] = words[begin : begin + ends[-1]]
        used += int(ends[-1])
    lengths = np.diff(starts[::PARTS])
    lines = int(np.percentile(lengths, 90)) // WORDS_A_LINE + 1 if n else 0
    return NonzeroPixels(words[:used], starts, n_pixels, middle, lines)


@compiled
def _encode(images: Any, n_pixels: int, middle: int, starts: Any, words: Any) -> None:
    """Fill `words`, and `starts` from its second element on."""
    entry = NONE
    for part in range(starts.size - 1):
        image = part // PARTS * n_pixels
        here, first, end = (0, 0, middle + 1) if part % PARTS == 0 else (middle, middle + 1, n_pixels)
        word = NONE
        for p in range(first, end, 64):
            bits = _nonzero(images, image + p, min(end - p, 64))
            while bits != 0:
                pixel = p + trailing_zeros(bits)
                bits &= bits - 1
                while pixel - here > FARTHEST:
                    word = _put_entry(words, entry, word, FARTHEST, NONE)
                    entry += 1
                    here += FARTHEST
                word = _put_entry(words, entry, word, pixel - here, at(images, image + pixel))
                entry += 1
                here = pixel
        while part % PARTS == 0 and here < middle:
            distance = min(FARTHEST, middle - here)
            word = _put_entry(words, entry, word, distance, NONE)
            entry += 1
            here += distance
        while entry % 4 != 0:
            word = _put_entry(words, entry, word, NONE, NONE)
            entry += 1
        # The images may be changed meanwhile, to more non-zero pixels than were counted.
        entry = min(entry, 4 * words.size)
        put(starts, part + 1, entry // 4)


@compiled
def _nonzero(images: Any, first: int, count: int) -> Any:
    """Return a bit for each of the `count` bytes, at most 64, from images[first] on: whether it isn't 0."""
    if first + 64 <= images.size:
        bits = nonzero_bits(images, first)
        return bits if count == 64 else bits & ((1 << count) - 1)
    bits = 0
    for place in range(count):
        bits |= (at(images, first + place) != 0) << place
    return bits


@compiled
def _put_entry(words: Any, entry: int, word: int, distance: int, grey: int) -> int:
    """Add an entry to `word`, which is stored with its fourth, and return the word of the next entry."""
    offset = 8 * (entry % 4)
    word |= distance << offset | grey << 32 + offset
    if entry % 4 < 3:
        return word
    if entry // 4 < words.size:
        put(words, entry // 4, word)
    return NONE  # type: ignore[no-any-return]
