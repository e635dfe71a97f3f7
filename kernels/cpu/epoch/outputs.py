"""Delta of the last layer, and the losses of the examples, in whole-epoch kernels."""

from typing import Any

from numba import types

from ...compilation import compiled_apart
from ..addresses import signature
from ..losses import finish_output, row_of
from ..matmul import M_TILE
from ..memory import at, load, mask_lanes, recalled, store
from ..vector_math import lane_sum
from ..vectors import LANES, Static, zeros
from .state import OF_SURROUNDINGS, layer_at

ONE = Static(1)


OUTPUT = signature(types.float64, None, None, OF_SURROUNDINGS, *[types.int64] * 3, types.float32)


@compiled_apart
def compute_output_delta(loss: Any, function: Any, around: Any, first: int, row: int, rows: int, factor: float) -> Any:
    """Compute delta^L times `factor` for the examples of a `Chunk`; return the sum of their losses.

    `around` are the kept `Surroundings`. The names of the loss and of the last layer's activation function are
    `Static`; the latter is the identity if the loss takes z^L.
    """
    net, _, targets, order = recalled(around)
    layer = layer_at(net, net.n_layers - 1)
    losses = zeros(ONE, ONE)
    total = 0.0
    for r in range(rows):
        offset = (row + r) * layer.width
        outputs, deltas = layer.activation + offset, layer.delta + offset
        example = at(order, first + r)
        # With labels, targets are rows of a one-hot table.
        wanted = (at(targets.labels, example) if targets.labeled else example) * layer.width
        statistics = row_of(loss, net.work, outputs, layer.n_out)
        for c in range(0, layer.width, LANES):
            o, y = load(net.work, outputs + c, ONE), load(targets.rows, wanted + c, ONE)
            delta, values = finish_output(loss, function, o, y, statistics, factor)
            # Keeps the padding 0, as its delta and loss may not be.
            store(net.work, deltas + c, mask_lanes(delta, layer.n_out - c))
            losses = losses + mask_lanes(values, layer.n_out - c)
        if (r + 1) % M_TILE == 0:
            total += lane_sum(losses)
            losses = zeros(ONE, ONE)
    return total + lane_sum(losses)
