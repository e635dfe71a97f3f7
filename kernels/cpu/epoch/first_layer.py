"""The first layer in whole-epoch kernels: products of its weights with sparse or dense images.

If batches are single dense images, an image's update and the next image's product are one pass over the weights.
"""

from typing import Any

import numpy as np
from numba import types

from ...compilation import compiled
from ..addresses import ANY, call, signature
from ..gather import gather
from ..matmul import ADD, FOUR, N_BLOCK, ONE, OVERWRITE, Chunk, Matrix, multiply
from ..memory import at, load, store, tuple_type
from ..sparse_matmul import WHOLE, Parts
from ..threads import share
from ..vectors import LANES, add_scaled, zeros
from .state import COLUMNS, FIRST, FLOATS, OF_CHUNK, ROWS, barrier, layer_at, part_of, share_of

F = np.float32

OF_MATRIX = tuple_type(Matrix, FLOATS, *[types.int64] * 3)
OF_PARTS = tuple_type(Parts, types.int64, types.int64)
MULTIPLY = signature(
    types.void, None, None, None, OF_CHUNK, FLOATS, types.int64, OF_MATRIX, OF_PARTS, types.int64, types.int64
)
ADD_SPARSE = signature(
    types.void,
    *[None] * 3,
    OF_CHUNK,
    OF_MATRIX,
    types.float32,
    types.int64,
    FLOATS,
    OF_PARTS,
    types.int64,
    types.int64,
    None,
)

PART = np.int64(1)
"""What threads share parts of images by; typed, as Numba compiles again for literals."""


@compiled
def own_parts(worker: Any, by_pixels: bool) -> Any:
    """Return the parts of images that this thread multiplies and updates: all, unless the threads share pixels."""
    first, end = share(WHOLE.end, PART, worker.thread, worker.threads)
    return Parts(first, end) if by_pixels else WHOLE


@compiled
def multiply_images(
    calls: Any,
    pixels: Any,
    images: Any,
    chunk: Any,
    piece: Any,
    net: Any,
    worker: Any,
    inner: Any,
    parts: Any,
    by_pixels: bool,
    phase: int,
) -> int:
    """Compute z = X W^T of the first layer, without bias; one of `pixels` and `images` is None, as in `Data`.

    With sparse images, the threads of `worker` share the columns of z for the whole `chunk`, or with `by_pixels` the
    terms of its sums: each has its own `parts`. With dense ones, each computes z for its `piece`, sharing the columns
    with the threads of `inner`. Returns the phase, as `barrier` does.
    """
    layer = layer_at(net, FIRST)
    # Numba prunes the branch whose argument is None.
    if pixels is not None:
        z = Matrix(net.work, layer.activation, layer.width, 1)
        thread, threads, weights = worker.thread, worker.threads, net.parameters
        if by_pixels:
            # The second part's sums are where delta will be. One thread adds them in the same order as two.
            z1 = Matrix(net.work, layer.delta, layer.width, 1)
            for part in range(parts.first, parts.end):
                to, one = z1 if part else z, Parts(part, part + 1)
                call(MULTIPLY, calls.multiply_sparse, ANY, ANY, pixels, chunk, weights, layer.n_in, to, one, 0, 1)
            phase = barrier(worker, phase)
            for offset in range(piece.row * layer.width, (piece.row + piece.rows) * layer.width, LANES):
                total = load(net.work, z.start + offset, ONE) + load(net.work, z1.start + offset, ONE)
                store(net.work, z.start + offset, total)
        else:
            n_in = layer.n_in
            call(MULTIPLY, calls.multiply_sparse, ANY, ANY, pixels, chunk, weights, n_in, z, parts, thread, threads)
            phase = barrier(worker, phase)
    if images is not None:
        gather(images, layer.n_in, part_of(piece, inner), Matrix(net.work, layer.below, layer.width_in, 1))
        phase = barrier(inner, phase)
        begin, end = share(layer.width, COLUMNS, inner.thread, inner.threads)
        x = Matrix(net.work, layer.below + piece.row * layer.width_in, layer.width_in, 1)
        weights = Matrix(net.parameters, layer.forward + begin, layer.width, 1)
        z = Matrix(net.work, layer.activation + piece.row * layer.width + begin, layer.width, 1)
        multiply(x, weights, z, piece.rows, layer.n_in, end - begin, OVERWRITE, inner.scratch)
    return phase


@compiled
def add_images(
    calls: Any,
    pixels: Any,
    images: Any,
    chunk: Any,
    net: Any,
    target: Any,
    factor: float,
    worker: Any,
    by_columns: bool,
    parts: Any,
    by_pixels: bool,
) -> None:
    """Compute W^1 += delta^1 X, summed over the examples, in `target`; threads share it as in `update`.

    With sparse images, the threads share the columns, or with `by_pixels` each has its own `parts`, and the sum is
    multiplied by `factor`.
    """
    layer = layer_at(net, FIRST)
    if pixels is not None:
        delta = Matrix(net.work, layer.delta, layer.width, 1)
        columns, n_pixels = share_of(worker, not by_pixels)[0], layer.n_in
        call(
            ADD_SPARSE,
            calls.add_sparse,
            ANY,
            ANY,
            pixels,
            chunk,
            delta,
            factor,
            n_pixels,
            target,
            parts,
            columns.thread,
            columns.threads,
            worker.scratch,
        )
    if images is not None:
        columns, rows = share_of(worker, by_columns)
        left, right = share(layer.width, COLUMNS, columns.thread, columns.threads)
        top, bottom = share(layer.n_in, ROWS, rows.thread, rows.threads)
        x = Matrix(net.work, layer.below + top, 1, layer.width_in)
        delta = Matrix(net.work, layer.delta + left, layer.width, 1)
        weights = Matrix(target, layer.forward + top * layer.width + left, layer.width, 1)
        multiply(x, delta, weights, bottom - top, chunk.rows, right - left, ADD, worker.scratch)


@compiled
def update_and_multiply(images: Any, chunk: Any, net: Any, number: int) -> None:
    """In one pass over the weights, apply the previous dense image's update and compute z of the image in `chunk`.

    `number` counts the images from 0. They alternate between the first two rows of `below`, and the pass between both
    directions, as the cache still has the weights used last.
    """
    if images is not None:
        layer = layer_at(net, FIRST)
        row = number % 2
        rows = Matrix(net.work, layer.below, layer.width_in, 1)
        gather(images, layer.n_in, Chunk(chunk.order, chunk.n, chunk.first, row, 1), rows)
        before, now = layer.below + (1 - row) * layer.width_in, layer.below + row * layer.width_in
        first, step = (0, 1) if row == 0 else (layer.n_in - 1, -1)
        whole = layer.width - layer.width % N_BLOCK
        for column in range(0, whole, N_BLOCK):
            _update_and_multiply(net, layer, before, now, first, step, column, FOUR)
        for column in range(whole, layer.width, LANES):
            _update_and_multiply(net, layer, before, now, first, step, column, ONE)


@compiled
def _update_and_multiply(
    net: Any, layer: Any, before: int, now: int, first: int, step: int, column: int, width: Any
) -> None:
    delta = load(net.work, layer.delta + column, width)
    z0, z1, z2, z3 = zeros(ONE, width), zeros(ONE, width), zeros(ONE, width), zeros(ONE, width)
    last = first + step * (layer.n_in - layer.n_in % 4)
    weights = layer.forward + column
    for p in range(first, last, 4 * step):
        z0 = add_scaled(z0, at(net.work, now + p), _add_pixel(net, layer, weights, before, p, delta, width))
        p1, p2, p3 = p + step, p + 2 * step, p + 3 * step
        z1 = add_scaled(z1, at(net.work, now + p1), _add_pixel(net, layer, weights, before, p1, delta, width))
        z2 = add_scaled(z2, at(net.work, now + p2), _add_pixel(net, layer, weights, before, p2, delta, width))
        z3 = add_scaled(z3, at(net.work, now + p3), _add_pixel(net, layer, weights, before, p3, delta, width))
    for p in range(last, first + step * layer.n_in, step):
        z0 = add_scaled(z0, at(net.work, now + p), _add_pixel(net, layer, weights, before, p, delta, width))
    store(net.work, layer.activation + column, (z0 + z1) + (z2 + z3))


@compiled
def _add_pixel(net: Any, layer: Any, weights: int, image: int, p: int, delta: Any, width: Any) -> Any:
    """Update the weights of a pixel, and return them."""
    offset = weights + p * layer.width
    updated = add_scaled(load(net.parameters, offset, width), at(net.work, image + p), delta)
    store(net.parameters, offset, updated)
    return updated


@compiled
def clear_pending(net: Any) -> None:
    """Clear the pending update, so that the next `update_and_multiply` applies none."""
    layer = layer_at(net, FIRST)
    for offset in range(layer.delta, layer.delta + layer.width, LANES):
        store(net.work, offset, zeros(ONE, ONE))


@compiled
def flush_pending(images: Any, net: Any, number: int, scratch: Any) -> None:
    """Apply the pending update: that of the last of `number` images, at least one."""
    if images is not None:
        layer = layer_at(net, FIRST)
        x = Matrix(net.work, layer.below + (number - 1) % 2 * layer.width_in, 1, 1)
        delta = Matrix(net.work, layer.delta, layer.width, 1)
        weights = Matrix(net.parameters, layer.forward, layer.width, 1)
        multiply(x, delta, weights, layer.n_in, 1, layer.width, ADD, scratch)
