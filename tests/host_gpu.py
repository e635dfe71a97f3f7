"""A GPU whose kernels run on the host: gpunn's own wrappers and engines launch them, with a real GPU's sizes."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, final

import numpy as np
import pytest

from gpunn.backends.cuda import CudaBackend

from .cuda_compiler import cuda_compiler, types_of
from .host_cuda import Order, run_on_host, shuffled
from .host_machine import MOST_THREADS
from .strict_cupy import StrictCupy, unwrap
from .strict_graphs import Graphs

MULTIPROCESSORS = 132
"""Multiprocessors of an H100."""
WITHOUT_ASKING = 48 * 1024
"""Bytes of dynamic shared memory that a kernel may have without asking for them."""
MOST_BLOCKS = 65_535
"""Maximum blocks in a direction of the grid other than the first."""


class LaunchError(Exception):
    """A launch that a GPU would refuse."""


class Launch(NamedTuple):
    """A kernel, the types of its arguments, and how many threads a block had."""

    kernel: Any
    types: tuple[Any, ...]
    threads: int


@final
class HostGpu:
    """Takes a device's place in `gpunn.kernels.cuda`, whose arrays are NumPy's then; it is as strict about launches."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shared_memory = 227 * 1024
        """Bytes of shared memory per block: an H100's; a T4 has 64 KiB."""
        self.tensor_cores = False
        """Whether it has those of compute capability 8.0."""
        self.blocks: Order = shuffled
        self.threads: Order = shuffled
        self.launches: list[Launch] = []
        self.runs = True
        """Whether kernels are run, and not only listed."""
        self._allowed: dict[Any, int] = {}
        cuda_compiler()
        kernels = "gpunn.kernels.cuda"
        # The arrays are those that the simulator has.
        monkeypatch.setattr(f"{kernels}.arrays.SIMULATED", True)
        monkeypatch.setattr(f"{kernels}.launch.SIMULATED", True)
        monkeypatch.setattr(f"{kernels}.launch.multiprocessors", lambda: MULTIPROCESSORS)
        monkeypatch.setattr(f"{kernels}.launch.current_stream", lambda: 0)
        monkeypatch.setattr(f"{kernels}.launch._configured", self._configured)
        monkeypatch.setattr(f"{kernels}.jit.has_tensor_cores", lambda: self.tensor_cores)
        monkeypatch.setattr(f"{kernels}.epoch.run.shared_memory", lambda: self.shared_memory)
        monkeypatch.setattr(f"{kernels}.epoch.run.allow_shared_memory", self._allowed.__setitem__)
        # The engines' arrays are the stand-in's for CuPy.
        monkeypatch.setattr(f"{kernels}.contract.as_handle", unwrap)
        monkeypatch.setattr(f"{kernels}.epoch.run.as_cuda_array", unwrap)
        cupy = StrictCupy()
        cupy.cuda.Device(0).__enter__()  # as `Backend.activate` does
        self.graphs = Graphs(monkeypatch, cupy)
        self.backend = CudaBackend(cupy, 0)
        _ = self.backend.kernels  # which tries one of them
        self.launches.clear()

    def _configured(self, kernel: Any, grid: Any, block: Any, stream: Any, shared: int) -> Callable[..., None]:
        assert stream == 0
        n_threads, sizes = math.prod(np.atleast_1d(block).tolist()), np.atleast_1d(grid).tolist()
        allowed = min(self.shared_memory, max(WITHOUT_ASKING, self._allowed.get(kernel, 0)))
        if shared > allowed or n_threads > MOST_THREADS or max(sizes[1:], default=0) > MOST_BLOCKS:
            raise LaunchError(f"found {shared} bytes of shared memory, of {allowed}, a grid {grid} and a block {block}")

        def launch(*arguments: Any) -> None:
            self.launches.append(Launch(kernel, types_of(arguments), n_threads))
            if self.runs:
                order = {"blocks": self.blocks, "threads": self.threads}
                self.graphs.submit(partial(run_on_host, kernel, grid, block, *arguments, shared=shared, **order))

        return launch
