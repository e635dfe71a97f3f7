"""Forward pass in chunks of examples, to save memory."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunn.equations import Array, forward

CHUNK = 1 << 22
"""Number of activations per chunk."""


def outputs_of(xp: Any, weights: Sequence[Array], biases: Sequence[Array], functions: Sequence[str], X: Any) -> Array:
    """Return a^L (n, n_L) for `X` (n, n_0), an array of `xp`, or a sparse matrix in CSR form on the host.

    All are of one floating dtype; the weights of a layer are (n_out, n_in).
    """
    rows = max(1, CHUNK // (weights[0].shape[1] + sum(map(len, biases))))
    found = xp.empty((X.shape[0], len(biases[-1])), biases[-1].dtype)
    # Overflowing exponentials still give the right result.
    with np.errstate(over="ignore", invalid="ignore"):
        for first in range(0, X.shape[0], rows):
            own = slice(first, first + rows)
            found[own] = forward(xp, weights, biases, X[own], functions)[-1]
    return found
