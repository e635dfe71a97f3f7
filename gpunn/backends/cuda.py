"""CUDA backend: CuPy arrays in device memory. CuPy is imported when a GPU is first requested."""

import functools
import importlib.util
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gpunn.backends.base import TF32_OVERRIDE, Backend, self_test, version
from gpunn.equations import Array
from gpunn.errors import ConfigurationError, DeviceError, OutOfMemoryError
from gpunn.kernels.overheard import overheard

logger = logging.getLogger(__name__)

PACKAGES = ("cupy", "cupy_backends", "numba", "cuda")
"""Packages whose exceptions count as device errors."""

FULL = (
    "CUDA_ERROR_OUT_OF_MEMORY",
    "cudaErrorMemoryAllocation",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",  # its work space found no memory
)
"""Markers of out-of-memory errors in messages."""

COMPILERS = (("nvidia-nvvm", "nvidia-nvjitlink"), ("nvidia-cuda-nvcc-cu12", "nvidia-nvjitlink-cu12"))
"""Packages with the compiler of kernels, and with the linker of what it makes, for CUDA 13 and 12."""


@final
class CudaBackend(Backend):
    """Backend for CuPy on GPU `index`, which must be usable: see `cuda_backend`."""

    def __init__(self, cupy: Any, index: int) -> None:
        self.name = f"cuda:{index}"
        self._cupy = cupy
        self._device = cupy.cuda.Device(index)
        self._kernels: Any = None

    @property
    def xp(self) -> Any:
        return self._cupy

    @property
    def kernels(self) -> Any:
        if self._kernels is None:
            self._kernels = self._tried_kernels()
        if isinstance(self._kernels, ConfigurationError):
            raise ConfigurationError(str(self._kernels)) from self._kernels.__cause__
        return self._kernels

    def _tried_kernels(self) -> Any:
        """Compile and run one kernel; return the kernels, or a `ConfigurationError` if they can't be used."""
        try:
            with overheard():
                from gpunn.kernels.cuda import contract as kernels

            with overheard(), self.activate():
                host = np.linspace(-4, 4, 12, dtype=np.float32).reshape(3, 4)
                z, bias = self.asarray(host), self.asarray(host[0])
                handle = kernels.as_handle(z)
                kernels.bias_activate(handle, kernels.as_handle(bias), out=handle)
                found = self.to_host(z)
        except OutOfMemoryError:  # may be temporary
            raise
        except Exception as error:  # numba-cuda, its compiler and the driver raise many types
            cause = error.__cause__ if isinstance(error, DeviceError) and error.__cause__ is not None else error
            if isinstance(cause, ModuleNotFoundError) and cause.name in {"numba", "numba_cuda"}:
                reason = 'numba-cuda is not installed (pip install "gpunn[cuda13]", or gpunn[cuda12])'
            else:
                reason = f"its kernels can't be used: {type(cause).__name__}: {_one_line(cause)}{_mismatch()}"
            fault = ConfigurationError(reason)
            fault.__cause__ = cause
            return fault
        if not np.allclose(found, 1 / (1 + np.exp(-host - host[0])), atol=1e-5):
            return ConfigurationError("its kernels can't be used: a sigmoid came out wrong")
        return kernels

    def asarray(self, array: NDArray[Any]) -> Array:
        # Kernels require C order.
        return self._cupy.asarray(np.asarray(array, order="C"))

    def to_host(self, array: Array) -> NDArray[Any]:
        host: NDArray[Any] = self._cupy.asnumpy(array)
        return host

    def synchronize(self) -> None:
        self._device.synchronize()

    @contextmanager
    def activate(self) -> Iterator[None]:
        try:
            with self._device:
                yield
        except Exception as error:
            # CUDA's libraries and compilers each have their own error types, and importing them can fail.
            package, _, module = type(error).__module__.partition(".")
            if isinstance(error, self._cupy.cuda.memory.OutOfMemoryError) or any(sign in str(error) for sign in FULL):
                details = f"{_one_line(error).rstrip('.')}{self._free_memory()}"
                raise OutOfMemoryError(
                    f"{self.name} is out of memory ({details}): use a smaller batch, or the CPU"
                ) from error
            of_context = isinstance(error, RuntimeError) and "CUDA context" in str(error)
            # Errors of numba's "core.errors" are bugs in kernels.
            if not of_context and (package not in PACKAGES or module.endswith("core.errors")):
                raise
            raise DeviceError(f"{self.name} failed ({_one_line(error)}): try again, or use the CPU") from error

    def _free_memory(self) -> str:
        """Return how much memory is free, for a message; nothing if the GPU doesn't say."""
        try:
            with self._device:
                free, total = self._cupy.cuda.runtime.memGetInfo()
        except Exception:  # as after an error that ended the context
            return ""
        return f"; {free:,} of {total:,} bytes are free"

    def describe(self) -> dict[str, str]:
        runtime = self._cupy.cuda.runtime
        properties = runtime.getDeviceProperties(self._device.id)
        override = os.environ.get(TF32_OVERRIDE)
        return {
            "name": properties["name"].decode(),
            "compute capability": f"{properties['major']}.{properties['minor']}",
            "multiprocessors": str(properties["multiProcessorCount"]),
            "memory": f"{properties['totalGlobalMem'] / 2**30:.0f} GiB",
            "driver": _cuda_version(runtime.driverGetVersion()),
            "runtime": _cuda_version(runtime.runtimeGetVersion()),
            "cupy": self._cupy.__version__,
            "numba-cuda": version("numba-cuda"),
        } | ({TF32_OVERRIDE: override} if override else {})


def cuda_backend(index: int) -> CudaBackend:
    """Return the backend of GPU `index`; raises `DeviceError` with the cause if it can't be used.

    The GPU is tested once per process, and again if its memory was full.
    """
    backend = _tried(index)
    if isinstance(backend, DeviceError):
        raise DeviceError(str(backend)) from backend.__cause__
    return backend


def n_cuda_devices() -> int:
    """Return the number of GPUs; raises `DeviceError` with the cause if none can be used."""
    return _count(_cupy())


def may_be_usable() -> bool:
    """Whether CuPy is installed; it isn't imported."""
    return sys.modules.get("cupy") is not None or importlib.util.find_spec("cupy") is not None


def is_started() -> bool:
    """Whether this process has tried a GPU."""
    return bool(_tried.cache_info().currsize)


@functools.cache
def _tried(index: int) -> CudaBackend | DeviceError:
    name = f"cuda:{index}"
    try:
        cupy = _cupy()
        count = _count(cupy)
        if index >= count:
            there = "cuda:0 exists" if count == 1 else f"cuda:0 to cuda:{count - 1} exist"
            return DeviceError(f"there is no {name}: only {there}")
        backend = CudaBackend(cupy, index)
        with overheard(), backend.activate():
            fault = self_test(backend)
    except OutOfMemoryError:  # may be temporary, and isn't cached
        raise
    except DeviceError as error:
        return error
    except Exception as error:  # a broken CUDA installation may raise anything
        return _unusable(name, error)
    return DeviceError(f"{name} can't be used: {fault}") if fault else backend


def _cupy() -> Any:
    """Return CuPy; raises `DeviceError` with the cause if it can't be imported."""
    found = _import_cupy()
    if isinstance(found, DeviceError):
        raise DeviceError(str(found)) from found.__cause__
    return found


@functools.cache
def _import_cupy() -> Any:
    """Import CuPy once per process, and log its warnings in one line, even if filters turn warnings into errors."""
    with overheard() as warned:
        try:
            found: Any = importlib.import_module("cupy")
        except Exception as error:  # broken installations raise more than ImportError
            if isinstance(error, ModuleNotFoundError) and error.name == "cupy":
                advice = 'pip install "gpunn[cuda13]", or gpunn[cuda12] for older drivers'
                found = DeviceError(f"CuPy is not installed ({advice})")
                found.__cause__ = error
            else:
                found = _unusable("CUDA", error)
    if warned:
        more = f" (and {len(warned) - 1} more)" if len(warned) > 1 else ""
        logger.warning("CuPy warns: %s%s", warned[0], more)
    return found


def _count(cupy: Any) -> int:
    runtime = cupy.cuda.runtime
    try:
        driver: int = runtime.driverGetVersion()
        count: int = runtime.getDeviceCount() if driver else 0
    except Exception as error:
        raise _unusable("CUDA", error) from error
    if driver == 0:
        raise DeviceError("CuPy is installed, but no NVIDIA driver")
    if count == 0:
        raise DeviceError("CuPy and an NVIDIA driver are installed, but no GPU is visible")
    return count


def _unusable(name: str, error: Exception) -> DeviceError:
    fault = DeviceError(f"{name} can't be used: {type(error).__name__}: {_one_line(error)}")
    fault.__cause__ = error
    return fault


def _mismatch() -> str:
    """Return advice, for a message, if the compiler of kernels is newer than the linker that is to take its output."""
    for compiler, linker in COMPILERS:
        newer, older = (version(package).split(".")[:2] for package in (compiler, linker))
        if all(part.isdecimal() for part in (*newer, *older)) and tuple(map(int, newer)) > tuple(map(int, older)):
            wanted = ".".join(older)
            return (
                f" ({compiler} {'.'.join(newer)} is newer than {linker} {wanted}: pip install '{compiler}=={wanted}.*')"
            )
    return ""


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _cuda_version(number: int) -> str:
    """Format CUDA's version number: 12040 is 12.4."""
    return f"{number // 1000}.{number % 1000 // 10}"
