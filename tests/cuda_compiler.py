"""CUDA kernels compiled as numba-cuda compiles them where there is a GPU, on a machine without one.

Most of the work is from Python to LLVM's IR. It is done once in a process for a kernel and its types, for all GPUs and
for the host.
"""

import functools
import importlib
import importlib.util
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import numba
import pytest

Capability = tuple[int, int, str]
"""A compute capability; numba-cuda compiles for it alone, "a", from 9.0 on."""


@functools.cache
def cuda_compiler() -> Any:
    """Return Numba's module `cuda`; where there is no compiler skip the test, with the reason."""
    if numba.config.ENABLE_CUDASIM:
        pytest.skip("NUMBA_ENABLE_CUDASIM=1 takes the place of the CUDA compiler")
    if importlib.util.find_spec("numba_cuda") is None:
        pytest.skip('needs numba-cuda: pip install "gpunn[cuda13]"')
    compilation = importlib.import_module("gpunn.kernels.cuda.jit")
    nvvm = importlib.import_module("numba.cuda.cudadrv.nvvm")
    try:
        nvvm.NVVM()
    except Exception as error:  # what is raised without it differs from version to version
        pytest.skip(f'needs libnvvm: pip install "gpunn[cuda13]" ({" ".join(str(error).split())})')
    return compilation.cuda


def types_of(arguments: Sequence[Any]) -> tuple[Any, ...]:
    """Return Numba's types of a kernel's arguments, NumPy arrays in place of a GPU's."""
    typing = importlib.import_module("numba.cuda.typing.typeof")
    return tuple(typing.typeof(value, typing.Purpose.argument) for value in arguments)


@functools.cache
def translated(kernel: Any, types: tuple[Any, ...]) -> Any:
    """Return what numba-cuda would launch for arguments of these types, as far as IR."""
    cuda_compiler()
    dispatcher = importlib.import_module("numba.cuda.dispatcher")
    library = importlib.import_module("numba.cuda.codegen").CUDACodeLibrary
    gpu = SimpleNamespace(compute_capability=(9, 0))
    with (
        patch.object(dispatcher, "get_current_device", lambda: gpu),
        # It would compile on, only to see in the PTX whether anything has to be linked; nothing has, where nothing is
        # called.
        patch.object(library, "get_asm_str", lambda self, cc=None: ""),
    ):
        return dispatcher._Kernel(kernel.py_func, types, **kernel.targetoptions)


@contextmanager
def compiling_for(capability: tuple[int, int]) -> Iterator[None]:
    """Let kernels be compiled and cached for GPUs of a compute capability, none of which need be there.

    They are found in the cache by processes that launch them on such a GPU.
    """
    cuda_compiler()
    dispatcher, codegen = (importlib.import_module(f"numba.cuda.{name}") for name in ("dispatcher", "codegen"))
    # The driver's own type, whose name is in the cache's keys.
    in_keys = importlib.import_module("cuda.core._utils.cuda_utils").ComputeCapability(*capability)
    gpu = SimpleNamespace(compute_capability=in_keys)
    with (
        patch.object(dispatcher, "get_current_device", lambda: gpu),
        patch.object(codegen.devices, "get_context", lambda: SimpleNamespace(device=gpu)),
        # All that it does without loading the code.
        patch.object(dispatcher._Kernel, "bind", lambda kernel: kernel.library.get_cubin()),
        # As in `translated`.
        patch.object(codegen.CUDACodeLibrary, "get_asm_str", lambda self, cc=None: ""),
    ):
        yield


@functools.cache
def ptx(kernel: Any, types: tuple[Any, ...], capability: Capability) -> str:
    """Return a kernel's code before it is optimised for a GPU as a whole."""
    (code,) = translated(kernel, types).library.get_asm_strs(cc=capability)
    return str(code)


class Resources(NamedTuple):
    """What a GPU's code needs for each thread."""

    registers: int
    local_bytes: int
    """In local memory, which is as slow as the device's; with what is `spilled`."""
    spilled: int
    """Bytes that are stored there for want of registers."""
    functions: int
    """The kernel, and functions that haven't become part of it."""


@functools.cache
def resources(kernel: Any, types: tuple[Any, ...], capability: Capability) -> Resources:
    """Compile a kernel for a GPU, with the options that numba-cuda gives nvJitLink, and return what it says."""
    nvjitlink = pytest.importorskip("cuda.bindings.nvjitlink", reason='needs nvjitlink: pip install "gpunn[cuda13]"')
    library = translated(kernel, types).library
    major, minor, alone = capability
    options = ["-lto", f"-arch=sm_{major}{minor}{alone}", "-verbose", "-Xptxas=-v"]
    if most := kernel.targetoptions.get("max_registers"):
        options.append(f"-maxrregcount={most}")
    code, linker = library.get_ltoir(cc=capability), nvjitlink.create(len(options), options)
    nvjitlink.add_data(linker, nvjitlink.InputType.LTOIR, code, len(code), kernel.py_func.__name__)
    nvjitlink.complete(linker)
    log = bytearray(nvjitlink.get_info_log_size(linker))
    nvjitlink.get_info_log(linker, log)
    nvjitlink.destroy(linker)
    said = log.decode()
    (registers,) = re.findall(r"Used (\d+) registers", said)
    ((frame, stores, loads),) = re.findall(
        r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", said
    )
    return Resources(int(registers), int(frame), max(int(stores), int(loads)), said.count("Function properties for"))
