"""A stand-in for CuPy that computes on the host and is as strict as a GPU.

Its arrays refuse to meet NumPy arrays and to turn into one implicitly, as CuPy's do. So code that passes with it
moves data between host and device only where it says so. What it can't show is what a GPU computes.
"""

import ctypes
from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

FUNCTIONS = frozenset(
    {
        "arange",
        "bincount",
        "empty",
        "exp",
        "expm1",
        "eye",
        "log",
        "log1p",
        "maximum",
        "minimum",
        "negative",
        "reciprocal",
        "sqrt",
        "tanh",
        "vdot",
        "zeros",
        "zeros_like",
    }
)
"""What gpunn may use; each was looked up in CuPy, and does there what it does in NumPy."""


ADDRESSES: set[int] = set()
"""Addresses of arrays "on the device" that were asked for."""


class OutOfMemoryError(MemoryError):
    pass


class CUDARuntimeError(RuntimeError):
    __module__ = "cupy_backends.cuda.api.runtime"


class DeviceArray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array "on the device": every operation takes device arrays and Python scalars alone."""

    def __init__(self, data: np.ndarray) -> None:
        self.data = data

    def __array__(self, *args: object, **kwargs: object) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if "out" in kwargs:
            kwargs["out"] = tuple(unwrap(array) for array in kwargs["out"])
        result = getattr(ufunc, method)(*(unwrap(array) for array in inputs), **kwargs)
        return self if "out" in kwargs else wrap(result)

    def __getitem__(self, index: Any) -> Any:
        return wrap(self.data[index if isinstance(index, slice | int) else unwrap(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        self.data[index if isinstance(index, slice | int) else unwrap(index)] = unwrap(value)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        address = self.data.ctypes.data
        ADDRESSES.add(address)
        return {"shape": self.shape, "typestr": self.data.dtype.str, "data": (address, False), "version": 3}

    def __len__(self) -> int:
        return len(self.data)

    def __int__(self) -> int:
        return int(self.data)

    def __float__(self) -> float:
        return float(self.data)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self.data, name)
        if isinstance(found, np.ndarray):
            return wrap(found)
        return checked(found) if callable(found) else found


def unwrap(value: Any) -> Any:
    if isinstance(value, DeviceArray):
        return value.data
    if isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"Unsupported type {type(value)}")
    return value


def wrap(value: Any) -> Any:
    # CuPy has no scalars: reductions give arrays without dimensions.
    return DeviceArray(np.asarray(value)) if isinstance(value, np.ndarray | np.generic) else value


def checked(function: Any) -> Any:
    def on_device(*args: Any, **kwargs: Any) -> Any:
        return wrap(function(*map(unwrap, args), **{name: unwrap(value) for name, value in kwargs.items()}))

    return on_device


class Runtime:
    def __init__(self, n_devices: int, driver: int) -> None:
        self.n_devices = n_devices
        self.driver = driver
        self.current = [0]

    def getDeviceCount(self) -> int:  # noqa: N802
        return self.n_devices

    def driverGetVersion(self) -> int:  # noqa: N802
        return self.driver

    def runtimeGetVersion(self) -> int:  # noqa: N802
        return 13000

    def memGetInfo(self) -> tuple[int, int]:  # noqa: N802
        return 2**30 * (1 + self.current[-1]), 8 * 2**30

    def getDeviceProperties(self, index: int) -> dict[str, Any]:  # noqa: N802
        return {"name": b"Stand-in", "major": 9, "minor": 0, "totalGlobalMem": 8 * 2**30}


class Cublas:
    """The library: its functions as `cupy.cuda.cublas` has them."""

    def __init__(self) -> None:
        self.mode = self.pointer_mode = 0
        self.modes: list[int] = []
        """In which the products were computed."""

    def getMathMode(self, handle: int) -> int:  # noqa: N802
        assert handle == HANDLE
        return self.mode

    def setMathMode(self, handle: int, mode: int) -> None:  # noqa: N802
        assert handle == HANDLE
        self.mode = mode

    def getVersion(self, handle: int) -> int:  # noqa: N802
        assert handle == HANDLE
        return 130_100

    def getPointerMode(self, handle: int) -> int:  # noqa: N802
        assert handle == HANDLE
        return self.pointer_mode

    def setPointerMode(self, handle: int, mode: int) -> None:  # noqa: N802
        assert handle == HANDLE
        self.pointer_mode = mode

    def sgemm(self, handle: int, transa: int, transb: int, m: int, n: int, k: int, *addresses: int) -> None:
        """Compute C = alpha A B + beta C, for matrices by columns; the factors are where the pointer mode says."""
        assert handle == HANDLE
        alpha, a, lda, b, ldb, beta, c, ldc = addresses
        assert {a, b, c} <= ADDRESSES
        assert alpha in ADDRESSES or not self.pointer_mode
        A = _by_columns(a, lda, k if transa else m, m if transa else k)
        B = _by_columns(b, ldb, n if transb else k, k if transb else n)
        C = _by_columns(c, ldc, m, n)
        factor, kept = (_by_columns(address, 1, 1, 1)[0, 0] for address in (alpha, beta))
        self.modes.append(self.mode)
        C[...] = factor * ((A.T if transa else A) @ (B.T if transb else B)) + (kept * C if kept else 0)


def _by_columns(address: int, leading: int, rows: int, columns: int) -> np.ndarray:
    """Return float32 numbers in memory as a matrix by columns, `leading` numbers apart."""
    assert leading >= rows
    memory = (ctypes.c_float * (leading * columns)).from_address(address)
    return np.ctypeslib.as_array(memory).reshape(columns, leading).T[:rows]


HANDLE = 7


class Device:
    def __init__(self, runtime: Runtime, index: int) -> None:
        self.id = index
        self._runtime = runtime

    def __enter__(self) -> None:
        self._runtime.current.append(self.id)

    def __exit__(self, *exc: object) -> None:
        self._runtime.current.pop()

    def synchronize(self) -> None:
        pass


class StrictCupy:
    """The module: `StrictCupy(n_devices=2)` behaves as `cupy` does on a machine with two GPUs."""

    __version__ = "0"

    def __init__(self, n_devices: int = 1, driver: int = 13000) -> None:
        memory = type("memory", (), {"OutOfMemoryError": OutOfMemoryError})
        runtime = Runtime(n_devices, driver)
        self.cublas = Cublas()
        self.cuda: Any = SimpleNamespace(
            Device=partial(Device, runtime),
            runtime=runtime,
            memory=memory,
            cublas=self.cublas,
            get_cublas_handle=lambda: HANDLE,
        )

    def asarray(self, array: Any) -> DeviceArray:
        return array if isinstance(array, DeviceArray) else DeviceArray(np.array(array))

    def array(self, array: Any, dtype: Any = None) -> DeviceArray:
        return DeviceArray(np.array(array.data if isinstance(array, DeviceArray) else array, dtype))

    def concatenate(self, arrays: Sequence[DeviceArray]) -> DeviceArray:
        return DeviceArray(np.concatenate([unwrap(array) for array in arrays]))

    def asnumpy(self, array: DeviceArray) -> np.ndarray:
        return array.data.copy()

    def __getattr__(self, name: str) -> Any:
        if name not in FUNCTIONS:
            raise AttributeError(f"module 'cupy' has no attribute {name!r}")
        return checked(getattr(np, name))
