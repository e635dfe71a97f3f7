"""Activation functions for CUDA kernels, each given once by two formulas on float32.

The first is a = f(z); the second is f'(z) written in terms of a, as backward never sees z again. Whoever makes a kernel
takes both from `FORMULAS` by the activation's name.
"""

import math
from typing import Any

import numpy as np

from .cuda_compilation import device_function

F = np.float32
ZERO = F(0)
ONE = F(1)


@device_function
def _sigmoid(z: Any) -> Any:
    """Compute sigma(z) = 1 / (1 + exp(-z)); where z < 0 as exp(z) / (exp(z) + 1), so that no exp overflows."""
    e = F(math.exp(-abs(z)))
    return (ONE if z >= ZERO else e) / (ONE + e)


@device_function
def _sigmoid_slope(a: Any) -> Any:
    return a * (ONE - a)


FORMULAS = {"sigmoid": (_sigmoid, _sigmoid_slope)}
