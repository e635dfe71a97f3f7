"""What numbers depend on: the machine, its devices, versions and the revision."""

import gc
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from benchmarks.schema import Machine
from benchmarks.timing.interference import load
from gpunn import Backend, __version__, get_backend
from gpunn.backends.limits import usable_cores
from gpunn.printing import one_line

LIBRARIES = (
    "torch",
    "jax",
    "jaxlib",
    "scikit-learn",
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
