"""Optimisers and the L2 penalty in the engine `epoch`: compared with `plain` in float64, also for zero pixels."""

from typing import Any

import numpy as np
import pytest

from gpunn import MLP, SGD, Adam, ConfigurationError, Dataset, Split, get_backend
from gpunn.engines import ENGINES, Examples, Parameters, Recipe, choose_engine
from gpunn.engines.base import Engine
from gpunn.engines.cpu import epoch as epoch_engine
from gpunn.kernels.cpu.epoch.deferred import deferred_powers
from gpunn.kernels.cpu.sparse import nonzero_numbers
from gpunn.kernels.cpu.vector_math import SMALL
from gpunn.optimizers import Optimizer
from gpunn.schedules import Cosine, OneCycle, Schedule

CPU = get_backend("cpu")

L2, MOMENTUM, BOTH, NESTEROV = (
    (SGD(), 0.02),
    (SGD(0.9), 0.0),
    (SGD(0.8), 0.02),
    (SGD(0.8, nesterov=True), 0.02),
)
# Steps are as long for a gradient that is all rounding as for any other, unless epsilon keeps it short.
ADAM, ADAMW = (Adam(0.8, 0.95, epsilon=1e-3), 0.02), (Adam(0.8, 0.95, epsilon=0.1, decoupled=True), 0.1)


@pytest.fixture(scope="module")
def digits(mnist: Dataset) -> Split:
    return mnist.train[:1003]


def start_of(net: MLP, dtype: Any = np.float32) -> Parameters:
    return Parameters([W.astype(dtype) for W in net.weights], [b.astype(dtype) for b in net.biases], net.functions)


def run(engine: Engine, n: int, epochs: int, schedule: Schedule | None = None, batch_size: int = 1) -> float:
    rng = np.random.default_rng(5)
    loss = np.nan
    for epoch in range(epochs):
        rates = None
        if schedule is not None:
            rates = 0.03 * schedule.factors(epoch, epochs, -(-n // batch_size))
        loss = engine.run_epoch(rng.permutation(n), rates)
    return loss


def numbers(engine: Engine) -> list[Any]:
    found = engine.parameters()
    return [*found.weights, *found.biases]


def assert_follows_plain(examples: Examples, net: MLP, recipe: Recipe, schedule: Schedule | None = None) -> None:
    n, exact_examples = len(examples.inputs), examples
    if not examples.grey:
        exact_examples = Examples(examples.inputs.astype(np.float64), examples.targets)
    exact = ENGINES["plain"](CPU, start_of(net, np.float64), exact_examples, recipe)
    ours = ENGINES["epoch"](CPU, start_of(net), examples, recipe)
    losses = [run(engine, n, 2, schedule, recipe.batch_size) for engine in (exact, ours)]
    assert losses[1] == pytest.approx(losses[0], rel=2e-5)
    before = [*net.weights, *net.biases]
    for theirs, mine, first in zip(numbers(exact), numbers(ours), before, strict=True):
        assert np.abs(mine - theirs).max() <= 2e-5 * max(1, np.abs(theirs).max())
        assert np.abs(theirs - first).max() > 1e-3
    (their_memory, my_memory) = exact.memory(), ours.memory()
    assert my_memory.steps == their_memory.steps == 2 * -(-n // recipe.batch_size)
    assert len(my_memory.moments) == len(their_memory.moments) == recipe.optimizer.n_moments
    for moments in zip(my_memory.moments, their_memory.moments, strict=True):
        for mine, theirs in zip(*moments, strict=True):
            assert np.abs(mine - theirs).max() <= 2e-5 * max(1, np.abs(theirs).max())


STEPS, BATCH_SIZES, SIZES = [L2, MOMENTUM, BOTH, NESTEROV, ADAM, ADAMW], [1, 5, 100, 300], [(20, 10), (100, 33, 10)]


@pytest.mark.parametrize(("optimizer", "l2"), STEPS, ids=str)
@pytest.mark.parametrize("batch_size", BATCH_SIZES)
def test_optimisers_and_penalties_follow_plain(digits: Split, optimizer: Optimizer, l2: float, batch_size: int) -> None:
    # Every optimiser and every batch size has both.
    sizes = (784, *SIZES[(STEPS.index((optimizer, l2)) + BATCH_SIZES.index(batch_size)) % 2])
    recipe = Recipe(batch_size, 0.01 if isinstance(optimizer, Adam) else 0.03, optimizer=optimizer, l2=l2)
    assert ENGINES["epoch"].unsupported_reason(CPU, start_of(MLP(sizes)), recipe) is None
    assert_follows_plain(Examples(digits.images, digits.labels), MLP(sizes, seed=1), recipe)


@pytest.mark.parametrize(("optimizer", "l2"), [L2, NESTEROV, ADAM], ids=str)
@pytest.mark.parametrize("batch_size", [1, 32])
def test_dense_images_and_floats_follow_plain(digits: Split, optimizer: Optimizer, l2: float, batch_size: int) -> None:
    recipe, net = Recipe(batch_size, 0.01, optimizer=optimizer, l2=l2), MLP((784, 20, 10), seed=1)
    assert_follows_plain(Examples(np.maximum(digits.images, 1), digits.labels), net, recipe)
    floats = (digits.images / np.float32(255) - np.float32(0.13)).astype(np.float32)
    assert_follows_plain(Examples(floats, digits.labels), net, recipe)


@pytest.mark.parametrize("rate", [np.inf, np.nan])
def test_rates_that_are_not_finite_diverge(digits: Split, rate: float) -> None:
    net = MLP((784, 20, 10), seed=1)
    engine = ENGINES["epoch"](CPU, start_of(net), Examples(digits.images, digits.labels), Recipe(100, 0.1))
    engine.run_epoch(np.arange(300), np.array([0.1, rate, 0.1]))
    assert not np.isfinite(engine.parameters().weights[0]).all()


def test_inputs_of_another_kind_are_refused(digits: Split) -> None:
    net = MLP((784, 20, 10), seed=1)
    engine = ENGINES["epoch"](CPU, start_of(net), Examples(digits.images, digits.labels), Recipe(100, 0.1))
    numbers_of_none = nonzero_numbers(np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(601, np.int64), 784)
    with pytest.raises(TypeError, match="found inputs of another kind"):
        engine.use((numbers_of_none, None))


@pytest.mark.parametrize("schedule", [Cosine(), OneCycle()], ids=lambda schedule: type(schedule).__name__)
@pytest.mark.parametrize(("batch_size", "optimizer", "l2"), [(1, *NESTEROV), (64, *NESTEROV), (64, *ADAMW)], ids=str)
def test_rates_may_change_from_batch_to_batch(
    digits: Split, schedule: Schedule, batch_size: int, optimizer: Optimizer, l2: float
) -> None:
    recipe = Recipe(batch_size, 0.03, optimizer=optimizer, l2=l2)
    net = MLP((784, 40, 10), seed=1)
    assert_follows_plain(Examples(digits.images, digits.labels), net, recipe, schedule)


def test_activations_and_losses_go_with_momentum(digits: Split) -> None:
    net = MLP((784, 40, 24, 10), hidden=("relu", "tanh"), output="softmax", init="he", seed=1)
    recipe = Recipe(2, 0.002, optimizer=SGD(0.9, nesterov=True), l2=0.01, loss="cross_entropy")
    assert_follows_plain(Examples(digits.images, digits.labels), net, recipe)


@pytest.mark.parametrize(("optimizer", "l2"), [L2, NESTEROV, ADAM], ids=str)
@pytest.mark.parametrize(("batch_size", "hidden", "most"), [(8, 200, 4), (96, 200, 4), (128, 24, 2)])
def test_threads_make_the_same_network(
    monkeypatch: pytest.MonkeyPatch,
    digits: Split,
    optimizer: Optimizer,
    l2: float,
    batch_size: int,
    hidden: int,
    most: int,
) -> None:
    recipe, net = Recipe(batch_size, 0.1, optimizer=optimizer, l2=l2), MLP((784, hidden, 40, 10), seed=1)
    found = []
    for cores in (1, 2, 3):
        monkeypatch.setattr(epoch_engine, "usable_cores", lambda cores=cores: cores)
        engine: Any = ENGINES["epoch"](CPU, start_of(net), Examples(digits.images, digits.labels), recipe)
        assert engine._team.threads == min(cores, most)
        run(engine, len(digits), 2)
        found.append(numbers(engine))
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("optimizer", "l2"), [L2, MOMENTUM, NESTEROV, ADAM], ids=str)
def test_weights_of_a_rarely_nonzero_pixel_make_all_steps(optimizer: Optimizer, l2: float) -> None:
    rng = np.random.default_rng(3)
    images = rng.integers(1, 256, (400, 30), dtype=np.uint8) * (rng.random((400, 30)) < 0.3).astype(np.uint8)
    images[:, 7], images[200, 7] = 0, 255
    images[:, 11] = 0
    labels = rng.integers(0, 3, 400, dtype=np.uint8)
    net, recipe = MLP((30, 24, 3), seed=2), Recipe(1, 0.01, optimizer=optimizer, l2=l2)
    engines: list[Any] = [
        ENGINES["plain"](CPU, start_of(net, np.float64), Examples(images, labels), recipe),
        ENGINES["epoch"](CPU, start_of(net), Examples(images, labels), recipe),
    ]
    assert (engines[1]._stepping is not None and engines[1]._stepping.defers) == (optimizer.n_moments == 1)
    order = np.arange(400)
    for part in (order[:150], order[150:201], order[201:], order[:1]):
        for engine in engines:
            engine.run_epoch(part)
        exact, ours = (engine.parameters().weights[0] for engine in engines)
        np.testing.assert_allclose(ours[:, [7, 11]], exact[:, [7, 11]], rtol=1e-5, atol=1e-7)
    if not l2:
        np.testing.assert_array_equal(ours[:, 11], net.weights[0][:, 11])


def test_powers_are_those_of_single_steps() -> None:
    rate, momentum, l2 = 0.1, 0.9, 0.05
    for nesterov in (False, True):
        w, v, powers = 1.0, 0.5, deferred_powers(rate, momentum, l2, nesterov, 1000)
        assert powers.shape == (1001, 4)
        for ww, wv, vw, vv in powers.astype(np.float64):
            assert (ww + 0.5 * wv, vw + 0.5 * vv) == pytest.approx((w, v), rel=1e-5, abs=1e-7)
            gradient = l2 * w
            v = momentum * v + gradient
            w -= rate * (gradient + momentum * v if nesterov else v)


@pytest.mark.parametrize("optimizer", [SGD(), SGD(0.9)], ids=str)
def test_far_too_high_rates_give_non_finite_numbers(small: Split, optimizer: Optimizer) -> None:
    recipe = Recipe(1, 1e30, optimizer=optimizer, l2=10.0)
    engine = ENGINES["epoch"](CPU, start_of(MLP((12, 24, 3))), Examples(small.images, small.labels), recipe)
    engine.run_epoch(np.arange(200))
    assert not np.isfinite(engine.parameters().weights[0]).all()


def test_velocities_end_at_zero_before_they_are_subnormal(small: Split) -> None:
    zeros = Examples(np.zeros_like(small.images), small.labels)
    net, recipe = MLP((12, 5, 3), seed=1), Recipe(1, 0.01, optimizer=SGD(0.5))
    first = ENGINES["epoch"](CPU, start_of(net), Examples(small.images, small.labels), recipe)
    first.run_epoch(np.arange(200))
    start = first.parameters()
    then = Parameters(start.weights, start.biases, start.functions, first.memory())
    engine = ENGINES["epoch"](CPU, then, zeros, recipe)
    engine.run_epoch(np.arange(200))
    moments = np.concatenate([moment.ravel() for moment in engine.memory().moments[0]])
    assert np.abs(moments[moments != 0]).min() >= SMALL
    assert not engine.memory().moments[0][0].any()


@pytest.mark.parametrize("first", ["plain", "epoch"])
@pytest.mark.parametrize("then", ["plain", "epoch"])
@pytest.mark.parametrize(("optimizer", "l2"), [NESTEROV, ADAM], ids=str)
def test_training_goes_on_with_the_memory_of_another_engine(
    small: Split, first: str, then: str, optimizer: Optimizer, l2: float
) -> None:
    examples, net = Examples(small.images, small.labels), MLP((12, 5, 3), seed=1)
    recipe, order = Recipe(7, 0.05, optimizer=optimizer, l2=l2), np.arange(200)
    whole = ENGINES["plain"](CPU, start_of(net), examples, recipe)
    whole.run_epoch(order)
    whole.run_epoch(order)
    half = ENGINES[first](CPU, start_of(net), examples, recipe)
    half.run_epoch(order)
    found = half.parameters()
    start = Parameters(found.weights, found.biases, found.functions, half.memory())
    rest = ENGINES[then](CPU, start, examples, recipe)
    rest.run_epoch(order)
    assert rest.memory().steps == 58
    for mine, theirs in zip(numbers(rest), numbers(whole), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=5e-6)


def test_the_memory_of_another_optimiser_is_refused(small: Split) -> None:
    examples, net = Examples(small.images, small.labels), MLP((12, 5, 3))
    adam = ENGINES["plain"](CPU, start_of(net), examples, Recipe(10, 0.1, optimizer=Adam()))
    start = Parameters(net.weights, net.biases, net.functions, adam.memory())
    for name in ("plain", "epoch"):
        with pytest.raises(ConfigurationError, match=r"memory must be the state of SGD\("):
            ENGINES[name](CPU, start, examples, Recipe(10, 0.1, optimizer=SGD(0.9)))
        with pytest.raises(ConfigurationError, match=r"memory must be the state of SGD\("):
            ENGINES[name](CPU, start, examples, Recipe(10, 0.1))


def test_auto_takes_epoch_for_all_optimisers(small: Split) -> None:
    for recipe in (Recipe(10, 0.1, optimizer=SGD(0.9)), Recipe(10, 0.1, l2=0.1), Recipe(10, 0.1, optimizer=Adam())):
        assert choose_engine("auto", CPU, start_of(MLP((12, 5, 3))), recipe).name == "epoch"
