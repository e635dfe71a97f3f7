"""Products with sparse examples: zeros are skipped, as they add nothing to z and their weights don't change.

The result is that of the dense product, except for the order of additions. Weights W (n_pixels, columns) are stored in
blocks of up to 64 columns, each pixel by pixel: the block from column c on starts at c n_pixels, and pixel p in it at
p times the block's width. One block stays in the cache close to a core while a batch is processed.
"""

from typing import Any, NamedTuple

import numpy as np
from numba.extending import overload
from numpy.typing import NDArray

from ..checks import check_array, check_below
from ..compilation import PART, compiled, compiled_apart
from .gather import PREFETCH_DISTANCE
from .matmul import FOUR, N_BLOCK, ONE, THREE, TWO, Chunk, Matrix
from .memory import add_entries, at, load, pointer, prefetch, scatter_entries, store
from .sparse import GROUPS_A_LINE, PARTS, WORDS_A_LINE, NonzeroNumbers, NonzeroPixels
from .vectors import LANES, Static, n_lanes, total_of_four, zeros

F = np.float32

ACCUMULATE_FROM = 128
"""Images from which a weight's changes are summed before they are added to it; each alone would be rounded off."""

THREAD, THREADS = np.int64(0), np.int64(1)
"""The only thread; typed, as Numba compiles again for literals."""


class Parts(NamedTuple):
    """Parts of each example, from number `first` to before `end`; int64, as Numba compiles again for literals."""

    first: Any
    end: Any


WHOLE = Parts(np.int64(0), np.int64(PARTS))

Nonzero = NonzeroPixels | NonzeroNumbers

GREYS = np.arange(256, dtype=np.float32) / np.float32(255)


def sparse_product(
    pixels: Nonzero,
    rows: NDArray[np.int64],
    weights: NDArray[np.float32],
    *,
    out: NDArray[np.float32],
) -> None:
    """Compute out = X W, with X the examples `rows` (m,): grey levels / 255, or numbers as they are.

    `out` is (m, columns), columns a multiple of 16; `weights` (n_pixels columns,) float32 in blocks. Wrong dtypes raise
    `TypeError`, wrong shapes `ValueError`, and a row out of range `IndexError`.
    """
    _check("out", out, pixels, rows, weights, changed=out)
    _sparse_product(*blocks_of(out.shape[1]), pixels, rows, weights, out.ravel(), pixels.n_pixels)


def sparse_descend(
    weights: NDArray[np.float32],
    pixels: Nonzero,
    rows: NDArray[np.int64],
    delta: NDArray[np.float32],
    learning_rate: float,
    *,
    thread: int = 0,
    threads: int = 1,
    scratch: NDArray[np.float32] | None = None,
) -> None:
    """Compute W -= learning_rate X^T delta in place; everything else is as in `sparse_product`, `delta` like `out`.

    Each of `threads` concurrent callers updates every `threads`-th block. With `scratch` (64 n_pixels,), one a thread,
    the changes by `ACCUMULATE_FROM` images or more are summed before they are added to the weights.
    """
    _check("delta", delta, pixels, rows, weights, changed=weights)
    if scratch is not None:
        check_array("scratch", scratch, np.dtype(np.float32), (N_BLOCK * pixels.n_pixels,))
    arrays = pixels, rows, delta.ravel()
    numbers = F(-learning_rate), weights, pixels.n_pixels, thread, threads, scratch
    _sparse_descend(*blocks_of(delta.shape[1]), *arrays, *numbers)


def _check(name: str, matrix: Any, pixels: Nonzero, rows: Any, weights: Any, changed: Any) -> None:
    check_array("rows", rows, np.dtype(np.int64), (len(matrix) if isinstance(matrix, np.ndarray) else 0,))
    check_below("rows", rows, len(pixels.starts) // PARTS)
    columns = matrix.shape[-1] if isinstance(matrix, np.ndarray) else 0
    check_array(name, matrix, np.dtype(np.float32), (len(rows), columns))
    if columns % LANES:
        raise ValueError(f"found {name} of {columns} columns, expected a multiple of {LANES}")
    check_array("weights", weights, np.dtype(np.float32), (pixels.n_pixels * columns,))
    if np.may_share_memory(weights, matrix):
        raise ValueError(f"weights must not overlap {name}")
    if not changed.flags.writeable:
        raise ValueError(f"{'weights' if changed is weights else name} must be writable")


@compiled
def _sparse_product(whole: Any, rest: Any, pixels: Any, rows: Any, weights: Any, out: Any, n_pixels: int) -> None:
    m = rows.size
    if m:
        chunk = Chunk(pointer(rows), m, 0, 0, m)
        multiply_sparse(
            whole,
            rest,
            pointer(pixels),
            chunk,
            pointer(weights),
            n_pixels,
            Matrix(pointer(out), 0, out.size // m, 1),
            WHOLE,
            THREAD,
            THREADS,
        )


@compiled
def _sparse_descend(
    whole: Any,
    rest: Any,
    pixels: Any,
    rows: Any,
    delta: Any,
    factor: float,
    weights: Any,
    n_pixels: int,
    thread: int,
    threads: int,
    scratch: Any,
) -> None:
    m = rows.size
    if m:
        chunk = Chunk(pointer(rows), m, 0, 0, m)
        add_sparse(
            whole,
            rest,
            pointer(pixels),
            chunk,
            Matrix(pointer(delta), 0, delta.size // m, 1),
            factor,
            n_pixels,
            pointer(weights),
            WHOLE,
            thread,
            threads,
            pointer(scratch),
        )


def _are_numbers(pixels: Any) -> bool:
    """Whether a Numba type is that of `NonzeroNumbers`."""
    return pixels.instance_class is NonzeroNumbers


def blocks_of(columns: int) -> tuple[Static | None, Static | None]:
    """Return the widths of blocks, in vectors, of a matrix of `columns`: that of whole ones, and of the last; or None.

    Products are compiled for them.
    """
    rest = columns % N_BLOCK // LANES
    return FOUR if columns >= N_BLOCK else None, (None, ONE, TWO, THREE)[rest]


@compiled_apart
def multiply_sparse(
    whole: Any,
    rest: Any,
    pixels: Any,
    chunk: Any,
    weights: Any,
    n_pixels: int,
    out: Any,
    parts: Any,
    thread: int,
    threads: int,
) -> None:
    """Compute out = X W for the `parts` of the images of `chunk`; W is (n_pixels, columns) in blocks.

    `out` is a `Matrix`; columns is the distance between its rows, and `whole` and `rest` are from `blocks_of` it. Each
    of `threads` concurrent callers computes every `threads`-th block, the same ones as in `add_sparse`, so that they
    stay in the cache of one core.
    """
    for column in range(thread * N_BLOCK, out.row, threads * N_BLOCK):
        ask = column < threads * N_BLOCK
        # Numba prunes the branches whose argument is None.
        if whole is not None:  # noqa: SIM102
            if out.row - column >= N_BLOCK:
                _multiply_block(pixels, chunk, weights, column * n_pixels, out, column, parts, ask, whole)
        if rest is not None:  # noqa: SIM102
            if out.row - column < N_BLOCK:
                _multiply_block(pixels, chunk, weights, column * n_pixels, out, column, parts, ask, rest)


@compiled
def _multiply_block(
    pixels: Any, chunk: Any, weights: Any, start: int, out: Any, column: int, parts: Any, ask: bool, width: Any
) -> None:
    step = n_lanes(width)
    before = start + _position(pixels, parts.first) * step
    for r in range(chunk.rows):
        if ask:
            _prefetch_example(pixels, chunk, chunk.first + r + PREFETCH_DISTANCE, parts)
        image = PARTS * at(chunk.order, chunk.first + r)
        # Four sums, as each addition to a sum waits for the previous one.
        sums = zeros(FOUR, width)
        last = before
        for word in range(at(pixels.starts, image + parts.first), at(pixels.starts, image + parts.end)):
            positions, values = entries(pixels, word, last, start, step)
            last = positions[3]
            sums = add_entries(sums, values, weights, positions, width)
        store(out.data, out.start + (chunk.row + r) * out.row + column, total_of_four(sums))


@compiled_apart
def add_sparse(
    whole: Any,
    rest: Any,
    pixels: Any,
    chunk: Any,
    delta: Any,
    factor: float,
    n_pixels: int,
    weights: Any,
    parts: Any,
    thread: int,
    threads: int,
    scratch: Any,
) -> None:
    """Compute W += factor X^T D for the `parts` of the images of `chunk`; `delta` D is a `Matrix` as `out` above.

    Each of `threads` concurrent callers updates every `threads`-th block. `scratch` is None, or this thread's work
    space for a block, in which the changes by `ACCUMULATE_FROM` images or more are summed.
    """
    # Backwards, so that each thread begins with the weights that forward used last.
    for block in range((delta.row + N_BLOCK - 1) // N_BLOCK - 1, -1, -1):
        if threads > 1 and block % threads != thread:
            continue
        column = block * N_BLOCK
        start = column * n_pixels
        # Numba prunes this branch if `scratch` is None.
        if scratch is not None:  # noqa: SIM102
            if chunk.rows >= ACCUMULATE_FROM:
                size = min(delta.row - column, N_BLOCK) * n_pixels
                for offset in range(0, size, LANES):
                    store(scratch, offset, zeros(ONE, ONE))
                _add_columns(whole, rest, pixels, chunk, delta, factor, column, scratch, 0, parts)
                for offset in range(0, size, LANES):
                    updated = load(weights, start + offset, ONE) + load(scratch, offset, ONE)
                    store(weights, start + offset, updated)
                continue
        _add_columns(whole, rest, pixels, chunk, delta, factor, column, weights, start, parts)


@compiled
def _add_columns(
    whole: Any,
    rest: Any,
    pixels: Any,
    chunk: Any,
    delta: Any,
    factor: float,
    column: int,
    weights: Any,
    start: int,
    parts: Any,
) -> None:
    """Update the block of weights from `column` on, which starts at `start`."""
    if whole is not None:  # noqa: SIM102
        if delta.row - column >= N_BLOCK:
            _add_block(pixels, chunk, delta, factor, column, weights, start, parts, whole)
    if rest is not None:  # noqa: SIM102
        if delta.row - column < N_BLOCK:
            _add_block(pixels, chunk, delta, factor, column, weights, start, parts, rest)


@compiled
def _add_block(
    pixels: Any, chunk: Any, delta: Any, factor: float, column: int, weights: Any, start: int, parts: Any, width: Any
) -> None:
    step = n_lanes(width)
    # Of a wide block, the weights of half the pixels fit the cache, those of all don't.
    count = 1 if chunk.rows > 1 and step > 2 * LANES else parts.end - parts.first
    part = parts.first
    while part < parts.end:  # to count a range, Numba divides by its step
        before = start + _position(pixels, part) * step
        for r in range(chunk.rows):
            image = PARTS * at(chunk.order, chunk.first + r) + part
            d = factor * load(delta.data, delta.start + (chunk.row + r) * delta.row + column, width)
            last = before
            for word in range(at(pixels.starts, image), at(pixels.starts, image + count)):
                positions, values = entries(pixels, word, last, start, step)
                last = positions[3]
                scatter_entries(weights, positions, values, d)
        part += count


@compiled
def _position(pixels: Any, part: int) -> int:
    """Return the position from which the distances of a part count."""
    return 0 if part == 0 else second_part(pixels)


def entries(pixels: Any, word: int, before: int, start: int, step: int) -> Any:
    """Return where the weights of the four entries of a word start, and the entries' values, as two tuples.

    Each position has `step` weights, and those of position 0 begin at `start`; those of the entry before the word begin
    at `before`.
    """
    raise NotImplementedError("for compiled code only")


@overload(entries, jit_options=PART)
def _entries(pixels: Any, word: int, before: int, start: int, step: int) -> Any:
    def of_pixels(pixels: Any, word: int, before: int, start: int, step: int) -> Any:
        return _decoded(at(pixels.words, word), before, step)

    def of_numbers(pixels: Any, word: int, before: int, start: int, step: int) -> Any:
        columns, values, first = pixels.columns, pixels.values, 4 * word
        p0, p1 = start + at(columns, first) * step, start + at(columns, first + 1) * step
        p2, p3 = start + at(columns, first + 2) * step, start + at(columns, first + 3) * step
        x0, x1, x2, x3 = at(values, first), at(values, first + 1), at(values, first + 2), at(values, first + 3)
        return (p0, p1, p2, p3), (x0, x1, x2, x3)

    return of_numbers if _are_numbers(pixels) else of_pixels


def second_part(pixels: Any) -> int:
    """Return the position where the second part of an example starts."""
    raise NotImplementedError("for compiled code only")


@overload(second_part, jit_options=PART)
def _second_part(pixels: Any) -> Any:
    def of_pixels(pixels: Any) -> Any:
        return pixels.middle

    def of_numbers(pixels: Any) -> Any:
        return 0  # it is empty

    return of_numbers if _are_numbers(pixels) else of_pixels


@compiled
def _decoded(word: int, start: int, step: int) -> Any:
    """Return where the weights of four entries start, given those of the entry before, and the entries' greys."""
    p0 = start + (word & 255) * step
    p1 = p0 + (word >> 8 & 255) * step
    p2 = p1 + (word >> 16 & 255) * step
    p3 = p2 + (word >> 24 & 255) * step
    g0, g1 = at(GREYS, word >> 32 & 255), at(GREYS, word >> 40 & 255)
    g2, g3 = at(GREYS, word >> 48 & 255), at(GREYS, word >> 56 & 255)
    return (p0, p1, p2, p3), (g0, g1, g2, g3)


@compiled
def _prefetch_example(pixels: Any, chunk: Any, number: int, parts: Any) -> None:
    """Prefetch the entries of an example's `parts`, and the start of a later example.

    The number of cache lines is fixed: reading where the example ends would stall.
    """
    if number + PREFETCH_DISTANCE < chunk.n:
        prefetch(pixels.starts, PARTS * at(chunk.order, number + PREFETCH_DISTANCE))
        word = at(pixels.starts, PARTS * at(chunk.order, number) + parts.first)
        for line in range(pixels.lines * (parts.end - parts.first) // PARTS):
            prefetch_line(pixels, word, line)


def prefetch_line(pixels: Any, word: int, line: int) -> None:
    """Prefetch the cache line number `line` from the word `word` on."""
    raise NotImplementedError("for compiled code only")


@overload(prefetch_line, jit_options=PART)
def _prefetch_line(pixels: Any, word: int, line: int) -> Any:
    def of_pixels(pixels: Any, word: int, line: int) -> None:
        prefetch(pixels.words, word + line * WORDS_A_LINE)

    def of_numbers(pixels: Any, word: int, line: int) -> None:
        first = 4 * (word + line * GROUPS_A_LINE)
        prefetch(pixels.columns, first)
        prefetch(pixels.values, first)

    return of_numbers if _are_numbers(pixels) else of_pixels
