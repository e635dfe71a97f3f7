"""What is made once of examples, for all networks that are trained on the same ones."""

import threading
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gpunn.backends.limits import usable_cores
from gpunn.engines.cpu.threads import Team
from gpunn.equations import Array, is_csr


@final
class Shelf:
    """Arrays of which things are shared, and the things that were made of them. The arrays must not change."""

    def __init__(self, arrays: Iterable[Array]) -> None:
        # Held, so that no other array gets the identity of one.
        self._arrays = {id(array): array for array in arrays}
        self._lock = threading.Lock()
        self._made: dict[Hashable, Any] = {}

    def holds(self, array: Array) -> bool:
        """Whether `array` itself is one of the arrays."""
        return id(array) in self._arrays

    def get(self, array: Array, make: Callable[[Array], Any]) -> Any:
        """Return what `make` makes of one of the arrays, or has made of it before."""
        key = id(array), make
        with self._lock:  # others that need the same thing wait for it
            if key not in self._made:
                self._made[key] = make(array)
            return self._made[key]


_SHELVES: ContextVar[tuple[Shelf, ...]] = ContextVar("shelves", default=())


@contextmanager
def sharing(shelf: Shelf) -> Iterator[None]:
    """Let the functions below return the same thing for the same array of `shelf` in the block.

    That holds for copies of this context too. Of what the shelf of a block around this one holds, that one is used.
    """
    token = _SHELVES.set((*_SHELVES.get(), shelf))
    try:
        yield
    finally:
        _SHELVES.reset(token)


def nonzero_of(inputs: Array) -> Any:
    """Return the non-zero inputs of examples in the form of `gpunn.kernels.cpu.sparse`.

    `inputs` (n, n_0) are images, uint8 and C-contiguous, or a CSR matrix of float32.
    """
    return _shared(inputs, _nonzero_numbers if is_csr(inputs) else _find_nonzero)


def writable_of(array: NDArray[Any]) -> NDArray[Any]:
    """Return `array`, or a copy, C-contiguous and writable.

    Other arrays have other types, which Numba would compile for.
    """
    found: NDArray[Any] = _shared(array, _writable)
    return found


def _shared(array: Array, make: Callable[[Array], Any]) -> Any:
    for shelf in _SHELVES.get():
        if shelf.holds(array):
            return shelf.get(array, make)
    return make(array)


def _find_nonzero(images: NDArray[np.uint8]) -> Any:
    from gpunn.kernels.cpu.sparse import find_nonzero

    return find_nonzero(images, Team(usable_cores()))


def _nonzero_numbers(matrix: Any) -> Any:
    from gpunn.kernels.cpu.sparse import nonzero_numbers

    return nonzero_numbers(matrix.data, matrix.indices, matrix.indptr, matrix.shape[1])


def _writable(array: NDArray[Any]) -> NDArray[Any]:
    return np.require(array, requirements=["C", "W"])
