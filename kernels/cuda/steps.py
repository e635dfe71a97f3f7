"""Optimiser steps, and sums of columns (the gradients of biases), in CUDA kernels.

A part of `gpunn.kernels.cuda.contract`.
"""

import functools
import math
from typing import Any

import numpy as np

from ..checks import single
from ..contract import singles
from ..formulas.steps import N_MOMENTS, Numbers, Operations
from ..formulas.steps import RULES as FORMULAS
from .activations import ZERO, F
from .arrays import CONTRACT, scratch, to_read
from .jit import cuda, device_function, kernel
from .launch import MOST_THREADS, Call, Operation, line, parts, team


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

RULES = {name: device_function(formula(OPERATIONS)) for name, formula in FORMULAS.items()}


@device_function
def numbers_in(row: Any) -> Any:
    """Return the `Numbers` that are in an array or a tuple."""
    return Numbers(row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7], row[8])  # by field


@Operation
def optimizer_step(
    parameter: Any, gradient: Any, numbers: Numbers, rule: str = "descent", *moments: Any, out: Any
) -> list[Call]:
    """Make an optimiser's step, see `Kernels.optimizer_step`."""
    *arrays, out = CONTRACT.optimizer_step(parameter, gradient, numbers, rule, *moments, out=out)
    if not out.size:
        return []
    # The kernel doesn't look at the moments that the rule doesn't keep.
    padded = (*arrays, *[out] * (4 - len(arrays)))
    of_step = to_read(numbers, lambda: singles(numbers))
    return [Call(_optimizer_step(rule), *line(out.size), (*padded, out, of_step))]


@functools.cache
def _optimizer_step(rule: str) -> Any:
    step, n_moments = RULES[rule], N_MOMENTS[rule]

    @kernel
    def optimizer_step(parameter: Any, gradient: Any, first: Any, second: Any, out: Any, numbers: Any) -> None:
        of_step = numbers_in(numbers)
        i = cuda.grid(1)
        while i < out.size:
            m = first.flat[i] if n_moments > 0 else ZERO
            v = second.flat[i] if n_moments > 1 else ZERO
            w, m, v = step(parameter.flat[i], gradient.flat[i], m, v, of_step)
            if n_moments > 0:
                first.flat[i] = m
            if n_moments > 1:
                second.flat[i] = v
            out.flat[i] = w
            i += cuda.gridsize(1)

    return optimizer_step


@Operation
def descend_sums(parameter: Any, gradients: Any, learning_rate: float, *, out: Any) -> list[Call]:
    """Compute out = parameter - learning_rate * sum of the rows of `gradients`, see `Kernels.descend_sums`."""
    parameter, gradients, out = CONTRACT.descend_sums(parameter, gradients, learning_rate, out)
    if not out.size:
        return []
    before, rows = _in_parts(gradients)
    rate = single("learning rate", learning_rate)
    return [*before, Call(_descend_sums, *_columns(rows), (parameter, rows, rate, out))]


@Operation
def column_sums(rows: Any, *, out: Any) -> list[Call]:
    """Compute out = sum of the `rows`, see `Kernels.column_sums`."""
    rows, out = CONTRACT.column_sums(rows, out)
    if not out.size:
        return []
    before, rows = _in_parts(rows)
    return [*before, Call(_column_sums, *_columns(rows), (rows, out))]


def _columns(rows: Any) -> tuple[int, tuple[int, ...]]:
    """Return the grid and the block for sums over `rows`: every block has columns of its own."""
    width, height = team(*rows.shape)
    return -(-rows.shape[1] // width), (width, height)


def _in_parts(rows: Any) -> tuple[list[Call], Any]:
    """Return what adds up parts of many rows, and its results: fewer rows with the same sums. A few rows stay."""
    across, block = _columns(rows)
    n_parts = parts(rows.shape[0])
    if n_parts == 1:
        return [], rows
    sums = scratch((n_parts, rows.shape[1]), np.float32)
    return [Call(_part_sums, (across, n_parts), block, (rows, sums))], sums


@device_function
def _sum_column(rows: Any, c: int, sums: Any) -> Any:
    """Return the sum of column `c` over the block's rows, to the first of the threads that the column has in the block.

    Blocks, and in them threads, take rows in turn. Threads add up theirs, then one another's sums in pairs, in the same
    order every time, in `sums`, which all threads of the block share.
    """
    x, y, width = cuda.threadIdx.x, cuda.threadIdx.y, cuda.blockDim.x
    s = ZERO
    if c < rows.shape[1]:
        r = y + cuda.blockIdx.y * cuda.blockDim.y
        while r < rows.shape[0]:
            s += rows[r, c]
            r += cuda.blockDim.y * cuda.gridDim.y
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
def _part_sums(rows: Any, out: Any) -> None:
    sums = cuda.shared.array(MOST_THREADS, np.float32)
    c = cuda.grid(1)
    s = _sum_column(rows, c, sums)
    if cuda.threadIdx.y == 0 and c < rows.shape[1]:
        out[cuda.blockIdx.y, c] = s


@kernel
def _column_sums(rows: Any, out: Any) -> None:
    sums = cuda.shared.array(MOST_THREADS, np.float32)
    c = cuda.grid(1)
    s = _sum_column(rows, c, sums)
    if cuda.threadIdx.y == 0 and c < out.size:
        out[c] = s
