"""Forward, backward and update of all layers in whole-epoch kernels.

All arrays are flat, see `layout`: widths are padded to a multiple of 16, and the padding stays zero. From the second
layer on, weights are stored twice, (n_in, n_out) for forward and (n_out, n_in) for backward, so that both read them
along rows; the copies stay bit for bit equal, as the same sums are added to both in the same order.

delta^L includes the step size, see `outputs`, and so does every gradient: an update only adds.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import types

from ...compilation import compiled, compiled_apart
from ..activations import activate
from ..addresses import ANY, call, signature
from ..matmul import (
    ADD,
    M_TILE,
    ONE,
    OVERWRITE,
    PACK_FROM_COLUMNS,
    SIXTEEN,
    Matrix,
    add_column_sums,
    add_outer_product,
    multiply,
    multiply_by_columns,
)
from ..memory import at, load, load_rows, mask_lanes, put, recalled, store, store_rows
from ..threads import share
from ..vector_math import transposed
from ..vectors import LANES, fma
from .dropout import dropped, slope_with_dropout
from .state import COLUMNS, OF_NETWORK, OF_SURROUNDINGS, ROWS, barrier, layer_at, share_of

F = np.float32


ROWS_OF_LAYER = (OF_SURROUNDINGS, *[types.int64] * 6)
ACTIVATE = signature(types.void, None, None, *ROWS_OF_LAYER, types.float32)
SLOPE = signature(types.void, None, None, *ROWS_OF_LAYER)


@compiled
def forward(around: Any, chunk: Any, net: Any, worker: Any, phase: int, scale: float) -> int:
    """Compute a^l = f(W^l a^(l-1) + b^l) from the first layer's product, given except for the factor `scale`.

    `around` are the kept `Surroundings`. The threads share the columns, with a barrier after every layer.
    """
    for number in range(net.n_layers):
        layer = layer_at(net, number)
        begin, end = share(layer.width, COLUMNS, worker.thread, worker.threads)
        top = layer.activation + chunk.row * layer.width
        if number > 0:
            below = Matrix(net.work, layer.below + chunk.row * layer.width_in, layer.width_in, 1)
            weights = Matrix(net.parameters, layer.forward + begin, layer.width, 1)
            z = Matrix(net.work, top + begin, layer.width, 1)
            multiply(below, weights, z, chunk.rows, layer.n_in, end - begin, OVERWRITE, worker.scratch)
        factor = scale if number == 0 else F(1)
        first, row, rows = chunk.first, chunk.row, chunk.rows
        call(ACTIVATE, layer.activate, ANY, ANY, around, number, first, row, rows, begin, end, factor)
        phase = barrier(worker, phase)
    return phase


@compiled_apart
def activate_rows(
    function: Any,
    dropout: Any,
    around: Any,
    number: int,
    first: int,
    row: int,
    rows: int,
    begin: int,
    end: int,
    factor: float,
) -> None:
    """Compute a = f(factor z + b) in the columns from `begin` to `end` of layer `number`, in place.

    `first`, `row` and `rows` are those of a `Chunk`, and `around` the kept `Surroundings`. `function` is the `Static`
    of the activation function's name; `dropout` is `WITH` or `WITHOUT`.
    """
    net, drop, _, _ = recalled(around)
    layer = layer_at(net, number)
    top = layer.activation + row * layer.width
    full = min(end, layer.n_out - layer.n_out % LANES)
    for r in range(rows):
        offset = top + r * layer.width
        for c in range(begin, full, LANES):
            a = _activated(function, dropout, net, drop, number, first + r, offset, layer.bias, c, factor)
            store(net.work, offset + c, a)
        if full < min(end, layer.n_out):
            a = _activated(function, dropout, net, drop, number, first + r, offset, layer.bias, full, factor)
            # Keeps the padding 0, as f(0) may not be.
            store(net.work, offset + full, mask_lanes(a, layer.n_out - full))


@compiled
def _activated(
    function: Any,
    dropout: Any,
    net: Any,
    drop: Any,
    number: int,
    example: int,
    row: int,
    bias: int,
    column: int,
    factor: float,
) -> Any:
    """Return 16 activations of an example from `column` on; its products and the biases start at `row` and `bias`."""
    z = fma(load(net.work, row + column, ONE), factor, load(net.parameters, bias + column, ONE))
    return dropped(dropout, drop, number, example, column, activate(function, z))


@compiled
def goes_without_copy(layer: Any) -> Any:
    """Whether backward reads a layer's weights for forward instead of a copy, as its products pack them anyway."""
    return layer.width_in >= PACK_FROM_COLUMNS and layer.n_in % LANES == 0 and layer.n_out >= 4 * M_TILE


@compiled
def backward(around: Any, chunk: Any, net: Any, worker: Any, phase: int, with_copies: bool) -> int:
    """Compute delta^l = (W^(l+1)^T delta^(l+1)) f'(z^l), shared as in `forward`.

    With `with_copies`, the copies for backward are up to date in all layers, see `transpose_copy`.
    """
    for number in range(net.n_layers - 1, 0, -1):
        layer = layer_at(net, number)
        begin, end = share(layer.width_in, COLUMNS, worker.thread, worker.threads)
        delta = Matrix(net.work, layer.delta + chunk.row * layer.width, layer.width, 1)
        below = Matrix(net.work, layer.delta_below + chunk.row * layer.width_in + begin, layer.width_in, 1)
        if with_copies or not goes_without_copy(layer):
            weights = Matrix(net.parameters, layer.backward + begin, layer.width_in, 1)
            multiply(delta, weights, below, chunk.rows, layer.n_out, end - begin, OVERWRITE, worker.scratch)
        else:
            weights = Matrix(net.parameters, layer.forward + begin * layer.width, 1, layer.width)
            multiply_by_columns(delta, weights, below, chunk.rows, layer.n_out, end - begin, worker.scratch)
        first, row, rows = chunk.first, chunk.row, chunk.rows
        call(SLOPE, layer.slope, ANY, ANY, around, number, first, row, rows, begin, end)
        phase = barrier(worker, phase)
    return phase


@compiled_apart
def multiply_by_slopes(
    function: Any, dropout: Any, around: Any, number: int, first: int, row: int, rows: int, begin: int, end: int
) -> None:
    """Multiply delta of the layer below layer `number` by f'(z), in place; arguments are as in `activate_rows`."""
    net, drop, _, _ = recalled(around)
    layer = layer_at(net, number)
    for r in range(rows):
        place = (row + r) * layer.width_in
        for c in range(begin, end, LANES):
            offset = layer.delta_below + place + c
            a = load(net.work, layer.below + place + c, ONE)
            slopes = slope_with_dropout(function, dropout, drop, number - 1, first + r, c, a)
            store(net.work, offset, load(net.work, offset, ONE) * slopes)


class Activations(NamedTuple):
    """Activations of a layer, or its delta: rows of `size` numbers in `data` from `start` on, `width` apart."""

    data: Any
    start: int
    size: int
    width: int


@compiled_apart
def update(chunk: Any, net: Any, target: Any, both_layouts: bool, worker: Any, by_columns: bool) -> None:
    """Compute b^l += delta^l and, except in the first layer, W^l += delta^l (a^(l-1))^T, summed over the examples.

    `target` is laid out as the parameters. With `both_layouts`, the copies of weights for backward are updated too. The
    threads share the columns of the matrices if `by_columns`, otherwise the rows.
    """
    thread, threads = worker.thread, worker.threads
    columns, rows = share_of(worker, by_columns)
    for number in range(net.n_layers):
        layer = layer_at(net, number)
        if number % threads == thread:
            if chunk.rows == 1:  # calls take longer than the work
                for c in range(0, layer.width, LANES):
                    biases = load(target, layer.bias + c, ONE)
                    store(target, layer.bias + c, biases + load(net.work, layer.delta + c, ONE))
            else:
                delta = Matrix(net.work, layer.delta, layer.width, 1)
                add_column_sums(delta, chunk.rows, layer.width, target, layer.bias)
        if number > 0:
            below = Activations(net.work, layer.below, layer.n_in, layer.width_in)
            delta_of = Activations(net.work, layer.delta, layer.n_out, layer.width)
            _add_product(below, delta_of, chunk.rows, target, layer.forward, columns, rows, worker.scratch)
            if both_layouts:
                _add_product(delta_of, below, chunk.rows, target, layer.backward, columns, rows, worker.scratch)


@compiled
def _add_product(x: Any, y: Any, m: int, target: Any, start: int, columns: Any, rows: Any, scratch: Any) -> None:
    """Add X^T Y, of `m` examples, to the matrix at `start`; `columns` and `rows` are this thread's `Share`s of it."""
    left, right = share(y.width, COLUMNS, columns.thread, columns.threads)
    top, bottom = share(x.size, ROWS, rows.thread, rows.threads)
    factors = Matrix(x.data, x.start + top, 1, x.width), Matrix(y.data, y.start + left, y.width, 1)
    out = Matrix(target, start + top * y.width + left, y.width, 1)
    if m == 1:
        add_outer_product(factors[0], factors[1], out, bottom - top, right - left)
    else:
        multiply(factors[0], factors[1], out, bottom - top, m, right - left, ADD, scratch)


TRANSPOSE = signature(types.void, OF_NETWORK, types.int64, types.int64, types.boolean)


@compiled_apart
def transpose_copy(net: Any, thread: int, threads: int, everywhere: bool) -> None:
    """Copy the weights for forward, transposed, to those for backward; unless `everywhere`, only those it reads."""
    for number in range(1, net.n_layers):
        layer = layer_at(net, number)
        if goes_without_copy(layer) and not everywhere:
            continue
        begin, end = share(layer.width_in, COLUMNS, thread, threads)
        # In squares, so that both sides are accessed along rows.
        for left in range(begin, min(end, layer.n_in), LANES):
            for top in range(0, layer.n_out, LANES):
                forward = layer.forward + left * layer.width + top
                backward = layer.backward + top * layer.width_in + left
                if left + LANES <= layer.n_in and top + LANES <= layer.n_out:
                    square = load_rows(net.parameters, forward, layer.width, SIXTEEN, ONE)
                    store_rows(net.parameters, backward, layer.width_in, SIXTEEN, transposed(square))
                    continue
                for j in range(min(LANES, layer.n_out - top)):
                    for k in range(min(LANES, layer.n_in - left)):
                        weight = at(net.parameters, forward + k * layer.width + j)
                        put(net.parameters, backward + j * layer.width_in + k, weight)
