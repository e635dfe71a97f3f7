"""Loss functions, each written once, for arrays, CPU vectors and GPU threads.

A formula takes the `Operations` of a machine and the slope f' of the output activation, and returns a `Loss`: functions
of an output o of an example, its target y, and the `Row` of that example's outputs. o is the activation a for the
squared error and the logit z for the cross-entropies. Their sources are in `gpunn.losses`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from .activations import Row, softmax

Slope = Callable[[Any], Any]
Formula = Callable[["Operations", Slope], "Loss"]


class Operations(NamedTuple):
    """The operations of losses besides +, -, * and /; elementwise, and NaN stays NaN."""

    number: Callable[[float], Any]
    """A constant, in the precision of the computation."""
    minimum: Callable[[Any, Any], Any]
    """The first argument may be NaN."""
    maximum: Callable[[Any, Any], Any]
    exp: Callable[[Any], Any]
    """exp(z), for z <= 0."""
    log1p: Callable[[Any], Any]
    """ln(1 + e), for e from 0 to 1."""
    sigmoid: Callable[[Any], Any]
    """1 / (1 + exp(-z))."""


class Loss(NamedTuple):
    """The functions of a loss."""

    activate: Callable[[Any, Row], Any]
    """Activation a of output o."""
    gradient: Callable[[Any, Any, Any], Any]
    """dC/dz of an output with activation a and target y, times a factor: 1 over the batch size, to average."""
    value: Callable[[Any, Any, Row], Any]
    """Loss of output o with target y; an example's loss is the sum over its outputs."""


def squared_error(ops: Operations, slope: Slope) -> Loss:
    """Squared error: (a - y)^2, with the derivative 2 (a - y) f'(z)."""
    two = ops.number(2)

    def activate(a: Any, row: Row) -> Any:  # noqa: ARG001
        return a

    def gradient(a: Any, y: Any, factor: Any) -> Any:
        return two * factor * (a - y) * slope(a)

    def value(a: Any, y: Any, row: Row) -> Any:  # noqa: ARG001
        return (a - y) * (a - y)

    return Loss(activate, gradient, value)


def binary_cross_entropy(ops: Operations, slope: Slope) -> Loss:  # noqa: ARG001 - sigma' cancels
    """Binary cross-entropy: -y ln a - (1 - y) ln(1 - a), with the derivative a - y.

    Computed as max(z, 0) - y z + ln(1 + exp(-|z|)).
    """
    minimum, maximum, exp, log1p, sigmoid = ops.minimum, ops.maximum, ops.exp, ops.log1p, ops.sigmoid
    zero = ops.number(0)

    def activate(z: Any, row: Row) -> Any:  # noqa: ARG001
        return sigmoid(z)

    def gradient(a: Any, y: Any, factor: Any) -> Any:
        return factor * (a - y)

    def value(z: Any, y: Any, row: Row) -> Any:  # noqa: ARG001
        return maximum(z, zero) - y * z + log1p(exp(minimum(z, zero - z)))

    return Loss(activate, gradient, value)


def cross_entropy(ops: Operations, slope: Slope) -> Loss:  # noqa: ARG001 - softmax's cancels
    """Cross-entropy: -y ln a, with the softmax a and the derivative a - y, as the y of a row add up to 1.

    Computed as y (ln sum_k exp(z_k) - z).
    """
    activate = softmax(ops.exp)

    def gradient(a: Any, y: Any, factor: Any) -> Any:
        return factor * (a - y)

    def value(z: Any, y: Any, row: Row) -> Any:
        return y * (row.log_total - (z - row.largest))

    return Loss(activate, gradient, value)


LOSSES: dict[str, Formula] = {
    "squared_error": squared_error,
    "binary_cross_entropy": binary_cross_entropy,
    "cross_entropy": cross_entropy,
}

NEEDS_ROW = ("cross_entropy",)
"""Losses that read the `Row`."""
