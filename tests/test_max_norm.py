"""Max-norm: after each step no hidden neuron's weights have a larger norm, and engines agree."""

from typing import Any

import numpy as np
import pytest

from gpunn import MLP, ConfigurationError, Dataset, get_backend, train
from gpunn.backends.cuda import CudaBackend
from gpunn.engines import ENGINES, Examples, Recipe, choose_engine
from gpunn.max_norm import limit_norms

from .conftest import random_split
from .recipes import CPU, OPTIMIZERS, assert_same_parameters, drawn, in_float64
from .strict_cupy import StrictCupy

N, MOST = 300, 0.8


@pytest.fixture(scope="module")
def digits(mnist: Dataset) -> Examples:
    return Examples(mnist.train.images[:N], mnist.train.labels[:N])


def test_weights_of_too_large_a_norm_are_scaled_and_others_keep_their_bits() -> None:
    W = np.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]], np.float32)
    limit_norms(np, W, 1.0)
    np.testing.assert_allclose(W[0], [0.6, 0.8], rtol=1e-6)
    np.testing.assert_array_equal(W[1:], np.array([[0.3, 0.4], [0.0, 0.0]], np.float32))


@pytest.mark.parametrize("optimizer", ["plain", "Nesterov", "Adam"])
@pytest.mark.parametrize("images", ["sparse", "dense"])
def test_fused_limits_norms_as_plain_does(digits: Examples, optimizer: str, images: str) -> None:
    if images == "dense":
        digits = digits._replace(inputs=np.maximum(digits.inputs, 1))
    start = drawn((784, 33, 21, 10), ("relu", "tanh", "softmax"))
    rate = 0.002 if optimizer == "Adam" else 0.02
    recipe = Recipe(32, rate, loss="cross_entropy", optimizer=OPTIMIZERS[optimizer], dropout=0.3, max_norm=MOST)
    ours = ENGINES["fused"](CPU, start, digits, recipe)
    theirs = ENGINES["plain"](CPU, in_float64(start), digits, recipe)
    for _ in range(2):
        assert ours.run_epoch(np.arange(N)) == pytest.approx(theirs.run_epoch(np.arange(N)), rel=1e-5)
    assert_same_parameters(CPU, (ours, theirs), atol=2e-5)
    *hidden, last = ours.parameters().weights
    norms = [np.linalg.norm(W, axis=1).max() for W in hidden]
    assert norms == pytest.approx([MOST] * 2, rel=1e-5)
    assert np.linalg.norm(last, axis=1).max() > 1.001 * MOST


def test_plain_limits_norms_on_gpus_too() -> None:
    split, found = random_split(60, 12, 3), []
    for backend in (CudaBackend(StrictCupy(), 0), get_backend("cpu")):
        net = MLP([12, 5, 3], seed=1)
        train(net, split, epochs=2, batch_size=7, max_norm=0.2, device=backend, engine="plain")
        found.append(net.weights[0])
    assert np.linalg.norm(found[0], axis=1).max() == pytest.approx(0.2, rel=1e-5)
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ([12, 5, 3], {"max_norm": -1}, "max_norm must be .* got -1"),
        ([12, 3], {"max_norm": 1}, "max_norm needs at least one hidden layer"),
        ([12, 5, 3], {"max_norm": 1, "engine": "epoch"}, "it doesn't support max-norm"),
    ],
)
def test_what_has_no_max_norm_is_refused(sizes: list[int], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        train(MLP(sizes), random_split(30, 12, 3), epochs=1, device="cpu", **options)


def test_auto_takes_an_engine_that_has_it() -> None:
    recipe = Recipe(32, 0.1, max_norm=1.0)
    assert choose_engine("auto", CPU, drawn((784, 128, 10), ("relu", "sigmoid")), recipe).name in {"fused", "plain"}
