"""Losses, and delta of the last layer: a CUDA kernel for each loss, activation and kind of target.

A part of `gpunn.kernels.cuda.contract`.
"""

import functools
from typing import Any

import numpy as np

from ..checks import single
from ..formulas.losses import NEEDS_ROW
from .activations import ONE, ZERO, F
from .arrays import CONTRACT, scratch, to_read
from .jit import cuda, device_function, kernel
from .launch import MOST_THREADS, REGISTERS, Call, Operation, parts, team
from .losses import NO_ROW, finish_output, softmax_row

NAN = F(np.nan)


@Operation
def output_delta(
    output: Any,
    targets: Any,
    factor: float,
    total: Any,
    activation: str = "sigmoid",
    loss: str = "squared_error",
    *,
    out: Any,
) -> list[Call]:
    """Compute delta of the last layer and add the losses to `total`, see `Kernels.output_delta`.

    Where a label names no output, the row of `out` becomes NaN, and so does `total`.
    """
    output, targets, total, out = CONTRACT.output_delta(output, targets, factor, total, activation, loss, out)
    if not out.size:
        return []
    factors = to_read(factor, lambda: (single("factor", factor),))
    # A thread has a row to itself where an output's delta needs all of them.
    shape = team(out.shape[0], 1 if loss in NEEDS_ROW else out.shape[1])
    compute = _output_delta(loss, activation, len(targets.shape) == 1)
    n_parts = parts(out.shape[0])
    if n_parts == 1:
        return [Call(compute, 1, shape, (output, targets, factors, total, out))]
    losses = scratch((n_parts,), np.float64)
    add = Call(_add_losses, 1, team(n_parts, 1), (losses, total))
    return [Call(compute, n_parts, shape, (output, targets, factors, losses, out)), add]


@functools.cache
def _output_delta(loss: str, activation: str, labeled: bool) -> Any:
    finish, target = finish_output(loss, activation), _label if labeled else _target
    row_of = _softmax_row if loss in NEEDS_ROW else _no_row

    # Several blocks would add their losses to the total by atomics, in any order, and a floating-point sum in another
    # order has other bits: each writes its own to its place.
    @kernel(max_registers=REGISTERS // MOST_THREADS)
    def output_delta(output: Any, targets: Any, factors: Any, total: Any, out: Any) -> None:
        losses = cuda.shared.array(MOST_THREADS, np.float64)
        factor = factors[0]
        loss = np.float64(0)
        x, width, columns = cuda.threadIdx.x, cuda.blockDim.x, out.shape[1]
        r = cuda.threadIdx.y + cuda.blockIdx.x * cuda.blockDim.y
        while r < out.shape[0]:
            row = row_of(output, r)
            c = x
            while c < columns:
                delta, value = finish(output[r, c], target(targets, r, c, columns), row, factor)
                out[r, c] = delta
                loss += value
                c += width
            r += cuda.blockDim.y * cuda.gridDim.x
        place = cuda.threadIdx.y * width + x
        losses[place] = loss
        half = width * cuda.blockDim.y // 2
        while half > 0:
            cuda.syncthreads()
            if place < half:
                losses[place] += losses[place + half]
            half //= 2
        if place == 0:
            if cuda.gridDim.x == 1:
                total[0] += losses[0]
            else:
                total[cuda.blockIdx.x] = losses[0]

    return output_delta


@kernel
def _add_losses(losses: Any, total: Any) -> None:
    sums = cuda.shared.array(MOST_THREADS, np.float64)
    t, threads = cuda.threadIdx.y, cuda.blockDim.y
    s = np.float64(0)
    i = t
    while i < losses.size:
        s += losses[i]
        i += threads
    sums[t] = s
    half = threads // 2
    while half > 0:
        cuda.syncthreads()
        if t < half:
            sums[t] += sums[t + half]
        half //= 2
    if t == 0:
        total[0] += sums[0]


@device_function
def _label(labels: Any, r: int, c: int, columns: int) -> Any:
    """Return y of an output, where targets are labels; NaN where there is no output for the label."""
    label = labels[r]
    return (ONE if c == label else ZERO) if label < columns else NAN


@device_function
def _target(targets: Any, r: int, c: int, columns: int) -> Any:  # noqa: ARG001 - as in _label
    return targets[r, c]


@device_function
def _no_row(output: Any, r: int) -> Any:  # noqa: ARG001 - as in _softmax_row
    return NO_ROW


@device_function
def _softmax_row(z: Any, r: int) -> Any:
    return softmax_row(z[r], z.shape[1])
