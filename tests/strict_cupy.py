"""A stand-in for CuPy that computes on the host and is as strict as a GPU.

Its arrays refuse to meet NumPy arrays or another GPU's arrays, and to turn into a NumPy array implicitly, as CuPy's do.
So code that passes with it moves data between host and device only where it says so. They take CuPy's methods and
arguments, need memory, and unlike CuPy's are only made inside `Backend.activate`. What it can't show is what a GPU
computes, and when.
"""

import ctypes
import threading
from collections.abc import Callable, Sequence
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
        "logaddexp",
        "maximum",
        "minimum",
        "multiply",
        "negative",
        "reciprocal",
        "sqrt",
        "tanh",
        "vdot",
        "zeros",
        "zeros_like",
    }
)
"""The functions that gpunn may use; each was looked up in CuPy, and does there what it does in NumPy."""

METHODS: dict[str, tuple[str, ...]] = {
    "argmax": ("axis", "out", "dtype", "keepdims"),
    "astype": ("dtype", "order", "copy"),
    "copy": ("order",),
    "fill": ("value",),
    "item": (),
    "max": ("axis", "out", "keepdims"),
    "mean": ("axis", "dtype", "out", "keepdims"),
    "min": ("axis", "out", "keepdims"),
    "ravel": ("order",),
    "reshape": ("order",),  # and the shape
    "sum": ("axis", "dtype", "out", "keepdims"),
    "take": ("indices", "axis", "out"),
    "transpose": (),  # and the axes
    "view": ("dtype",),
}
"""Likewise the methods of arrays, and the arguments that they have in CuPy, in that order.

CuPy's `astype` has `casting` and `subok` too, and refuses them.
"""

VARIADIC = ("reshape", "transpose")
"""Methods that take any number of positional arguments."""

ATTRIBUTES = ("T", "dtype", "itemsize", "nbytes", "ndim", "shape", "size", "strides")

OF_UFUNCS = frozenset({"dtype", "out"})
"""Keyword arguments of elementwise functions that CuPy has: `where`, `casting`, `subok` and `order` are NumPy's."""


ADDRESSES: set[int] = set()
"""Addresses of arrays "on the device" that were asked for."""


class OutOfMemoryError(MemoryError):
    pass


class CUDARuntimeError(RuntimeError):
    __module__ = "cupy_backends.cuda.api.runtime"


class CUBLASError(RuntimeError):
    __module__ = "cupy_backends.cuda.libs.cublas"


class OutsideError(Exception):
    """Something was computed outside `Backend.activate`, on whichever GPU was current, with errors left as they are."""


class DeviceArray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array on the current device: every operation takes arrays of the same device, and Python scalars."""

    def __init__(self, data: np.ndarray, runtime: "Runtime") -> None:
        self.data = data
        self.runtime = runtime
        self.device = Device(runtime, runtime.active_device())
        size = data.nbytes if data.base is None else 0  # a view has the memory of its base
        runtime.allocate(self.device.id, size)
        self._allocated = size

    def __del__(self) -> None:
        # Where the constructor raised, there may be nothing to free.
        if "_allocated" in vars(self):
            self.runtime.used[self.device.id] -= self._allocated

    def __array__(self, *args: object, **kwargs: object) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__":
            return NotImplemented
        if "out" in kwargs:
            (kwargs["out"],) = kwargs["out"]
        return checked(ufunc, self.runtime)(*inputs, **kwargs)

    def __getitem__(self, index: Any) -> Any:
        return wrap(unwrap(self)[self._on_host(index)], self.runtime)

    def __setitem__(self, index: Any, value: Any) -> None:
        unwrap(self)[self._on_host(index)] = unwrap(value)

    def _on_host(self, index: Any) -> Any:
        """Return `index` for NumPy; row numbers out of range wrap around, as CuPy's do."""
        if isinstance(index, tuple):
            return tuple(unwrap(each) for each in index)
        found = unwrap(index)
        wraps = isinstance(found, np.ndarray) and found.dtype != bool and len(self)
        return found % len(self) if wraps else found

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

    @property
    def flags(self) -> SimpleNamespace:
        flags = self.data.flags
        return SimpleNamespace(c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous, owndata=flags.owndata)

    def __getattr__(self, name: str) -> Any:
        if name in ATTRIBUTES:
            found = getattr(self.data, name)
            return wrap(found, self.runtime) if isinstance(found, np.ndarray) else found
        if name not in METHODS:
            raise AttributeError(f"'cupy.ndarray' object has no attribute {name!r}")
        return partial(self._call, name)

    def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method as CuPy has it."""
        names = METHODS[method]
        if (len(args) > len(names) and method not in VARIADIC) or not kwargs.keys() <= set(names):
            raise TypeError(f"{method}{names} got the arguments {args} and {kwargs}")
        if method == "view" and not self.flags.c_contiguous:
            raise ValueError("To change to a dtype of a different size, the array must be C-contiguous")
        if method == "take":
            kwargs["mode"] = "wrap"
        return checked(getattr(unwrap(self), method), self.runtime)(*args, **kwargs)


def unwrap(value: Any) -> Any:
    """Return an array of the current device as NumPy's, or a Python object as it is."""
    if isinstance(value, DeviceArray):
        current = value.runtime.active_device()
        if value.device.id != current:
            raise ValueError(f"Array device must be same as the current device: {value.device.id} != {current}")
        return value.data
    if isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"Unsupported type {type(value)}")
    return value


def wrap(value: Any, runtime: "Runtime") -> Any:
    # CuPy has no scalars: reductions give arrays without dimensions.
    return DeviceArray(np.asarray(value), runtime) if isinstance(value, np.ndarray | np.generic) else value


def checked(function: Any, runtime: "Runtime") -> Callable[..., Any]:
    """Return a function of NumPy's for arrays on the device; what it writes to `out` it returns."""

    def on_device(*args: Any, **kwargs: Any) -> Any:
        if isinstance(function, np.ufunc) and not kwargs.keys() <= OF_UFUNCS:
            raise TypeError(f"{function.__name__} got the keyword arguments {set(kwargs)}, CuPy has {set(OF_UFUNCS)}")
        runtime.active_device()
        found = function(*map(unwrap, args), **{name: unwrap(value) for name, value in kwargs.items()})
        out = kwargs.get("out")
        return wrap(found, runtime) if out is None else out

    return on_device


class Runtime:
    """GPUs with memory, and the one that is current in each thread."""

    def __init__(self, n_devices: int, driver: int) -> None:
        self.n_devices = n_devices
        self.driver = driver
        self.total = 8 * 2**30
        self.free = [2**30 * (1 + index) for index in range(n_devices)]
        """Bytes of each GPU that others leave."""
        self.used = [0] * n_devices
        self._of_thread = threading.local()

    @property
    def current(self) -> list[int]:
        """The devices that this thread has entered, the current one last."""
        if not hasattr(self._of_thread, "devices"):
            self._of_thread.devices = []
        devices: list[int] = self._of_thread.devices
        return devices

    @property
    def streams(self) -> list["Stream"]:
        """The streams that this thread has entered, the current one last."""
        if not hasattr(self._of_thread, "streams"):
            self._of_thread.streams = [Stream.null]
        streams: list[Stream] = self._of_thread.streams
        return streams

    def active_device(self) -> int:
        if not self.current:
            raise OutsideError("arrays on a GPU are made and used inside backend.activate()")
        return self.current[-1]

    def allocate(self, device: int, size: int) -> None:
        if self.used[device] + size > self.free[device]:
            raise OutOfMemoryError(f"Out of memory allocating {size:,} bytes (allocated so far: {self.used[device]:,})")
        self.used[device] += size

    def getDevice(self) -> int:  # noqa: N802
        return self.current[-1] if self.current else 0

    def getDeviceCount(self) -> int:  # noqa: N802
        return self.n_devices

    def driverGetVersion(self) -> int:  # noqa: N802
        return self.driver

    def runtimeGetVersion(self) -> int:  # noqa: N802
        return 13000

    def memGetInfo(self) -> tuple[int, int]:  # noqa: N802
        device = self.getDevice()
        return self.free[device] - self.used[device], self.total

    def getDeviceProperties(self, index: int) -> dict[str, Any]:  # noqa: N802
        return {"name": b"Stand-in", "major": 9, "minor": 0, "totalGlobalMem": self.total, "multiProcessorCount": 132}


class Cublas:
    """The library: its functions as `cupy.cuda.cublas` has them."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.mode = self.pointer_mode = 0
        self.modes: list[int] = []
        """In which the products were computed."""

    def handle(self) -> int:
        """Return the handle of the current device and thread."""
        return hash((self._runtime.active_device(), threading.get_ident()))

    def getMathMode(self, handle: int) -> int:  # noqa: N802
        assert handle == self.handle()
        return self.mode

    def setMathMode(self, handle: int, mode: int) -> None:  # noqa: N802
        assert handle == self.handle()
        self.mode = mode

    def getVersion(self, handle: int) -> int:  # noqa: N802
        assert handle == self.handle()
        return 130_100

    def getPointerMode(self, handle: int) -> int:  # noqa: N802
        assert handle == self.handle()
        return self.pointer_mode

    def setPointerMode(self, handle: int, mode: int) -> None:  # noqa: N802
        assert handle == self.handle()
        self.pointer_mode = mode

    def sgemm(self, handle: int, transa: int, transb: int, m: int, n: int, k: int, *addresses: int) -> None:
        """Compute C = alpha A B + beta C, for matrices by columns; the factors are where the pointer mode says."""
        assert handle == self.handle()
        if min(m, n, k) < 1:
            raise CUBLASError(f"CUBLAS_STATUS_INVALID_VALUE: a product of m = {m}, n = {n}, k = {k}")
        assert all(type(address) is int for address in addresses)
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


class Stream:
    """A stream, current in the thread that has entered it; work is done at once, in whichever stream."""

    null: "Stream"

    def __init__(self, runtime: Runtime | None = None, *, non_blocking: bool = False) -> None:
        self._runtime = runtime
        self.non_blocking = non_blocking
        self.ptr = 0 if runtime is None else id(self)

    def __enter__(self) -> "Stream":
        assert self._runtime is not None
        self._runtime.streams.append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._runtime is not None
        self._runtime.streams.pop()

    def synchronize(self) -> None:
        pass


Stream.null = Stream()


class StrictCupy:
    """The module: `StrictCupy(n_devices=2)` behaves as `cupy` does on a machine with two GPUs."""

    __version__ = "0"

    def __init__(self, n_devices: int = 1, driver: int = 13000) -> None:
        memory = type("memory", (), {"OutOfMemoryError": OutOfMemoryError})
        self.runtime = runtime = Runtime(n_devices, driver)
        self.cublas = Cublas(runtime)
        stream = partial(Stream, runtime)
        stream.null = Stream.null  # type: ignore[attr-defined]
        self.cuda: Any = SimpleNamespace(
            Device=partial(Device, runtime),
            runtime=runtime,
            memory=memory,
            cublas=self.cublas,
            get_cublas_handle=self.cublas.handle,
            get_current_stream=lambda: runtime.streams[-1],
            Stream=stream,
        )

    def asarray(self, array: Any) -> DeviceArray:
        if not isinstance(array, DeviceArray):
            return DeviceArray(np.array(array), self.runtime)
        unwrap(array)
        return array

    def array(self, array: Any, dtype: Any = None) -> DeviceArray:
        return DeviceArray(np.array(unwrap(array) if isinstance(array, DeviceArray) else array, dtype), self.runtime)

    def concatenate(self, arrays: Sequence[DeviceArray]) -> DeviceArray:
        return DeviceArray(np.concatenate([unwrap(array) for array in arrays]), self.runtime)

    def asnumpy(self, array: DeviceArray) -> np.ndarray:
        return array.data.copy()

    def get_default_memory_pool(self) -> SimpleNamespace:
        runtime = self.runtime
        return SimpleNamespace(free_all_blocks=lambda: None, total_bytes=lambda: runtime.used[runtime.getDevice()])

    def __getattr__(self, name: str) -> Any:
        if name not in FUNCTIONS:
            raise AttributeError(f"module 'cupy' has no attribute {name!r}")
        return checked(getattr(np, name), self.runtime)
