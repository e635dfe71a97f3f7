"""What the numbers depend on: the processors, the version of everything, and gpunn's revision."""

import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from gpunn import __version__, get_backend

CPU_LIBRARIES = ("torch", "jax", "scikit-learn", "thinc")
GPU_LIBRARIES = (
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
    "torch",
    "jax",
    "jaxlib",
    "jax-cuda13-plugin",
    "nvidia-cublas",
    "nvidia-cublas-cu12",
    "scikit-learn",
    "pytest",
)


def describe_machine(libraries: Sequence[str] = CPU_LIBRARIES) -> dict[str, str]:
    """Return the processor, the versions of NumPy, Numba, Python and `libraries`, and gpunn's revision."""
    about = get_backend("cpu").describe() | {"python": platform.python_version()}
    for package in libraries:
        try:
            about[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            about[package] = "none"
    about["gpunn"] = _output_of("git", "describe", "--always", "--dirty") or __version__
    return about


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
