"""Compiled activations and losses: compared with NumPy in float64, alone and in the engine `epoch`."""

from typing import Any

import numpy as np
import pytest

from gpunn import MLP, Adam, ConfigurationError, Dataset, Split, get_backend
from gpunn.activations import HIDDEN, activation
from gpunn.engines import ENGINES, Examples, Parameters, Recipe, choose_engine
from gpunn.engines.cpu import epoch as epoch_engine
from gpunn.kernels.compilation import compiled
from gpunn.kernels.cpu.activations import activate, slope
from gpunn.kernels.cpu.epoch.run import run_epoch
from gpunn.kernels.cpu.memory import load, store
from gpunn.kernels.cpu.vectors import LANES, Static

ONE = Static(1)
CPU = get_backend("cpu")


@compiled
def apply(function: Any, z: Any, a: Any, slopes: Any) -> None:
    for offset in range(0, z.size, LANES):
        store(a, offset, activate(function, load(z, offset, ONE)))
        store(slopes, offset, slope(function, load(a, offset, ONE)))


@pytest.mark.parametrize("name", HIDDEN)
def test_compiled_functions_follow_float64(name: str) -> None:
    z = np.concatenate([np.linspace(-30, 30, 4000), np.geomspace(1e-6, 80, 100), -np.geomspace(1e-6, 80, 92)])
    rounded = z.astype(np.float32)
    a, slopes = np.empty_like(rounded), np.empty_like(rounded)
    apply(Static(name), rounded, a, slopes)
    function, derivative = activation(np, name)
    exact = function(rounded.astype(np.float64))
    np.testing.assert_allclose(a, exact, rtol=3e-7, atol=3e-7)
    np.testing.assert_allclose(slopes, derivative(exact), rtol=3e-7, atol=6e-7)
    # Near zero, where it matters, what is small is as exact as what is large.
    if name != "sigmoid":
        near = np.abs(z) < 1
        np.testing.assert_allclose(a[near], exact[near], rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", HIDDEN)
def test_compiled_functions_keep_nan(name: str) -> None:
    z = np.full(LANES, np.nan, np.float32)
    z[1:] = 1
    a, slopes = np.empty_like(z), np.empty_like(z)
    apply(Static(name), z, a, slopes)
    assert np.isnan(a[0])
    assert not np.isnan(a[1:]).any()


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "elu"])
def test_compiled_functions_saturate(name: str) -> None:
    z = np.array([50, -50, 16, -18, 1e30, -1e30, np.inf, -np.inf] * 2, np.float32)
    a, slopes = np.empty_like(z), np.empty_like(z)
    apply(Static(name), z, a, slopes)
    low = {"sigmoid": 0, "tanh": -1, "elu": -1}[name]
    np.testing.assert_array_equal(a, np.where(z > 0, z if name == "elu" else 1, low))
    np.testing.assert_array_equal(slopes, np.where((z > 0) & (name == "elu"), 1, 0))


@pytest.mark.parametrize("engine", ["fused", "epoch"])
@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_adam_leaves_alone_what_feeds_a_saturated_neuron(small: Split, engine: str, name: str) -> None:
    net = MLP([12, 5, 3], hidden=name, output="softmax")
    net.biases[0][2] = 40
    start = Parameters(net.weights, net.biases, net.functions)
    recipe = Recipe(10, 0.01, optimizer=Adam(), loss="cross_entropy")
    runner = ENGINES[engine](CPU, start, Examples(small.images, small.labels), recipe)
    runner.run_epoch(np.arange(200))
    moved = np.abs(runner.parameters().weights[0] - net.weights[0]).max(axis=1)
    assert moved[2] == 0
    assert moved[[0, 1, 3, 4]].min() > 1e-3


NETWORKS: list[tuple[Any, str, str]] = [
    ("relu", "softmax", "cross_entropy"),
    (["tanh", "elu"], "sigmoid", "binary_cross_entropy"),
    (["leaky_relu", "sigmoid"], "identity", "squared_error"),
    ("identity", "tanh", "squared_error"),
    ("elu", "relu", "squared_error"),
]


def trained(name: str, net: MLP, split: Split, recipe: Recipe, dtype: type) -> tuple[float, list[Any]]:
    start = Parameters([W.astype(dtype) for W in net.weights], [b.astype(dtype) for b in net.biases], net.functions)
    engine = ENGINES[name](CPU, start, Examples(split.images, split.labels), recipe)
    rng = np.random.default_rng(5)
    loss = [engine.run_epoch(rng.permutation(len(split))) for _ in range(2)][-1]
    found = engine.parameters()
    return loss, [*found.weights, *found.biases]


def assert_follows_plain(split: Split, net: MLP, recipe: Recipe) -> None:
    assert ENGINES["epoch"].unsupported_reason(CPU, Parameters(net.weights, net.biases, net.functions), recipe) is None
    loss, found = trained("epoch", net, split, recipe, np.float32)
    exact_loss, exact = trained("plain", net, split, recipe, np.float64)
    assert loss == pytest.approx(exact_loss, rel=2e-5)
    for ours, theirs, before in zip(found, exact, (*net.weights, *net.biases), strict=True):
        assert np.abs(ours - theirs).max() <= 2e-5 * max(1, np.abs(theirs).max())
        assert np.abs(theirs - before).max() > 1e-4


@pytest.fixture(scope="module")
def digits(mnist: Dataset) -> Split:
    return mnist.train[:600]


@pytest.mark.parametrize(("hidden", "output", "loss"), NETWORKS, ids=str)
def test_every_activation_and_loss_follows_float64(digits: Split, hidden: Any, output: str, loss: str) -> None:
    sizes = [784, 20, 10] if isinstance(hidden, str) else [784, 20, 18, 10]
    net = MLP(sizes, hidden=hidden, output=output, seed=2)
    for batch_size in (1, 7, 64, 600):
        assert_follows_plain(digits, net, Recipe(batch_size, 0.004 if batch_size == 1 else 0.02, loss=loss))


def test_dense_images_and_several_threads_follow_float64(monkeypatch: pytest.MonkeyPatch, digits: Split) -> None:
    monkeypatch.setattr(epoch_engine, "usable_cores", lambda: 2)
    dense = Split(np.maximum(digits.images, 1), digits.labels)
    # Of wide layers, threads share the neurons.
    for sizes, batch_size in (([784, 40, 33], 1), ([784, 600, 33], 100), ([784, 40, 33], 600)):
        net = MLP(sizes, hidden="relu", output="softmax", seed=2)
        assert_follows_plain(dense, net, Recipe(batch_size, 0.002, loss="cross_entropy"))


@pytest.mark.parametrize("size", [20, 50, 500])
@pytest.mark.parametrize(("output", "loss"), [("softmax", "cross_entropy"), ("sigmoid", "binary_cross_entropy")])
def test_certain_outputs_have_the_loss_and_steps_of_float64(digits: Split, output: str, loss: str, size: int) -> None:
    net = MLP([784, 6, 10], output=output, seed=2)
    # Sure of the digit 3, which is wrong for most, and that the others are none.
    net.biases[-1][:] = -size
    net.biases[-1][3] = size
    recipe = Recipe(600, 0.1, loss=loss)
    exact_loss, exact = trained("plain", net, digits, recipe, np.float64)
    for name in ("epoch", "plain"):
        value, found = trained(name, net, digits, recipe, np.float32)
        assert value == pytest.approx(exact_loss, rel=1e-6)
        for ours, theirs in zip(found, exact, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("output", "loss"), [("softmax", "cross_entropy"), ("sigmoid", "binary_cross_entropy")])
def test_a_single_layer_follows_float64(digits: Split, output: str, loss: str) -> None:
    dense = Split(np.maximum(digits.images, 1), digits.labels)
    for split in (digits, dense):
        for batch_size in (1, 64):
            assert_follows_plain(split, MLP([784, 10], output=output, seed=2), Recipe(batch_size, 0.003, loss=loss))


def test_one_compilation_of_the_epoch_serves_all_recipes(digits: Split) -> None:
    def prepare(net: MLP, recipe: Recipe) -> int:
        start = Parameters(net.weights, net.biases, net.functions)
        ENGINES["epoch"](CPU, start, Examples(digits.images, digits.labels), recipe)
        return len(run_epoch.overloads)

    before = prepare(MLP([784, 16, 10]), Recipe(10, 0.1))
    assert prepare(MLP([784, 30, 20, 10], hidden="relu", output="identity"), Recipe(1, 0.1, l2=0.1)) == before
    recipe = Recipe(100, 0.1, loss="cross_entropy", optimizer=Adam(), dropout=0.2)
    assert prepare(MLP([784, 40, 10], hidden="elu", output="softmax"), recipe) == before


def test_engines_return_the_functions_that_they_were_given(digits: Split) -> None:
    net = MLP([784, 6, 10], hidden="relu", output="softmax")
    start = Parameters(net.weights, net.biases, net.functions)
    for name in ("plain", "epoch"):
        engine = ENGINES[name](
            CPU, start, Examples(digits.images, digits.labels), Recipe(10, 0.1, loss="cross_entropy")
        )
        assert engine.parameters().functions == ("relu", "softmax")
    assert Parameters(net.weights, net.biases).functions == ("sigmoid", "sigmoid")


def test_a_loss_that_does_not_go_with_the_outputs_is_refused_by_all_engines() -> None:
    net = MLP([784, 6, 10], output="softmax")
    for name in ("plain", "epoch", "auto"):
        with pytest.raises(ConfigurationError, match=r"loss squared_error needs output activation .*, got softmax"):
            choose_engine(name, CPU, Parameters(net.weights, net.biases, net.functions), Recipe(10, 0.1))


def test_nan_is_not_trained_away_by_softmax(digits: Split) -> None:
    net = MLP([784, 6, 10], output="softmax", seed=2)
    net.biases[0][1] = np.nan
    loss, found = trained("epoch", net, digits, Recipe(32, 0.1, loss="cross_entropy"), np.float32)
    assert np.isnan(loss)
    assert np.isnan(found[-1]).all()
