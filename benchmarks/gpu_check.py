"""What a device is and can do, found out in a process of its own: its context on the GPU ends with it."""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.ceilings import measure_ceilings
from benchmarks.contest import Watch
from benchmarks.machine import driver_version
from benchmarks.peers import Place
from benchmarks.words import in_a_line
from gpunn import Backend, get_backend
from gpunn.errors import GpunnError


@dataclass(frozen=True)
class Checked:
    """A device that can be used, as `--device` spells it."""

    device: str
    described: Mapping[str, str]
    ceilings: Mapping[str, float]
    missing: Mapping[str, str]
    """Ceilings that couldn't be measured, and why."""
    shared_memory: int | str = ""
    """Bytes of shared memory that a block may have, or why that isn't known."""


def check_device(device: str, watch: Watch) -> Checked | str:
    """Return what `device` is and can do, or why it can't be used."""
    watch(device, "prepare")
    try:
        backend = get_backend(device)
    except GpunnError as error:
        return str(error)
    ceilings, missing = measure_ceilings(backend)
    if backend.name == "cpu":
        return Checked(backend.name, {}, ceilings, missing)
    described = backend.describe() | {"driver, GPU": driver_version(Place(backend.name).index)}
    return Checked(backend.name, described, ceilings, missing, _shared_memory(backend))


def _shared_memory(backend: Backend) -> int | str:
    try:
        with backend.activate():
            from gpunn.kernels.cuda.jit import shared_memory

            return shared_memory()
    except Exception as error:  # numba-cuda, its compiler and the driver raise many types
        return in_a_line(error)
