"""Optimiser steps and column sums, compiled for CPUs: one pass over parameters, gradients and moments."""

from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import overload
from numpy.typing import NDArray

from ..checks import single
from ..compilation import PART, compiled
from ..contract import ON_HOST, singles
from ..formulas.steps import RULES as FORMULAS
from ..formulas.steps import Numbers, Operations
from .memory import load, load_part, pointer, store, store_part
from .vector_math import SMALL, SUBNORMAL, flushed, square_root
from .vectors import LANES, Static, fma, zeros

ONE, EIGHT = Static(1), Static(8)

STRIP = 8 * LANES
"""Columns summed together: several vectors of each row, as rows are far apart in memory."""


@compiled
def _flush_mean(mean: Any) -> Any:
    return flushed(mean, SMALL)


@compiled
def _flush_square(square: Any) -> Any:
    return flushed(square, SUBNORMAL)


OPERATIONS = Operations(fma=fma, sqrt=square_root, flush_mean=_flush_mean, flush_square=_flush_square)

# Not cached: they become part of their callers' machine code.
RULES = {name: numba.njit(**PART)(formula(OPERATIONS)) for name, formula in FORMULAS.items()}
STATICS = {name: Static(name) for name in FORMULAS}


def optimizer_step(
    parameter: NDArray[np.float32],
    gradient: NDArray[np.float32],
    numbers: Numbers,
    rule: str = "descent",
    *moments: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Make an optimiser's step, see `Kernels.optimizer_step`."""
    ON_HOST.optimizer_step(parameter, gradient, numbers, rule, *moments, out=out)
    first, second = (*(moment.ravel() for moment in moments), None, None)[:2]
    arrays = parameter.ravel(), gradient.ravel(), first, second, out.ravel()
    _optimizer_step(STATICS[rule], *arrays, *singles(numbers))


@compiled
def _optimizer_step(
    rule: Any,
    parameter: Any,
    gradient: Any,
    first: Any,
    second: Any,
    out: Any,
    rate: float,
    correction: float,
    beta1: float,
    rest1: float,
    beta2: float,
    rest2: float,
    epsilon: float,
    l2: float,
    keep: float,
) -> None:
    size = parameter.size
    parameter, gradient, out = pointer(parameter), pointer(gradient), pointer(out)
    first, second = pointer(first), pointer(second)
    numbers = Numbers(rate, correction, beta1, rest1, beta2, rest2, epsilon, l2, keep)
    for offset in range(0, size, LANES):
        count = min(LANES, size - offset)
        w, g = load_part(parameter, offset, count), load_part(gradient, offset, count)
        m, v = _load_moment(first, offset, count), _load_moment(second, offset, count)
        w, m, v = step_by(rule, w, g, m, v, numbers)
        _store_moment(first, offset, m, count)
        _store_moment(second, offset, v, count)
        store_part(out, offset, w, count)


def _load_moment(moment: Any, offset: int, count: int) -> Any:
    raise NotImplementedError("for compiled code only")


@overload(_load_moment, jit_options=PART)
def _load_moment_or_none(moment: Any, offset: int, count: int) -> Any:
    def none(moment: Any, offset: int, count: int) -> Any:
        return None

    def part(moment: Any, offset: int, count: int) -> Any:
        return load_part(moment, offset, count)

    return none if moment == types.none else part


@compiled
def _store_moment(moment: Any, offset: int, lanes: Any, count: int) -> None:
    if moment is not None:
        store_part(moment, offset, lanes, count)


def step_by(rule: Any, w: Any, g: Any, m: Any, v: Any, numbers: Any) -> Any:
    """Return the new w, m and v by `rule`, a `Static`, lane by lane; moments that it doesn't use may be None."""
    raise NotImplementedError("for compiled code only")


@overload(step_by, jit_options=PART)
def _step_by(rule: Any, w: Any, g: Any, m: Any, v: Any, numbers: Any) -> Any:
    step = RULES[rule.value]

    def implementation(rule: Any, w: Any, g: Any, m: Any, v: Any, numbers: Any) -> Any:
        return step(w, g, m, v, numbers)

    return implementation


def descend_sums(
    parameter: NDArray[np.float32], gradients: NDArray[np.float32], learning_rate: float, *, out: NDArray[np.float32]
) -> None:
    """Compute out = parameter - learning_rate * sum of the rows of `gradients`, see `Kernels.descend_sums`."""
    ON_HOST.descend_sums(parameter, gradients, learning_rate, out)
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
    ON_HOST.column_sums(rows, out)
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
