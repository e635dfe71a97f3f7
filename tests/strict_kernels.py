"""A stand-in for the CUDA kernels that computes on the host and is as strict as a GPU: it takes handles and numbers."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gpunn.backends.cuda import CudaBackend
from gpunn.kernels.formulas.steps import Numbers

from . import oracle
from .strict_cupy import DeviceArray, StrictCupy, unwrap

DTYPES = ("float32", "uint8", "uint32", "int64")
"""Of arrays that kernels take; numbers added up over batches are float64, in arrays of one element."""


class Handle:
    """What kernels get for an array on the device: its memory, as it lies on the current GPU."""

    def __init__(self, array: DeviceArray) -> None:
        if not isinstance(array, DeviceArray):
            raise TypeError(f"found an array of type {type(array).__name__}, expected one on the GPU")
        host = unwrap(array)
        if str(host.dtype) not in DTYPES and (str(host.dtype), host.shape) != ("float64", (1,)):
            raise TypeError(f"found an array of {host.dtype}, expected one of {', '.join(DTYPES)}")
        if not host.flags.c_contiguous:
            raise ValueError(f"found an array with strides {host.strides}, expected a C-contiguous one")
        if host.ctypes.data % host.itemsize:
            raise ValueError(f"found {host.dtype} at address {host.ctypes.data}, which isn't a multiple of its size")
        self.array = array


class StrictKernels:
    """The oracle's kernels, which take handles, numbers and names alone, and note what has been made and launched."""

    def __init__(self) -> None:
        self.launched: list[str] = []
        self.handles = 0

    def as_handle(self, array: DeviceArray) -> Handle:
        self.handles += 1
        return Handle(array)

    def __getattr__(self, name: str) -> Callable[..., None]:
        kernel = getattr(oracle, name)

        def launch(*args: Any, out: Handle) -> None:
            assert all(isinstance(value, Handle | int | float | str | Numbers) for value in args)
            self.launched.append(name)
            # Handles of the same memory are the same array to a kernel.
            target = unwrap(out.array)
            arrays = [unwrap(value.array) if isinstance(value, Handle) else value for value in args]
            kernel(*(target if _are_same(array, target) else array for array in arrays), out=target)

        return launch


def _are_same(array: Any, other: np.ndarray) -> bool:
    """Whether both are the same memory, by their addresses and shapes."""
    return isinstance(array, np.ndarray) and array.ctypes.data == other.ctypes.data and array.nbytes == other.nbytes


def strict_gpu(monkeypatch: pytest.MonkeyPatch) -> CudaBackend:
    """Return a GPU with stand-ins for CuPy and kernels."""
    cupy = StrictCupy()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "cupy.cublas", cupy.cublas)
    monkeypatch.setattr(CudaBackend, "_tried_kernels", lambda self: StrictKernels())
    return CudaBackend(cupy, 0)
