"""NCCL, by which the ranks' GPUs add up gradients without the host. It was never run: no two GPUs have been at hand."""

import socket
from typing import Any, final

import numpy as np

from gpunn.equations import Array


@final
class Nccl:
    """The GPUs of all ranks. Make it by `nccl_among`."""

    def __init__(self, cupy: Any, communicator: Any) -> None:
        """Take CuPy's NCCL communicator."""
        nccl = cupy.cuda.nccl
        self._cupy, self._communicator, self._sum = cupy, communicator, nccl.NCCL_SUM
        self._types = {np.dtype(np.float32): nccl.NCCL_FLOAT32, np.dtype(np.float64): nccl.NCCL_FLOAT64}

    def add_up(self, buffer: Array) -> None:
        """Replace `buffer`, on the current GPU, by the sum over all ranks, after what its stream has to do before."""
        address, stream = buffer.data.ptr, self._cupy.cuda.get_current_stream().ptr
        self._communicator.allReduce(address, address, buffer.size, self._types[buffer.dtype], self._sum, stream)


def nccl_among(cupy: Any, everyone: Any) -> Nccl | None:
    """Return NCCL over the current GPUs of all ranks of the MPI communicator `everyone`, which all call this.

    It is None where a rank lacks NCCL, or two share a GPU, which NCCL doesn't allow.
    """
    nccl: Any = getattr(cupy.cuda, "nccl", None)
    usable = bool(getattr(nccl, "available", False))
    gpu = (socket.gethostname(), cupy.cuda.Device().pci_bus_id) if usable else None
    gpus = everyone.allgather(gpu)
    if None in gpus or len(set(gpus)) < len(gpus):
        return None
    first = everyone.Get_rank() == 0
    identity = everyone.bcast(nccl.get_unique_id() if first else None, root=0)
    return Nccl(cupy, nccl.NcclCommunicator(len(gpus), identity, everyone.Get_rank()))
