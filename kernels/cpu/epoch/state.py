"""Data of whole-epoch kernels: the network in flat arrays, the examples, and the worker threads."""

from typing import Any, NamedTuple

import numpy as np

from ...compilation import compiled
from ..matmul import M_TILE, Chunk
from ..memory import at
from ..threads import share, wait_for_others
from ..vectors import LANES

FIRST = np.int64(0)
"""Index of the first layer; typed, as Numba compiles again for the literal 0."""

COLUMNS, ROWS = np.int64(2 * LANES), np.int64(M_TILE)
"""Granularity of the threads' shares of columns and rows; typed, as Numba compiles again for literals."""


class Layer(NamedTuple):
    """Sizes of a layer and offsets of its arrays: a row of the table that compiled code reads.

    Widths are sizes padded to a multiple of 16. They are also the distances between rows: `width` in `forward`,
    activations and delta, `width_in` in `backward`.
    """

    n_in: int
    n_out: int
    width_in: int
    width: int
    forward: int
    backward: int
    bias: int
    below: int
    """Activations of the layer below, in the work space; the images for the first layer."""
    activation: int
    delta_below: int
    delta: int


N_FIELDS = len(Layer._fields)


class Data(NamedTuple):
    """The examples. Inputs are `pixels` (`NonzeroPixels`, `NonzeroNumbers`) or `images` (flat); the other is None."""

    pixels: Any
    images: Any
    """uint8 or float32, see `gather`."""
    labels: Any
    """uint8, or None if each example has its own row of targets."""
    targets: Any
    """Flat; row j, padded to the last layer's width, has the targets of class j, or of example j."""


class Network(NamedTuple):
    """The `table` of the layers, flat, `n_layers` rows like `Layer`; the parameters and work space it describes."""

    n_layers: int
    table: Any
    parameters: Any
    work: Any
    scratch: Any
    """Work space of this thread, for products."""


class Worker(NamedTuple):
    """A worker thread: its index, the number of threads, and the barrier's counter, int64 at a cache line's start."""

    thread: int
    threads: int
    counter: Any
    scratch: Any
    """Work space of this thread, as long as `matmul.scratch_size` says, or None."""


class Share(NamedTuple):
    """The index of a share, and the number of shares."""

    thread: int
    threads: int


@compiled
def barrier(worker: Any, phase: int) -> int:
    """Wait for the other threads, if any; return the barrier counter's new value, given the old one, `phase`."""
    if worker.threads > 1:
        phase += worker.threads
        wait_for_others(worker.counter, phase)
    return phase


@compiled
def share_of(worker: Any, by_columns: bool) -> Any:
    """Return this thread's share of a matrix's columns, and of its rows."""
    if by_columns:
        return Share(worker.thread, worker.threads), Share(0, 1)
    return Share(0, 1), Share(worker.thread, worker.threads)


@compiled
def part_of(chunk: Any, worker: Any) -> Any:
    """Return this thread's share of the examples of a chunk."""
    begin, end = share(chunk.rows, ROWS, worker.thread, worker.threads)
    return Chunk(chunk.order, chunk.n, chunk.first + begin, chunk.row + begin, end - begin)


@compiled
def layer_at(net: Any, number: int) -> Any:
    """Return row `number` of the table as a `Layer`."""
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
