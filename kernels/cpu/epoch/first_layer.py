"""The first layer of a network that a whole-epoch kernel trains: images, sparse or dense, times its weights.

Where a batch is one dense image, its update and the product with the image after it are one pass over the weights.
"""

from typing import Any

import numpy as np

from ..gather import gather
from ..jit import compiled
from ..matmul import ADD, BLOCK, FOUR, ONE, OVERWRITE, Chunk, Matrix, multiply
from ..memory import at, load, store
from ..sparse_matmul import add_lit, multiply_lit
from ..threads import share
from ..vectors import LANES, add_scaled, zeros
from .state import COLUMNS, FIRST, ROWS, layer_at, meet, part_of, share_of

F = np.float32


@compiled
def multiply_images(pixels: Any, images: Any, chunk: Any, piece: Any, net: Any, crew: Any, inner: Any, met: int) -> int:
    """Compute z = X W^T of the first layer, without its bias; of `pixels` and `images` one is None, as in `Data`.

    The threads of `crew` share the columns of sparse images' product with `chunk`; each computes that of the dense
    images of its `piece`, sharing the columns with the threads of `inner`. Returns the count of meetings, as `meet`.
    """
    layer = layer_at(net, FIRST)
    # Numba leaves out the branch for what is None.
    if pixels is not None:
        z = Matrix(net.work, layer.activation, layer.width, 1)
        multiply_lit(pixels, chunk, net.parameters, layer.n_in, z, crew.thread, crew.threads)
        met = meet(crew, met)
    if images is not None:
        gather(images, layer.n_in, part_of(piece, inner), Matrix(net.work, layer.below, layer.width_in, 1))
        met = meet(inner, met)
        begin, end = share(layer.width, COLUMNS, inner.thread, inner.threads)
        x = Matrix(net.work, layer.below + piece.row * layer.width_in, layer.width_in, 1)
        weights = Matrix(net.parameters, layer.forward + begin, layer.width, 1)
        z = Matrix(net.work, layer.activation + piece.row * layer.width + begin, layer.width, 1)
        multiply(x, weights, z, piece.rows, layer.n_in, end - begin, OVERWRITE, net.room)
    return met


@compiled
def add_images(
    pixels: Any, images: Any, chunk: Any, net: Any, target: Any, factor: float, crew: Any, by_columns: bool
) -> None:
    """Compute W^1 += delta^1 X, added up over the examples, in `target`; shared as in `update`.

    That of sparse images is multiplied by `factor`.
    """
    layer = layer_at(net, FIRST)
    if pixels is not None:
        delta = Matrix(net.work, layer.delta, layer.width, 1)
        add_lit(pixels, chunk, delta, factor, layer.n_in, target, crew.thread, crew.threads, net.room)
    if images is not None:
        columns, rows = share_of(crew, by_columns)
        left, right = share(layer.width, COLUMNS, columns.thread, columns.threads)
        top, bottom = share(layer.n_in, ROWS, rows.thread, rows.threads)
        x = Matrix(net.work, layer.below + top, 1, layer.width_in)
        delta = Matrix(net.work, layer.delta + left, layer.width, 1)
        weights = Matrix(target, layer.forward + top * layer.width + left, layer.width, 1)
        multiply(x, delta, weights, bottom - top, chunk.rows, right - left, ADD, net.room)


@compiled
def go_on(images: Any, chunk: Any, net: Any, number: int) -> None:
    """Update with the dense image before, and compute z of the one in `chunk`; `number` counts them from 0.

    The images take turns in the first two rows of `below`. One image after the other the weights are gone through in
    opposite directions, as the cache still has those that were used last.
    """
    if images is not None:
        layer = layer_at(net, FIRST)
        row = number % 2
        rows = Matrix(net.work, layer.below, layer.width_in, 1)
        gather(images, layer.n_in, Chunk(chunk.order, chunk.n, chunk.first, row, 1), rows)
        before, now = layer.below + (1 - row) * layer.width_in, layer.below + row * layer.width_in
        first, step = (0, 1) if row == 0 else (layer.n_in - 1, -1)
        whole = layer.width - layer.width % BLOCK
        for column in range(0, whole, BLOCK):
            _go_on(net, layer, before, now, first, step, column, FOUR)
        for column in range(whole, layer.width, LANES):
            _go_on(net, layer, before, now, first, step, column, ONE)


@compiled
def _go_on(net: Any, layer: Any, before: int, now: int, first: int, step: int, column: int, width: Any) -> None:
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
    place = weights + p * layer.width
    updated = add_scaled(load(net.parameters, place, width), at(net.work, image + p), delta)
    store(net.parameters, place, updated)
    return updated


@compiled
def forget_image(net: Any) -> None:
    """Let there be no image before the next one of `go_on`."""
    layer = layer_at(net, FIRST)
    for place in range(layer.delta, layer.delta + layer.width, LANES):
        store(net.work, place, zeros(ONE, ONE))


@compiled
def add_last_image(images: Any, net: Any, number: int) -> None:
    """Update with the image that was the last of `number`, at least one."""
    if images is not None:
        layer = layer_at(net, FIRST)
        x = Matrix(net.work, layer.below + (number - 1) % 2 * layer.width_in, 1, 1)
        delta = Matrix(net.work, layer.delta, layer.width, 1)
        weights = Matrix(net.parameters, layer.forward, layer.width, 1)
        multiply(x, delta, weights, layer.n_in, 1, layer.width, ADD, net.room)
