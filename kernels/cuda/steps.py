"""Optimiser steps, and sums of columns (the gradients of biases), in CUDA kernels.

A part of `gpunn.kernels.cuda.contract`.
"""

import functools
import math
from typing import Any

import numpy as np

from ..formulas.steps import Numbers, Operations, adam, descent, momentum
from .activations import ZERO, F
from .arrays import FLOAT32, check_array, check_output, handles
from .jit import cuda, device_function, kernel
from .launch import MOST_THREADS, launch, line, team


@device_function
def _fma(a: Any, b: Any, c: Any) -> Any:
    return a * b + c


@device_function
def _sqrt(square: Any) -> Any:
    return F(math.sqrt(square))


@device_function
def _kept(moment: Any) -> Any:  # GPUs are as fast with subnormal numbers as with others
    return moment


OPERATIONS = Operations(fma=_fma, sqrt=_sqrt, flush_mean=_kept, flush_square=_kept)

step_descent, step_momentum, step_nesterov, step_adam = (
    device_function(formula)
    for formula in (
        descent(OPERATIONS),
        momentum(OPERATIONS, nesterov=False),
        momentum(OPERATIONS, nesterov=True),
        adam(OPERATIONS),
    )
)


def descend(parameter: Any, gradient: Any, learning_rate: float, l2: float = 0.0, *, out: Any) -> None:
    """Compute out = parameter - learning_rate (gradient + l2 parameter), see `Kernels.descend`."""
    parameter, gradient, out = _checked_step(parameter, gradient, out=out)
    if out.size:
        launch(_descend, *line(out.size), parameter, gradient, F(learning_rate), F(l2), out)


@kernel
def _descend(parameter: Any, gradient: Any, learning_rate: float, l2: float, out: Any) -> None:
    i = cuda.grid(1)
    while i < out.size:
        numbers = Numbers(learning_rate, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, l2, ZERO)
        out.flat[i] = step_descent(parameter.flat[i], gradient.flat[i], numbers)
        i += cuda.gridsize(1)


def momentum_step(
    parameter: Any,
    gradient: Any,
    velocity: Any,
    learning_rate: float,
    momentum: float,
    l2: float = 0.0,
    nesterov: bool = False,
    *,
    out: Any,
) -> None:
    """Make a step with momentum, see `Kernels.momentum_step`."""
    parameter, gradient, velocity, out = _checked_step(parameter, gradient, velocity, out=out)
    if out.size:
        numbers = F(learning_rate), F(momentum), F(l2)
        launch(_momentum_step(bool(nesterov)), *line(out.size), parameter, gradient, velocity, *numbers, out)


@functools.cache
def _momentum_step(nesterov: bool) -> Any:
    step = step_nesterov if nesterov else step_momentum

    @kernel
    def momentum_step(
        parameter: Any, gradient: Any, velocity: Any, learning_rate: float, momentum: float, l2: float, out: Any
    ) -> None:
        i = cuda.grid(1)
        while i < out.size:
            numbers = Numbers(learning_rate, ZERO, momentum, ZERO, ZERO, ZERO, ZERO, l2, ZERO)
            p, v = step(parameter.flat[i], gradient.flat[i], velocity.flat[i], numbers)
            velocity.flat[i] = v
            out.flat[i] = p
            i += cuda.gridsize(1)

    return momentum_step


def adam_step(
    parameter: Any,
    gradient: Any,
    mean: Any,
    square: Any,
    learning_rate: float,
    root: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    l2: float = 0.0,
    decay: float = 0.0,
    *,
    out: Any,
) -> None:
    """Make a step of Adam, see `Kernels.adam_step`."""
    parameter, gradient, mean, square, out = _checked_step(parameter, gradient, mean, square, out=out)
    if out.size:
        # What is taken from 1 is taken in float64: near 1 float32 has few digits left for the rest.
        averages = F(beta1), F(1 - beta1), F(beta2), F(1 - beta2)
        numbers = F(learning_rate), F(1 / root), *averages, F(epsilon), F(l2), F(1 - decay)
        launch(_adam_step, *line(out.size), parameter, gradient, mean, square, *numbers, out)


@kernel
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
    i = cuda.grid(1)
    while i < out.size:
        numbers = Numbers(learning_rate, correction, beta1, rest1, beta2, rest2, epsilon, l2, keep)
        p, m, v = step_adam(parameter.flat[i], gradient.flat[i], mean.flat[i], square.flat[i], numbers)
        mean.flat[i] = m
        square.flat[i] = v
        out.flat[i] = p
        i += cuda.gridsize(1)


def _checked_step(parameter: Any, gradient: Any, *moments: Any, out: Any) -> list[Any]:
    """Return handles of all arrays, which have the shape of `out`; only the parameter may be `out` itself."""
    names = ("parameter", "gradient", "first moment", "second moment")
    named = dict(zip(names, (parameter, gradient, *moments), strict=False))
    *found, out = handles(**named, out=out)
    check_output(out, found[1:], first=found[0])
    for name, array in zip(named, found, strict=True):
        check_array(name, array, FLOAT32, out.shape)
    _, gradient, *kept = found
    for number, moment in enumerate(kept):  # which are changed in place
        check_output(moment, [gradient, *kept[:number]])
    return [*found, out]


def descend_sums(parameter: Any, gradients: Any, learning_rate: float, *, out: Any) -> None:
    """Compute out = parameter - learning_rate * sum of the rows of `gradients`, see `Kernels.descend_sums`."""
    parameter, gradients, out = handles(parameter=parameter, gradients=gradients, out=out)
    check_output(out, [gradients], first=parameter, ndim=1)
    check_array("parameter", parameter, FLOAT32, out.shape)
    check_array("gradients", gradients, FLOAT32, (*gradients.shape[:1], *out.shape))
    if out.size:
        launch(_descend_sums, *_columns(gradients), parameter, gradients, F(learning_rate), out)


def column_sums(rows: Any, *, out: Any) -> None:
    """Compute out = sum of the `rows`, see `Kernels.column_sums`."""
    rows, out = handles(rows=rows, out=out)
    check_output(out, [rows], ndim=1)
    check_array("rows", rows, FLOAT32, (*rows.shape[:1], *out.shape))
    if out.size:
        launch(_column_sums, *_columns(rows), rows, out)


def _columns(rows: Any) -> tuple[int, tuple[int, ...]]:
    """Return the grid and the block for sums over `rows`: every block has columns of its own."""
    width, height = team(*rows.shape)
    return -(-rows.shape[1] // width), (width, height)


@device_function
def _sum_column(rows: Any, c: int, sums: Any) -> Any:
    """Return the sum of column `c`, to the first of the threads that it has in its block.

    They add up rows in turn, then one another's sums in pairs, in the same order every time, in `sums`, which all
    threads of the block share.
    """
    x, y, width = cuda.threadIdx.x, cuda.threadIdx.y, cuda.blockDim.x
    s = ZERO
    if c < rows.shape[1]:
        r = y
        while r < rows.shape[0]:
            s += rows[r, c]
            r += cuda.blockDim.y
    place = y * width + x
    sums[place] = s
    half = cuda.blockDim.y // 2
    while half > 0:
        cuda.syncthreads()
        if y < half:
            sums[place] += sums[place + half * width]
        half //= 2
    return sums[place]


@kernel
def _descend_sums(parameter: Any, gradients: Any, learning_rate: float, out: Any) -> None:
    sums = cuda.shared.array(MOST_THREADS, np.float32)
    c = cuda.grid(1)
    s = _sum_column(gradients, c, sums)
    if cuda.threadIdx.y == 0 and c < out.size:
        out[c] = parameter[c] - learning_rate * s


@kernel
def _column_sums(rows: Any, out: Any) -> None:
    sums = cuda.shared.array(MOST_THREADS, np.float32)
    c = cuda.grid(1)
    s = _sum_column(rows, c, sums)
    if cuda.threadIdx.y == 0 and c < out.size:
        out[c] = s
