"""What losses of logits are made of, compiled for CPUs: right, and finite, for logits of any size."""

import math
from typing import Any

from .compilation import compiled
from .memory import at, put

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
def put_exps(z: Any, start: int, n: int, largest: Any, out: Any, place: int) -> Any:
    """Put exp(z_j - largest), for z[start : start + n], where out[place] starts, and return their sum; float64."""
    sums = 0.0
    for j in range(n):
        exp = math.exp(float(at(z, start + j) - largest))
        put(out, place + j, exp)
        sums += exp
    return sums
