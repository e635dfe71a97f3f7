"""What losses of logits are made of, compiled for CPUs: right, and finite, for logits of any size."""

import math
from typing import Any

import numpy as np

from .compilation import compiled
from .lanes import power_of_two, rounded, total
from .memory import at, first_lanes, load_part, store_part
from .simd import LANES, Static, fused, maximum, zeros

F = np.float32
ONE = Static(1)

LEAST = F(-87)
"""What an exponential is about 2^-126 of, float32's least number in full precision."""

MANY = 1e200
"""No factor makes a product of this size overflow."""


@compiled
def sum_of_softplus(z: Any, start: int, n: int) -> Any:
    """Return the sum of ln(1 + exp(z_j)) = max(z_j, 0) + ln(1 + exp(-|z_j|)) over z[start : start + n]; float64."""
    # One logarithm for many numbers: that of a product, as long as it isn't too large.
    found, product = 0.0, 1.0
    for j in range(start, start + n):
        number = float(at(z, j))
        found += max(number, 0.0)
        product *= 1.0 + math.exp(-abs(number))
        if product > MANY:
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
    r = fused(n, F(2.12194440e-4), fused(n, F(-0.693359375), x))
    # A minimax polynomial for (exp(r) - 1 - r) / r^2 (Cephes, expf).
    p = fused(fused(r, F(1.9875691500e-4), F(1.3981999507e-3)), r, F(8.3334519073e-3))
    p = fused(fused(fused(p, r, F(4.1665795894e-2)), r, F(1.6666665459e-1)), r, F(5.0000001201e-1))
    return power_of_two(n) * fused(p, r * r, r + F(1))


@compiled
def put_exps(z: Any, start: int, n: int, largest: Any, out: Any, place: int) -> Any:
    """Put exp(z_j - largest), for z[start : start + n], where out[place] starts, and return their sum; float64."""
    sums = zeros(ONE, ONE)
    for c in range(0, n, LANES):
        count = min(LANES, n - c)
        exps = first_lanes(_exp(load_part(z, start + c, count) - largest), count)
        store_part(out, place + c, exps, count)
        sums = sums + exps
    return float(total(sums))
