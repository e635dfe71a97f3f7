"""CUDA kernels run in Numba's simulator, on the CPU: the folder is skipped unless `NUMBA_ENABLE_CUDASIM=1` asks for it.

The variable has to be set before Numba is imported: `tests/test_cuda_kernels.py` runs this folder in a process of its
own.
"""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numba
import pytest

from gpunn.backends.cuda import CudaBackend

from ..strict_cupy import StrictCupy, unwrap


class NotSimulated(pytest.Module):
    """A file of tests that isn't even imported."""

    def collect(self) -> NoReturn:
        pytest.skip("needs Numba's simulator of CUDA: NUMBA_ENABLE_CUDASIM=1 pytest tests/simulator")


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return None if numba.config.ENABLE_CUDASIM else NotSimulated.from_parent(parent, path=module_path)


@pytest.fixture(autouse=True, scope="session")
def _in_turn() -> Iterator[None]:
    """Let Python's threads, which are the kernels' here, give way often: sooner to the next barrier, and more mixed."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.fixture(autouse=True)
def _bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no kernel read or write at a negative index, which NumPy would count from the end."""
    from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

    get, put = FakeCUDAArray.__getitem__, FakeCUDAArray.__setitem__

    def check(index: Any) -> None:
        for number in index if isinstance(index, tuple) else (index,):
            if not isinstance(number, str | slice) and number < 0:
                raise IndexError(f"a kernel used the index {index}")

    def checked_get(self: Any, index: Any) -> Any:
        check(index)
        return get(self, index)

    def checked_put(self: Any, index: Any, value: Any) -> None:
        check(index)
        put(self, index, value)

    monkeypatch.setattr(FakeCUDAArray, "__getitem__", checked_get)
    monkeypatch.setattr(FakeCUDAArray, "__setitem__", checked_put)


# Threads that work on their own, threads that work together, and blocks.
@pytest.fixture(params=[(1, 1, 1), (4, 2, 1), (8, 16, 2), (32, 32, 1)], ids=str)
def launches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Launch the kernels of `gpunn.kernels.cuda.contract` in several ways in turn."""
    from gpunn.kernels.cuda import launch as launch_cuda

    threads, team_threads, blocks = request.param
    monkeypatch.setattr(launch_cuda, "THREADS", threads)
    monkeypatch.setattr(launch_cuda, "TEAM_THREADS", team_threads)
    monkeypatch.setattr(launch_cuda, "PART_ROWS", 4)
    monkeypatch.setattr(launch_cuda, "BLOCKS_A_MULTIPROCESSOR", 1)
    monkeypatch.setattr(launch_cuda, "multiprocessors", lambda: blocks)


@pytest.fixture(autouse=True)
def _one_array_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let threads that make a shared array at once get the same one: the simulator may give each its own."""
    from numba.cuda.simulator.kernelapi import FakeCUDAShared

    make, lock = FakeCUDAShared.array, threading.Lock()

    def array(self: Any, shape: Any, dtype: Any) -> Any:
        if shape == 0:
            return make(self, shape, dtype)
        line = sys._getframe(1).f_code.co_filename, sys._getframe(1).f_lineno
        with lock:
            arrays = vars(self).setdefault("by_line", {})
            if line not in arrays:
                # It knows arrays by the line that asks for them, which is always this one.
                self._allocations.clear()
                arrays[line] = make(self, shape, dtype)
            return arrays[line]

    monkeypatch.setattr(FakeCUDAShared, "array", array)


@pytest.fixture(autouse=True)
def _poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let dynamic shared memory hold what no kernel can want to read before it has written there: NaN."""
    from numba.cuda.simulator.kernelapi import FakeCUDAShared

    make = FakeCUDAShared.__init__

    def poisoned(self: Any, size: int) -> None:
        make(self, size)
        self._dynshared[:] = -1

    monkeypatch.setattr(FakeCUDAShared, "__init__", poisoned)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[CudaBackend]:
    """A GPU whose arrays are the stand-in's, and whose kernels are simulated; it is active."""
    cupy = StrictCupy()
    monkeypatch.setattr("gpunn.kernels.cuda.contract.as_handle", unwrap)
    monkeypatch.setattr("gpunn.kernels.cuda.epoch.run.as_cuda_array", unwrap)
    monkeypatch.setattr("gpunn.engines.cuda.epoch.THREADS", 32)
    backend = CudaBackend(cupy, 0)
    with backend.activate():
        yield backend
