"""Delta of the last layer, and the losses of its examples, compiled for CPUs."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..compilation import compiled
from ..contract import check_array, check_below, check_name, check_output, check_type, single
from .activations import SIGMOID, activate, slope, static
from .memory import at, load_part, mask_lanes, pointer, store_part
from .vector_math import lane_sum, power_of_two, rounded, subtract_one
from .vectors import LANES, Static, fma, maximum, zeros

F = np.float32
FLOAT32 = np.dtype(np.float32)
ONE = Static(1)

LEAST = F(-87)
"""Smallest exponent used: exp(-87) is about 2^-126, the smallest normal float32."""

BEFORE_OVERFLOW = 1e200
"""A product up to this size can take one more factor without overflow."""


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
    check_type("targets", targets)
    check_output(out, [targets, total] if output is out else [output, targets, total], ndim=2, dtypes=[FLOAT32])
    check_array("output", output, FLOAT32, out.shape)
    check_array("total", total, np.dtype(np.float64), (1,))
    if targets.ndim == 1:
        check_array("labels", targets, np.dtype(np.uint8), (len(out),))
        check_below("labels", targets, out.shape[1])
    else:
        check_array("targets", targets, FLOAT32, out.shape)
    function = static(activation)
    check_name("loss", loss, LOSSES)
    if loss != "squared_error":
        function = SIGMOID  # It plays no part, and would be compiled for.
    labels, rows = (targets, None) if targets.ndim == 1 else (None, targets.ravel())
    step = single("factor", factor)
    total[0] += LOSSES[loss](function, output.ravel(), labels, rows, step, out.shape[1], out.ravel())


@compiled
def sum_of_softplus(z: Any, start: int, n: int) -> Any:
    """Return the sum of ln(1 + exp(z_j)) = max(z_j, 0) + ln(1 + exp(-|z_j|)) over z[start : start + n]; float64."""
    # One logarithm for many numbers: that of a product, as long as it isn't too large.
    found, product = 0.0, 1.0
    for j in range(start, start + n):
        number = float(at(z, j))
        found += max(number, 0.0)
        product *= 1.0 + math.exp(-abs(number))
        if product > BEFORE_OVERFLOW:
            found += math.log(product)
            product = 1.0
    return found + math.log(product)


@compiled
def largest_of(z: Any, start: int, n: int) -> Any:
    """Return the largest of z[start : start + n], which has one number at least."""
    largest = at(z, start)
    for j in range(start + 1, start + n):
        largest = max(largest, at(z, j))
    return largest


@compiled
def _exp(z: Any) -> Any:
    """Compute exp(z) for z up to 0, within 2e-7 of itself, and at least exp(-87); NaN stays NaN."""
    x = maximum(z, LEAST)
    # exp(x) = 2^n exp(r), with r within ln 2 / 2 of 0; ln 2 in two parts, so that n times the first is exact.
    n = rounded(x * F(1.44269504088896341))
    r = fma(n, F(2.12194440e-4), fma(n, F(-0.693359375), x))
    # A minimax polynomial for (exp(r) - 1 - r) / r^2 (Cephes, expf).
    p = fma(fma(r, F(1.9875691500e-4), F(1.3981999507e-3)), r, F(8.3334519073e-3))
    p = fma(fma(fma(p, r, F(4.1665795894e-2)), r, F(1.6666665459e-1)), r, F(5.0000001201e-1))
    return power_of_two(n) * fma(p, r * r, r + F(1))


@compiled
def put_exps(z: Any, start: int, n: int, largest: Any, out: Any, offset: int) -> Any:
    """Put exp(z_j - largest), for z[start : start + n], where out[offset] starts, and return their sum; float64."""
    sums = zeros(ONE, ONE)
    for c in range(0, n, LANES):
        count = min(LANES, n - c)
        exps = mask_lanes(_exp(load_part(z, start + c, count) - largest), count)
        store_part(out, offset + c, exps, count)
        sums = sums + exps
    return float(lane_sum(sums))


@compiled
def _less_target(values: Any, labels: Any, rows: Any, row: int, columns: int, c: int, count: int) -> Any:
    """Return `values`, one vector of the outputs of example `row` from column `c` on, without their targets.

    These are `labels`, or `rows` of `columns` numbers, of which `count` are left from `c` on; the other one is None.
    """
    # Numba leaves out the branch for what is None.
    if labels is not None:
        values = subtract_one(values, at(labels, row) - c)
    if rows is not None:
        values = values - load_part(rows, row * columns + c, count)
    return values


@compiled
def _target_at(labels: Any, rows: Any, row: int, columns: int, j: int) -> float:
    """Return target `j` of example `row`; `labels` and `rows` as above."""
    y = 0.0
    if labels is not None:
        y = 1.0 if j == at(labels, row) else 0.0
    if rows is not None:
        y = float(at(rows, row * columns + j))
    return y


@compiled
def _squared_error(activation: Any, a: Any, labels: Any, rows: Any, factor: float, columns: int, out: Any) -> float:
    """Compute out = factor (a - y) f'(z); return the sum of (a - y)^2."""
    size = out.size
    a, labels, rows, out = pointer(a), pointer(labels), pointer(rows), pointer(out)
    loss = 0.0
    for start in range(0, size, max(1, columns)):
        squares = zeros(ONE, ONE)
        for c in range(0, columns, LANES):
            count = min(LANES, columns - c)
            values = load_part(a, start + c, count)
            error = _less_target(values, labels, rows, start // columns, columns, c, count)
            squares = squares + error * error
            store_part(out, start + c, factor * error * slope(activation, values), count)
        loss += lane_sum(squares)
    return loss


@compiled
def _binary_cross_entropy(
    _activation: Any, z: Any, labels: Any, rows: Any, factor: float, columns: int, out: Any
) -> float:
    """Compute out = factor (sigma(z) - y); return the sum of ln(1 + exp(z)) - y z."""
    size = out.size
    z, labels, rows, out = pointer(z), pointer(labels), pointer(rows), pointer(out)
    loss = 0.0
    for start in range(0, size, max(1, columns)):
        row = start // columns
        loss += sum_of_softplus(z, start, columns)
        for j in range(columns):
            loss -= _target_at(labels, rows, row, columns, j) * float(at(z, start + j))
        for c in range(0, columns, LANES):
            count = min(LANES, columns - c)
            values = activate(SIGMOID, load_part(z, start + c, count))
            store_part(out, start + c, factor * _less_target(values, labels, rows, row, columns, c, count), count)
    return loss


@compiled
def _cross_entropy(_activation: Any, z: Any, labels: Any, rows: Any, factor: float, columns: int, out: Any) -> float:
    """Compute out = factor (softmax(z) - y); return the sum of y_j (ln sum_k exp(z_k) - z_j)."""
    size = out.size
    z, labels, rows, out = pointer(z), pointer(labels), pointer(rows), pointer(out)
    loss = 0.0
    for start in range(0, size, max(1, columns)):
        row = start // columns
        largest = largest_of(z, start, columns)
        likely = 0.0
        for j in range(columns):
            y = _target_at(labels, rows, row, columns, j)
            likely += y
            # An impossible class may be infinitely unlikely.
            if y != 0.0:
                loss -= y * float(at(z, start + j) - largest)
        # From here on `out` has taken the place of z, if they are one.
        sums = put_exps(z, start, columns, largest, out, start)
        loss += likely * math.log(sums)
        for c in range(0, columns, LANES):
            count = min(LANES, columns - c)
            values = load_part(out, start + c, count) / F(sums)
            store_part(out, start + c, factor * _less_target(values, labels, rows, row, columns, c, count), count)
    return loss


LOSSES = {
    "squared_error": _squared_error,
    "binary_cross_entropy": _binary_cross_entropy,
    "cross_entropy": _cross_entropy,
}
