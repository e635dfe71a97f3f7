"""No two threads of a kernel touch the same memory between two barriers, if either writes: watched in the simulator."""

import threading
from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np
import pytest
from numba import float32

from gpunn import MLP
from gpunn.kernels.cuda.jit import cuda, kernel
from gpunn.optimizers import OPTIMIZERS

from ..conftest import random_split
from .test_epoch import Trained


class Access(NamedTuple):
    block: tuple[int, ...]
    barriers: int
    thread: int
    writes: bool


class Watch:
    """Notes every access to an element of shared and of the device's memory."""

    def __init__(self) -> None:
        self.accesses: dict[Any, set[Access]] = defaultdict(set)
        self.barriers: dict[Any, int] = defaultdict(int)
        self.launches = 0

    def note(self, array: np.ndarray, index: Any, *, writes: bool, shared: bool) -> None:
        index = index if isinstance(index, tuple) else (index,)
        thread: Any = threading.current_thread()
        if len(index) < array.ndim or any(isinstance(number, slice) for number in index):
            return
        if hasattr(thread, "blockIdx"):
            place = array.ctypes.data + sum(int(i) * step for i, step in zip(index, array.strides, strict=True))
            block = (thread.blockIdx.x, thread.blockIdx.y)
            # Each block has shared memory of its own, one after the other in the same place here.
            # One launch comes after another.
            self.accesses[place, block if shared else None, self.launches].add(
                Access(block, self.barriers[thread], thread.thread_id, writes)
            )

    def races(self) -> list[tuple[Access, Access]]:
        """Return pairs of accesses in no order, of which one writes."""
        found = []
        for accesses in self.accesses.values():
            for mine in (access for access in accesses if access.writes):
                for other in accesses:
                    at_once = (mine.block, mine.barriers) == (other.block, other.barriers)
                    if (at_once and mine.thread != other.thread) or mine.block != other.block:
                        found.append((mine, other))
        return found


class Watched(np.ndarray):
    """A part of shared memory."""

    watch: Watch

    def __getitem__(self, index: Any) -> Any:
        self.watch.note(self, index, writes=False, shared=True)
        return super().__getitem__(index)

    def __setitem__(self, index: Any, value: Any) -> None:
        self.watch.note(self, index, writes=True, shared=True)
        super().__setitem__(index, value)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    from numba.cuda.simulator import kernel as simulated
    from numba.cuda.simulator import kernelapi
    from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

    noted = Watch()
    monkeypatch.setattr(Watched, "watch", noted, raising=False)
    shared, get, put = kernelapi.FakeCUDAShared.array, FakeCUDAArray.__getitem__, FakeCUDAArray.__setitem__
    barrier, launch = simulated.BlockThread.syncthreads, simulated.FakeCUDAKernel.__call__

    def watched_get(self: Any, index: Any) -> Any:
        noted.note(self._ary, index, writes=False, shared=False)
        return get(self, index)

    def watched_put(self: Any, index: Any, value: Any) -> None:
        noted.note(self._ary, index, writes=True, shared=False)
        put(self, index, value)

    def counted_launch(self: Any, *arguments: Any) -> Any:
        noted.launches += 1
        return launch(self, *arguments)

    def counted(self: Any) -> None:
        barrier(self)
        noted.barriers[self] += 1

    monkeypatch.setattr(kernelapi.FakeCUDAShared, "array", lambda *args: np.asarray(shared(*args)).view(Watched))
    monkeypatch.setattr(FakeCUDAArray, "__getitem__", watched_get)
    monkeypatch.setattr(FakeCUDAArray, "__setitem__", watched_put)
    monkeypatch.setattr(simulated.BlockThread, "syncthreads", counted)
    monkeypatch.setattr(simulated.FakeCUDAKernel, "__call__", counted_launch)
    return noted


@pytest.mark.parametrize(
    ("sizes", "batch_size", "capacity", "loss", "optimizer"),
    [
        ((13, 6, 5, 3), 5, 10**5, "squared_error", "descent"),
        ((13, 6, 3), 9, 4_800, "squared_error", "descent"),
        ((9, 20, 4), 9, 6_000, "squared_error", "descent"),
        ((12, 3), 4, 10**5, "squared_error", "descent"),
        ((13, 6, 3), 9, 10**5, "cross_entropy", "momentum"),
        ((9, 20, 4), 9, 6_000, "binary_cross_entropy", "momentum"),
        ((13, 6, 3), 9, 4_800, "cross_entropy", "adam"),
    ],
    ids=str,
)
def test_the_epoch_kernels_threads_keep_apart(
    watch: Watch,
    sizes: tuple[int, ...],
    batch_size: int,
    capacity: int,
    loss: str,
    optimizer: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from gpunn.kernels.cuda.epoch import run as epoch_cuda
    from gpunn.kernels.cuda.epoch.layout import KernelSpec

    monkeypatch.setattr(epoch_cuda, "shared_memory", lambda: capacity)
    dropout = 0.5 if optimizer == "adam" else 0.0
    spec = KernelSpec(("sigmoid",) * (len(sizes) - 1), loss, optimizer, l2=optimizer != "descent", dropout=dropout)
    kernel = epoch_cuda.EpochKernel(sizes, batch_size=batch_size, threads=32, spec=spec)
    split = random_split(11, sizes[0], sizes[-1])
    by_rule = {each.rule: each for each in OPTIMIZERS.values()}
    Trained(kernel, [MLP(sizes), MLP(sizes, seed=1)], split, [batch_size, 4], [0.5, 0.1], by_rule[optimizer], 0.01)
    assert len(watch.accesses) > kernel.layout.n_parameters
    assert max(watch.barriers.values()) > 10
    assert watch.races() == []


def test_threads_that_share_memory_keep_apart(watch: Watch, launches: None) -> None:
    from gpunn.kernels.cuda import contract as kernels

    rng = np.random.default_rng(0)
    a, gradients = rng.random((2, 9, 5), np.float32)
    labels, total = rng.integers(0, 5, 9, dtype=np.uint8), np.zeros(1)
    images, rows, inputs = rng.integers(0, 256, (4, 24), dtype=np.uint8), rng.integers(0, 4, 9), np.empty((9, 24), "f")
    for name, *arguments, out in (
        ("output_delta", a, labels, 0.5, total, a),
        ("output_delta", a, labels, 0.5, total, "identity", "cross_entropy", a),
        ("descend_sums", a[0], gradients, 0.5, a[0]),
        ("column_sums", gradients, a[0]),
        ("gather_scale", images, rows, inputs),
    ):
        watch.accesses.clear()
        getattr(kernels, name)(*arguments, out=out)
        assert len(watch.accesses) > 45
        assert watch.races() == []


def test_a_race_is_found(watch: Watch) -> None:
    @kernel
    def shift(x: Any, with_barrier: bool) -> None:
        t = cuda.threadIdx.x
        shared = cuda.shared.array(4, float32)
        shared[t] = x[t]
        if with_barrier:
            cuda.syncthreads()
        x[t] = shared[(t + 1) % 4]

    x = np.arange(4, dtype=np.float32)
    shift[1, 4](x, True)
    assert len(watch.accesses) == 8
    assert watch.races() == []
    shift[1, 4](x, False)
    assert watch.races() != []
