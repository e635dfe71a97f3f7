"""Forward, backward and update of all layers in whole-epoch kernels.

All arrays are flat, see `layout`: widths are padded to a multiple of 16, and the padding stays zero. From the second
layer on, weights are stored twice, (n_in, n_out) for forward and (n_out, n_in) for backward, so that both read them
along rows; the copies stay bit for bit equal, as the same sums are added to both in the same order.

delta^L includes the step size, see `outputs`, and so does every gradient: an update only adds.
"""

from typing import Any

import numpy as np

from ...compilation import compiled, compiled_apart
from ..activations import activate_layer
from ..matmul import (
    ADD,
    M_TILE,
    ONE,
    OVERWRITE,
    PACK_FROM_COLUMNS,
    SIXTEEN,
    Matrix,
    add_column_sums,
    multiply,
    multiply_by_columns,
)
from ..memory import at, load, load_rows, mask_lanes, put, store, store_rows
from ..threads import share
from ..vector_math import transposed
from ..vectors import LANES, fma
from .dropout import dropped, slope_with_dropout
from .state import COLUMNS, ROWS, barrier, layer_at, share_of

F = np.float32


@compiled
def forward(functions: Any, drop: Any, chunk: Any, net: Any, worker: Any, phase: int, scale: float) -> int:
    """Compute a^l = f(W^l a^(l-1) + b^l) from the first layer's product, given except for the factor `scale`.

    `functions` are the layers' activation functions, see `activations.of_layers`; `drop` is a `dropout.Dropout`, or
    None without. The threads share the columns, with a barrier after every layer.
    """
    for number in range(net.n_layers):
        layer = layer_at(net, number)
        begin, end = share(layer.width, COLUMNS, worker.thread, worker.threads)
        top = layer.activation + chunk.row * layer.width
        if number > 0:
            below = Matrix(net.work, layer.below + chunk.row * layer.width_in, layer.width_in, 1)
            weights = Matrix(net.parameters, layer.forward + begin, layer.width, 1)
            z = Matrix(net.work, top + begin, layer.width, 1)
            multiply(below, weights, z, chunk.rows, layer.n_in, end - begin, OVERWRITE, net.scratch)
        factor = scale if number == 0 else F(1)
        full = min(end, layer.n_out - layer.n_out % LANES)
        for r in range(chunk.rows):
            offset = top + r * layer.width
            for c in range(begin, full, LANES):
                sums = fma(load(net.work, offset + c, ONE), factor, load(net.parameters, layer.bias + c, ONE))
                a = activate_layer(functions, number, sums)
                store(net.work, offset + c, dropped(drop, number, net.n_layers, chunk.first + r, c, a))
            if full < min(end, layer.n_out):
                # Keeps the padding 0, as f(0) may not be.
                sums = fma(load(net.work, offset + full, ONE), factor, load(net.parameters, layer.bias + full, ONE))
                a = mask_lanes(activate_layer(functions, number, sums), layer.n_out - full)
                store(net.work, offset + full, dropped(drop, number, net.n_layers, chunk.first + r, full, a))
        phase = barrier(worker, phase)
    return phase


@compiled
def goes_without_copy(layer: Any) -> Any:
    """Whether backward reads a layer's weights for forward instead of a copy, as its products pack them anyway."""
    return layer.width_in >= PACK_FROM_COLUMNS and layer.n_in % LANES == 0 and layer.n_out >= 4 * M_TILE


@compiled
def backward(functions: Any, drop: Any, chunk: Any, net: Any, worker: Any, phase: int, with_copies: bool) -> int:
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
            multiply(delta, weights, below, chunk.rows, layer.n_out, end - begin, OVERWRITE, net.scratch)
        else:
            weights = Matrix(net.parameters, layer.forward + begin * layer.width, 1, layer.width)
            multiply_by_columns(delta, weights, below, chunk.rows, layer.n_out, end - begin, net.scratch)
        for r in range(chunk.rows):
            row = (chunk.row + r) * layer.width_in
            for c in range(begin, end, LANES):
                offset = layer.delta_below + row + c
                a = load(net.work, layer.below + row + c, ONE)
                product = load(net.work, offset, ONE)
                slope = slope_with_dropout(functions, drop, number - 1, chunk.first + r, c, a)
                store(net.work, offset, product * slope)
        phase = barrier(worker, phase)
    return phase


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
            delta = Matrix(net.work, layer.delta, layer.width, 1)
            add_column_sums(delta, chunk.rows, layer.width, target, layer.bias)
        if number > 0:
            left, right = share(layer.width, COLUMNS, columns.thread, columns.threads)
            top, bottom = share(layer.n_in, ROWS, rows.thread, rows.threads)
            below = Matrix(net.work, layer.below + top, 1, layer.width_in)
            delta = Matrix(net.work, layer.delta + left, layer.width, 1)
            forward = Matrix(target, layer.forward + top * layer.width + left, layer.width, 1)
            multiply(below, delta, forward, bottom - top, chunk.rows, right - left, ADD, net.scratch)
        if number > 0 and both_layouts:
            left, right = share(layer.width_in, COLUMNS, columns.thread, columns.threads)
            top, bottom = share(layer.n_out, ROWS, rows.thread, rows.threads)
            delta = Matrix(net.work, layer.delta + top, 1, layer.width)
            below = Matrix(net.work, layer.below + left, layer.width_in, 1)
            backward = Matrix(target, layer.backward + top * layer.width_in + left, layer.width_in, 1)
            multiply(delta, below, backward, bottom - top, chunk.rows, right - left, ADD, net.scratch)


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
