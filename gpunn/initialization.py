"""How a network's parameters are drawn before training."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gpunn.errors import ConfigurationError

Layers = Sequence[tuple[int, int]]
"""Inputs and outputs of each layer."""

DIVISORS: dict[str, Callable[[int, int], float]] = {
    # A neuron starts in the steep part of its sigmoid, however many inputs it has (LeCun et al., "Efficient BackProp",
    # 1998, section 4.6).
    "scaled": lambda n_in, _: math.sqrt(n_in),
    # The textbook's (M. Nielsen, "Neural Networks and Deep Learning", chapter 1), biases included.
    "normal": lambda _, __: 1.0,
    # Activations and gradients keep their variance, by half each (Glorot and Bengio, "Understanding the difficulty of
    # training deep feedforward neural networks", 2010, equation 12).
    "xavier": lambda n_in, n_out: math.sqrt((n_in + n_out) / 2),
    # For ReLU, which lets through half of the variance (He et al., "Delving Deep into Rectifiers", 2015, equation 10).
    "he": lambda n_in, _: math.sqrt(n_in / 2),
}
"""What standard normal numbers are divided by, to be the weights of a layer of so many inputs and outputs."""


RELU_OUTPUT = 0.1, 0.2
"""What weights into ReLU outputs, leaky or not, are multiplied by, and their biases.

A ReLU output that is 0 for every image of its class has no gradient, and never learns; a leaky one hardly learns. So
they all start active, with a little more than the 0.1 that is the mean target of ten classes.
"""


def draw(
    init: str, layers: Layers, seed: int, dtype: DTypeLike, *, output: str = "sigmoid"
) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """Return weights (n_out, n_in) and biases (n_out,) of each layer; biases are 0, but for `init="normal"`.

    `output` is the activation function of the last layer: ReLU outputs start as `RELU_OUTPUT` says. Everything is drawn
    in float64 and rounded, so that the float32 network is the float64 one, rounded. Raises `ConfigurationError` for a
    name that isn't one of `DIVISORS`.
    """
    if init not in DIVISORS:
        raise ConfigurationError(f"found the initialisation {init!r}, expected {', '.join(DIVISORS)}")
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
