"""What a comparison of a fused kernel with its unfused form is made of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpunn import Backend
from gpunn.equations import Array

Work = Callable[[], object]

FACTOR = 1e-3
"""The learning rate, and the factor of delta."""


@dataclass(frozen=True)
class Case:
    """A kernel at the shape of a batch, or of the weights that it descends, on one device."""

    shape: tuple[int, int]
    fused: Work
    unfused: Work
    results: Callable[[], list[tuple[Array, Array]]]
    """Pairs of what the two have computed."""
    n_bytes: int
    """Read and written by a kernel that touches every number once."""


class Arrays:
    """Random arrays on a device, and the namespace and kernels that work on them."""

    def __init__(self, backend: Backend) -> None:
        self._rng = np.random.default_rng(0)
        self._backend = backend
        self.xp, self.kernels = backend.xp, backend.kernels

    def uniform(self, *shape: int) -> Array:
        """Return float32 numbers in [0, 1)."""
        return self._backend.asarray(self._rng.random(shape, dtype=np.float32))

    def whole(self, below: int, *shape: int, dtype: type[np.integer[Any]]) -> Array:
        """Return whole numbers from 0 to `below` - 1."""
        return self._backend.asarray(self._rng.integers(0, below, shape, dtype))

    def empty(self, *shape: int, dtype: Any = np.float32) -> Array:
        """Return an array to write to."""
        return self.xp.empty(shape, dtype)

    def shared(self, *arrays: Array) -> list[Array]:
        """Return `arrays` as the kernels take them fastest: on GPUs as handles, made once."""
        as_handle = getattr(self.kernels, "as_handle", lambda array: array)
        return [as_handle(array) for array in arrays]
