"""Dropout masks from a counter-based hash of each activation's position.

With no generator state, every device and engine drops the same activations. The hash is that of
`gpunn.kernels.formulas.dropout`.
"""

import operator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from gpunn.activations import Array
from gpunn.kernels.formulas.dropout import Operations, hash_of, threshold

DROPOUT = 2
"""Second seed component of dropout's generator; epoch orders have none, early stopping has 1."""

_hashed = hash_of(Operations(operator.add, operator.xor, operator.mul, operator.rshift))


def keys(seed: int, epoch: int, layers: int) -> list[int]:
    """Return a 32-bit key for each of `layers` hidden layers in `epoch`, drawn from the training seed `seed`."""
    found: list[int] = np.random.default_rng((seed, DROPOUT, epoch)).integers(0, 2**32, layers).tolist()
    return found


def mask(xp: Any, key: int, first: int, shape: tuple[int, int], *, share: float, dtype: DTypeLike) -> Array:
    """Return a mask of `shape` (m, n): 0 with probability `share`, otherwise 1 / (1 - share).

    `first` is the position of the batch's first example in the epoch. Source: Srivastava et al., "Dropout", 2014, as
    inverted dropout: scaled in training, not at test time.
    """
    rows = xp.arange(first, first + shape[0], dtype=np.uint32)[:, None]
    columns = xp.arange(shape[1], dtype=np.uint32)
    kept = _hashed(rows, columns, key) >= threshold(share)
    return kept.astype(dtype) * (1 / (1 - share))
