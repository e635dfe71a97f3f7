"""Training over the processes of mpiexec: two and four ranks beside one process, and what ends them."""

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gpunn import MLP, History
from gpunn.backends import get_backend
from gpunn.engines import ENGINES, Examples, Parameters, Recipe
from gpunn.optimizers import OptimizerState, optimizer_for
from tests.conftest import ROOT
from tests.ranks_program import CASES, RESUMED, SMALL, examples, figures, trained

pytest.importorskip("mpi4py", reason="mpi4py is not installed")
MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
if MPIEXEC is None:
    pytest.skip("no mpiexec is installed", allow_module_level=True)

pytestmark = pytest.mark.xdist_group("ranks")

OPEN_MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}
"""Lets Open MPI start more processes than there are cores, and as root."""

SHARED = [name for name, (_, recipe) in CASES.items() if "average_every" not in recipe]
REPEATED = "large by adam"

EPS = float(np.finfo(np.float32).eps)


def mpiexec(ranks: int, *arguments: object, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [str(MPIEXEC), "-n", str(ranks), sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder or ROOT,
        env=os.environ | OPEN_MPI | {"PYTHONPATH": paths},
        timeout=120,
        check=False,
    )


class Run:
    """A run of `tests/ranks_program.py`, and what its ranks found."""

    def __init__(self, folder: Path, ranks: int, *arguments: str) -> None:
        self.process = mpiexec(ranks, ROOT / "tests" / "ranks_program.py", folder, *arguments)
        self._folder = folder
        self.ranks: list[dict[str, Any]] = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(ranks)]

    def parameters(self, name: str) -> list[NDArray[np.float32]]:
        with np.load(self._folder / f"{name} 0.npz") as arrays:
            return list(arrays.values())


@pytest.fixture(scope="module", params=[2, 4])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    done = Run(tmp_path_factory.mktemp("ranks"), request.param, "well", *CASES)
    assert done.process.returncode == 0, done.process.stderr
    return done


@cache
def alone(name: str) -> tuple[MLP, History]:
    return trained(name)


def test_all_ranks_return_the_same_weights_and_history(found: Run) -> None:
    for other in found.ranks[1:]:
        assert other == found.ranks[0]


@pytest.mark.parametrize("name", SHARED)
def test_ranks_train_what_one_process_trains_to_rounding(found: Run, name: str) -> None:
    net, history = alone(name)
    record, arrays = found.ranks[0][name]["history"], [*net.weights, *net.biases]
    # 27 steps. Adam's, of fixed size, turn rounding errors of small gradients into larger ones.
    tolerance = (2000 if CASES[name][1].get("optimizer") == "adam" else 50) * EPS
    for ours, theirs in zip(found.parameters(name), arrays, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * max(1, abs(theirs).max()))
    expected = figures(history)
    assert record["ranks"] == len(found.ranks)
    assert record["kept_epoch"] == expected["kept_epoch"]
    for ours, theirs in zip(record["epochs"], expected["epochs"], strict=True):
        for key in ours.keys() - {"seconds"}:
            assert ours[key] == pytest.approx(theirs[key], rel=tolerance, abs=1e-12), key


def test_the_end_of_one_rank_ends_all_and_the_bits_are_those_of_every_run(found: Run, tmp_path: Path) -> None:
    end = "killed" if len(found.ranks) == 2 else "failing"
    ended = Run(tmp_path, len(found.ranks), end, REPEATED)
    assert ended.process.returncode != 0
    assert "stopped" not in ended.ranks[0]
    if end == "failing":
        lines = [line for line in ended.process.stderr.splitlines() if line.startswith("gpunn")]
        assert lines == [f"gpunn: rank 1 of {len(found.ranks)}, which ends the others: RuntimeError: no more"]
    assert ended.ranks[0][REPEATED]["digest"] == found.ranks[0][REPEATED]["digest"]


@pytest.mark.parametrize("name", ["averaged", "averaged by adam"])
def test_averages_are_those_of_ranks_trained_one_after_the_other(found: Run, name: str) -> None:
    """The ranks' steps again, in this process, by the engine plain."""
    _, recipe = CASES[name]
    size, every, net, split = len(found.ranks), recipe["average_every"], MLP(SMALL, seed=1), examples().train
    optimizer = optimizer_for(recipe.get("optimizer", "sgd"))
    settings = Recipe(50, recipe.get("learning_rate", 1.0), optimizer=optimizer, seed=3)
    data, backend = Examples(split.images, split.labels), get_backend("cpu")
    rng, start = np.random.default_rng(3), Parameters(net.weights, net.biases)
    for _ in range(3):
        batches = np.split(rng.permutation(401), range(50, 401, 50))
        for first in range(0, len(batches), every * size):
            weights, states = [], []
            for rank in range(size):
                own = batches[first:][rank::size][:every]
                if own:
                    engine = ENGINES["plain"](backend, start, data, settings)
                    engine.run_epoch(np.concatenate(own))
                    parameters, memory = engine.parameters(), engine.memory()
                    weights.append(len(own))
                    states.append([[*parameters.weights, *parameters.biases], *memory.moments])
            means = [
                [np.average(arrays, axis=0, weights=weights).astype(np.float32) for arrays in zip(*group, strict=True)]
                for group in zip(*states, strict=True)
            ]
            steps = start.steps + max(weights)
            start = Parameters(means[0][:2], means[0][2:], (), OptimizerState(steps, tuple(means[1:])))
    for ours, theirs in zip(found.parameters(name), [*start.weights, *start.biases], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=500 * EPS * max(1, abs(theirs).max()))


def test_what_all_ranks_get_wrong_is_raised_in_all(found: Run) -> None:
    errors, size = found.ranks[0], len(found.ranks)
    assert f"batch_size must be at least {size}, the number of ranks, got {size - 1}" in errors["batch smaller"]
    assert f"found 1 batches for {size} ranks" in errors["few batches"]
    assert "the engine epoch on cpu can't share batches over ranks" in errors["engine"]
    assert "rank 1 has another value of settings than rank 0" in errors["seeds"]
    assert "training diverged in epoch 1" in errors["diverged"]
    assert "averaged with dropout.checkpoint was begun with " in errors["other local steps"]
    assert "distort needs ranks that share batches" in errors["local steps distorted"]


@pytest.mark.parametrize("name", RESUMED)
def test_ranks_go_on_from_a_checkpoint_to_the_same_bits(found: Run, name: str) -> None:
    assert found.ranks[0][f"{name} resumed"] == found.ranks[0][name]["digest"]


def test_one_rank_that_stops_stops_all(found: Run) -> None:
    assert found.ranks[0]["stopped"] == 1


def test_the_command_prints_and_saves_once(tmp_path: Path) -> None:
    command = ("-m", "gpunn", "train", "--distributed", "--epochs", 1, "--batch-size", 5000, "--device", "cpu")
    done = mpiexec(2, *command, "--output", "net.safetensors", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 1/1") == done.stdout.count("written to net.safetensors") == 1
    assert "engine fused over 2 ranks: 1 epoch" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]


def test_the_command_prints_an_error_once(tmp_path: Path) -> None:
    done = mpiexec(2, "-m", "gpunn", "train", "--distributed", "--batch-size", 1, folder=tmp_path)
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if "gpunn" in line and "must be at least 2" in line]
    assert done.stderr.count("gpunn: ") == 1
    assert not list(tmp_path.iterdir())


def test_another_mpirun_than_that_of_mpi4py_is_named() -> None:
    ask = "from gpunn.distributed.mpi import world; world()"
    done = subprocess.run(
        [sys.executable, "-c", ask],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMPI_COMM_WORLD_SIZE": "4"},
        timeout=60,
        check=False,
    )
    assert "mpirun started 4 processes, but mpi4py sees one" in done.stderr
