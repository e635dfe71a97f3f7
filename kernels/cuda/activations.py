"""The activation functions of `gpunn.kernels.formulas.activations` on float32 in CUDA kernels.

Whoever makes a kernel takes both functions of an activation from `FORMULAS` by its name: f, and f' in terms of f(z).
"""

import math
from typing import Any

import numpy as np

from ..formulas.activations import ACTIVATIONS, Formula, Operations
from .jit import device_function

F = np.float32
ZERO = F(0)
ONE = F(1)


@device_function
def minimum(left: Any, right: Any) -> Any:
    """Return the smaller number, or the left one where either is NaN."""
    return right if right < left else left


@device_function
def maximum(left: Any, right: Any) -> Any:
    """Return the larger number, or the left one where either is NaN."""
    return right if right > left else left


@device_function
def _positive(a: Any) -> Any:
    return ONE if a > ZERO else ZERO


@device_function
def sigmoid(z: Any) -> Any:
    """Compute sigma(z) = 1 / (1 + exp(-z)); where z < 0 as exp(z) / (exp(z) + 1), so that no exp overflows."""
    e = F(math.exp(-abs(z)))
    return (ONE if z >= ZERO else e) / (ONE + e)


@device_function
def _tanh(z: Any) -> Any:
    return F(math.tanh(z))


@device_function
def _expm1(z: Any) -> Any:
    return F(math.expm1(z))


OPERATIONS = Operations(
    number=F, minimum=minimum, maximum=maximum, positive=_positive, sigmoid=sigmoid, tanh=_tanh, expm1=_expm1
)


def _made(formula: Formula) -> tuple[Any, Any]:
    activate, slope = formula(OPERATIONS)
    return device_function(activate), device_function(slope)


FORMULAS = {name: _made(formula) for name, formula in ACTIVATIONS.items()}
