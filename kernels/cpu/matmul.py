"""Products of small matrices inside other compiled code, where calling BLAS would cost more than the work."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..compilation import compiled, compiled_apart
from .memory import add_outer, at, load, load_rows, put, store, store_rows
from .vector_math import transposed
from .vectors import LANES, Static, add_scaled, n_lanes, zeros

ONE, TWO, THREE, FOUR, EIGHT, SIXTEEN = (Static(count) for count in (1, 2, 3, 4, 8, 16))
PACK_FROM_COLUMNS = 256
"""Columns of Y from which copying parts of large matrices pays."""

K_BLOCK = 256
"""Block size along the inner dimension of large matrices."""

OVERWRITE, ADD = np.bool_(False), np.bool_(True)
"""Values of `accumulate`; typed, as Numba compiles again for the literals False and True."""

N_BLOCK = 4 * LANES
"""Maximum number of columns computed together."""

M_TILE = 8
"""Rows computed together; threads share rows at multiples of it, so that results don't depend on their number."""


class Chunk(NamedTuple):
    """The examples order[first : first + rows]; their activations start in row `row` of the work space.

    `order` holds `n` indices of examples.
    """

    order: Any
    n: int
    first: int
    row: int
    rows: int


class Matrix(NamedTuple):
    """A strided matrix: element (i, j) is `data[start + i * row + j * column]`; `data` is float32, one-dimensional.

    Its shape is given where it is used; swapping `row` and `column` transposes it.
    """

    data: Any
    start: int
    row: int
    column: int


def scratch_size(rows: int, sizes: Sequence[int]) -> int:
    """Return the length of the work space for products of `rows` examples and layers of `sizes`; 0 if not needed."""
    return K_BLOCK * (max(rows, *sizes) + 2 * LANES) if max(sizes[1:]) > PACK_FROM_COLUMNS - LANES else 0


@compiled_apart
def multiply(x: Any, y: Any, out: Any, rows: int, inner: int, columns: int, accumulate: bool, scratch: Any) -> None:
    """Compute out = X Y, or out += X Y with `accumulate`; X is (rows, inner), Y (inner, columns).

    `columns` is a multiple of 16, the rows of Y and `out` are contiguous. `scratch` is work space, see `scratch_size`,
    or None if no matrix has `PACK_FROM_COLUMNS` columns. Rounding depends only on whether a row is in a full tile or
    left over, not on what else is computed with it.
    """
    tiled = rows - rows % M_TILE
    if inner == 1 and accumulate:
        add_outer_product(x, y, out, rows, columns)
        return
    # Numba prunes this branch if `scratch` is None.
    if scratch is not None:  # noqa: SIM102
        if rows >= 4 * M_TILE and inner >= 4 * M_TILE and y.row >= PACK_FROM_COLUMNS:
            _multiply_packed(x, y, out, tiled, inner, columns, accumulate, scratch)
            tiled = 0
    # Accumulates sums of `K_BLOCK` terms, packed or not.
    depth = K_BLOCK if accumulate else max(inner, 1)
    for k0 in range(0, max(inner, 1), depth):
        terms = min(depth, inner - k0)
        left = Matrix(x.data, x.start + k0 * x.column, x.row, x.column)
        for first in range(0, columns, 2 * LANES):
            right = Matrix(y.data, y.start + k0 * y.row + first, y.row, 1)
            target = Matrix(out.data, out.start + first, out.row, 1)
            # Last rows first: an update begins with the rows that forward used last.
            if columns - first == LANES:
                _multiply_rows(left, right, target, rows - rows % M_TILE, rows, terms, accumulate, ONE)
                _multiply_tiles(left, right, target, tiled, terms, accumulate, ONE)
            else:
                _multiply_rows(left, right, target, rows - rows % M_TILE, rows, terms, accumulate, TWO)
                _multiply_tiles(left, right, target, tiled, terms, accumulate, TWO)


@compiled_apart
def multiply_by_columns(x: Any, y: Any, out: Any, rows: int, inner: int, columns: int, scratch: Any) -> None:
    """Compute out = X Y where the columns of Y are contiguous; their length and number are multiples of 16.

    X and `out` must have room for `rows` rounded up to a multiple of 8. `scratch` is work space, see `scratch_size`;
    without it nothing is done.
    """
    # Numba prunes this if `scratch` is None; networks without it have no such products.
    if scratch is not None:
        _multiply_packed(x, y, out, (rows + M_TILE - 1) // M_TILE * M_TILE, inner, columns, OVERWRITE, scratch)


@compiled
def add_outer_product(x: Any, y: Any, out: Any, rows: int, columns: int) -> None:
    """Compute out += X Y as `multiply` does, with X (rows, 1) and Y (1, columns)."""
    whole = columns - columns % N_BLOCK
    for first in range(0, whole, N_BLOCK):
        _add_to_block(x, y, out, rows, first, FOUR)
    for first in range(whole, columns, LANES):
        _add_to_block(x, y, out, rows, first, ONE)


@compiled
def _add_to_block(x: Any, y: Any, out: Any, rows: int, first: int, width: Any) -> None:
    row = load(y.data, y.start + first, width)
    for r in range(rows - 1, -1, -1):
        offset = out.start + r * out.row + first
        store(out.data, offset, add_scaled(load(out.data, offset, width), at(x.data, x.start + r * x.row), row))


@compiled
def _multiply_rows(x: Any, y: Any, out: Any, begin: int, end: int, inner: int, accumulate: bool, width: Any) -> None:
    """Compute rows one by one, `width` vectors of columns."""
    y0 = y.start
    for r in range(end - 1, begin - 1, -1):
        offset = out.start + r * out.row
        x0 = x.start + r * x.row
        if accumulate:
            # One sum, as in a tile, so that an updated matrix and its transpose stay bit for bit equal.
            z = zeros(ONE, width)
            for k in range(inner):
                z = add_scaled(z, at(x.data, x0 + k * x.column), load(y.data, y0 + k * y.row, width))
            store(out.data, offset, load(out.data, offset, width) + z)
            continue
        # Four sums, as each addition to a sum waits for the previous one.
        z0, z1, z2, z3 = zeros(ONE, width), zeros(ONE, width), zeros(ONE, width), zeros(ONE, width)
        for k in range(0, inner - 3, 4):
            z0 = add_scaled(z0, at(x.data, x0 + k * x.column), load(y.data, y0 + k * y.row, width))
            z1 = add_scaled(z1, at(x.data, x0 + (k + 1) * x.column), load(y.data, y0 + (k + 1) * y.row, width))
            z2 = add_scaled(z2, at(x.data, x0 + (k + 2) * x.column), load(y.data, y0 + (k + 2) * y.row, width))
            z3 = add_scaled(z3, at(x.data, x0 + (k + 3) * x.column), load(y.data, y0 + (k + 3) * y.row, width))
        for k in range(inner - inner % 4, inner):
            z0 = add_scaled(z0, at(x.data, x0 + k * x.column), load(y.data, y0 + k * y.row, width))
        store(out.data, offset, (z0 + z1) + (z2 + z3))


@compiled
def _multiply_tiles(x: Any, y: Any, out: Any, rows: int, inner: int, accumulate: bool, width: Any) -> None:
    """Compute eight rows at a time in registers; `rows` is a multiple of 8."""
    for r in range(rows - M_TILE, -1, -M_TILE):
        offset = out.start + r * out.row
        tile = zeros(EIGHT, width)
        for k in range(inner):
            row = load(y.data, y.start + k * y.row, width)
            tile = add_outer(tile, x.data, x.start + r * x.row + k * x.column, x.row, row)
        if accumulate:
            tile = load_rows(out.data, offset, out.row, EIGHT, width) + tile
        store_rows(out.data, offset, out.row, EIGHT, tile)


@compiled
def _multiply_packed(
    x: Any, y: Any, out: Any, rows: int, inner: int, columns: int, accumulate: bool, scratch: Any
) -> None:
    """Compute the tiles of large matrices, `K_BLOCK` of the inner dimension at a time.

    That part of X and one block of columns of Y are copied to `scratch` in order of use: rows far apart would evict
    each other from the cache.
    """
    packed = K_BLOCK * 2 * LANES
    for k0 in range(0, inner, K_BLOCK):
        depth = min(K_BLOCK, inner - k0)
        # Eight rows next to each other, k by k.
        for r in range(0, rows, M_TILE):
            for k in range(depth):
                for i in range(M_TILE):
                    number = at(x.data, x.start + (r + i) * x.row + (k0 + k) * x.column)
                    put(scratch, packed + r * K_BLOCK + k * M_TILE + i, number)
        continued = k0 > 0 and not accumulate
        for first in range(0, columns, 2 * LANES):
            part = Matrix(y.data, y.start + k0 * y.row + first * y.column, y.row, y.column)
            if columns - first == LANES:
                _multiply_panel(scratch, packed, part, depth, out, rows, first, continued, accumulate, ONE)
            else:
                _multiply_panel(scratch, packed, part, depth, out, rows, first, continued, accumulate, TWO)


@compiled
def _multiply_panel(
    scratch: Any,
    packed: int,
    y: Any,
    depth: int,
    out: Any,
    rows: int,
    first: int,
    continued: bool,
    accumulate: bool,
    width: Any,
) -> None:
    """Copy a block of columns of Y to the start of `scratch`, and multiply the part of X packed at `packed` by it.

    With `continued`, the sums continue those in `out`.
    """
    columns = n_lanes(width)
    if y.column == 1:
        for k in range(depth):
            store(scratch, k * columns, load(y.data, y.start + k * y.row, width))
    else:
        for k in range(0, depth, LANES):
            for c in range(0, columns, LANES):
                square = load_rows(y.data, y.start + k + c * y.column, y.column, SIXTEEN, ONE)
                store_rows(scratch, k * columns + c, columns, SIXTEEN, transposed(square))
    for r in range(0, rows, M_TILE):
        offset = out.start + r * out.row + first
        tile = load_rows(out.data, offset, out.row, EIGHT, width) if continued else zeros(EIGHT, width)
        for k in range(depth):
            tile = add_outer(tile, scratch, packed + r * K_BLOCK + k * M_TILE, 1, load(scratch, k * columns, width))
        if accumulate:
            tile = load_rows(out.data, offset, out.row, EIGHT, width) + tile
        store_rows(out.data, offset, out.row, EIGHT, tile)


@compiled_apart
def add_column_sums(x: Any, rows: int, columns: int, out: Any, start: int) -> None:
    """Add the sum of the rows of X, (rows, columns), to out[start : start + columns]."""
    whole = columns - columns % N_BLOCK
    for c in range(0, whole, N_BLOCK):
        _add_sums(x, rows, c, out, start, FOUR)
    for c in range(whole, columns, LANES):
        _add_sums(x, rows, c, out, start, ONE)


@compiled
def _add_sums(x: Any, rows: int, column: int, out: Any, start: int, width: Any) -> None:
    # Adding small numbers one by one to a large one would round off much of each; adding their sum rounds off less.
    z = zeros(ONE, width)
    for r in range(rows):
        z = z + load(x.data, x.start + r * x.row + column, width)
    store(out, start + column, load(out, start + column, width) + z)
