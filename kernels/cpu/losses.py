"""The loss functions of `gpunn.kernels.formulas.losses` on lanes; kernels take them as a `Static`."""

import functools
import math
from typing import Any

import numba
import numpy as np
from numba.extending import overload

from ..compilation import PART, compiled
from ..formulas.activations import Row
from ..formulas.losses import LOSSES, NEEDS_ROW, Operations
from .activations import FORMULAS
from .activations import OPERATIONS as OF_ACTIVATIONS
from .memory import at, fill_lanes, load_part, mask_lanes
from .vector_math import lane_max, lane_sum, positive, power_of_two, rounded
from .vectors import LANES, Static, fma, maximum, minimum, zeros

F = np.float32
ONE = Static(1)

LEAST = F(-87)
"""Smallest exponent used: exp(-87) is about 2^-126, the smallest normal float32."""

LOG2 = F(math.log(2))
HALVE_FROM = F(math.sqrt(2) - 1)


@compiled
def _exp(z: Any) -> Any:
    """Compute exp(z) for z <= 0, with a relative error up to 2e-7, and at least exp(-87); NaN stays NaN."""
    x = maximum(z, LEAST)
    # exp(x) = 2^n exp(r), |r| <= ln 2 / 2; ln 2 is split in two, so that n times the first part is exact.
    n = rounded(x * F(1.44269504088896341))
    r = fma(n, F(2.12194440e-4), fma(n, F(-0.693359375), x))
    # A minimax polynomial for (exp(r) - 1 - r) / r^2 (Cephes, expf).
    p = fma(fma(r, F(1.9875691500e-4), F(1.3981999507e-3)), r, F(8.3334519073e-3))
    p = fma(fma(fma(p, r, F(4.1665795894e-2)), r, F(1.6666665459e-1)), r, F(5.0000001201e-1))
    return power_of_two(n) * fma(p, r * r, r + F(1))


@compiled
def _log1p(e: Any) -> Any:
    """Compute ln(1 + e) for e from 0 to 1, with a relative error up to 2e-7; NaN stays NaN."""
    # ln(1 + e) is ln(1 + x) with x = e, or above sqrt(2) - 1, ln 2 + ln(1 + x) with x = (e - 1) / 2: |x| < 0.42.
    halved = positive(e - HALVE_FROM)
    x = fma(e, fma(halved, F(-0.5), F(1)), halved * F(-0.5))
    # A minimax polynomial for (ln(1 + x) - x + x^2 / 2) / x^3 (Cephes, logf).
    p = fma(fma(x, F(7.0376836292e-2), F(-1.1514610310e-1)), x, F(1.1676998740e-1))
    p = fma(fma(fma(p, x, F(-1.2420140846e-1)), x, F(1.4249322787e-1)), x, F(-1.6668057665e-1))
    p = fma(fma(fma(p, x, F(2.0000714765e-1)), x, F(-2.4999993993e-1)), x, F(3.3333331174e-1))
    return fma(halved, LOG2, fma(x * x, fma(p, x, F(-0.5)), x))


OPERATIONS = Operations(
    number=F, minimum=minimum, maximum=maximum, exp=_exp, log1p=_log1p, sigmoid=OF_ACTIVATIONS.sigmoid
)

STATICS = {name: Static(name) for name in LOSSES}


@functools.cache
def _compiled_formula(loss: str, activation: str) -> tuple[Any, ...]:
    formula = LOSSES[loss](OPERATIONS, FORMULAS[activation][1])
    # Not cached: they become part of their callers' machine code.
    return tuple(map(numba.njit(**PART), formula))


def finish_output(loss: Any, activation: Any, o: Any, y: Any, row: Any, factor: float) -> Any:
    """Return dC/dz times `factor`, and the losses, of outputs `o` with targets `y`, lane by lane.

    `loss` and `activation`, of the outputs, are `Static`.
    """
    raise NotImplementedError("for compiled code only")


@overload(finish_output, jit_options=PART)
def _finish_output(loss: Any, activation: Any, o: Any, y: Any, row: Any, factor: float) -> Any:
    activate, gradient, value = _compiled_formula(loss.value, activation.value)

    def implementation(loss: Any, activation: Any, o: Any, y: Any, row: Any, factor: float) -> Any:
        return gradient(activate(o, row), y, factor), value(o, y, row)

    return implementation


def row_of(loss: Any, outputs: Any, start: int, n: int) -> Any:
    """Return the `Row` of outputs[start : start + n], n >= 1, for `loss`, a `Static`."""
    raise NotImplementedError("for compiled code only")


@overload(row_of, jit_options=PART)
def _row_of(loss: Any, outputs: Any, start: int, n: int) -> Any:
    def not_needed(loss: Any, outputs: Any, start: int, n: int) -> Any:
        return Row(F(0), F(1), F(0))

    def of_logits(loss: Any, outputs: Any, start: int, n: int) -> Any:
        return _softmax_row(outputs, start, n)

    return of_logits if loss.value in NEEDS_ROW else not_needed


@compiled
def _softmax_row(z: Any, start: int, n: int) -> Any:
    first = at(z, start)
    highest = zeros(ONE, ONE) + first
    for c in range(0, n, LANES):
        count = min(LANES, n - c)
        highest = maximum(highest, fill_lanes(load_part(z, start + c, count), count, first))
    largest = lane_max(highest)
    exps = zeros(ONE, ONE)
    for c in range(0, n, LANES):
        count = min(LANES, n - c)
        exps = exps + mask_lanes(_exp(load_part(z, start + c, count) - largest), count)
    total = lane_sum(exps)
    return Row(largest, total, F(math.log(total)))
