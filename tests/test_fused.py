"""The engine `fused` supports every recipe, and agrees with `plain` in float64."""

import logging
import math
import sys
from typing import Any, NamedTuple

import numpy as np
import pytest

from gpunn import MLP, ConfigurationError, Split, get_backend, train
from gpunn.engines import ENGINES, Examples, Parameters, Recipe, choose_engine
from gpunn.engines.base import Engine
from gpunn.engines.cpu import fused as fused_engine
from gpunn.engines.cpu.epoch import EpochEngine
from gpunn.optimizers import PLAIN, SGD, Adam, Optimizer, OptimizerState

from .conftest import parameters

CPU = get_backend("cpu")

N, BATCH = 90, 32
"""Number of examples, and batch size; the last batch is smaller."""

OPTIMIZERS: list[Optimizer] = [PLAIN, SGD(0.9), SGD(0.8, nesterov=True), Adam(), Adam(0.8, 0.95, 1e-6, decoupled=True)]
IDS = ["sgd", "momentum", "nesterov", "adam", "adamw"]


class Case(NamedTuple):
    """A network, its examples and its recipe."""

    net: MLP
    examples: Examples
    recipe: Recipe


def network(sizes: list[int], hidden: Any, output: str) -> MLP:
    net = MLP(sizes, hidden=hidden, output=output, init="he", seed=3)
    for b in net.biases:
        b[:] = np.random.default_rng(4).normal(size=b.shape) / 4
    return net


def examples(n_inputs: int, n_outputs: int, kind: str, *, rows: str = "") -> Examples:
    """Return examples with `kind` inputs, and labels, or rows of "shares" or of other "numbers"."""
    rng = np.random.default_rng(7)
    inputs: Any = rng.integers(1, 256, (N, n_inputs), dtype=np.uint8)
    if kind == "sparse":
        inputs *= rng.random(inputs.shape) < 0.2
    if kind == "floats":
        inputs = rng.normal(size=inputs.shape).astype(np.float32)
    targets: Any = rng.integers(0, n_outputs, N, dtype=np.uint8)
    if rows:
        targets = rng.random((N, n_outputs)).astype(np.float32)
        if rows == "shares":
            targets /= targets.sum(axis=1, keepdims=True)
    return Examples(inputs, targets)


def engine(name: str, case: Case, dtype: type, memory: OptimizerState | None = None) -> Engine:
    weights: list[Any] = [W.astype(dtype) for W in case.net.weights]
    biases: list[Any] = [b.astype(dtype) for b in case.net.biases]
    inputs, targets, _ = (
        array if array is None or array.dtype == np.uint8 else array.astype(dtype) for array in case.examples
    )
    start = Parameters(weights, biases, case.net.functions, memory)
    assert ENGINES[name].unsupported_reason(CPU, start, case.recipe, Examples(inputs, targets)) is None
    return ENGINES[name](CPU, start, Examples(inputs, targets), case.recipe)


def run(trained: Engine, *epochs: int, rates: Any = None) -> list[float]:
    return [trained.run_epoch(np.random.default_rng(epoch).permutation(N), rates) for epoch in epochs]


def arrays(found: Engine) -> list[Any]:
    of_network, memory = found.parameters(), found.memory()
    return [*of_network.weights, *of_network.biases, *(each for moments in memory.moments for each in moments)]


def assert_same(ours: Engine, theirs: Engine, case: Case) -> None:
    steps = theirs.memory().steps
    assert ours.memory().steps == steps > 0
    # Each step rounds a parameter once, at random; a gradient is a sum. Adam divides it by what may be small.
    tolerance = float(np.finfo(np.float32).eps) * (4 * math.sqrt(steps) + 16)
    tolerance *= 16 if isinstance(case.recipe.optimizer, Adam) else 1
    for found, expected in zip(arrays(ours), arrays(theirs), strict=True):
        assert found.dtype == np.float32
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= tolerance * max(1, np.abs(expected).max())
    assert ours.parameters().functions == case.net.functions
    for found, before in zip(ours.parameters().weights, case.net.weights, strict=True):
        assert np.abs(found - before).max() > 1e-4


def assert_follows_plain(case: Case, *epochs: int) -> None:
    ours, theirs = engine("fused", case, np.float32), engine("plain", case, np.float64)
    np.testing.assert_allclose(run(ours, *epochs), run(theirs, *epochs), rtol=5e-6)
    assert_same(ours, theirs, case)


def rate_of(optimizer: Optimizer) -> float:
    return 0.003 if isinstance(optimizer, Adam) else 0.02


OUTPUTS = [
    ("softmax", "cross_entropy"),
    ("sigmoid", "binary_cross_entropy"),
    *((name, "squared_error") for name in ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "identity")),
]
HIDDEN: list[Any] = ["relu", ["tanh", "elu"], ["leaky_relu", "sigmoid"], ["identity", "relu"]]
KINDS = ["sparse", "dense", "floats"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=IDS)
@pytest.mark.parametrize(("output", "loss"), OUTPUTS)
def test_every_output_loss_and_optimiser_follows_float64(output: str, loss: str, optimizer: Optimizer) -> None:
    # The others take turns.
    turn = OUTPUTS.index((output, loss)) + OPTIMIZERS.index(optimizer)
    hidden, kind = HIDDEN[turn % len(HIDDEN)], KINDS[turn % len(KINDS)]
    rows = "shares" if turn % 2 else ""
    net = network([40, 19, 7] if isinstance(hidden, str) else [40, 19, 18, 7], hidden, output)
    recipe = Recipe(BATCH, rate_of(optimizer), loss=loss, optimizer=optimizer, l2=0.02 * (turn % 3))
    assert_follows_plain(Case(net, examples(40, 7, kind, rows=rows), recipe), 1, 2, 3)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=IDS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_inputs_follows_float64_with_and_without_dropout(
    kind: str, optimizer: Optimizer, dropout: float
) -> None:
    # Wider than a block of sparse weights and than a part of a gradient, and no multiple of a vector.
    net = network([50, 150, 140, 5], ["tanh", "relu"], "softmax")
    recipe = Recipe(
        BATCH, rate_of(optimizer), loss="cross_entropy", optimizer=optimizer, l2=0.01, dropout=dropout, seed=9
    )
    assert_follows_plain(Case(net, examples(50, 5, kind), recipe), 1, 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [[30, 4], [30, 70, 4]], ids=str)
def test_batches_of_any_size_follow_float64(kind: str, sizes: list[int]) -> None:
    for batch_size in (1, 7, N):
        for optimizer in (PLAIN, SGD(0.5), Adam()):
            recipe = Recipe(batch_size, 0.002, loss="binary_cross_entropy", optimizer=optimizer, l2=0.1)
            case = Case(network(sizes, "elu", "sigmoid"), examples(30, 4, kind, rows="numbers"), recipe)
            assert_follows_plain(case, 1, 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=IDS)
def test_several_threads_follow_float64(monkeypatch: pytest.MonkeyPatch, kind: str, optimizer: Optimizer) -> None:
    monkeypatch.setattr(fused_engine, "usable_cores", lambda: 3)
    monkeypatch.setattr(fused_engine, "MIN_PRODUCTS_FOR_THREADS", 1)
    recipe = Recipe(BATCH, rate_of(optimizer), loss="cross_entropy", optimizer=optimizer, l2=0.01, dropout=0.3, seed=2)
    case = Case(network([50, 150, 9, 5], "sigmoid", "softmax"), examples(50, 5, kind), recipe)
    assert_follows_plain(case, 1, 2)
    assert engine("fused", case, np.float32)._team.threads == 3  # type: ignore[attr-defined]


def test_rates_of_a_schedule_are_those_of_each_batch() -> None:
    rates = np.array([0.001, 0.02, 0.004])
    for optimizer in OPTIMIZERS:
        case = Case(
            network([30, 20, 4], "tanh", "identity"),
            examples(30, 4, "floats", rows="numbers"),
            Recipe(BATCH, 123.0, optimizer=optimizer, l2=0.05),
        )
        ours, theirs = engine("fused", case, np.float32), engine("plain", case, np.float64)
        np.testing.assert_allclose(run(ours, 1, rates=rates), run(theirs, 1, rates=rates), rtol=5e-6)
        assert_same(ours, theirs, case)


def going_on(case: Case, names: tuple[str, str], dtype: type) -> Engine:
    """Train an epoch with one engine, and the next with another that resumes from the first one's state."""
    first = engine(names[0], case, dtype)
    run(first, 1)
    found = first.parameters()
    net = MLP(case.net.sizes, hidden=case.net.functions[:-1], output=case.net.functions[-1])
    net.weights, net.biases = [np.array(W) for W in found.weights], [np.array(b) for b in found.biases]
    second = engine(names[1], Case(net, case.examples, case.recipe), dtype, first.memory())
    run(second, 2)
    return second


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=IDS)
def test_training_goes_on_with_the_memory_of_any_engine(kind: str, optimizer: Optimizer) -> None:
    recipe = Recipe(BATCH, rate_of(optimizer), loss="cross_entropy", optimizer=optimizer, l2=0.01)
    case = Case(network([30, 21, 9, 4], "tanh", "softmax"), examples(30, 4, kind), recipe)
    whole = engine("fused", case, np.float32)
    run(whole, 1, 2)
    for ours, theirs in zip(arrays(going_on(case, ("fused", "fused"), np.float32)), arrays(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    exact = engine("plain", case, np.float64)
    run(exact, 1, 2)
    for names in (("plain", "fused"), ("fused", "plain")):
        assert_same(going_on(case, names, np.float32), exact, case)


def test_memory_is_a_copy_in_the_shapes_of_the_network() -> None:
    case = Case(
        network([30, 21, 4], "tanh", "sigmoid"), examples(30, 4, "sparse"), Recipe(BATCH, 0.01, optimizer=Adam())
    )
    trained = engine("fused", case, np.float32)
    run(trained, 1)
    memory = trained.memory()
    assert memory.steps == 3
    shapes = [array.shape for array in parameters(case.net)]
    assert [[array.shape for array in moments] for moments in memory.moments] == [shapes, shapes]
    before = [array.copy() for moments in memory.moments for array in moments]
    run(trained, 2)
    for array, old in zip((each for moments in memory.moments for each in moments), before, strict=True):
        np.testing.assert_array_equal(array, old)
    with pytest.raises(ConfigurationError, match=r"memory must be the state of SGD\("):
        engine("fused", Case(case.net, case.examples, Recipe(BATCH, 0.01)), np.float32, memory)


def test_inputs_and_targets_of_other_floats_are_refused() -> None:
    net = network([30, 21, 4], "tanh", "identity")
    inputs, targets = examples(30, 4, "floats", rows="numbers")[:2]
    start, recipe = Parameters(net.weights, net.biases, net.functions), Recipe(BATCH, 0.01)
    for wrong, message in (
        (Examples(inputs.astype(np.float64), targets), "found images of dtype float64"),
        (Examples(inputs, targets.astype(np.float64)), "found targets of dtype float64, expected float32"),
    ):
        with pytest.raises(TypeError, match=message):
            ENGINES["fused"](CPU, start, wrong, recipe).run_epoch(np.arange(N))
    with pytest.raises(ValueError, match=r"found targets of shape \(90, 3\), expected \(90, 4\)"):
        ENGINES["fused"](CPU, start, Examples(inputs, targets[:, :3].copy()), recipe).run_epoch(np.arange(N))


@pytest.mark.parametrize("name", ["fused", "epoch"])
def test_adam_may_have_a_small_epsilon(name: str) -> None:
    rng = np.random.default_rng(0)
    inputs = rng.random((40, 6), np.float32)
    inputs[:, 3] *= 1e-12
    net = network([6, 5, 3], "tanh", "softmax")
    found = []
    for engine_name in ("plain", name):
        recipe = Recipe(8, 0.001, optimizer=Adam(epsilon=1e-16), loss="cross_entropy")
        start = Parameters(net.weights, net.biases, net.functions)
        runner = ENGINES[engine_name](CPU, start, Examples(inputs, np.arange(40, dtype=np.uint8) % 3), recipe)
        for _ in range(6):
            runner.run_epoch(np.arange(40))
        found.append(runner.parameters().weights[0][:, 3])
    np.testing.assert_allclose(found[1], found[0], atol=5e-3)


class Unknown(Optimizer):
    decays_apart, rule = False, "descent"

    def numbers(self, steps: int, rates: Any, l2: float) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("dtype", "options", "message"),
    [
        (np.float64, {}, "it computes in float32, and the network is float64"),
        (np.float32, {"precision": "tf32"}, "TF32 needs the engine fused and a GPU"),
        (np.float32, {"optimizer": Unknown()}, "it takes only SGD and Adam, got the optimiser <"),
    ],
)
def test_unsupported_settings_are_refused(dtype: type, options: dict[str, Any], message: str) -> None:
    net = MLP([12, 5, 3], dtype=dtype)
    with pytest.raises(ConfigurationError, match=f"^the engine fused can't train this network: {message}"):
        choose_engine("fused", CPU, Parameters(net.weights, net.biases), Recipe(32, 0.1, **options))


def test_sample_weights_need_plain() -> None:
    net = network([30, 21, 4], "tanh", "identity")
    start, recipe = Parameters(net.weights, net.biases, net.functions), Recipe(BATCH, 0.01)
    weighted = examples(30, 4, "floats")._replace(weights=np.ones(N, np.float32))
    assert choose_engine("auto", CPU, start, recipe, weighted).name == "plain"
    with pytest.raises(ConfigurationError, match="it doesn't support sample weights"):
        choose_engine("fused", CPU, start, recipe, weighted)


def test_auto_takes_fused_for_what_epoch_refuses(
    small: Split, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "gpunn")
    monkeypatch.setattr(EpochEngine, "unsupported_reason", lambda *_: "it is told to refuse")
    recipe: dict[str, Any] = {"epochs": 3, "batch_size": 30, "learning_rate": 0.01, "device": "cpu", "dropout": 0.2}
    nets = [MLP([12, 9, 3], hidden="relu", output="softmax") for _ in range(2)]
    assert train(nets[0], small, **recipe).engine == "fused"
    (message,) = [message for message in caplog.messages if "engine auto" in message]
    assert message.startswith("engine auto: fused, as epoch can't train this network: it is told to refuse")
    train(nets[1], small, **recipe, engine="plain")
    for ours, theirs in zip(*map(parameters, nets), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)

    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    assert train(nets[1], small, **recipe).engine == "plain"
    assert any("; nor can fused: threadpoolctl can't be imported" in message for message in caplog.messages)
