"""Delta of the last layer, and the losses of the examples, in whole-epoch kernels."""

from typing import Any

from ...compilation import compiled
from ..losses import finish_output, row_of
from ..matmul import M_TILE
from ..memory import at, load, mask_lanes, store
from ..vector_math import lane_sum
from ..vectors import LANES, Static, zeros
from .state import layer_at

ONE = Static(1)


@compiled
def _target_row(labels: Any, example: int) -> Any:
    """Return the row of an example's targets; with labels, a row of a one-hot table."""
    # Numba prunes the branch whose argument is None.
    if labels is not None:
        return at(labels, example)
    return example


@compiled
def compute_output_delta(loss: Any, functions: Any, data: Any, chunk: Any, net: Any, factor: float) -> Any:
    """Compute delta^L times `factor` for the examples of `chunk`; return the sum of their losses.

    `loss` is its name as a `Static`, `functions` are the layers' activation functions, see `activations.of_layers`; the
    last one is the identity if the loss takes z^L.
    """
    layer = layer_at(net, net.n_layers - 1)
    losses = zeros(ONE, ONE)
    total = 0.0
    for r in range(chunk.rows):
        offset = (chunk.row + r) * layer.width
        outputs, deltas = layer.activation + offset, layer.delta + offset
        targets = _target_row(data.labels, at(chunk.order, chunk.first + r)) * layer.width
        row = row_of(loss, net.work, outputs, layer.n_out)
        for c in range(0, layer.width, LANES):
            o, y = load(net.work, outputs + c, ONE), load(data.targets, targets + c, ONE)
            delta, values = finish_output(loss, functions, o, y, row, factor)
            # Keeps the padding 0, as its delta and loss may not be.
            store(net.work, deltas + c, mask_lanes(delta, layer.n_out - c))
            losses = losses + mask_lanes(values, layer.n_out - c)
        if (r + 1) % M_TILE == 0:
            total += lane_sum(losses)
            losses = zeros(ONE, ONE)
    return total + lane_sum(losses)
