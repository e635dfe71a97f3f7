"""Gradients become steps, compiled for CPUs: one pass over parameters, gradients and what the optimiser remembers."""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from ..compilation import OPTIONS, compiled
from ..contract import check_array, check_output, check_step, check_type, number, number_above, single, truth
from ..formulas.steps import Numbers, Operations, adam, descent, momentum
from .memory import load, load_part, pointer, store, store_part
from .vector_math import SMALL, SUBNORMAL, flushed, square_root
from .vectors import LANES, Static, fma, zeros

FLOAT32 = np.dtype(np.float32)
ZERO = np.float32(0)
ONE, EIGHT = Static(1), Static(8)

STRIP = 8 * LANES
"""Columns that are summed together: rows lie far apart, so that more than one vector is taken from each."""


@compiled
def _flush_mean(mean: Any) -> Any:
    return flushed(mean, SMALL)


@compiled
def _flush_square(square: Any) -> Any:
    return flushed(square, SUBNORMAL)


OPERATIONS = Operations(fma=fma, sqrt=square_root, flush_mean=_flush_mean, flush_square=_flush_square)

# Compiled into the functions that call them, and not kept by themselves.
step_descent, step_momentum, step_nesterov, step_adam = (
    numba.njit(**OPTIONS)(formula)
    for formula in (
        descent(OPERATIONS),
        momentum(OPERATIONS, nesterov=False),
        momentum(OPERATIONS, nesterov=True),
        adam(OPERATIONS),
    )
)


def descend(
    parameter: NDArray[np.float32],
    gradient: NDArray[np.float32],
    learning_rate: float,
    l2: float = 0.0,
    *,
    out: NDArray[np.float32],
) -> None:
    """Compute out = parameter - learning_rate (gradient + l2 parameter), see `Kernels.descend`."""
    check_output(out, [gradient] if parameter is out else [parameter, gradient], dtypes=[FLOAT32])
    check_array("parameter", parameter, FLOAT32, out.shape)
    check_array("gradient", gradient, FLOAT32, out.shape)
    rate, penalty = single("learning rate", learning_rate), single("l2", l2)
    _descend(parameter.ravel(), gradient.ravel(), rate, penalty, out.ravel())


@compiled
def _descend(parameter: Any, gradient: Any, learning_rate: float, l2: float, out: Any) -> None:
    size = parameter.size
    parameter, gradient, out = pointer(parameter), pointer(gradient), pointer(out)
    numbers = Numbers(learning_rate, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, l2, ZERO)
    for offset in range(0, size, LANES):
        count = min(LANES, size - offset)
        W, g = load_part(parameter, offset, count), load_part(gradient, offset, count)
        store_part(out, offset, step_descent(W, g, numbers), count)


def momentum_step(
    parameter: NDArray[np.float32],
    gradient: NDArray[np.float32],
    velocity: NDArray[np.float32],
    learning_rate: float,
    momentum: float,
    l2: float = 0.0,
    nesterov: bool = False,
    *,
    out: NDArray[np.float32],
) -> None:
    """Make a step with momentum, see `Kernels.momentum_step`."""
    check_step(parameter, gradient, velocity, out=out, dtypes=[FLOAT32])
    numbers = single("learning rate", learning_rate), single("momentum", momentum), single("l2", l2)
    pulled = np.bool_(truth("nesterov", nesterov))
    _momentum_step(parameter.ravel(), gradient.ravel(), velocity.ravel(), *numbers, pulled, out.ravel())


@compiled
def _momentum_step(
    parameter: Any,
    gradient: Any,
    velocity: Any,
    learning_rate: float,
    momentum: float,
    l2: float,
    nesterov: bool,
    out: Any,
) -> None:
    size = parameter.size
    parameter, gradient, velocity, out = pointer(parameter), pointer(gradient), pointer(velocity), pointer(out)
    numbers = Numbers(learning_rate, ZERO, momentum, ZERO, ZERO, ZERO, ZERO, l2, ZERO)
    for offset in range(0, size, LANES):
        count = min(LANES, size - offset)
        W, g = load_part(parameter, offset, count), load_part(gradient, offset, count)
        v = load_part(velocity, offset, count)
        W, v = step_nesterov(W, g, v, numbers) if nesterov else step_momentum(W, g, v, numbers)
        store_part(velocity, offset, v, count)
        store_part(out, offset, W, count)


def adam_step(
    parameter: NDArray[np.float32],
    gradient: NDArray[np.float32],
    mean: NDArray[np.float32],
    square: NDArray[np.float32],
    learning_rate: float,
    root: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    l2: float = 0.0,
    decay: float = 0.0,
    *,
    out: NDArray[np.float32],
) -> None:
    """Make a step of Adam, see `Kernels.adam_step`."""
    check_step(parameter, gradient, mean, square, out=out, dtypes=[FLOAT32])
    root, beta1, beta2 = number_above("root", root, 0), number("beta1", beta1), number("beta2", beta2)
    # What is close to 1 is subtracted from it before it is rounded.
    numbers = (
        single("learning rate", learning_rate),
        single("root", 1 / root),
        single("beta1", beta1),
        single("beta1", 1 - beta1),
        single("beta2", beta2),
        single("beta2", 1 - beta2),
        single("epsilon", epsilon),
        single("l2", l2),
        single("decay", 1 - number("decay", decay)),
    )
    _adam_step(parameter.ravel(), gradient.ravel(), mean.ravel(), square.ravel(), *numbers, out.ravel())


@compiled
def _adam_step(
    parameter: Any,
    gradient: Any,
    mean: Any,
    square: Any,
    learning_rate: float,
    correction: float,
    beta1: float,
    rest1: float,
    beta2: float,
    rest2: float,
    epsilon: float,
    l2: float,
    keep: float,
    out: Any,
) -> None:
    size = parameter.size
    parameter, gradient, out = pointer(parameter), pointer(gradient), pointer(out)
    mean, square = pointer(mean), pointer(square)
    numbers = Numbers(learning_rate, correction, beta1, rest1, beta2, rest2, epsilon, l2, keep)
    for offset in range(0, size, LANES):
        count = min(LANES, size - offset)
        W, g = load_part(parameter, offset, count), load_part(gradient, offset, count)
        m, v = load_part(mean, offset, count), load_part(square, offset, count)
        W, m, v = step_adam(W, g, m, v, numbers)
        store_part(mean, offset, m, count)
        store_part(square, offset, v, count)
        store_part(out, offset, W, count)


def descend_sums(
    parameter: NDArray[np.float32], gradients: NDArray[np.float32], learning_rate: float, *, out: NDArray[np.float32]
) -> None:
    """Compute out = parameter - learning_rate * sum of the rows of `gradients`, see `Kernels.descend_sums`."""
    check_output(out, [gradients] if parameter is out else [parameter, gradients], ndim=1, dtypes=[FLOAT32])
    check_array("parameter", parameter, FLOAT32, out.shape)
    check_type("gradients", gradients)
    check_array("gradients", gradients, FLOAT32, (*gradients.shape[:1], len(out)))
    _descend_sums(parameter, gradients.ravel(), single("learning rate", learning_rate), out)


@compiled
def _descend_sums(parameter: Any, gradients: Any, learning_rate: float, out: Any) -> None:
    columns, size = parameter.size, gradients.size
    parameter, gradients, out = pointer(parameter), pointer(gradients), pointer(out)
    strips = columns - columns % STRIP
    for c in range(0, strips, STRIP):
        store(out, c, load(parameter, c, EIGHT) - learning_rate * _sum_of_strip(gradients, size, columns, c))
    for c in range(strips, columns, LANES):
        count = min(LANES, columns - c)
        sums = _sum_of_part(gradients, size, columns, c, count)
        store_part(out, c, load_part(parameter, c, count) - learning_rate * sums, count)


def column_sums(rows: NDArray[np.float32], *, out: NDArray[np.float32]) -> None:
    """Compute out = sum of the `rows`, see `Kernels.column_sums`."""
    check_type("rows", rows)
    check_output(out, [rows], ndim=1, dtypes=[FLOAT32])
    check_array("rows", rows, FLOAT32, (*rows.shape[:1], len(out)))
    _column_sums(rows.ravel(), out)


@compiled
def _column_sums(rows: Any, out: Any) -> None:
    columns, size = out.size, rows.size
    rows, out = pointer(rows), pointer(out)
    strips = columns - columns % STRIP
    for c in range(0, strips, STRIP):
        store(out, c, _sum_of_strip(rows, size, columns, c))
    for c in range(strips, columns, LANES):
        count = min(LANES, columns - c)
        store_part(out, c, _sum_of_part(rows, size, columns, c, count), count)


@compiled
def _sum_of_strip(rows: Any, size: int, columns: int, c: int) -> Any:
    strip = zeros(ONE, EIGHT)
    for row in range(0, size, columns):
        strip = strip + load(rows, row + c, EIGHT)
    return strip


@compiled
def _sum_of_part(rows: Any, size: int, columns: int, c: int, count: int) -> Any:
    sums = zeros(ONE, ONE)
    for row in range(0, size, columns):
        sums = sums + load_part(rows, row + c, count)
    return sums
