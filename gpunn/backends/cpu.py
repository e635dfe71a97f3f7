"""The CPU: NumPy arrays in host memory."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gpunn.backends.base import Backend, version
from gpunn.errors import DeviceError


@final
class CpuBackend(Backend):
    """Computes with NumPy, and with kernels compiled by Numba."""

    name = "cpu"

    @property
    def xp(self) -> Any:
        return np

    @property
    def kernels(self) -> Any:
        from gpunn.kernels import cpu

        return cpu

    def asarray(self, array: NDArray[Any]) -> NDArray[Any]:
        return array

    def to_host(self, array: NDArray[Any]) -> NDArray[Any]:
        return array

    def synchronize(self) -> None:
        """Nothing to wait for: NumPy returns when it is done."""

    @contextmanager
    def activate(self) -> Iterator[None]:
        try:
            yield
        except MemoryError as error:
            reason = f" ({error})" if str(error) else ""
            raise DeviceError(f"the CPU is out of memory{reason}: choose a smaller batch or network") from error

    def describe(self) -> dict[str, str]:
        blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[call-overload,unused-ignore]
        return {
            "name": _processor(),
            "cores": str(usable_cores()),
            "numpy": np.__version__,
            "blas": f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip(),
            "numba": version("numba"),
        }


def _processor() -> str:
    """Return the processor's model name, or at least its architecture."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Return how many cores this process may use, which `taskset` and the like can make fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
