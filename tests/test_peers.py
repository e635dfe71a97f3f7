"""Every peer trains every recipe that it is written for as float64 does, again and again from the same start."""

import importlib
import sys
from contextlib import nullcontext
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("msgspec")

from benchmarks.peers import PEERS, Place, load_peer, peers_on
from benchmarks.peers.base import rules
from benchmarks.schema import Contestant, Recipe, Task
from benchmarks.timing.contestants import AbsentError, Seat, network
from benchmarks.timing.exactness import TOLERANCES, Problem
from benchmarks.workloads.epochs import RECIPES
from gpunn import MLP, Dataset
from gpunn.engines import Parameters
from gpunn.engines import Recipe as Settings

from .strict_cupy import StrictCupy

LIBRARIES = {"numpy": "threadpoolctl", "torch.compile": "torch", "torch.func": "torch", "jax.vmap": "jax"}


def task(recipe: Recipe, networks: int = 1) -> Task:
    return Task("784-12-10", 30, recipe, images=200, networks=networks)


# Compiling for torch.compile takes half a minute; each run of the benchmarks compares it with float64.
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", [name for name in peers_on("cpu") if name != "torch.compile"])
def test_peers_do_the_same_as_float64(name: str, recipe: str) -> None:
    pytest.importorskip(LIBRARIES.get(name, name))
    problem = Problem(task(RECIPES[recipe]))
    seat = Seat(problem.task, Contestant(name, "cpu", is_peer=True, threads=1))
    if rules(problem.starts[0], problem.recipe()) not in load_peer(name).knows:
        with pytest.raises(AbsentError, match=f"{name} isn't written for this recipe here"):
            seat.enter()
        return
    exact = problem.exact("cpu")
    for outcome in (seat.enter().first, seat.round()):
        deviation, wrong = problem.judge(outcome.networks, exact)
        assert wrong is None
        assert deviation <= TOLERANCES["float32"]


@pytest.mark.parametrize("name", [name for name in peers_on("cpu") if name != "torch.compile"])
def test_peers_train_on_parts_of_an_epoch(name: str) -> None:
    pytest.importorskip(LIBRARIES.get(name, name))
    problem = Problem(task(Recipe()))
    peer = network(Contestant(name, "cpu", is_peer=True), 1, problem.starts[0], problem, problem.recipe())
    if getattr(peer, "takes_parts", True):
        order = problem.orders[0][0]
        assert peer.run_epoch(order[:90]) > 0
        peer.reset()
        assert np.isfinite(peer.run_epoch(order))


@pytest.mark.parametrize("name", peers_on("cpu", many=True))
def test_peers_of_many_networks_do_the_same_as_float64(name: str) -> None:
    pytest.importorskip(LIBRARIES[name])
    problem = Problem(task(Recipe(), networks=3))
    seat, exact = Seat(problem.task, Contestant(name, "cpu", is_peer=True)), problem.exact("cpu")
    for outcome in (seat.enter().first, seat.round()):
        assert problem.judge(outcome.networks, exact)[1] is None


def test_a_peer_that_is_not_installed_is_absent_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.delitem(sys.modules, "benchmarks.peers.sklearn_mlp", raising=False)
    with pytest.raises(AbsentError, match="sklearn is not installed: pip install scikit-learn"):
        Seat(task(Recipe()), Contestant("sklearn", "cpu", is_peer=True)).enter()


def test_every_recipe_of_the_rows_has_peers() -> None:
    assert set(peers_on("cuda")) == {"torch", "torch.graphs", "jax"}
    assert PEERS["torch.graphs"].kinds == ("cuda",)


def test_a_seat_on_a_gpu_computes_there(install: Any) -> None:
    install(StrictCupy())
    problem = Problem(task(Recipe()))
    found = Seat(problem.task, Contestant("plain", "cuda:0")).enter().first
    assert problem.judge(found.networks, problem.exact("cpu"))[1] is None


@pytest.mark.parametrize("recipe", RECIPES)
def test_graphs_replay_every_batch_of_an_epoch(recipe: str, mnist: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    import torch

    from benchmarks.peers import torch_graphs
    from benchmarks.peers.numpy_by_hand import NumpyByHand
    from benchmarks.peers.torch_eager import threads_set_to

    # What is recorded on a GPU is called here.
    monkeypatch.setattr(torch_graphs, "record", lambda work: work)
    monkeypatch.setattr(torch_graphs, "rehearse", lambda work: [work() for _ in range(3)])
    monkeypatch.setattr(torch.cuda, "device", lambda _device: nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    split, how = mnist.train[:197], RECIPES[recipe]
    net = MLP((784, 16, 10), hidden=how.hidden, output=how.output)
    start = Parameters(net.weights, net.biases, net.functions)
    optimizer = Problem(task(how)).recipe().optimizer
    for batch_size in (1, 10, 64, 197, 1000) if recipe == "sigmoid" else (10, 64):
        settings = Settings(batch_size, 0.01 if recipe == "sigmoid" else 1e-3, loss=how.loss, optimizer=optimizer)
        graphs = torch_graphs.TorchGraphs(start, split, settings, Place())
        by_hand = NumpyByHand(start, split, settings, Place())
        with threads_set_to(1):
            for seed in range(2):
                order = np.random.default_rng(seed).permutation(len(split))
                assert graphs.run_epoch(order) == pytest.approx(by_hand.run_epoch(order), rel=1e-4)
        found, expected = graphs.parameters(), by_hand.parameters()
        for mine, theirs in zip((*found.weights, *found.biases), (*expected.weights, *expected.biases), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-4)


def test_jax_opens_the_gpu_it_is_to_use_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: dict[str, str] = {}
    jax: Any = ModuleType("jax")
    jax.config = SimpleNamespace(update=set_to.__setitem__)
    jax.devices = lambda kind: [f"{kind}:{set_to.get('jax_cuda_visible_devices', 'all of them')}"]
    jax.numpy = jax.lax = ModuleType("jax.numpy")
    for name, module in {"jax": jax, "jax.numpy": jax.numpy}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    monkeypatch.delitem(sys.modules, "benchmarks.peers.jax_scan", raising=False)
    peer = importlib.import_module("benchmarks.peers.jax_scan")
    monkeypatch.setitem(sys.modules, "benchmarks.peers.jax_scan", peer)  # and gone afterwards
    assert peer.device_of(Place("cuda:2")) == "cuda:2"
    assert peer.device_of(Place("cuda:2")) == "cuda:2"
    with pytest.raises(RuntimeError, match="JAX has opened cuda:2 in this process"):
        peer.device_of(Place("cuda:0"))
