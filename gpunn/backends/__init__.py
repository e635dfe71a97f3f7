"""Devices and the array libraries that compute on them."""

import logging
import re
from dataclasses import dataclass, field

from gpunn.backends.base import Backend
from gpunn.backends.cpu import CpuBackend
from gpunn.errors import ConfigurationError, DeviceError

__all__ = ["Backend", "DeviceStatus", "devices", "get_backend", "usable_gpu"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DeviceStatus:
    """A device: its description (`Backend.describe`) if usable, otherwise the reason why not."""

    name: str
    usable: bool
    description: dict[str, str] = field(default_factory=dict)
    reason: str | None = None


def get_backend(device: str | Backend = "auto") -> Backend:
    """Return the backend of `device`: "cpu", "cuda" (the first GPU), "cuda:N", or "auto".

    "auto" is the first GPU if usable, otherwise the CPU, and logs which and why. (Training and evaluation leave to the
    CPU what is done sooner there, see `gpunn.engines.devices`.) A backend is returned unchanged.
    Raises `ConfigurationError` for another name, and `DeviceError` with the cause if a requested GPU can't be used.
    """
    if isinstance(device, Backend):
        return device
    if device == "cpu":
        return CpuBackend()
    if device == "auto":
        backend = usable_gpu()
        if backend is None:
            return CpuBackend()
        logger.info("device auto: %s, %s", backend.name, backend.describe()["name"])
        return backend
    match = re.fullmatch(r"cuda(?::([0-9]{1,4}))?", device) if isinstance(device, str) else None
    if match is None:
        raise ConfigurationError(f"device must be auto, cpu, cuda or cuda:N, got {device!r}")
    try:
        return _cuda(int(match[1] or 0))
    except DeviceError as error:
        raise type(error)(f"{error}; use device cpu or auto") from error.__cause__


def usable_gpu() -> Backend | None:
    """Return the first GPU, or None if it can't be used; logs why that makes "auto" the CPU."""
    try:
        return _cuda(0)
    except DeviceError as error:
        # Without CuPy no GPU is expected; `gpunn devices` says how to install it.
        absent = isinstance(error.__cause__, ModuleNotFoundError) and error.__cause__.name == "cupy"
        level = logging.DEBUG if absent else logging.INFO
        logger.log(level, "device auto: cpu, as there is no usable GPU (%s)", error)
        return None


def devices() -> list[DeviceStatus]:
    """Return the status of the CPU and of every GPU, or of CUDA as a whole if no GPU can be used."""
    from gpunn.backends.cuda import n_cuda_devices

    found = [DeviceStatus("cpu", usable=True, description=CpuBackend().describe())]
    try:
        count = n_cuda_devices()
    except DeviceError as error:
        return [*found, DeviceStatus("cuda", usable=False, reason=str(error))]
    for index in range(count):
        try:
            backend = _cuda(index)
        except DeviceError as error:
            found.append(DeviceStatus(f"cuda:{index}", usable=False, reason=str(error)))
        else:
            found.append(DeviceStatus(backend.name, usable=True, description=backend.describe()))
    return found


def _cuda(index: int) -> Backend:
    from gpunn.backends.cuda import cuda_backend

    return cuda_backend(index)
