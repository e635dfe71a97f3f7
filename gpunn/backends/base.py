"""The contract of a backend: where arrays live and which library computes with them."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunn.equations import Array


class Backend(ABC):
    """A device and its array library. Passed explicitly to whatever computes; there is no current backend."""

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

        Raises `ConfigurationError` where there are none.
        """

    @abstractmethod
    def asarray(self, array: NDArray[Any]) -> Array:
        """Return host `array` on the device, same shape and dtype; on the CPU it is not copied."""

    @abstractmethod
    def to_host(self, array: Array) -> NDArray[Any]:
        """Return device `array` on the host, same shape and dtype; on the CPU it is not copied."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until the device has done everything that was asked of it."""

    @abstractmethod
    def activate(self) -> AbstractContextManager[None]:
        """Compute inside `with backend.activate():`; it selects the device and turns its failures into errors.

        The block raises `DeviceError` where the device fails or runs out of memory.
        """

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """Return the device's name, its properties and the versions of its libraries, in the order to show them."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


def self_test(backend: Backend) -> str | None:
    """Do what training does, on a small scale: move, multiply, run an elementwise function, compare.

    Returns what went wrong, or None. `backend` must be active.
    """
    xp = backend.xp
    host = np.linspace(-0.2, 0.2, 64 * 48, dtype=np.float32).reshape(64, 48)
    on_device = backend.asarray(host)
    product = on_device @ on_device.T
    # Loose, so that a GPU that was told to multiply in TF32 passes; what is broken is wrong by more.
    for what, found, expected in (
        ("a matrix product", product, host @ host.T),
        ("an exponential", xp.exp(product), np.exp(host @ host.T)),
    ):
        if not np.allclose(backend.to_host(found), expected, rtol=1e-2, atol=1e-2):
            return f"{what} came out wrong"
    return None


def version(package: str) -> str:
    """Return the version of an installed `package`, or that it isn't."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
