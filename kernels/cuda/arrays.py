"""Arrays on the GPU, checked without waiting for the GPU.

An array is one of CuPy's or a handle of one (`jit.as_cuda_array`), or with CUDA simulated one of NumPy's.
"""

from collections.abc import Callable
from typing import Any, final

import numpy as np

from ..checks import Arrays
from ..contract import Contract
from .jit import SIMULATED, as_cuda_array, cuda


@final
class DeviceArrays(Arrays):
    """Handles of arrays on the GPU."""

    def accept(self, **arrays: Any) -> list[Any]:
        return [_handle(name, array) for name, array in arrays.items()]

    def is_contiguous(self, array: Any) -> bool:
        return bool(array.flags.c_contiguous if SIMULATED else array.is_c_contiguous())

    def is_writable(self, array: Any) -> bool:  # noqa: ARG002 - all are
        return True

    def are_same(self, left: Any, right: Any) -> bool:
        return _addresses(left) == _addresses(right)

    def overlap(self, left: Any, right: Any) -> bool:
        (begin, end), (other_begin, other_end) = _addresses(left), _addresses(right)
        return begin < other_end and other_begin < end

    def check_below(self, name: str, numbers: Any, limit: int) -> None:
        """Do nothing: reading the numbers would mean waiting. Kernels make NaN of what is out of range."""

    def holds_numbers(self, value: Any) -> bool:
        return not isinstance(value, np.generic) and hasattr(value, "dtype")


ARRAYS = DeviceArrays()
CONTRACT = Contract(ARRAYS)


def to_read(value: Any, make: Callable[[], tuple[Any, ...]]) -> Any:
    """Return what a kernel reads numbers from: the handle of an array that holds them, or the tuple that `make` makes.

    A kernel indexes either.
    """
    if ARRAYS.holds_numbers(value):
        return _handle("numbers", value)
    return make()


def as_words(images: Any) -> Any:
    """Return images (n, any) uint8 as words of four pixels, uint32; None where rows aren't whole, aligned words."""
    size = np.dtype(np.uint32).itemsize
    if not images.size or images.shape[1] % size or _addresses(images)[0] % size:
        return None
    return images.view(np.uint32)


def scratch(shape: tuple[int, ...], dtype: Any) -> Any:
    """Return a new array on the GPU for a launch to write and the next one to read."""
    return np.empty(shape, dtype) if SIMULATED else cuda.device_array(shape, dtype)


def _handle(name: str, array: Any) -> Any:
    if SIMULATED:
        if not isinstance(array, np.ndarray):
            raise TypeError(
                f"found {name} of type {type(array).__name__}, expected a NumPy array, as CUDA is simulated"
            )
        return array
    if isinstance(array, cuda.devicearray.DeviceNDArray):
        return array
    if not hasattr(array, "__cuda_array_interface__"):
        raise TypeError(
            f"found {name} of type {type(array).__name__}, expected an array on the GPU: pass cupy.asarray({name})"
        )
    return as_cuda_array(array)


def _addresses(array: Any) -> tuple[int, int]:
    """Return where the memory of a C-contiguous `array` begins, and where it has ended."""
    begin: int = array.ctypes.data if SIMULATED else array.device_ctypes_pointer.value
    return begin, begin + array.nbytes
