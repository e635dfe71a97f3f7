"""The real launches of kernels, by numba-cuda and cuda.core, on a driver that isn't there: `libcuda.c`, built with gcc.

What is compiled, cached, loaded and launched, and with which shapes, streams and arguments, is what it is on a GPU, and
so is what that costs the host. Kernels compute nothing, and CuPy doesn't run on it: there is just enough of it here.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from .conftest import ROOT, outer_environment
from .cuda_compiler import cuda_compiler


class Launch(NamedTuple):
    """A launch that the driver was asked for."""

    grid: tuple[int, ...]
    block: tuple[int, ...]
    shared: int
    stream: int
    device: int
    kernel: str
    """Its name, with the types of its arguments, as it is in the machine code."""
    thread_streams: bool
    """Whether the stream 0 would have been a stream of the thread's own."""


class Calls(NamedTuple):
    """What the driver was asked for, and what the program printed."""

    launches: list[Launch]
    attributes: list[tuple[int, int, int]]
    """Number of the attribute, value and device."""
    loads: list[int]
    """Devices for which machine code was loaded."""
    others: list[str]
    """Calls that wait for a GPU, or of what the driver doesn't have."""
    output: str


def build_driver(folder: Path) -> None:
    """Build the driver in `folder`; where there is no compiler of C, or of kernels, skip the test, with the reason."""
    cuda_compiler()
    build("libcuda.c", folder / "libcuda.so.1")


def build(source: str, library: Path) -> None:
    """Make a `library` of a file in this folder; where there is no compiler skip the test, with the reason."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler on Linux, to build a stand-in for a library of NVIDIA's")
    options = ["-shared", "-fPIC", "-Wall", "-Werror", "-Wno-unused", f"-Wl,-soname,{library.name}", "-o", str(library)]
    subprocess.run([compiler, *options, str(Path(__file__).with_name(source)), "-ldl"], check=True)


def run_on_driver(folder: Path, script: str, *, timeout: float = 300, **variables: str) -> Calls:
    """Run a Python `script` in a process of its own with the driver that was built in `folder`.

    Kernels that it compiles are kept in `folder`. `variables` are added to its environment.
    """
    log = folder / "calls"
    log.write_text("")
    environment = outer_environment() | {"LD_LIBRARY_PATH": str(folder), "FAKE_DRIVER_LOG": str(log)}
    environment |= {"NUMBA_CACHE_DIR": str(folder / "cache"), "PYTHONWARNINGS": "error"} | variables
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=False,
        cwd=ROOT,
        env=environment,
        timeout=timeout,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return _parsed(log.read_text().splitlines(), done.stdout)


def _parsed(lines: list[str], output: str) -> Calls:
    calls = Calls([], [], [], [], output)
    for line in lines:
        what, *values = line.split(" ")
        if what.startswith("launch"):
            grid, block, shared, stream, device, kernel = values
            grids, blocks = (tuple(map(int, shape.split(","))) for shape in (grid, block))
            launch = Launch(grids, blocks, int(shared), int(stream), int(device), kernel, what == "launch_ptsz")
            calls.launches.append(launch)
        elif what == "attribute":
            attribute, value, device, _ = values
            calls.attributes.append((int(attribute), int(value), int(device)))
        elif what == "load":
            calls.loads.append(int(values[0]))
        else:
            calls.others.append(what)
    return calls


class DriverArray:
    """An array in the memory of a GPU that isn't there, as CuPy shows it to other libraries."""

    def __init__(self, host: np.ndarray) -> None:
        self.host = host
        memory = (host.ctypes.data, False)
        self.__cuda_array_interface__ = {"shape": host.shape, "typestr": host.dtype.str, "data": memory, "version": 3}

    def __len__(self) -> int:
        return len(self.host)


class Cupy:
    """The module's current device and stream; both can be set."""

    def __init__(self) -> None:
        self.device = self.pointer = 0
        module: Any = ModuleType("cupy")
        module.cuda = SimpleNamespace(
            get_current_stream=lambda: SimpleNamespace(ptr=self.pointer),
            runtime=SimpleNamespace(getDevice=lambda: self.device),
        )
        sys.modules["cupy"] = module

    def use(self, device: int) -> None:
        """Make a device the current one, for Numba too, as `cupy.cuda.Device` does with a real driver."""
        from gpunn.kernels.cuda.jit import cuda

        self.device = device
        cuda.select_device(device)
