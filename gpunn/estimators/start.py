"""Initial network, the same as scikit-learn's for the same random state."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


def draw(
    sizes: Sequence[int], activation: str, random_state: np.random.RandomState, dtype: DTypeLike
) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """Return weights (n_out, n_in) and biases (n_out,) of each layer, uniform in +-sqrt(factor / (n_in + n_out)).

    The factor is 6, or 2 with activation="logistic" (Glorot and Bengio, "Understanding the difficulty of training deep
    feedforward neural networks", 2010, equation 16). Values are drawn in float64 and rounded, each layer's weights (by
    inputs) before its biases.
    """
    factor = 2 if activation == "logistic" else 6
    weights, biases = [], []
    for n_in, n_out in itertools.pairwise(sizes):
        bound = math.sqrt(factor / (n_in + n_out))
        weights.append(np.ascontiguousarray(random_state.uniform(-bound, bound, (n_in, n_out)).T, dtype))
        biases.append(random_state.uniform(-bound, bound, n_out).astype(dtype))
    return weights, biases
