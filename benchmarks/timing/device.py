"""What a device is and can do at most: the machine, its versions, how fast it copies its memory and multiplies.

An epoch moves its bytes through that memory and does its multiplications at that rate, or slower.
"""

import gc
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.estimates import estimate
from benchmarks.schema import Ceiling, Machine, Transfer
from benchmarks.timing.interference import load
from gpunn import Backend, Split, __version__, get_backend
from gpunn.backends.limits import usable_cores
from gpunn.equations import Array
from gpunn.printing import one_line

LIBRARIES = (
    "torch",
    "jax",
    "jaxlib",
    "scikit-learn",
    "thinc",
    "numba-cuda",
    # What compiles and links Numba's kernels, for CUDA 13 and 12: a compiler newer than its linker compiles none.
    "cuda-bindings",
    "cuda-core",
    "nvidia-nvvm",
    "nvidia-nvjitlink",
    "nvidia-cuda-nvcc-cu12",
    "nvidia-nvjitlink-cu12",
    "cupy-cuda12x",
    "cupy-cuda13x",
    "jax-cuda13-plugin",
    "nvidia-cublas",
    "nvidia-cublas-cu12",
    "pytest",
    "pytest-benchmark",
)

BYTES = {"cpu": 2**26, "cuda": 2**30}
"""Of the array that is copied: many times what a cache holds."""

SIDE = {"cpu": 1024, "cuda": 8192}
"""Of the matrices that are multiplied."""

REPEATS = 10

LONGEST = 300


def in_a_line(error: BaseException) -> str:
    """Return the kind and the message of an error in one line, cut short where it is long."""
    return one_line(f"{type(error).__name__}: {error}")[:LONGEST]


def describe_machine(backends: Sequence[Backend], absent: dict[str, str]) -> Machine:
    """Return the processor, the versions of Python and `LIBRARIES`, and what each device is."""
    about = get_backend("cpu").describe()
    versions = {"python": platform.python_version()}
    versions |= {name: value for name, value in about.items() if name not in {"name", "cores"}}
    for package in LIBRARIES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "none"
    devices = {backend.name: backend.describe() for backend in backends}
    for name, described in devices.items():
        if name != "cpu":
            described["driver, GPU"] = driver_version(int(name.partition(":")[2]))
    return Machine(about["name"], usable_cores(), versions, devices, absent, load())


def revision() -> str:
    """Return gpunn's revision, or its version outside a checkout."""
    return _output_of("git", "describe", "--always", "--dirty") or __version__


def driver_version(index: int) -> str:
    """Return the version of the NVIDIA driver, and of which GPU `nvidia-smi` says so."""
    asked = ("nvidia-smi", f"--id={index}", "--query-gpu=driver_version,name", "--format=csv,noheader")
    return _output_of(*asked) or "unknown: nvidia-smi doesn't answer"


def _output_of(*command: str) -> str:
    """Return what a command prints, or nothing where it fails."""
    try:
        found = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()


def give_memory_back(backend: Backend) -> None:
    """Free what libraries keep of a GPU's memory for later; JAX, which can't, keeps the most that it has taken."""
    gc.collect()
    if backend.name == "cpu":
        return
    with backend.activate():
        backend.xp.get_default_memory_pool().free_all_blocks()
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized():
        sys.modules["torch"].cuda.empty_cache()


def measure_ceiling(device: str) -> Ceiling:
    """Return medians of `REPEATS`, and for the rest why it couldn't be measured."""
    backend, kind = get_backend(device), device.partition(":")[0]
    measures: dict[str, Callable[[], float]] = {
        "copied_bytes": lambda: _copy_rate(backend, BYTES[kind]),
        "operations": lambda: _product_rate(backend, SIDE[kind]),
    }
    if kind == "cuda":
        measures["tf32_operations"] = lambda: _tf32_product_rate(backend, SIDE[kind])
    found, missing = dict[str, float](), dict[str, str]()
    for name, measure in measures.items():
        try:
            with backend.activate():
                found[name] = measure()
        except Exception as error:  # what isn't known of a device keeps nothing else from being measured
            missing[name] = in_a_line(error)
        give_memory_back(backend)
    return Ceiling(device, **found, missing=missing)


def measure_transfer(device: str, split: Split) -> Transfer:
    """Return how long the images and labels take to a GPU."""
    backend, seconds = get_backend(device), []
    with backend.activate():
        for _ in range(REPEATS + 1):
            started = time.perf_counter()
            arrays = backend.asarray(split.images), backend.asarray(split.labels)
            backend.synchronize()
            seconds.append(time.perf_counter() - started)
            del arrays
    return Transfer(device, split.images.nbytes + split.labels.nbytes, estimate(seconds[1:]))


def _copy_rate(backend: Backend, size: int) -> float:
    # Not zeros, which some memories store and move compressed.
    source = backend.asarray(np.arange(size // 4, dtype=np.int32))
    target = backend.xp.empty_like(source)
    return 2 * size / _seconds(backend, lambda: backend.xp.copyto(target, source))


def _product_rate(backend: Backend, side: int) -> float:
    # Nor here: matrices of zeros take less power, and so a higher clock.
    host = np.random.default_rng(0).standard_normal((side, side), dtype=np.float32)
    A: Array = backend.asarray(host)
    product = backend.xp.empty_like(A)
    return 2 * side**3 / _seconds(backend, lambda: backend.xp.dot(A, A, out=product))


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
