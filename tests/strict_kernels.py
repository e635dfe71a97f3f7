"""A stand-in for the CUDA kernels that computes on the host and is as strict as a GPU: it takes handles and numbers."""

import functools
import inspect
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


Submit = Callable[[Callable[[], None]], None]


def at_once(work: Callable[[], None]) -> None:
    work()


class Operation:
    """An operation of the oracle's, for handles; `noted` gets the name of each launch, which `submit` runs."""

    def __init__(self, function: Callable[..., None], noted: list[str], submit: Submit) -> None:
        self._function, self._noted, self._submit = function, noted, submit
        self._signature = inspect.signature(function)

    def prepare(self, *args: Any, **kwargs: Any) -> list[Callable[[], None]]:
        given = self._signature.bind(*args, **kwargs).arguments
        assert all(isinstance(value, Handle | int | float | str | Numbers | tuple) for value in given.values())
        launch = functools.partial(self._launch, *args, **kwargs)
        return [lambda: self._submit(launch)]

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        for launch in self.prepare(*args, **kwargs):
            launch()

    def _launch(self, *args: Any, **kwargs: Any) -> None:
        bound = self._signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            bound.arguments[name] = self._host(name, value)
        # Handles of the same memory are the same array to a kernel.
        target = bound.arguments.get("out")
        if isinstance(target, np.ndarray):
            for name, value in bound.arguments.items():
                bound.arguments[name] = target if _are_same(value, target) else value
        self._noted.append(self._function.__name__)
        self._function(*bound.args, **bound.kwargs)

    def _host(self, name: str, value: Any) -> Any:
        if isinstance(value, tuple) and not isinstance(value, Numbers):
            return tuple(self._host(name, each) for each in value)
        if not isinstance(value, Handle):
            return value
        array = unwrap(value.array)
        if name not in READ or self._function is next_batch:
            return array
        # Numbers that kernels find on the GPU.
        assert (array.shape, array.dtype) == READ[name]
        return Numbers(*array.tolist()) if name == "numbers" else array[0].item()


READ = {
    "factor": ((1,), np.float32),
    "key": ((1,), np.uint32),
    "first": ((1,), np.uint32),
    "numbers": ((len(Numbers._fields),), np.float32),
}
"""Shape and dtype of the arrays that may take the place of numbers."""


def next_batch(
    order: Any, labels: Any, table: Any, place: Any, *, rows: Any, classes: Any, first: Any, numbers: Any
) -> None:
    number, begin = place.tolist()
    part = slice(begin, begin + len(rows))
    rows[:], classes[:], numbers[:], first[0] = order[part], labels[part], table[number], begin
    place += 1, len(rows)


class StrictKernels:
    """The oracle's kernels, which take handles, numbers and names alone, and note what has been made and launched."""

    def __init__(self) -> None:
        self.launched: list[str] = []
        self.handles = 0
        self.submit: Submit = at_once

    def as_handle(self, array: DeviceArray) -> Handle:
        self.handles += 1
        return Handle(array)

    def __getattr__(self, name: str) -> Operation:
        function = next_batch if name == "next_batch" else getattr(oracle, name)
        return Operation(function, self.launched, self.submit)


def _are_same(array: Any, other: np.ndarray) -> bool:
    """Whether both are the same memory, by their addresses and shapes."""
    return isinstance(array, np.ndarray) and array.ctypes.data == other.ctypes.data and array.nbytes == other.nbytes


def strict_gpu(monkeypatch: pytest.MonkeyPatch) -> CudaBackend:
    """Return a GPU with stand-ins for CuPy and kernels."""
    cupy = StrictCupy()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(CudaBackend, "_tried_kernels", lambda self: StrictKernels())
    return CudaBackend(cupy, 0)
