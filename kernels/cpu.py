"""The contract of `gpunn.kernels.reference` compiled for CPUs: float32 only, one pass over memory, no temporaries.

Whatever breaks the contract is refused before the compiled code, which checks nothing, is entered.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .activations import SIGMOID, activate, slope
from .compilation import compiled
from .contract import check_array, check_below, check_output
from .dense import Chunk, Matrix
from .gather import gather
from .memory import at, load, load_part, pointer, store, store_part
from .simd import LANES, Static, subtract_one, zeros
from .simd import total as sum_of

F = np.float32
FLOAT32 = np.dtype(np.float32)
ONE, EIGHT = Static(1), Static(8)


def gather_scale(images: NDArray[np.uint8], rows: NDArray[np.int64], *, out: NDArray[np.float32]) -> None:
    """Put the images of a batch into `out` as activations, see `reference.gather_scale`."""
    check_output(out, [images, rows], ndim=2, dtypes=[FLOAT32])
    check_array("images", images, np.dtype(np.uint8), (len(images), out.shape[1]))
    check_array("rows", rows, np.dtype(np.int64), (len(out),))
    check_below("rows", rows, len(images))
    _gather_scale(images.ravel(), rows, out.ravel(), out.shape[1])


@compiled
def _gather_scale(images: Any, rows: Any, out: Any, n_pixels: int) -> None:
    gather(images, n_pixels, Chunk(rows, rows.size, 0, 0, rows.size), Matrix(out, 0, n_pixels, 1))


def bias_sigmoid(z: NDArray[np.float32], bias: NDArray[np.float32], *, out: NDArray[np.float32]) -> None:
    """Compute out = sigma(z + bias), see `reference.bias_sigmoid`."""
    check_output(out, [bias] if z is out else [z, bias], ndim=2, dtypes=[FLOAT32])
    check_array("z", z, out.dtype, out.shape)
    check_array("bias", bias, out.dtype, out.shape[1:])
    _add_and_activate(SIGMOID, z.ravel(), bias, out.ravel())


@compiled
def _add_and_activate(activation: Any, z: Any, bias: Any, out: Any) -> None:
    columns, size = bias.size, z.size
    z, bias, out = pointer(z), pointer(bias), pointer(out)
    for row in range(0, size, max(1, columns)):
        for c in range(0, columns, LANES):
            count = min(LANES, columns - c)
            sums = load_part(z, row + c, count) + load_part(bias, c, count)
            store_part(out, row + c, activate(activation, sums), count)


def output_delta(
    activation: NDArray[np.float32],
    labels: NDArray[np.uint8],
    factor: float,
    total: NDArray[np.float64],
    *,
    out: NDArray[np.float32],
) -> None:
    """Compute out = factor (a - y) a (1 - a) and add the loss to `total`, see `reference.output_delta`."""
    check_output(out, [labels, total] if activation is out else [activation, labels, total], ndim=2, dtypes=[FLOAT32])
    check_array("activation", activation, out.dtype, out.shape)
    check_array("labels", labels, np.dtype(np.uint8), (len(out),))
    check_array("total", total, np.dtype(np.float64), (1,))
    check_below("labels", labels, out.shape[1])
    total[0] += _output_delta(SIGMOID, activation.ravel(), labels, F(factor), out.shape[1], out.ravel())


@compiled
def _output_delta(activation: Any, a: Any, labels: Any, factor: float, columns: int, out: Any) -> float:
    m = labels.size
    a, labels, out = pointer(a), pointer(labels), pointer(out)
    loss = 0.0
    for r in range(m):
        squares = zeros(ONE, ONE)
        label = at(labels, r)
        for c in range(0, columns, LANES):
            count = min(LANES, columns - c)
            place = r * columns + c
            values = load_part(a, place, count)
            error = subtract_one(values, label - c)
            squares = squares + error * error
            store_part(out, place, factor * error * slope(activation, values), count)
        loss += sum_of(squares)
    return loss


def hidden_delta(delta: NDArray[np.float32], activation: NDArray[np.float32], *, out: NDArray[np.float32]) -> None:
    """Compute out = delta * a (1 - a), see `reference.hidden_delta`."""
    check_output(out, [activation] if delta is out else [delta, activation], ndim=2, dtypes=[FLOAT32])
    check_array("delta", delta, out.dtype, out.shape)
    check_array("activation", activation, out.dtype, out.shape)
    _multiply_by_slope(SIGMOID, delta.ravel(), activation.ravel(), out.ravel())


@compiled
def _multiply_by_slope(activation: Any, delta: Any, a: Any, out: Any) -> None:
    size = delta.size
    delta, a, out = pointer(delta), pointer(a), pointer(out)
    for place in range(0, size, LANES):
        count = min(LANES, size - place)
        product = load_part(delta, place, count) * slope(activation, load_part(a, place, count))
        store_part(out, place, product, count)


def descend(
    parameter: NDArray[np.float32], gradient: NDArray[np.float32], learning_rate: float, *, out: NDArray[np.float32]
) -> None:
    """Compute out = parameter - learning_rate * gradient, see `reference.descend`."""
    check_output(out, [gradient] if parameter is out else [parameter, gradient], dtypes=[FLOAT32])
    check_array("parameter", parameter, out.dtype, out.shape)
    check_array("gradient", gradient, out.dtype, out.shape)
    _descend(parameter.ravel(), gradient.ravel(), F(learning_rate), out.ravel())


@compiled
def _descend(parameter: Any, gradient: Any, learning_rate: float, out: Any) -> None:
    size = parameter.size
    parameter, gradient, out = pointer(parameter), pointer(gradient), pointer(out)
    for place in range(0, size, LANES):
        count = min(LANES, size - place)
        step = learning_rate * load_part(gradient, place, count)
        store_part(out, place, load_part(parameter, place, count) - step, count)


def descend_sums(
    parameter: NDArray[np.float32], gradients: NDArray[np.float32], learning_rate: float, *, out: NDArray[np.float32]
) -> None:
    """Compute out = parameter - learning_rate * sum of the rows of `gradients`, see `reference.descend_sums`."""
    check_output(out, [gradients] if parameter is out else [parameter, gradients], ndim=1, dtypes=[FLOAT32])
    check_array("parameter", parameter, out.dtype, out.shape)
    check_array("gradients", gradients, out.dtype, (len(gradients), len(out)))
    _descend_sums(parameter, gradients.ravel(), F(learning_rate), out)


@compiled
def _descend_sums(parameter: Any, gradients: Any, learning_rate: float, out: Any) -> None:
    columns, size = parameter.size, gradients.size
    parameter, gradients, out = pointer(parameter), pointer(gradients), pointer(out)
    # Rows lie far apart: where there are many columns, more than one vector is taken from each.
    strips = columns - columns % (8 * LANES)
    for c in range(0, strips, 8 * LANES):
        strip = zeros(ONE, EIGHT)
        for row in range(0, size, columns):
            strip = strip + load(gradients, row + c, EIGHT)
        store(out, c, load(parameter, c, EIGHT) - learning_rate * strip)
    for c in range(strips, columns, LANES):
        count = min(LANES, columns - c)
        sums = zeros(ONE, ONE)
        for row in range(0, size, columns):
            sums = sums + load_part(gradients, row + c, count)
        store_part(out, c, load_part(parameter, c, count) - learning_rate * sums, count)
