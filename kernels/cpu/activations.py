"""The activation functions of `gpunn.kernels.formulas.activations` on lanes; kernels take them as a `Static`."""

from typing import Any

import numba
import numpy as np
from numba.extending import overload

from ..compilation import PART, compiled
from ..formulas.activations import ACTIVATIONS, Formula, Operations
from .vector_math import positive, saturated
from .vectors import Static, fma, maximum, minimum

F = np.float32

# tanh(x) = x P(x^2) / Q(x^2) for |x| <= LIMIT, as in Eigen and XLA; beyond that, 1, which is within 3e-7.
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
def _tanh(z: Any) -> Any:
    """Compute tanh(z) within 3e-7; NaN stays NaN.

    Exactly +-1 beyond +-7.9, so that saturated neurons have slope 0 as in float64; Adam would turn any other slope,
    however small, into a full step.
    """
    # Estrin's scheme has shorter chains of dependent operations than Horner's.
    x2 = z * z
    x4 = x2 * x2
    x8 = x4 * x4
    low = fma(fma(x2, P[3], P[2]), x4, fma(x2, P[1], P[0]))
    high = fma(x4, P[6], fma(x2, P[5], P[4]))
    p = z * fma(high, x8, low)
    q = fma(fma(x2, Q[3], Q[2]), x4, fma(x2, Q[1], Q[0]))
    return saturated(p / q, z, LIMIT)


@compiled
def _sigmoid(z: Any) -> Any:
    """Compute sigma(z) = 1 / (1 + exp(-z)) = (1 + tanh(z / 2)) / 2, within 2e-7; NaN stays NaN."""
    return fma(_tanh(F(0.5) * z), F(0.5), F(0.5))


@compiled
def _expm1(z: Any) -> Any:
    """Compute exp(z) - 1 = 2 t / (1 - t) with t = tanh(z / 2), for z <= 0, where nothing cancels; NaN stays NaN."""
    t = _tanh(F(0.5) * z)
    return (t + t) / (F(1) - t)


OPERATIONS = Operations(
    number=F, minimum=minimum, maximum=maximum, positive=positive, sigmoid=_sigmoid, tanh=_tanh, expm1=_expm1
)


def _compiled_formula(formula: Formula) -> tuple[Any, Any]:
    """Compile the two functions of a formula; not cached, as they become part of their callers' machine code."""
    activate, slope = formula(OPERATIONS)
    return numba.njit(**PART)(activate), numba.njit(**PART)(slope)


FORMULAS = {name: _compiled_formula(formula) for name, formula in ACTIVATIONS.items()}


STATICS = {name: Static(name) for name in ACTIVATIONS}
SIGMOID = STATICS["sigmoid"]


def activate(activation: Any, z: Any) -> Any:
    """Return f(z), lane by lane."""
    raise NotImplementedError("for compiled code only")


def slope(activation: Any, a: Any) -> Any:
    """Return f'(z) in terms of a = f(z), lane by lane."""
    raise NotImplementedError("for compiled code only")


@overload(activate, jit_options=PART)
def _activate(activation: Any, z: Any) -> Any:
    formula = FORMULAS[activation.value][0]

    def implementation(activation: Any, z: Any) -> Any:
        return formula(z)

    return implementation


@overload(slope, jit_options=PART)
def _slope(activation: Any, a: Any) -> Any:
    formula = FORMULAS[activation.value][1]

    def implementation(activation: Any, a: Any) -> Any:
        return formula(a)

    return implementation
