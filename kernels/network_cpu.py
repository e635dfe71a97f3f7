"""The network that a whole-epoch kernel trains, and the four steps that it takes with a batch.

Everything lies in flat arrays, as `gpunn.kernels.layout` lays them out: widths are padded to a multiple of 16, and the
padding stays zero. The weights of layers from the second on are kept twice, (n_in, n_out) for forward and (n_out, n_in)
for backward, so that both run along vectors; the copies stay equal to the bit, as each has the same sums added in the
same order.

The step -eta / m, or -1 / m where an optimiser has a rule of its own, is multiplied into delta^L, from where it reaches
every gradient: an update only adds. What delta^L is
says `gpunn.kernels.losses_cpu`.
"""

from typing import Any, NamedTuple

import numpy as np

from .activations import activate_layer, slope_of_layer
from .compilation import compiled
from .dense import (
    ADD,
    FAR_APART,
    OVERWRITE,
    TILE,
    Chunk,
    Matrix,
    add_column_sums,
    multiply,
    multiply_by_columns,
)
from .memory import at, first_lanes, load, store
from .simd import LANES, Static, fused
from .threads import share, wait_for_others

ONE = Static(1)
F = np.float32

FIRST = np.int64(0)
"""The number of the first layer; Numba compiles a function once more for a plain 0, which it takes into the type."""

COLUMNS, ROWS = np.int64(2 * LANES), np.int64(TILE)
"""What threads share the columns and the rows of a matrix by; for plain numbers, again, there would be more code."""


class Layer(NamedTuple):
    """A layer's sizes, and where its arrays start: a row of the table that compiled code reads.

    Widths are sizes padded to a multiple of 16. They are also the distances between rows: `width` of `forward`,
    activations and delta, `width_in` of `backward`.
    """

    n_in: int
    n_out: int
    width_in: int
    width: int
    forward: int
    backward: int
    bias: int
    below: int
    """The activations of the layer below, in the work space; those of the images for the first layer."""
    activation: int
    delta_below: int
    delta: int


N_FIELDS = len(Layer._fields)


class Data(NamedTuple):
    """The examples; inputs are in `pixels` (`LitPixels`) or, flat, in `images`, and the other one is None."""

    pixels: Any
    images: Any
    """uint8 or float32, see `gather`."""
    labels: Any
    """uint8, or None where each example has a target of its own."""
    targets: Any
    """Row j, as wide as the last layer's padding, is the target of class j, or of example j; flat."""


class Network(NamedTuple):
    """The layers' `table`, flat, of `n_layers` rows like `Layer`; the parameters and the work space, laid out so."""

    n_layers: int
    table: Any
    parameters: Any
    work: Any
    room: Any
    """This thread's work space of products."""


class Crew(NamedTuple):
    """This thread's number, how many there are, and where they count their meetings: int64 at a cache line's start."""

    thread: int
    threads: int
    counter: Any
    room: Any
    """Work space of this thread alone, of the length that `dense.room_for` says, or None."""


class Share(NamedTuple):
    """Which of how many shares."""

    thread: int
    threads: int


@compiled
def meet(crew: Any, met: int) -> int:
    """Wait for the other threads, if there are any; return the count of meetings, `met`, after this one."""
    if crew.threads > 1:
        met += crew.threads
        wait_for_others(crew.counter, met)
    return met


@compiled
def share_of(crew: Any, by_columns: bool) -> Any:
    """Return this thread's share of a matrix's columns, and of its rows."""
    if by_columns:
        return Share(crew.thread, crew.threads), Share(0, 1)
    return Share(0, 1), Share(crew.thread, crew.threads)


@compiled
def part_of(chunk: Any, crew: Any) -> Any:
    """Return this thread's share of the examples of a chunk."""
    begin, end = share(chunk.rows, ROWS, crew.thread, crew.threads)
    return Chunk(chunk.order, chunk.n, chunk.first + begin, chunk.row + begin, end - begin)


@compiled
def layer_at(net: Any, number: int) -> Any:
    """Return a row of the table as a `Layer`."""
    row = number * N_FIELDS
    return Layer(
        at(net.table, row),
        at(net.table, row + 1),
        at(net.table, row + 2),
        at(net.table, row + 3),
        at(net.table, row + 4),
        at(net.table, row + 5),
        at(net.table, row + 6),
        at(net.table, row + 7),
        at(net.table, row + 8),
        at(net.table, row + 9),
        at(net.table, row + 10),
    )


@compiled
def forward(functions: Any, chunk: Any, net: Any, crew: Any, met: int, scale: float) -> int:
    """Compute a^l = f(W^l a^(l-1) + b^l) from the first layer's product, which is there already, but for `scale`.

    `functions` are those of the layers, see `activations.of_layers`. The threads of `crew` share the columns, and meet
    after every layer.
    """
    for number in range(net.n_layers):
        layer = layer_at(net, number)
        begin, end = share(layer.width, COLUMNS, crew.thread, crew.threads)
        top = layer.activation + chunk.row * layer.width
        if number > 0:
            below = Matrix(net.work, layer.below + chunk.row * layer.width_in, layer.width_in, 1)
            weights = Matrix(net.parameters, layer.forward + begin, layer.width, 1)
            z = Matrix(net.work, top + begin, layer.width, 1)
            multiply(below, weights, z, chunk.rows, layer.n_in, end - begin, OVERWRITE, net.room)
        factor = scale if number == 0 else F(1)
        full = min(end, layer.n_out - layer.n_out % LANES)
        for r in range(chunk.rows):
            place = top + r * layer.width
            for c in range(begin, full, LANES):
                sums = fused(load(net.work, place + c, ONE), factor, load(net.parameters, layer.bias + c, ONE))
                store(net.work, place + c, activate_layer(functions, number, sums))
            if full < min(end, layer.n_out):
                # The padding stays 0, which f(0) need not be.
                sums = fused(load(net.work, place + full, ONE), factor, load(net.parameters, layer.bias + full, ONE))
                a = activate_layer(functions, number, sums)
                store(net.work, place + full, first_lanes(a, layer.n_out - full))
        met = meet(crew, met)
    return met


@compiled
def goes_without_copy(layer: Any) -> Any:
    """Whether products take a layer's weights for backward from those for forward, as they copy them anyway."""
    return layer.width_in >= FAR_APART and layer.n_in % LANES == 0 and layer.n_out >= 4 * TILE


@compiled
def backward(functions: Any, chunk: Any, net: Any, crew: Any, met: int, with_copies: bool) -> int:
    """Compute delta^l = (W^(l+1)^T delta^(l+1)) f'(z^l), shared as in `forward`.

    `with_copies`: the weights for backward are those for forward in all layers, see `mirror`.
    """
    for number in range(net.n_layers - 1, 0, -1):
        layer = layer_at(net, number)
        begin, end = share(layer.width_in, COLUMNS, crew.thread, crew.threads)
        delta = Matrix(net.work, layer.delta + chunk.row * layer.width, layer.width, 1)
        below = Matrix(net.work, layer.delta_below + chunk.row * layer.width_in + begin, layer.width_in, 1)
        if with_copies or not goes_without_copy(layer):
            weights = Matrix(net.parameters, layer.backward + begin, layer.width_in, 1)
            multiply(delta, weights, below, chunk.rows, layer.n_out, end - begin, OVERWRITE, net.room)
        else:
            weights = Matrix(net.parameters, layer.forward + begin * layer.width, 1, layer.width)
            multiply_by_columns(delta, weights, below, chunk.rows, layer.n_out, end - begin, net.room)
        for r in range(chunk.row, chunk.row + chunk.rows):
            for c in range(r * layer.width_in + begin, r * layer.width_in + end, LANES):
                place = layer.delta_below + c
                a = load(net.work, layer.below + c, ONE)
                product = load(net.work, place, ONE)
                store(net.work, place, product * slope_of_layer(functions, number - 1, a))
        met = meet(crew, met)
    return met


@compiled
def update(chunk: Any, net: Any, target: Any, both: bool, crew: Any, by_columns: bool) -> None:
    """Compute W^l += delta^l (a^(l-1))^T, but for the first layer's, and b^l += delta^l, added up over the examples.

    `target` is laid out as the parameters. With `both`, the copy of the weights for backward is updated too. The
    threads of `crew` share the columns of the matrices, or their rows.
    """
    thread, threads = crew.thread, crew.threads
    columns, rows = share_of(crew, by_columns)
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
            multiply(below, delta, forward, bottom - top, chunk.rows, right - left, ADD, net.room)
        if number > 0 and both:
            left, right = share(layer.width_in, COLUMNS, columns.thread, columns.threads)
            top, bottom = share(layer.n_out, ROWS, rows.thread, rows.threads)
            delta = Matrix(net.work, layer.delta + top, 1, layer.width)
            below = Matrix(net.work, layer.below + left, layer.width_in, 1)
            backward = Matrix(target, layer.backward + top * layer.width_in + left, layer.width_in, 1)
            multiply(delta, below, backward, bottom - top, chunk.rows, right - left, ADD, net.room)
