"""The losses of whole-epoch kernels: delta of the last layer, and what the examples contribute to the loss.

Each takes the outputs of a part of a batch, see `gpunn.losses`. `step` is -eta / m, times 2 for the squared error.
"""

import math
from typing import Any

import numpy as np
from numba.extending import overload

from .activations import slope_of_layer
from .compilation import compiled
from .dense import TILE
from .memory import at, load, put, store
from .network_cpu import layer_at
from .simd import LANES, Static, total, zeros

ONE = Static(1)
F = np.float32

TINY = float(np.finfo(np.float32).tiny)
"""What a probability of 0 counts as."""


def compute_output_delta(loss: Any, data: Any, chunk: Any, net: Any, step: Any) -> Any:
    """Compute delta^L for the examples of `chunk`; return the sum of their losses. `loss`: a `Static` with its name."""
    raise NotImplementedError("for compiled code only")


@overload(compute_output_delta)
def _compute_output_delta(loss: Any, data: Any, chunk: Any, net: Any, step: Any) -> Any:
    function = LOSSES[loss.value]

    def implementation(loss: Any, data: Any, chunk: Any, net: Any, step: Any) -> Any:
        return function(data, chunk, net, step)

    return implementation


@compiled
def _squared_error(data: Any, chunk: Any, net: Any, step: float) -> Any:
    """Compute delta^L = step (a^L - y) f'(z^L); return the sum of (a^L - y)^2."""
    last = net.n_layers - 1
    layer = layer_at(net, last)
    squares = zeros(ONE, ONE)
    loss = 0.0
    for r in range(chunk.rows):
        target = at(data.labels, at(chunk.order, chunk.first + r)) * layer.width
        row = (chunk.row + r) * layer.width
        for c in range(0, layer.width, LANES):
            a = load(net.work, layer.activation + row + c, ONE)
            error = a - load(data.one_hot, target + c, ONE)
            squares = squares + error * error
            store(net.work, layer.delta + row + c, step * error * slope_of_layer(net.functions, last, a))
        if (r + 1) % TILE == 0:
            loss += total(squares)
            squares = zeros(ONE, ONE)
    return loss + total(squares)


@compiled
def _binary_cross_entropy(data: Any, chunk: Any, net: Any, step: float) -> Any:
    """Compute delta^L = step (a^L - y); return the sum of -ln of the probability of what each output should say."""
    layer = layer_at(net, net.n_layers - 1)
    loss = 0.0
    for r in range(chunk.rows):
        label = at(data.labels, at(chunk.order, chunk.first + r))
        row = (chunk.row + r) * layer.width
        for c in range(0, layer.width, LANES):
            a = load(net.work, layer.activation + row + c, ONE)
            error = a - load(data.one_hot, label * layer.width + c, ONE)
            store(net.work, layer.delta + row + c, step * error)
        # One logarithm for many outputs: a product of their probabilities, as long as it is large enough.
        product = 1.0
        for j in range(layer.n_out):
            a = at(net.work, layer.activation + row + j)
            product *= max(float(a if j == label else F(1) - a), TINY)
            if product < 1e-200:
                loss -= math.log(product)
                product = 1.0
        loss -= math.log(product)
    return loss


@compiled
def _cross_entropy(data: Any, chunk: Any, net: Any, step: float) -> Any:
    """Compute a^L = softmax(z^L), which is still z^L, and delta^L = step (a^L - y); return the sum of -ln a^L_label."""
    layer = layer_at(net, net.n_layers - 1)
    loss = 0.0
    for r in range(chunk.rows):
        label = at(data.labels, at(chunk.order, chunk.first + r))
        row = (chunk.row + r) * layer.width
        largest = at(net.work, layer.activation + row)
        for j in range(1, layer.n_out):
            largest = max(largest, at(net.work, layer.activation + row + j))
        sums = 0.0
        for j in range(layer.n_out):
            exp = math.exp(float(at(net.work, layer.activation + row + j) - largest))
            put(net.work, layer.delta + row + j, exp)
            sums += exp
        loss += math.log(sums) - float(at(net.work, layer.activation + row + label) - largest)
        for j in range(layer.n_out):
            a = at(net.work, layer.delta + row + j) / sums
            put(net.work, layer.activation + row + j, a)
            put(net.work, layer.delta + row + j, step * (a - (1.0 if j == label else 0.0)))
    return loss


LOSSES = {
    "squared_error": _squared_error,
    "binary_cross_entropy": _binary_cross_entropy,
    "cross_entropy": _cross_entropy,
}
