"""What CUDA kernels demand of their arrays, as `gpunn.kernels.contract` does: found out without waiting for the GPU.

An array is one of CuPy's, or a handle of one (`jit.as_cuda_array`), or with CUDA simulated one of NumPy's.
What they hold isn't looked at, as that would wait for the GPU.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .jit import SIMULATED, as_cuda_array, cuda

FLOAT32 = np.dtype(np.float32)


def handles(**arrays: Any) -> list[Any]:
    """Return handles of `arrays`, given by their names in messages; raise `TypeError` for what isn't on the GPU."""
    return [_handle(name, array) for name, array in arrays.items()]


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


def check_array(name: str, array: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Raise `TypeError` or `ValueError` where the handle `array` isn't a C-contiguous array of `dtype` and `shape`."""
    if array.dtype != dtype:
        raise TypeError(f"found {name} of dtype {array.dtype}, expected {dtype}")
    if array.shape != shape:
        raise ValueError(f"found {name} of shape {array.shape}, expected {shape}")
    if not _c_contiguous(array):
        raise ValueError(f"found {name} with strides {array.strides}, expected a C-contiguous array")


def check_output(out: Any, others: Sequence[Any], *, first: Any = None, ndim: int | None = None) -> None:
    """Raise where `out` isn't float32, of `ndim` dimensions, C-contiguous, and apart from `others` in memory.

    It may lie exactly where `first` does, where that is given, or apart from it.
    """
    if out.dtype != FLOAT32:
        raise TypeError(f"found out of {out.dtype}, expected a float32 array")
    if ndim is not None and len(out.shape) != ndim:
        raise ValueError(f"found out of shape {out.shape}, expected {ndim} dimensions")
    if not _c_contiguous(out):
        raise ValueError("found an out that is not C-contiguous, expected one that is")
    begin, end = _addresses(out)
    theirs = [_addresses(other) for other in others]
    if first is not None and (place := _addresses(first)) != (begin, end):
        theirs.append(place)
    if any(begin < their_end and their_begin < end for their_begin, their_end in theirs):
        raise ValueError("found out overlapping an input, expected one of its own (or exactly the first input)")


def _c_contiguous(array: Any) -> bool:
    return bool(array.flags.c_contiguous if SIMULATED else array.is_c_contiguous())


def _addresses(array: Any) -> tuple[int, int]:
    """Return where the memory of a C-contiguous `array` begins, and where it has ended."""
    begin: int = array.ctypes.data if SIMULATED else array.device_ctypes_pointer.value
    return begin, begin + array.nbytes
