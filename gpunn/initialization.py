"""Weight initialisation."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gpunn.errors import ConfigurationError

Layers = Sequence[tuple[int, int]]
"""(n_in, n_out) of each layer."""

DIVISORS: dict[str, Callable[[int, int], float]] = {
    # Keeps pre-activations in the steep part of the sigmoid for any number of inputs (LeCun et al., "Efficient
    # BackProp", 1998, section 4.6).
    "scaled": lambda n_in, _: math.sqrt(n_in),
    # Standard normal, biases included (M. Nielsen, "Neural Networks and Deep Learning", chapter 1).
    "normal": lambda _, __: 1.0,
    # A compromise between preserving the variance of activations and that of gradients (Glorot and Bengio,
    # "Understanding the difficulty of training deep feedforward neural networks", 2010, equation 12).
    "xavier": lambda n_in, n_out: math.sqrt((n_in + n_out) / 2),
    # For ReLU, which halves the variance (He et al., "Delving Deep into Rectifiers", 2015, equation 10).
    "he": lambda n_in, _: math.sqrt(n_in / 2),
}
"""Divisor of standard normal draws, as a function of n_in and n_out."""


RELU_OUTPUT = 0.1, 0.2
"""Weight factor and bias of ReLU and leaky ReLU outputs.

A ReLU output that is 0 for every image of its class has no gradient and never learns; a leaky one hardly learns. So all
start active, slightly above 0.1, the mean target of ten classes.
"""


def draw(
    init: str, layers: Layers, seed: int, dtype: DTypeLike, *, output: str = "sigmoid"
) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """Return weights (n_out, n_in) and biases (n_out,) of each layer; biases are 0 except with `init="normal"`.

    `output` is the activation function of the last layer; for ReLU outputs see `RELU_OUTPUT`. Values are drawn in
    float64 and rounded to `dtype`. Raises `ConfigurationError` if `init` isn't in `DIVISORS`.
    """
    if init not in DIVISORS:
        raise ConfigurationError(f"init must be one of {', '.join(DIVISORS)}, got {init!r}")
    rng, divisor = np.random.default_rng(seed), DIVISORS[init]
    weights = [(rng.standard_normal((n_out, n_in)) / divisor(n_in, n_out)).astype(dtype) for n_in, n_out in layers]
    if init == "normal":
        biases = [rng.standard_normal(n_out).astype(dtype) for _, n_out in layers]
    else:
        biases = [np.zeros(n_out, dtype) for _, n_out in layers]
    if output in {"relu", "leaky_relu"}:
        share, start = RELU_OUTPUT
        weights[-1] *= np.asarray(share, dtype)
        biases[-1][:] = start
    return weights, biases
