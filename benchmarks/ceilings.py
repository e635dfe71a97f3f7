"""What a device can do at most: how fast it copies its memory, and how fast it multiplies large matrices.

An epoch moves its bytes through that memory and does its multiplications at that rate, or slower.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from benchmarks.memory import give_memory_back
from benchmarks.words import in_a_line
from gpunn import Backend
from gpunn.equations import Array

BYTES = {"cpu": 2**26, "cuda": 2**30}
"""Of the array that is copied: many times what a cache holds."""

SIDE = {"cpu": 1024, "cuda": 8192}
"""Of the matrices that are multiplied."""

REPEATS = 10

COPY, PRODUCT, TF32_PRODUCT = "copy in GB/s, read + written", "float32 product in GFLOP/s", "TF32 product in GFLOP/s"
"""What is measured; a CPU's memory is copied by one thread, and TF32 is for GPUs."""


def measure_ceilings(backend: Backend) -> tuple[dict[str, float], dict[str, str]]:
    """Return what was measured by name and unit, medians of `REPEATS`, and for the rest why it couldn't be."""
    kind = backend.name.partition(":")[0]
    measures: dict[str, Callable[[], float]] = {
        COPY: lambda: _copy_rate(backend, BYTES[kind]),
        PRODUCT: lambda: _product_rate(backend, SIDE[kind]),
    }
    if kind == "cuda":
        measures[TF32_PRODUCT] = lambda: _tf32_product_rate(backend, SIDE[kind])
    found, missing = {}, {}
    for name, measure in measures.items():
        try:
            with backend.activate():
                found[name] = measure()
        except Exception as error:  # what isn't known of a device keeps nothing else from being measured
            missing[name] = in_a_line(error)
        give_memory_back(backend)
    return found, missing


def _copy_rate(backend: Backend, size: int) -> float:
    # Not zeros, which some memories store and move compressed.
    source = backend.asarray(np.arange(size // 4, dtype=np.int32))
    target = backend.xp.empty_like(source)
    return 2 * size / _seconds(backend, lambda: backend.xp.copyto(target, source)) / 1e9


def _product_rate(backend: Backend, side: int) -> float:
    # Nor here: matrices of zeros take less power, and so a higher clock.
    host = np.random.default_rng(0).standard_normal((side, side), dtype=np.float32)
    A: Array = backend.asarray(host)
    product = backend.xp.empty_like(A)
    return 2 * side**3 / _seconds(backend, lambda: backend.xp.dot(A, A, out=product)) / 1e9


def _tf32_product_rate(backend: Backend, side: int) -> float:
    with _in_tf32():
        return _product_rate(backend, side)


@contextmanager
def _in_tf32() -> Iterator[None]:
    """Have CuPy multiply float32 matrices in TF32; it has no public name for what `CUPY_TF32=1` sets at the start."""
    from cupy._core import _routines_linalg as linalg

    before = linalg.get_compute_type(np.float32)
    linalg.set_compute_type(np.float32, linalg.COMPUTE_TYPE_TF32)
    try:
        yield
    finally:
        linalg.set_compute_type(np.float32, before)


def _seconds(backend: Backend, work: Callable[[], Any]) -> float:
    """Return the median time of `work` on the device, after it was done three times."""
    for _ in range(3):
        work()
    backend.synchronize()
    timed = _timed_by_clock if backend.name == "cpu" else _timed_by_events
    return statistics.median(timed(backend, work) for _ in range(REPEATS))


def _timed_by_clock(_backend: Backend, work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _timed_by_events(backend: Backend, work: Callable[[], Any]) -> float:
    cuda = backend.xp.cuda
    before, after = cuda.Event(), cuda.Event()
    before.record()
    work()
    after.record()
    after.synchronize()
    milliseconds: float = cuda.get_elapsed_time(before, after)
    return milliseconds / 1e3
