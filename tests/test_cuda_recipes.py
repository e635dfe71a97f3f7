"""Every recipe on the engines for GPUs, held to plain in float64 on the CPU, with stand-ins as strict as a GPU."""

from itertools import chain, pairwise
from typing import Any

import numpy as np
import pytest

from gpunn import Adam, ConfigurationError, get_backend
from gpunn.activations import HIDDEN
from gpunn.backends.cuda import CudaBackend
from gpunn.engines import ENGINES, Engine, Examples, Parameters, Recipe, choose_engine
from gpunn.losses import LOSSES
from gpunn.optimizers import SGD, Memory, Optimizer
from gpunn.schedules import OneCycle

from .conftest import random_split
from .strict_kernels import strict_gpu

CPU = get_backend("cpu")
OPTIMIZERS: dict[str, Optimizer] = {
    "plain": SGD(),
    "momentum": SGD(0.9),
    "Nesterov": SGD(0.9, nesterov=True),
    "Adam": Adam(),
    "AdamW": Adam(decoupled=True),
}
OUTPUTS = [(name, output) for name, loss in LOSSES.items() for output in loss.outputs]
N = 40


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> CudaBackend:
    return strict_gpu(monkeypatch)


def drawn(sizes: tuple[int, ...], functions: tuple[str, ...], memory: Memory | None = None) -> Parameters:
    rng = np.random.default_rng(1)
    weights = [rng.normal(0, 1 / np.sqrt(n_in), (n_out, n_in)).astype(np.float32) for n_in, n_out in pairwise(sizes)]
    biases = [rng.normal(0, 0.1, n_out).astype(np.float32) for n_out in sizes[1:]]
    return Parameters(weights, biases, functions, memory)


def in_float64(start: Parameters) -> Parameters:
    memory = start.memory and Memory(
        start.memory.steps, tuple([moment.astype(np.float64) for moment in each] for each in start.memory.moments)
    )
    weights, biases = ([array.astype(np.float64) for array in each] for each in (start.weights, start.biases))
    return Parameters(weights, biases, start.functions, memory)


def examples(*, floats: bool = False, rows: bool = False, dtype: Any = np.float32) -> Examples:
    rng, split = np.random.default_rng(2), random_split(N, 12, 3)
    shares = rng.random((N, 3), np.float32)
    shares /= shares.sum(axis=1, keepdims=True)
    return Examples(
        rng.normal(size=(N, 12)).astype(np.float32).astype(dtype) if floats else split.images,
        shares.astype(dtype) if rows else split.labels,
    )


def both(gpu: CudaBackend, name: str, start: Parameters, recipe: Recipe, **kind: bool) -> tuple[Engine, Engine]:
    """Return an engine on the GPU, and plain in float64."""
    inputs, targets, _ = examples(**kind)
    found = choose_engine(name, gpu, start, recipe, Examples(inputs, targets))
    exact = examples(**kind, dtype=np.float64)
    ours = found(gpu, start, Examples(gpu.asarray(inputs), gpu.asarray(targets)), recipe)
    return ours, ENGINES["plain"](CPU, in_float64(start), exact, recipe)


def assert_same(gpu: CudaBackend, ours: Engine, theirs: Engine, *, magnified: float = 1) -> None:
    """Train both for two epochs, and compare losses, parameters and memories."""
    rng = np.random.default_rng(3)
    for epoch in range(2):
        order, rates = rng.permutation(N), None
        if ours._recipe.schedule.within_epochs:  # type: ignore[attr-defined]
            n_batches = -(-N // ours._recipe.batch_size)  # type: ignore[attr-defined]
            rates = ours._recipe.learning_rate * OneCycle().factors(epoch, 2, n_batches)  # type: ignore[attr-defined]
        assert ours.run_epoch(order, rates) == pytest.approx(theirs.run_epoch(order, rates), rel=1e-5 * magnified)
    found, expected = ours.parameters(), theirs.parameters()
    assert found.functions == expected.functions
    for mine, exact in zip((*found.weights, *found.biases), (*expected.weights, *expected.biases), strict=True):
        np.testing.assert_allclose(gpu.to_host(mine), exact, atol=4e-6 * magnified)
    assert_same_memory(ours.memory(), theirs.memory())


def assert_same_memory(found: Memory, expected: Memory) -> None:
    assert found.steps == expected.steps
    assert [len(moments) for moments in found.moments] == [len(moments) for moments in expected.moments]
    for ours, theirs in zip(chain(*found.moments), chain(*expected.moments), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * max(1, np.abs(theirs).max()))


@pytest.mark.parametrize(("loss", "output"), OUTPUTS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_fused_takes_every_activation_and_loss(gpu: CudaBackend, hidden: str, loss: str, output: str) -> None:
    start = drawn((12, 9, 6, 3), (hidden, hidden, output))
    assert_same(gpu, *both(gpu, "fused", start, Recipe(7, 0.02, loss=loss)))


@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("batch_size", [1, 16, N])
def test_fused_takes_every_optimizer(
    gpu: CudaBackend, batch_size: int, optimizer: str, dropout: float, l2: float
) -> None:
    start = drawn((12, 9, 6, 3), ("relu", "tanh", "softmax"))
    rate = 0.002 if "Adam" in optimizer else 0.01
    recipe = Recipe(
        batch_size, rate, loss="cross_entropy", optimizer=OPTIMIZERS[optimizer], l2=l2, dropout=dropout, seed=5
    )
    # Adam divides small gradients by small roots, and magnifies what they were rounded by.
    assert_same(gpu, *both(gpu, "fused", start, recipe), magnified=20 if "Adam" in optimizer else 2)


@pytest.mark.parametrize("floats", [False, True])
@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize(("loss", "output"), [*OUTPUTS[:2], *OUTPUTS[-2:]])
def test_fused_takes_floats_and_rows_of_targets(
    gpu: CudaBackend, loss: str, output: str, rows: bool, floats: bool
) -> None:
    start = drawn((12, 9, 3), ("tanh", output))
    recipe = Recipe(7, 0.02, loss=loss, dropout=0.3)
    assert_same(gpu, *both(gpu, "fused", start, recipe, floats=floats, rows=rows))


@pytest.mark.parametrize("optimizer", ["plain", "momentum", "AdamW"])
def test_rates_change_from_batch_to_batch(gpu: CudaBackend, optimizer: str) -> None:
    start = drawn((12, 9, 3), ("sigmoid", "sigmoid"))
    recipe = Recipe(7, 0.01, optimizer=OPTIMIZERS[optimizer], schedule=OneCycle(), l2=0.1)
    assert_same(gpu, *both(gpu, "fused", start, recipe), magnified=20)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_goes_on_on_another_device(gpu: CudaBackend, optimizer: str) -> None:
    start = drawn((12, 9, 3), ("relu", "softmax"))
    recipe = Recipe(7, 0.005, loss="cross_entropy", optimizer=OPTIMIZERS[optimizer])
    ours, theirs = both(gpu, "fused", start, recipe)
    order = np.arange(N)
    for engine in (ours, theirs):
        engine.run_epoch(order)
    found = ours.parameters()
    weights, biases = ([gpu.to_host(array) for array in each] for each in (found.weights, found.biases))
    there = Parameters(weights, biases, start.functions, ours.memory())
    for engine in both(gpu, "fused", there, recipe):
        engine.run_epoch(order[::-1])
        assert_same_memory(engine.memory(), Memory(12, engine.memory().moments))
        again = engine.parameters()
    theirs.run_epoch(order[::-1])
    expected = theirs.parameters()
    for mine, exact in zip((*again.weights, *again.biases), (*expected.weights, *expected.biases), strict=True):
        np.testing.assert_allclose(mine, exact, atol=1e-4 if "Adam" in optimizer else 4e-6)


def test_the_memory_of_another_optimizer_is_refused(gpu: CudaBackend) -> None:
    start = drawn((12, 3), ("sigmoid",), Memory(1, ()))
    with pytest.raises(ConfigurationError, match="found the memory of an optimiser that isn't"):
        both(gpu, "fused", start, Recipe(7, 0.1, optimizer=SGD(0.9)))


def test_weights_of_examples_are_refused(gpu: CudaBackend) -> None:
    start, weighted = drawn((12, 3), ("sigmoid",)), examples()._replace(weights=np.ones(N))
    message = "the engine fused can't train this network: it takes examples that all count the same"
    with pytest.raises(ConfigurationError, match=message):
        choose_engine("fused", gpu, start, Recipe(7, 0.1), weighted)
    assert choose_engine("auto", gpu, start, Recipe(7, 0.1), weighted).name == "plain"


@pytest.mark.parametrize(
    ("options", "launches"),
    [
        ({}, ["descend_sums"] * 3),
        ({"l2": 0.1}, ["descend_sums"] * 3),
        ({"optimizer": SGD(0.9)}, [*["column_sums"] * 3, "momentum_step"]),
        ({"optimizer": Adam()}, [*["column_sums"] * 3, "adam_step"]),
        ({"optimizer": Adam(), "l2": 0.1}, [*["column_sums"] * 3, "adam_step", "adam_step"]),
    ],
    ids=str,
)
def test_a_step_of_all_layers_takes_few_launches(
    gpu: CudaBackend, options: dict[str, Any], launches: list[str]
) -> None:
    start = drawn((12, 9, 6, 3), ("relu", "relu", "softmax"))
    ours, _ = both(gpu, "fused", start, Recipe(N, 0.1, loss="cross_entropy", **options))
    ours.run_epoch(np.arange(N))
    passes = ["gather_scale", *["bias_activate"] * 3, "output_delta", *["hidden_delta"] * 2]
    assert gpu.kernels.launched == passes + launches
    # Forward, backward and gradients.
    assert len(gpu.xp.cublas.modes) == 3 + 2 + 3
