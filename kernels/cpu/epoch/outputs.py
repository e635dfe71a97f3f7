"""The losses of whole-epoch kernels: delta of the last layer, and what the examples contribute to the loss.

Each takes the outputs of a part of a batch, see `gpunn.losses`: those of the cross-entropies are still z^L, as the last
layer's function is the identity then. `step` is -eta / m, or 1 / m, see `layers`, times 2 for the squared error.
"""

import math
from typing import Any

import numpy as np
from numba.extending import overload

from ...compilation import compiled
from ..activations import SIGMOID, activate, slope_of_layer
from ..matmul import M_TILE
from ..memory import at, load, mask_lanes, store
from ..outputs import largest_of, put_exps, sum_of_softplus
from ..vector_math import lane_sum
from ..vectors import LANES, Static, zeros
from .state import layer_at

ONE = Static(1)
F = np.float32


def compute_output_delta(loss: Any, functions: Any, data: Any, chunk: Any, net: Any, step: Any) -> Any:
    """Compute delta^L for the examples of `chunk`; return the sum of their losses.

    `loss` is a `Static` with its name, `functions` those of the layers, see `activations.of_layers`.
    """
    raise NotImplementedError("for compiled code only")


@overload(compute_output_delta)
def _compute_output_delta(loss: Any, functions: Any, data: Any, chunk: Any, net: Any, step: Any) -> Any:
    function = LOSSES[loss.value]

    def implementation(loss: Any, functions: Any, data: Any, chunk: Any, net: Any, step: Any) -> Any:
        return function(functions, data, chunk, net, step)

    return implementation


@compiled
def _target_row(labels: Any, chunk: Any, r: int, width: int) -> Any:
    """Return where in the targets the row of an example of `chunk` begins."""
    example = at(chunk.order, chunk.first + r)
    # Numba leaves out the branch for what is None.
    if labels is not None:
        return at(labels, example) * width
    return example * width


@compiled
def _squared_error(functions: Any, data: Any, chunk: Any, net: Any, step: float) -> Any:
    """Compute delta^L = step (a^L - y) f'(z^L); return the sum of (a^L - y)^2."""
    last = net.n_layers - 1
    layer = layer_at(net, last)
    squares = zeros(ONE, ONE)
    loss = 0.0
    for r in range(chunk.rows):
        target = _target_row(data.labels, chunk, r, layer.width)
        row = (chunk.row + r) * layer.width
        for c in range(0, layer.width, LANES):
            a = load(net.work, layer.activation + row + c, ONE)
            error = a - load(data.targets, target + c, ONE)
            squares = squares + error * error
            store(net.work, layer.delta + row + c, step * error * slope_of_layer(functions, last, a))
        if (r + 1) % M_TILE == 0:
            loss += lane_sum(squares)
            squares = zeros(ONE, ONE)
    return loss + lane_sum(squares)


@compiled
def _binary_cross_entropy(functions: Any, data: Any, chunk: Any, net: Any, step: float) -> Any:
    """Compute delta^L = step (sigma(z^L) - y); return the sum of max(z, 0) - y z + ln(1 + exp(-|z|))."""
    layer = layer_at(net, net.n_layers - 1)
    loss = 0.0
    for r in range(chunk.rows):
        target = _target_row(data.labels, chunk, r, layer.width)
        row = (chunk.row + r) * layer.width
        for c in range(0, layer.width, LANES):
            a = activate(SIGMOID, load(net.work, layer.activation + row + c, ONE))
            error = a - load(data.targets, target + c, ONE)
            # The padding stays 0, which sigma(0) isn't.
            store(net.work, layer.delta + row + c, step * mask_lanes(error, layer.n_out - c))
        logits = layer.activation + row
        loss += sum_of_softplus(net.work, logits, layer.n_out)
        for j in range(layer.n_out):
            loss -= float(at(net.work, logits + j)) * float(at(data.targets, target + j))
    return loss


@compiled
def _cross_entropy(functions: Any, data: Any, chunk: Any, net: Any, step: float) -> Any:
    """Compute delta^L = step (softmax(z^L) - y); return the sum of y_j (ln sum_k exp(z_k) - z_j)."""
    layer = layer_at(net, net.n_layers - 1)
    loss = 0.0
    for r in range(chunk.rows):
        target = _target_row(data.labels, chunk, r, layer.width)
        row = (chunk.row + r) * layer.width
        logits, delta = layer.activation + row, layer.delta + row
        largest = largest_of(net.work, logits, layer.n_out)
        sums = put_exps(net.work, logits, layer.n_out, largest, net.work, delta)
        log, share = F(math.log(sums)), F(1 / sums)
        losses = zeros(ONE, ONE)
        for c in range(0, layer.width, LANES):
            y = load(data.targets, target + c, ONE)
            losses = losses + y * (log - (load(net.work, logits + c, ONE) - largest))
            exps = mask_lanes(load(net.work, delta + c, ONE), layer.n_out - c)
            store(net.work, delta + c, step * (share * exps - y))
        loss += lane_sum(losses)
    return loss


LOSSES = {
    "squared_error": _squared_error,
    "binary_cross_entropy": _binary_cross_entropy,
    "cross_entropy": _cross_entropy,
}
