"""The loss functions of `gpunn.kernels.formulas.losses` on float32 in CUDA kernels."""

import functools
import math
from typing import Any

from ..formulas.activations import Row
from ..formulas.losses import LOSSES, Operations
from .activations import FORMULAS, ONE, ZERO, F, maximum, minimum, sigmoid
from .jit import device_function


@device_function
def _exp(z: Any) -> Any:
    return F(math.exp(z))


@device_function
def _log1p(e: Any) -> Any:
    return F(math.log1p(e))


OPERATIONS = Operations(number=F, minimum=minimum, maximum=maximum, exp=_exp, log1p=_log1p, sigmoid=sigmoid)

NO_ROW = Row(ZERO, ONE, ZERO)
"""The statistics of outputs, for losses that don't read them."""


@functools.cache
def finish_output(loss: str, activation: str) -> Any:
    """Return the function of output o, target y, `Row` and a factor that returns dC/dz times that, and the loss."""
    _, slope = FORMULAS[activation]
    activate, gradient, value = (device_function(function) for function in LOSSES[loss](OPERATIONS, slope))

    @device_function
    def finish(o: Any, y: Any, row: Any, factor: Any) -> Any:
        return gradient(activate(o, row), y, factor), value(o, y, row)

    return finish


@device_function
def softmax_row(z: Any, n: int) -> Any:
    """Return the `Row` of the first `n` numbers of `z`."""
    largest = z[0]
    for k in range(1, n):
        largest = maximum(largest, z[k])
    total = ZERO
    for k in range(n):
        total += _exp(z[k] - largest)
    return Row(largest, total, F(math.log(total)))
