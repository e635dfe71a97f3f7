"""Backend interface: a device and its array library."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunn.equations import Array

TF32_OVERRIDE = "NVIDIA_TF32_OVERRIDE"
"""Environment variable by which cuBLAS multiplies float32 matrices in TF32 (1) or never does (0), whatever is set."""


class Backend(ABC):
    """A device and its array library. Passed explicitly; there is no current backend."""

    name: str
    """The device as `--device` spells it: "cpu", "cuda:0"."""

    @property
    @abstractmethod
    def xp(self) -> Any:
        """The array namespace: `numpy` or `cupy`."""

    @property
    @abstractmethod
    def kernels(self) -> Any:
        """The fused kernels for the arrays of `xp`, see `gpunn.kernels.contract.Kernels`.

        Raises `ConfigurationError` if they can't be used.
        """

    @abstractmethod
    def asarray(self, array: NDArray[Any]) -> Array:
        """Return host `array` on the device, same shape and dtype; on the CPU it is not copied."""

    @abstractmethod
    def to_host(self, array: Array) -> NDArray[Any]:
        """Return device `array` on the host, same shape and dtype; on the CPU it is not copied."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until the device has finished all queued work."""

    @abstractmethod
    def activate(self) -> AbstractContextManager[None]:
        """Return a context manager to compute in: it selects the device and translates its failures.

        The block raises `DeviceError` if the device fails or runs out of memory.
        """

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """Return the device's name, properties and library versions, in display order."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


def self_test(backend: Backend) -> str | None:
    """Check transfers, matrix products and elementwise functions on small arrays.

    Returns a description of the failure, or None. `backend` must be active.
    """
    xp = backend.xp
    host = np.linspace(-0.2, 0.2, 64 * 48, dtype=np.float32).reshape(64, 48)
    on_device = backend.asarray(host)
    product = on_device @ on_device.T
    # Loose enough for TF32 products; a broken device is off by more.
    for what, found, expected in (
        ("a matrix product", product, host @ host.T),
        ("an exponential", xp.exp(product), np.exp(host @ host.T)),
    ):
        if not np.allclose(backend.to_host(found), expected, rtol=1e-2, atol=1e-2):
            return f"{what} came out wrong"
    return None


def version(package: str) -> str:
    """Return the version of `package`, or "not installed"."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
