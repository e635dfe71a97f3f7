"""The sparse form of images, shared by networks that are trained on the same ones."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, final

import numpy as np
from numpy.typing import NDArray


@final
class Shelf:
    """Images and their sparse forms, for as long as they are shared."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[tuple[int, tuple[int, ...]], tuple[NDArray[np.uint8], Any]] = {}

    def get(self, images: NDArray[np.uint8]) -> Any:
        from gpunn.kernels.cpu.sparse import find_nonzero

        key = images.ctypes.data, images.shape
        with self._lock:  # others that need the same form wait for it
            if key not in self._found:
                # With the images, so that their memory isn't given to other ones.
                self._found[key] = images, find_nonzero(images)
            return self._found[key][1]


_SHELF: ContextVar[Shelf | None] = ContextVar("shelf", default=None)


@contextmanager
def shared_nonzero(shelf: Shelf | None = None) -> Iterator[None]:
    """Keep every sparse form that `nonzero_of` makes in the block, in copies of this context too, for its next calls.

    They are kept on `shelf`, by default on that of the block around this one, or on a new one. The images must not
    change meanwhile.
    """
    token = _SHELF.set(shelf or _SHELF.get() or Shelf())
    try:
        yield
    finally:
        _SHELF.reset(token)


def nonzero_of(images: NDArray[np.uint8]) -> Any:
    """Return the non-zero pixels of `images` (n, n_pixels), C-contiguous; see `gpunn.kernels.cpu.sparse`."""
    return (_SHELF.get() or Shelf()).get(images)
