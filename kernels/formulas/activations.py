"""Activation functions, each written once, in operations that arrays, CPU vectors and GPU threads all have.

A formula takes these `Operations` and returns two functions: `activate`, a = f(z), and `slope`, f'(z) in terms of a, as
backward doesn't have z. Arrays, CPU kernels and CUDA kernels bring their own operations.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

Function = Callable[[Any], Any]
Formula = Callable[["Operations"], tuple[Function, Function]]

LEAK = 0.01
"""Slope of leaky ReLU below zero."""


class Operations(NamedTuple):
    """The operations of the formulas besides +, - and *; elementwise, and NaN stays NaN."""

    number: Callable[[float], Any]
    """A constant, in the precision of the computation."""
    minimum: Callable[[Any, Any], Any]
    """The first argument may be NaN."""
    maximum: Callable[[Any, Any], Any]
    positive: Function
    """1 if the argument is above 0, else 0."""
    sigmoid: Function
    """1 / (1 + exp(-z))."""
    tanh: Function
    expm1: Function
    """exp(z) - 1, for z <= 0."""


def sigmoid(ops: Operations) -> tuple[Function, Function]:
    """f(z) = 1 / (1 + exp(-z)), f'(z) = a (1 - a)."""
    function, one = ops.sigmoid, ops.number(1)

    def activate(z: Any) -> Any:
        return function(z)

    def slope(a: Any) -> Any:
        return a * (one - a)

    return activate, slope


def tanh(ops: Operations) -> tuple[Function, Function]:
    """f(z) = (exp(z) - exp(-z)) / (exp(z) + exp(-z)), f'(z) = 1 - a^2."""
    function, one = ops.tanh, ops.number(1)

    def activate(z: Any) -> Any:
        return function(z)

    def slope(a: Any) -> Any:
        return one - a * a

    return activate, slope


def relu(ops: Operations) -> tuple[Function, Function]:
    """f(z) = max(z, 0), f'(z) = 1 where a > 0, else 0."""
    maximum, positive, zero = ops.maximum, ops.positive, ops.number(0)

    def activate(z: Any) -> Any:
        return maximum(z, zero)

    def slope(a: Any) -> Any:
        return positive(a)

    return activate, slope


def leaky_relu(ops: Operations) -> tuple[Function, Function]:
    """f(z) = max(z, z / 100), f'(z) = 1 where a > 0, else 1 / 100."""
    maximum, positive, leak, rest = ops.maximum, ops.positive, ops.number(LEAK), ops.number(1 - LEAK)

    def activate(z: Any) -> Any:
        return maximum(z, leak * z)

    def slope(a: Any) -> Any:
        return leak + rest * positive(a)

    return activate, slope


def elu(ops: Operations) -> tuple[Function, Function]:
    """f(z) = z where z > 0, else exp(z) - 1; f'(z) = 1 where a > 0, else a + 1."""
    minimum, maximum, expm1, zero, one = ops.minimum, ops.maximum, ops.expm1, ops.number(0), ops.number(1)

    def activate(z: Any) -> Any:
        return maximum(z, zero) + expm1(minimum(z, zero))

    def slope(a: Any) -> Any:
        return minimum(a, zero) + one

    return activate, slope


def identity(ops: Operations) -> tuple[Function, Function]:
    """f(z) = z, f'(z) = 1."""
    positive, zero, one = ops.positive, ops.number(0), ops.number(1)

    def activate(z: Any) -> Any:
        return z

    def slope(a: Any) -> Any:
        return one - zero * positive(a)  # of the shape of a

    return activate, slope


class Row(NamedTuple):
    """Statistics of an example's logits z, for softmax and its loss."""

    largest: Any
    """max_k z_k."""
    total: Any
    """sum_k exp(z_k - largest)."""
    log_total: Any
    """Logarithm of `total`."""


def softmax(exp: Function) -> Callable[[Any, Row], Any]:
    """Return f(z) = exp(z) / sum_k exp(z_k), given `exp` and the `Row`; subtracting the largest avoids overflow."""

    def activate(z: Any, row: Row) -> Any:
        return exp(z - row.largest) / row.total

    return activate


ACTIVATIONS: dict[str, Formula] = {
    "sigmoid": sigmoid,
    "tanh": tanh,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "identity": identity,
}
"""By name; softmax, which is not elementwise, is for outputs only, see `gpunn.losses`."""
