"""What the engines take besides sigmoid neurons and plain steps, on a GPU: held to float64 on the CPU."""

import math
from typing import Any

import numpy as np
import pytest

from gpunn import MLP, Adam, Backend, Dataset, train
from gpunn.activations import HIDDEN
from gpunn.dropout import mask
from gpunn.engines import Recipe
from gpunn.optimizers import SGD, Optimizer
from gpunn.schedules import Cosine, OneCycle

from ..conftest import parameters
from ..recipes import OPTIMIZERS, OUTPUTS, N, assert_resumes, assert_same, both, drawn

pytestmark = pytest.mark.gpu

EPSILON = float(np.finfo(np.float32).eps)

RECIPES: list[dict[str, Any]] = [
    {"optimizer": Adam(), "learning_rate": 0.002, "l2": 1e-4},
    {"optimizer": Adam(decoupled=True), "learning_rate": 0.002, "l2": 1e-2, "schedule": OneCycle()},
    {"optimizer": SGD(0.9, nesterov=True), "learning_rate": 0.02, "dropout": 0.3},
    {"loss": "binary_cross_entropy", "learning_rate": 0.05},
]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999999])
def test_masks_are_the_same_bits_on_both(gpu: Backend, share: float) -> None:
    with gpu.activate():
        found = gpu.to_host(mask(gpu.xp, 4_000_000_007, 59_000, (700, 300), share=share, dtype=np.float32))
    np.testing.assert_array_equal(found, mask(np, 4_000_000_007, 59_000, (700, 300), share=share, dtype=np.float32))


@pytest.mark.parametrize("options", RECIPES, ids=str)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_plain_follows_float64_with_every_recipe(
    gpu: Backend, mnist: Dataset, hidden: str, options: dict[str, Any]
) -> None:
    nets = []
    for device, dtype in ((gpu, np.float32), ("cpu", np.float64)):
        output = "sigmoid" if "loss" in options else "softmax"
        net = MLP([784, 30, 10], hidden=hidden, output=output, init="xavier", dtype=dtype)
        train(net, mnist.train[:1000], epochs=1, batch_size=64, **options, device=device, engine="plain")
        nets.append(net)
    for ours, theirs in zip(*map(parameters, nets), strict=True):
        # Adam divides small gradients by small roots, and magnifies what they were rounded by.
        assert np.abs(ours - theirs).max() <= 2e-4 * max(1, np.abs(theirs).max())


@pytest.mark.parametrize(("loss", "output"), OUTPUTS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_fused_takes_every_activation_and_loss(gpu: Backend, hidden: str, loss: str, output: str) -> None:
    start, recipe = drawn((12, 9, 6, 3), (hidden, hidden, output)), Recipe(7, 0.02, loss=loss)
    with gpu.activate():
        assert_same(gpu, both(gpu, "fused", start, recipe), recipe, magnified=2)


@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("batch_size", [1, 16, N])
def test_fused_takes_every_optimizer(gpu: Backend, batch_size: int, optimizer: str, dropout: float, l2: float) -> None:
    start = drawn((12, 9, 6, 3), ("relu", "tanh", "softmax"))
    rate = 0.002 if "Adam" in optimizer else 0.01
    recipe = Recipe(
        batch_size,
        rate,
        loss="cross_entropy",
        optimizer=OPTIMIZERS[optimizer],
        l2=l2,
        dropout=dropout,
        seed=5,
        schedule=OneCycle(),
    )
    with gpu.activate():
        assert_same(gpu, both(gpu, "fused", start, recipe), recipe, magnified=20 if "Adam" in optimizer else 2)


@pytest.mark.parametrize("floats", [False, True])
@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize(("loss", "output"), [*OUTPUTS[:2], *OUTPUTS[-2:]])
def test_fused_takes_floats_and_rows_of_targets(gpu: Backend, loss: str, output: str, rows: bool, floats: bool) -> None:
    start, recipe = drawn((12, 9, 3), ("tanh", output)), Recipe(7, 0.02, loss=loss, dropout=0.3)
    with gpu.activate():
        assert_same(gpu, both(gpu, "fused", start, recipe, floats=floats, rows=rows), recipe, magnified=2)


# Each combination is a kernel that takes seconds to compile: of hidden and output layers every one, but not every pair.
FUNCTIONS = [(HIDDEN[i % len(HIDDEN)], *output) for i, output in enumerate(OUTPUTS)]


@pytest.mark.parametrize(("hidden", "loss", "output"), FUNCTIONS)
def test_epoch_takes_every_activation_and_loss(gpu: Backend, hidden: str, loss: str, output: str) -> None:
    start = drawn((12, 9, 6, 3), (hidden, "tanh", output))
    recipe = Recipe(15, 0.02, loss=loss, schedule=Cosine())
    with gpu.activate():
        assert_same(gpu, both(gpu, "epoch", start, recipe), recipe, magnified=2)


RESUMED = ["momentum", "Adam"]
"""Optimisers with which `epoch` resumes training."""


@pytest.mark.parametrize(
    ("engine", "optimizer"), [*(("fused", name) for name in OPTIMIZERS), *(("epoch", name) for name in RESUMED)]
)
def test_training_goes_on_with_what_is_remembered(gpu: Backend, engine: str, optimizer: str) -> None:
    recipe = Recipe(7, 0.005, loss="cross_entropy", optimizer=OPTIMIZERS[optimizer])
    start = drawn((12, 9, 3), ("relu", "softmax"))
    with gpu.activate():
        assert_resumes(gpu, engine, start, recipe, atol=1e-4 if "Adam" in optimizer else 8e-6)


MNIST_RECIPES: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    ("fused", (784, 300, 10), {"optimizer": SGD(0.9), "l2": 1e-3, "batch_size": 64}),
    ("fused", (784, 300, 100, 10), {"optimizer": SGD(0.9, nesterov=True), "dropout": 0.3, "batch_size": 64}),
    ("fused", (784, 300, 10), {"l2": 1e-2, "batch_size": 1000}),
    ("epoch", (784, 30, 10), {"optimizer": SGD(0.9), "batch_size": 32}),
    # Batches of several chunks.
    ("epoch", (784, 30, 10), {"optimizer": SGD(0.9), "l2": 1e-3, "batch_size": 300}),
    ("epoch", (784, 30, 10), {"l2": 1e-2, "batch_size": 300}),
    ("epoch", (784, 30, 10), {"optimizer": SGD(0.9, nesterov=True), "l2": 1e-3, "batch_size": 300}),
    # Parameters or velocities that don't fit shared memory.
    ("epoch", (784, 48, 10), {"optimizer": SGD(0.9), "batch_size": 128}),
    ("epoch", (784, 100, 50, 10), {"optimizer": SGD(0.9), "l2": 1e-3, "batch_size": 64}),
]


@pytest.mark.parametrize(("engine", "sizes", "options"), MNIST_RECIPES, ids=str)
def test_recipes_follow_float64_on_digits(
    gpu: Backend, mnist: Dataset, engine: str, sizes: tuple[int, ...], options: dict[str, Any]
) -> None:
    nets, losses = [], []
    for device, dtype, name in ((gpu, np.float32, engine), (gpu, np.float32, engine), ("cpu", np.float64, "plain")):
        net = MLP(list(sizes), hidden="tanh", output="softmax", init="xavier", dtype=dtype)
        recipe = {"learning_rate": 0.02, "schedule": OneCycle(), **options}
        losses.append(train(net, mnist.train[:2000], epochs=2, **recipe, device=device, engine=name).losses)
        nets.append(parameters(net))
    # Roundings of sums over a few hundred lit pixels, walking at random from step to step.
    tolerance = EPSILON * (30 + math.sqrt(2 * 2000 / options["batch_size"]))
    assert losses[0] == losses[1]
    assert losses[0] == pytest.approx(losses[2], rel=tolerance)
    for ours, again, theirs in zip(*nets, strict=True):
        np.testing.assert_array_equal(ours, again)
        assert np.abs(ours - theirs).max() <= tolerance * max(1, np.abs(theirs).max())


LEARNERS: list[tuple[Optimizer, float, str]] = [
    (Adam(), 0.001, "fused"),
    (Adam(decoupled=True), 0.001, "epoch"),
    (SGD(0.9), 0.05, "epoch"),
]


@pytest.mark.parametrize(("optimizer", "rate", "engine"), LEARNERS, ids=str)
def test_digits_are_learnt(gpu: Backend, mnist: Dataset, optimizer: Any, rate: float, engine: str) -> None:
    net = MLP([784, 64, 10], hidden="relu", output="softmax", init="he")
    recipe: dict[str, Any] = {"epochs": 3, "batch_size": 64, "learning_rate": rate, "optimizer": optimizer}
    history = train(net, mnist.train, **recipe, test=mnist.test, device=gpu, engine=engine)
    assert max(history.accuracies) >= 0.96
