"""Kernels compiled before a GPU is asked for them: those of the GPU tests and benchmarks, found in the cache later."""

import importlib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gpunn.engines import Recipe

from .gpu import compile_ahead
from .gpu.compile_ahead import Network, compile_one, networks
from .host_gpu import HostGpu
from .kernel_cases import CASES


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> HostGpu:
    found = HostGpu(monkeypatch)
    found.runs = False
    monkeypatch.setattr(compile_ahead, "_gpu", lambda shared: found)
    return found


def test_networks_of_tests_and_benchmarks_are_compiled_ahead() -> None:
    found = {(network.sizes, network.recipe.batch_size) for network in networks()}
    assert {((784, 16, 10), 3000), ((784, 128, 10), 60000), ((784, 30, 10), 300), ((12, 9, 6, 3), 15)} <= found
    assert {network.recipe.optimizer.rule for network in networks()} == {"descent", "momentum", "nesterov", "adam"}


@pytest.mark.parametrize(
    "what",
    [
        Network((12, 3), ("sigmoid",), Recipe(2, 0.5)),
        next(number for number, case in enumerate(CASES) if case.name == "drop"),
    ],
    ids=["epoch", "drop"],
)
def test_a_later_process_finds_the_kernel_in_the_cache(
    gpu: HostGpu, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: Network | int
) -> None:
    keeping = importlib.import_module("gpunn.kernels.compilation")
    monkeypatch.setattr(keeping, "SHELF", keeping.Shelf(tmp_path / "kernels"))

    def compiled() -> Any:
        compile_one(what, (8, 6), 99 * 1024)
        kernel = gpu.launches[0].kernel
        found = sum(kernel.stats.cache_hits.values()), sum(kernel.stats.cache_misses.values())
        # What a new process begins with.
        kernel.overloads.clear()
        kernel._cache_hits.clear()
        kernel._cache_misses.clear()
        return found

    assert compiled() == (0, 1)
    assert compiled() == (1, 0)
    assert len(list((tmp_path / "kernels").iterdir())) == 1


def test_without_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_ahead, "cuda_compiler", lambda: pytest.skip("needs numba-cuda"))
    outcome = CliRunner().invoke(compile_ahead.main, [])
    assert (outcome.exit_code, outcome.output) == (1, "nothing is compiled: needs numba-cuda\n")
