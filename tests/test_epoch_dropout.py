"""Dropout inside whole-epoch kernels: the masks, and so the networks, of the other engines."""

from typing import Any

import numpy as np
import pytest

from gpunn import Dataset
from gpunn.engines import ENGINES, Engine, Examples, Parameters, Recipe
from gpunn.engines.cpu import epoch as engine_module

from .recipes import CPU, OPTIMIZERS, assert_same_memory, assert_same_parameters, drawn, in_float64

N = 300
RELU, DEEP = ("relu", "softmax"), ("sigmoid", "tanh", "softmax")


@pytest.fixture(scope="module")
def digits(mnist: Dataset) -> Examples:
    return Examples(mnist.train.images[:N], mnist.train.labels[:N])


def engines(start: Parameters, examples: Examples, recipe: Recipe) -> tuple[Engine, Engine]:
    """Return `epoch`, and plain in float64."""
    return (
        ENGINES["epoch"](CPU, start, examples, recipe),
        ENGINES["plain"](CPU, in_float64(start), examples, recipe),
    )


def recipe_of(batch_size: int, **options: Any) -> Recipe:
    given: dict[str, Any] = {"learning_rate": 0.02, "loss": "cross_entropy", "dropout": 0.4, "seed": 5} | options
    return Recipe(batch_size, **given)


# Few kinds of networks, as each is compiled.
@pytest.mark.parametrize("batch_size", [1, 7, 150, N])
@pytest.mark.parametrize(
    ("sizes", "functions", "images"),
    [
        ((784, 21, 10), RELU, "sparse"),
        ((784, 33, 16, 10), DEEP, "sparse"),
        ((784, 33, 16, 10), DEEP, "dense"),
    ],
    ids=str,
)
def test_epochs_with_dropout_follow_float64(
    digits: Examples, sizes: tuple[int, ...], functions: tuple[str, ...], batch_size: int, images: str
) -> None:
    if images == "dense":
        digits = digits._replace(inputs=np.maximum(digits.inputs, 1))
    ours, theirs = found = engines(drawn(sizes, functions), digits, recipe_of(batch_size))
    for epoch in range(2):  # whose masks differ
        order = np.random.default_rng(epoch).permutation(N)
        assert ours.run_epoch(order) == pytest.approx(theirs.run_epoch(order), rel=1e-5)
    assert_same_parameters(CPU, found, atol=1e-5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_steps_with_dropout(digits: Examples, optimizer: str) -> None:
    recipe = recipe_of(32, optimizer=OPTIMIZERS[optimizer], l2=0.01, learning_rate=0.002)
    ours, theirs = found = engines(drawn((784, 33, 10), RELU), digits, recipe)
    assert ours.run_epoch(np.arange(N)) == pytest.approx(theirs.run_epoch(np.arange(N)), rel=1e-5)
    assert_same_parameters(CPU, found, atol=2e-5)
    assert_same_memory(ours.memory(), theirs.memory())


@pytest.mark.parametrize("sizes", [(784, 100, 50, 10), (784, 520, 530, 10)], ids=str)
def test_masks_depend_on_neither_threads_nor_calls(
    digits: Examples, sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    start, results = drawn(sizes, DEEP), []
    for cores, most in ((1, 10**10), (2, 10**10), (3, 10**10), (1, 1)):
        monkeypatch.setattr(engine_module, "usable_cores", lambda cores=cores: cores)
        monkeypatch.setattr(engine_module, "MAX_WORK_PER_CALL", most)
        engine = ENGINES["epoch"](CPU, start, digits, recipe_of(64))
        engine.run_epoch(np.arange(N))
        results.append(engine.parameters())
    for other in results[1:]:
        for mine, theirs in zip(
            (*results[0].weights, *results[0].biases), (*other.weights, *other.biases), strict=True
        ):
            np.testing.assert_array_equal(mine, theirs)
