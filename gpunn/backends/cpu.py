"""CPU backend: NumPy arrays in host memory."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gpunn.backends.base import Backend, version
from gpunn.backends.limits import usable_cores
from gpunn.errors import ConfigurationError, DeviceError


@final
class CpuBackend(Backend):
    """Backend for NumPy and kernels compiled by Numba."""

    name = "cpu"

    @property
    def xp(self) -> Any:
        return np

    @property
    def kernels(self) -> Any:
        # With Numba's compiler disabled, kernels can be imported but not run.
        from gpunn.kernels import compilation
        from gpunn.kernels.cpu import contract as cpu

        if compilation.SWITCHED_OFF:
            raise ConfigurationError(compilation.REFUSAL)
        return cpu

    def asarray(self, array: NDArray[Any]) -> NDArray[Any]:
        return array

    def to_host(self, array: NDArray[Any]) -> NDArray[Any]:
        return array

    def synchronize(self) -> None:
        """Do nothing: NumPy is synchronous."""

    @contextmanager
    def activate(self) -> Iterator[None]:
        try:
            yield
        except MemoryError as error:
            reason = f" ({error})" if str(error) else ""
            raise DeviceError(f"the CPU is out of memory{reason}: use a smaller batch or network") from error

    def describe(self) -> dict[str, str]:
        blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[call-overload,unused-ignore]
        return {
            "name": _processor(),
            "cores": str(usable_cores()),
            "numpy": np.__version__,
            "blas": f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip(),
            "numba": version("numba") + _switched_off(),
        }


def _switched_off() -> str:
    """Return a note if Numba's compiler is disabled, by the environment or by Numba's configuration file."""
    try:
        from numba import config
    except Exception:  # an engine that needs Numba reports why it can't be imported
        return ""
    return " (compiler disabled by NUMBA_DISABLE_JIT: only engine plain works)" if config.DISABLE_JIT else ""


def _processor() -> str:
    """Return the processor's model name, or its architecture if unknown."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
