"""Data of whole-epoch kernels: the network in flat arrays, the examples, and the worker threads."""

from typing import Any, NamedTuple

import numpy as np
from numba import types

from ...compilation import compiled
from ..matmul import M_TILE, Chunk
from ..memory import at, pointer_to, tuple_type
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
    activate: int = 0
    """Address of `layers.activate_rows` for the layer's activation function."""
    slope: int = 0
    """Address of `layers.multiply_by_slopes` for that of the layer below."""


N_FIELDS = len(Layer._fields)


class Data(NamedTuple):
    """The examples. Inputs are `pixels` (`NonzeroPixels`, `NonzeroNumbers`) or `images` (flat); the other is None."""

    pixels: Any
    images: Any
    """uint8 or float32, see `gather`."""
    targets: Any
    """`Targets`."""


class Targets(NamedTuple):
    """What outputs should be."""

    labels: Any
    """uint8; empty if each example has its own row."""
    rows: Any
    """Flat; row j, padded to the last layer's width, has the targets of class j, or of example j."""
    labeled: Any
    """Whether there are labels; a NumPy bool."""


class Network(NamedTuple):
    """The `table` of the layers, flat, `n_layers` rows like `Layer`; the parameters and work space it describes."""

    n_layers: int
    table: Any
    parameters: Any
    work: Any


class Dropout(NamedTuple):
    """What masks of hidden layers are made of, see `gpunn.dropout`."""

    keys: Any
    """One for each hidden layer, int64."""
    first: int
    """Position in the epoch of the first example of the call."""
    least: int
    """The threshold of hashes."""
    scale: Any
    """1 / (1 - share), float32."""
    kept: Any
    """1 - share, float32."""


class Surroundings(NamedTuple):
    """What functions that are called by address need and no batch changes; `memory.kept`."""

    net: Any
    """`Network`."""
    drop: Any
    """`Dropout`."""
    targets: Any
    """`Targets`."""
    order: Any
    """Indices of examples, as in `Chunk`."""


class Worker(NamedTuple):
    """A worker thread: its index, the number of threads, and the barrier's counter, int64 at a cache line's start."""

    thread: int
    threads: int
    counter: Any
    scratch: Any
    """Work space of this thread, as long as `matmul.scratch_size` says, or None."""


class Calls(NamedTuple):
    """Addresses of functions that not all recipes need, see `addresses`; 0 if this one doesn't."""

    output: int
    """Address of `outputs.compute_output_delta`; other fields are named after functions."""
    multiply_sparse: int = 0
    add_sparse: int = 0
    transpose_copy: int = 0
    shrink: int = 0
    make_step: int = 0
    catch_up: int = 0
    catch_up_all: int = 0
    step_nonzero: int = 0


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
        at(net.table, row + 11),
        at(net.table, row + 12),
    )


FLOATS, INTEGERS = pointer_to(types.float32), pointer_to(types.int64)
"""Numba types of arrays in compiled code."""

OF_CHUNK = tuple_type(Chunk, INTEGERS, *[types.int64] * 4)
OF_NETWORK = tuple_type(Network, types.int64, INTEGERS, FLOATS, FLOATS)
OF_TARGETS = tuple_type(Targets, pointer_to(types.uint8), FLOATS, types.boolean)
OF_DROPOUT = tuple_type(Dropout, INTEGERS, types.int64, types.int64, types.float32, types.float32)
OF_SURROUNDINGS = types.CPointer(tuple_type(Surroundings, OF_NETWORK, OF_DROPOUT, OF_TARGETS, INTEGERS))
OF_SHARE = tuple_type(Share, types.int64, types.int64)
