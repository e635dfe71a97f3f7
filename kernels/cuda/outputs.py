"""Losses, and delta of the last layer: a CUDA kernel for each loss, activation and kind of target.

A part of `gpunn.kernels.cuda.contract`.
"""

import functools
import math
from typing import Any

import numpy as np

from .activations import ONE, ZERO, F, formula, maximum, sigmoid
from .arrays import FLOAT32, check_array, check_output, handles
from .jit import cuda, device_function, kernel
from .launch import MOST_THREADS, REGISTERS, launch, team

NAN = F(np.nan)


def output_delta(
    output: Any,
    targets: Any,
    factor: float,
    total: Any,
    activation: str = "sigmoid",
    loss: str = "squared_error",
    *,
    out: Any,
) -> None:
    """Compute delta of the last layer and add the losses to `total`, see `Kernels.output_delta`.

    Where a label names no output, the row of `out` becomes NaN, and so does `total`.
    """
    output, targets, total, out = handles(output=output, targets=targets, total=total, out=out)
    check_output(out, [targets, total], first=output, ndim=2)
    check_array("output", output, FLOAT32, out.shape)
    labeled = len(targets.shape) == 1
    if labeled:
        check_array("labels", targets, np.dtype(np.uint8), out.shape[:1])
    else:
        check_array("targets", targets, FLOAT32, out.shape)
    check_array("total", total, np.dtype(np.float64), (1,))
    compute = _output_delta(loss, activation, labeled)
    if out.size:
        # A thread has a row to itself where an output's delta needs all of them.
        shape = team(out.shape[0], 1 if loss == "cross_entropy" else out.shape[1])
        launch(compute, 1, shape, output, targets, F(factor), total, out)


@functools.cache
def _output_delta(loss: str, activation: str, labeled: bool) -> Any:
    if loss not in ROWS:
        raise ValueError(f"found the loss {loss!r}, expected {', '.join(ROWS)}")
    row_delta = ROWS[loss](formula(activation)[1], _label if labeled else _target)

    # One block does it all: several would add their losses to the total by atomics, in any order, and a floating-point
    # sum in another order has other bits. There are no more than a few outputs an example.
    @kernel(max_registers=REGISTERS // MOST_THREADS)
    def output_delta(output: Any, targets: Any, factor: float, total: Any, out: Any) -> None:
        losses = cuda.shared.array(MOST_THREADS, np.float64)
        loss = np.float64(0)
        x, width = cuda.threadIdx.x, cuda.blockDim.x
        r = cuda.threadIdx.y
        while r < out.shape[0]:
            loss += row_delta(output, targets, r, x, width, factor, out)
            r += cuda.blockDim.y
        place = cuda.threadIdx.y * width + x
        losses[place] = loss
        half = width * cuda.blockDim.y // 2
        while half > 0:
            cuda.syncthreads()
            if place < half:
                losses[place] += losses[place + half]
            half //= 2
        if place == 0:
            total[0] += losses[0]

    return output_delta


@device_function
def _label(labels: Any, r: int, c: int, columns: int) -> Any:
    """Return y of an output, where targets are labels; NaN where there is no output for the label."""
    label = labels[r]
    return (ONE if c == label else ZERO) if label < columns else NAN


@device_function
def _target(targets: Any, r: int, c: int, columns: int) -> Any:  # noqa: ARG001 - as in _label
    return targets[r, c]


@device_function
def log_loss(z: Any, y: Any) -> Any:
    """Return -y ln sigma(z) - (1 - y) ln(1 - sigma(z)), right also where sigma(z) rounds to 0 or 1."""
    return maximum(z, ZERO) - y * z + F(math.log1p(F(math.exp(-abs(z)))))


def _squared_errors(slope: Any, target: Any) -> Any:
    @device_function
    def row_delta(a: Any, targets: Any, r: int, x: int, width: int, factor: float, out: Any) -> Any:
        losses = np.float64(0)
        c = x
        while c < out.shape[1]:
            error = a[r, c] - target(targets, r, c, out.shape[1])
            out[r, c] = factor * error * slope(a[r, c])
            losses += error * error
            c += width
        return losses

    return row_delta


def _log_losses(_: Any, target: Any) -> Any:
    @device_function
    def row_delta(z: Any, targets: Any, r: int, x: int, width: int, factor: float, out: Any) -> Any:
        losses = np.float64(0)
        c = x
        while c < out.shape[1]:
            logit, y = z[r, c], target(targets, r, c, out.shape[1])
            out[r, c] = factor * (sigmoid(logit) - y)
            losses += log_loss(logit, y)
            c += width
        return losses

    return row_delta


def _softmax(_: Any, target: Any) -> Any:
    @device_function
    def row_delta(z: Any, targets: Any, r: int, x: int, width: int, factor: float, out: Any) -> Any:  # noqa: ARG001
        columns = out.shape[1]
        largest = z[r, 0]
        for c in range(1, columns):
            largest = maximum(largest, z[r, c])
        exps = ZERO
        for c in range(columns):
            exps += F(math.exp(z[r, c] - largest))
        log_exps, loss = F(math.log(exps)), ZERO
        for c in range(columns):
            shifted, y = z[r, c] - largest, target(targets, r, c, columns)
            out[r, c] = factor * (F(math.exp(shifted)) / exps - y)
            loss += y * (log_exps - shifted)
        return np.float64(loss)

    return row_delta


ROWS = {"squared_error": _squared_errors, "binary_cross_entropy": _log_losses, "cross_entropy": _softmax}
"""Makers of functions that compute the delta of a row, every `width`-th column from `x` on, and return its loss."""
