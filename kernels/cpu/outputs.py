"""Delta of the last layer, and the losses of the examples, compiled for CPUs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import single
from ..compilation import compiled
from ..contract import ON_HOST
from . import activations, losses
from .losses import finish_output, row_of
from .memory import at, load_part, mask_lanes, pointer, store_part
from .vector_math import lane_sum, one_hot
from .vectors import LANES, Static, zeros

ONE = Static(1)


def output_delta(
    output: NDArray[np.float32],
    targets: NDArray[Any],
    factor: float,
    total: NDArray[np.float64],
    activation: str = "sigmoid",
    loss: str = "squared_error",
    *,
    out: NDArray[np.float32],
) -> None:
    """Compute delta of the last layer and add the examples' losses to `total`, see `Kernels.output_delta`."""
    ON_HOST.output_delta(output, targets, factor, total, activation, loss, out)
    function, kind = activations.STATICS[activation], losses.STATICS[loss]
    if loss != "squared_error":
        function = activations.SIGMOID  # Ignored, but each one would be compiled for.
    labels, rows = (targets, None) if targets.ndim == 1 else (None, targets.ravel())
    share = single("factor", factor)
    total[0] += _output_delta(kind, function, output.ravel(), labels, rows, share, out.shape[1], out.ravel())


@compiled
def _targets_at(labels: Any, rows: Any, start: int, columns: int, c: int, count: int) -> Any:
    """Return an example's targets for `count` outputs from column `c` on; its row begins at `start`."""
    y = zeros(ONE, ONE)
    # Numba prunes the branch whose argument is None.
    if labels is not None:
        y = one_hot(at(labels, start // columns) - c)
    if rows is not None:
        y = load_part(rows, start + c, count)
    return y


@compiled
def _output_delta(
    loss: Any, activation: Any, output: Any, labels: Any, rows: Any, factor: float, columns: int, out: Any
) -> float:
    """Write delta to `out`; return the sum of the losses. Targets are `labels` or `rows`; the other one is None."""
    size = out.size
    output, labels, rows, out = pointer(output), pointer(labels), pointer(rows), pointer(out)
    total = 0.0
    for start in range(0, size, max(1, columns)):
        # The whole row is read before it is written, as `out` may be `output`.
        row = row_of(loss, output, start, columns)
        row_losses = zeros(ONE, ONE)
        for c in range(0, columns, LANES):
            count = min(LANES, columns - c)
            o, y = load_part(output, start + c, count), _targets_at(labels, rows, start, columns, c, count)
            delta, values = finish_output(loss, activation, o, y, row, factor)
            store_part(out, start + c, delta, count)
            row_losses = row_losses + mask_lanes(values, count)
        total += lane_sum(row_losses)
    return total
