"""A stand-in for the CUDA kernels that computes on the host and is as strict as a GPU: it takes handles and numbers."""

import sys
from collections.abc import Callable
from typing import Any

import pytest

from gpunn.backends.cuda import CudaBackend
from gpunn.kernels.formulas.steps import Numbers

from . import oracle
from .strict_cupy import DeviceArray, StrictCupy, unwrap


class Handle:
    """What kernels get for an array on the device."""

    def __init__(self, array: DeviceArray) -> None:
        assert isinstance(array, DeviceArray)
        self.array = array


class StrictKernels:
    """The oracle's kernels, which take handles, numbers and names alone, and note what has been launched."""

    as_handle = Handle

    def __init__(self) -> None:
        self.launched: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        kernel = getattr(oracle, name)

        def launch(*args: Any, out: Handle) -> None:
            assert all(isinstance(value, Handle | int | float | str | Numbers) for value in args)
            self.launched.append(name)
            kernel(*(unwrap(value.array) if isinstance(value, Handle) else value for value in args), out=out.array.data)

        return launch


def strict_gpu(monkeypatch: pytest.MonkeyPatch) -> CudaBackend:
    """Return a GPU with stand-ins for CuPy and kernels."""
    cupy = StrictCupy()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "cupy.cublas", cupy.cublas)
    monkeypatch.setattr(CudaBackend, "_tried_kernels", lambda self: StrictKernels())
    return CudaBackend(cupy, 0)
