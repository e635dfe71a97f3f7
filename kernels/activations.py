"""Activation functions, each given once by two formulas on lanes; kernels take an activation as a `Static`.

`activate` is a = f(z); `slope` is f'(z) written in terms of a, as backward never sees z again.
"""

from typing import Any

import numpy as np
from numba.extending import overload

from .compilation import compiled
from .simd import Static, fused, maximum, minimum

SIGMOID = Static("sigmoid")

F = np.float32

# tanh(x) = x P(x^2) / Q(x^2), as used by Eigen and XLA; from LIMIT on it is 1 to the last bit of a float32.
LIMIT = F(7.90531110763549805)
P = tuple(
    F(coefficient)
    for coefficient in (
        4.89352455891786e-03,
        6.37261928875436e-04,
        1.48572235717979e-05,
        5.12229709037114e-08,
        -8.60467152213735e-11,
        2.00018790482477e-13,
        -2.76076847742355e-16,
    )
)
Q = tuple(
    F(coefficient)
    for coefficient in (4.89352518554385e-03, 2.26843463243900e-03, 1.18534705686654e-04, 1.19825839466702e-06)
)


@compiled
def _sigmoid(z: Any) -> Any:
    """Compute sigma(z) = 1 / (1 + exp(-z)) = (1 + tanh(z / 2)) / 2, within 2e-7; NaN stays NaN."""
    x = minimum(maximum(F(0.5) * z, -LIMIT), LIMIT)
    # Estrin's scheme: fewer of the operations wait for one another than in Horner's.
    x2 = x * x
    x4 = x2 * x2
    x8 = x4 * x4
    low = fused(fused(x2, P[3], P[2]), x4, fused(x2, P[1], P[0]))
    high = fused(x4, P[6], fused(x2, P[5], P[4]))
    p = x * fused(high, x8, low)
    q = fused(fused(x2, Q[3], Q[2]), x4, fused(x2, Q[1], Q[0]))
    return fused(p / q, F(0.5), F(0.5))


@compiled
def _sigmoid_slope(a: Any) -> Any:
    return a * (F(1) - a)


FORMULAS = {"sigmoid": (_sigmoid, _sigmoid_slope)}


def activate(activation: Any, z: Any) -> Any:
    """Return f(z), lane by lane."""
    raise NotImplementedError("for compiled code only")


def slope(activation: Any, a: Any) -> Any:
    """Return f'(z) where f(z) = a, lane by lane."""
    raise NotImplementedError("for compiled code only")


@overload(activate)
def _activate(activation: Any, z: Any) -> Any:
    formula = FORMULAS[activation.value][0]

    def implementation(activation: Any, z: Any) -> Any:
        return formula(z)

    return implementation


@overload(slope)
def _slope(activation: Any, a: Any) -> Any:
    formula = FORMULAS[activation.value][1]

    def implementation(activation: Any, a: Any) -> Any:
        return formula(a)

    return implementation
