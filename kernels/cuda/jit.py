"""The CUDA compiler, numba-cuda, imported in this module only.

With NUMBA_ENABLE_CUDASIM=1 kernels run in Numba's simulator instead, on the CPU and on NumPy arrays.
"""

import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np

from ..compilation import keep
from ..overheard import overheard

__all__ = [
    "SIMULATED",
    "allow_shared_memory",
    "as_cuda_array",
    "bind",
    "cuda",
    "current_device",
    "current_stream",
    "device_function",
    "has_tensor_cores",
    "intrinsic",
    "kernel",
    "shared_memory",
]

SIMULATED = bool(numba.config.ENABLE_CUDASIM)

LEGACY_STREAM = 1
"""The stream that CuPy calls 0. The driver may take 0 for a stream of the thread's own, if cuda.bindings is set so."""


def _import_cuda() -> Any:
    if not SIMULATED and importlib.util.find_spec("numba_cuda") is None:
        raise ModuleNotFoundError("No module named 'numba_cuda'", name="numba_cuda")
    # numba-cuda up to 0.30 asks NumPy for row_stack, which NumPy 2.5 doesn't have any more, and for a date without a
    # unit, of which NumPy 2.5 warns.
    lacking = not hasattr(np, "row_stack")
    if lacking:
        np.row_stack = np.vstack  # noqa: NPY201
    try:
        with overheard(DeprecationWarning):
            found = importlib.import_module("numba.cuda")
            if not SIMULATED:
                importlib.import_module("numba.cuda.np.arrayobj")
    finally:
        if lacking:
            del np.row_stack  # noqa: NPY201
    return found


cuda = _import_cuda()
"""Numba's module of that name: `cuda.grid`, `cuda.shared` and so on for kernels."""


def intrinsic(function: Callable[..., Any]) -> Any:
    """Let `function` say what code a call of its name is in kernels; the simulator can't run them."""
    extending = importlib.import_module("numba.cuda.extending")
    return extending.intrinsic(function)


def kernel(function: Callable[..., Any] | None = None, *, max_registers: int | None = None) -> Any:
    """Compile the decorated `function` as a kernel when it is first launched, and keep the machine code if it can be.

    `@kernel` or `@kernel(max_registers=...)`: fewer registers a thread make room for more threads in a block.
    """
    if function is None:
        return functools.partial(kernel, max_registers=max_registers)
    if SIMULATED:
        return cuda.jit(function)
    from numba.cuda.dispatcher import CUDACache

    dispatcher = cuda.jit(max_registers=max_registers)(function)
    keep(dispatcher, CUDACache)
    return dispatcher


def device_function(function: Callable[..., Any]) -> Any:
    """Compile `function` into the kernels that call it."""
    return cuda.jit(device=True)(function)


def current_stream() -> Any:
    """Return the stream that CuPy uses now, for launching kernels on it: what both do happens in one order."""
    cupy = sys.modules.get("cupy")
    return 0 if SIMULATED or cupy is None else _external_stream(_stream_of(cupy))


def _stream_of(cupy: Any) -> int:
    pointer: int = cupy.cuda.get_current_stream().ptr
    return pointer or LEGACY_STREAM


def current_device() -> int:
    """Return the number of the GPU that CuPy uses now."""
    cupy = sys.modules.get("cupy")
    return 0 if SIMULATED or cupy is None else int(cupy.cuda.runtime.getDevice())


@functools.lru_cache(maxsize=32)
def _external_stream(pointer: int) -> Any:
    return cuda.external_stream(pointer)


def bind(kernel: Any, grid: tuple[int, ...], block: tuple[int, ...], arguments: Sequence[Any]) -> Callable[[], None]:
    """Compile a kernel for `arguments`; return the function that launches it with them on CuPy's stream.

    Numba packs arguments and settles the shape at every launch, in Python, which costs twenty times what the launch
    does. Here that is done once. `grid` and `block` have three sizes; the function keeps the arrays alive.
    """
    from cuda.core import LaunchConfig, launch

    compiled = kernel._compile_for_args(*arguments)
    function = compiled._codelibrary.get_cufunc().kernel
    config, packed = LaunchConfig(grid=grid, block=block), list[Any]()
    for kind, value in zip(compiled.argument_types, arguments, strict=True):
        compiled._prepare_args(kind, value, 0, [], packed)
    cupy, kept = sys.modules.get("cupy"), tuple(arguments)

    def run(kept: Any = kept) -> None:  # noqa: ARG001 - kept alive
        stream = _core_stream(LEGACY_STREAM if cupy is None else _stream_of(cupy))
        launch(stream, config, function, *packed)

    return run


@functools.lru_cache(maxsize=32)
def _core_stream(pointer: int) -> Any:
    from cuda.core import Stream

    return Stream.from_handle(pointer)


def as_cuda_array(array: Any) -> Any:
    """Return `array` on the device as Numba's handle of the same memory; a handle is returned as it is.

    Numba makes one at every launch that is given a CuPy array, which costs ten times as much as the rest of the launch.
    """
    if SIMULATED or isinstance(array, cuda.devicearray.DeviceNDArray):
        return array
    return cuda.as_cuda_array(array, sync=False)


def shared_memory() -> int:
    """Return how many bytes of shared memory a block can have on the current device."""
    return 227 * 1024 if SIMULATED else int(cuda.get_current_device().MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)


def has_tensor_cores() -> bool:
    """Whether the current device has tensor cores for bfloat16 numbers, as from compute capability 8.0 on."""
    return not SIMULATED and tuple(cuda.get_current_device().compute_capability) >= (8, 0)


def allow_shared_memory(launched: Any, size: int) -> None:
    """Let `launched`, a kernel that has been compiled, be launched with `size` bytes of dynamic shared memory.

    Without asking a kernel gets 48 KiB; at most what `shared_memory` says.
    """
    if SIMULATED:
        return
    from numba.cuda.cudadrv.driver import binding, driver

    attribute = binding.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    for compiled in launched.overloads.values():
        function = compiled._codelibrary.get_cufunc()
        driver.cuKernelSetAttribute(attribute, size, function.handle, function.device.id)
