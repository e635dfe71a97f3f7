"""Arrays on the GPU, as `gpunn.kernels.contract` asks about them: found out without waiting for the GPU.

An array is one of CuPy's, or a handle of one (`jit.as_cuda_array`), or with CUDA simulated one of NumPy's.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..checks import FLOAT32, OVERLAP
from ..contract import Contract
from .jit import SIMULATED, as_cuda_array, cuda


class DeviceArrays:
    """Handles of arrays on the GPU; what they hold isn't looked at."""

    def taken(self, **arrays: Any) -> list[Any]:
        return [_handle(name, array) for name, array in arrays.items()]

    def check_array(self, name: str, array: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        if array.dtype != dtype:
            raise TypeError(f"found {name} of dtype {array.dtype}, expected {dtype}")
        if array.shape != shape:
            raise ValueError(f"found {name} of shape {array.shape}, expected {shape}")
        if not _c_contiguous(array):
            raise ValueError(f"found {name} with strides {array.strides}, expected a C-contiguous array")

    def check_output(self, out: Any, others: Sequence[Any], *, first: Any = None, ndim: int | None = None) -> None:
        if out.dtype != FLOAT32:
            raise TypeError(f"found out of {out.dtype}, expected a float32 array")
        if ndim is not None and len(out.shape) != ndim:
            raise ValueError(f"found out of shape {out.shape}, expected {ndim} dimensions")
        if not _c_contiguous(out):
            raise ValueError("found an out that is not C-contiguous, expected one that is")
        begin, end = _addresses(out)
        theirs = [_addresses(other) for other in others]
        if first is not None and (addresses := _addresses(first)) != (begin, end):
            theirs.append(addresses)
        if any(begin < their_end and their_begin < end for their_begin, their_end in theirs):
            raise ValueError(OVERLAP)

    def check_below(self, name: str, numbers: Any, limit: int) -> None:
        """Leave that to the kernels: looking would mean waiting."""


CONTRACT = Contract(DeviceArrays())


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


def _c_contiguous(array: Any) -> bool:
    return bool(array.flags.c_contiguous if SIMULATED else array.is_c_contiguous())


def _addresses(array: Any) -> tuple[int, int]:
    """Return where the memory of a C-contiguous `array` begins, and where it has ended."""
    begin: int = array.ctypes.data if SIMULATED else array.device_ctypes_pointer.value
    return begin, begin + array.nbytes
