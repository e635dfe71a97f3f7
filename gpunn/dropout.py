"""Dropout's masks: which activations each example goes without, by a hash of where they are.

No generator has to be asked in any order, so that every device and engine drops the same. The hash is that of
`gpunn.kernels.formulas.dropout`.
"""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from gpunn.activations import Array
from gpunn.kernels.formulas.dropout import COLUMN, LAST, ROUNDS, ROW, threshold

DROPOUT = 2
"""Tells this generator from that of the epochs' orders, and from early stopping's, 1."""


def keys(seed: int, epoch: int, layers: int) -> list[int]:
    """Return a 32-bit key for each hidden layer, in this epoch of a training drawn from `seed`."""
    found: list[int] = np.random.default_rng((seed, DROPOUT, epoch)).integers(0, 2**32, layers).tolist()
    return found


def mask(xp: Any, key: int, first: int, shape: tuple[int, int], *, share: float, dtype: DTypeLike) -> Array:
    """Return 0 for a `share` of the places of `shape` (m, n), and 1 / (1 - share) for the others.

    `first` is the place in the epoch of the batch's first example. Source: Srivastava et al., "Dropout", 2014, with the
    scaling in training instead of after it.
    """
    rows = xp.arange(first, first + shape[0], dtype=np.uint32)[:, None] * ROW
    columns = xp.arange(shape[1], dtype=np.uint32) * COLUMN
    h = (rows + columns) ^ key
    for shift, multiplier in ROUNDS:
        h ^= h >> shift
        h *= multiplier
    h ^= h >> LAST
    return (h >= threshold(share)).astype(dtype) * (1 / (1 - share))
