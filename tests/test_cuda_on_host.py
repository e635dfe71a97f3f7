"""CUDA kernels at full size on the host, launched by their own wrappers and engines, held to float64."""

import importlib
from itertools import chain
from typing import Any

import numpy as np
import pytest

from gpunn import Dataset
from gpunn.activations import HIDDEN
from gpunn.backends.cuda import CudaBackend
from gpunn.engines import ENGINES, Engine, Examples, Parameters, Recipe, choose_engine

from . import epoch_cases
from .epoch_cases import DEEP, EPOCH_CASES, LOG, SMALL, SOFTMAX, SQUARED, EpochCase
from .host_cuda import backwards
from .host_gpu import HostGpu, LaunchError
from .kernel_cases import CASES, ONCE, Case, check
from .recipes import CPU, OPTIMIZERS, OUTPUTS, assert_same_memory, assert_same_parameters, drawn, in_float64

N = 2345
"""Images for an epoch: batches of 32, 128 and 1000 leave a smaller one."""


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> HostGpu:
    return HostGpu(monkeypatch)


def run(name: str, *arguments: Any, out: np.ndarray, in_place: bool) -> list[Any]:
    """Call a wrapper, see `check`."""
    target = arguments[0] if in_place else out
    getattr(importlib.import_module("gpunn.kernels.cuda.contract"), name)(*arguments, out=target)
    return [target, *arguments]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_kernels_do_what_the_oracle_does_at_full_size(gpu: HostGpu, case: Case) -> None:
    # The last has more elements than a grid has threads.
    for m, n in ((1, 1), (60, 10), (1024, 100), (128, 784), (3, 5000), (1100, 784)):
        check(case, run, m, n)
    if case.name not in ONCE:
        check(case, run, 128, 100, in_place=True)
    gpu.blocks = gpu.threads = backwards
    check(case, run, 1000, 10)
    assert {launch.threads for launch in gpu.launches} & {256, 1024}


def both(gpu: CudaBackend, name: str, start: Parameters, examples: Examples, recipe: Recipe) -> tuple[Engine, Engine]:
    """Return an engine on the GPU, and plain in float64."""
    inputs, targets, _ = examples
    on_gpu = Examples(gpu.asarray(inputs), gpu.asarray(targets))
    exact = [array.astype(np.float64) if array.dtype == np.float32 else array for array in (inputs, targets)]
    ours = choose_engine(name, gpu, start, recipe, examples)(gpu, start, on_gpu, recipe)
    return ours, ENGINES["plain"](CPU, in_float64(start), Examples(*exact), recipe)


def assert_follows_float64(
    gpu: CudaBackend, engines: tuple[Engine, Engine], recipe: Recipe, n: int, *, atol: float = 4e-6
) -> None:
    """Train both on `n` images in some order, with a learning rate that falls."""
    order = np.random.default_rng(0).permutation(n)
    rates = recipe.learning_rate * np.linspace(1, 0.5, -(-n // recipe.batch_size))
    ours, theirs = (engine.run_epoch(order, rates) for engine in engines)
    assert ours == pytest.approx(theirs, rel=2e-6)
    assert_same_parameters(gpu, engines, atol=atol)
    assert_same_memory(engines[0].memory(), engines[1].memory())


@pytest.fixture(scope="module")
def images(mnist: Dataset) -> Examples:
    return Examples(mnist.train.images[:N], mnist.train.labels[:N])


def test_the_cases_have_every_function_loss_and_optimizer() -> None:
    assert {(case.loss, case.functions[-1]) for case in EPOCH_CASES} == set(OUTPUTS)
    assert {function for case in EPOCH_CASES for function in case.functions[:-1]} == set(HIDDEN)
    assert {(case.optimizer, bool(case.l2)) for case in EPOCH_CASES} >= {(name, True) for name in OPTIMIZERS}


@pytest.mark.parametrize("case", epoch_cases.PARAMETERS)
def test_an_epoch_in_one_launch_follows_float64(gpu: HostGpu, case: EpochCase, images: Examples) -> None:
    gpu.shared_memory = 1024 * case.capacity
    for batch_size in case.batch_sizes:
        recipe, n = case.recipe(batch_size), N if batch_size > 1 else N // 7
        assert_follows_float64(gpu.backend, both(gpu.backend, "epoch", case.start(), images, recipe), recipe, n)


@pytest.mark.parametrize("case", epoch_cases.PARAMETERS)
def test_an_epoch_gives_the_same_bits_in_whatever_order_threads_run(
    gpu: HostGpu, case: EpochCase, images: Examples
) -> None:
    gpu.shared_memory = 1024 * case.capacity
    recipe, found = case.recipe(case.batch_sizes[0]), []
    for order in (range, backwards):
        gpu.threads = order
        engine, _ = both(gpu.backend, "epoch", case.start(), images, recipe)
        loss, parameters = engine.run_epoch(np.arange(200)), engine.parameters()
        found.append([np.array(loss), *map(gpu.backend.to_host, (*parameters.weights, *parameters.biases))])
        found[-1] += chain(*engine.memory().moments)
    for mine, other in zip(*found, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_an_epoch_of_all_images_follows_float64(gpu: HostGpu, mnist: Dataset) -> None:
    case, split = EPOCH_CASES[0], mnist.train
    recipe = case.recipe(32)
    engines = both(gpu.backend, "epoch", case.start(), Examples(split.images, split.labels), recipe)
    assert_follows_float64(gpu.backend, engines, recipe, len(split), atol=2e-5)


@pytest.mark.parametrize(
    ("sizes", "functions", "loss", "optimizer", "batch_size", "floats", "rows"),
    [
        (SMALL, ("sigmoid", "sigmoid"), SQUARED, "plain", 1000, False, False),
        (DEEP, ("relu", "elu", "softmax"), SOFTMAX, "AdamW", 128, False, False),
        (DEEP, ("tanh", "leaky_relu", "sigmoid"), LOG, "momentum", 1000, True, True),
        (SMALL, ("identity", "softmax"), SOFTMAX, "Nesterov", 128, True, False),
        (SMALL, ("elu", "tanh"), SQUARED, "Adam", 1000, False, True),
    ],
    ids=str,
)
def test_an_epoch_of_many_launches_follows_float64(
    gpu: HostGpu,
    images: Examples,
    sizes: tuple[int, ...],
    functions: tuple[str, ...],
    loss: str,
    optimizer: str,
    batch_size: int,
    floats: bool,
    rows: bool,
) -> None:
    inputs, targets, _ = images
    examples = Examples(
        (inputs / np.float32(255)).astype(np.float32) if floats else inputs,
        np.eye(10, dtype=np.float32)[targets] * np.float32(0.5) + np.float32(0.05) if rows else targets,
    )
    recipe = Recipe(
        batch_size, 0.002, loss=loss, optimizer=OPTIMIZERS[optimizer], l2=0.1, dropout=0.3 * (sizes is DEEP), seed=5
    )
    engines = both(gpu.backend, "fused", drawn(sizes, functions), examples, recipe)
    assert_follows_float64(gpu.backend, engines, recipe, N)
    # Of 18 whole batches, the first apart, 16 and one.
    assert len(gpu.graphs.replays) == (2 if batch_size == 128 else 0)


def test_shared_memory_has_to_be_asked_for(gpu: HostGpu, images: Examples, monkeypatch: pytest.MonkeyPatch) -> None:
    case = EPOCH_CASES[0]
    monkeypatch.setattr("gpunn.kernels.cuda.epoch.run.allow_shared_memory", lambda kernel, size: None)
    engine, _ = both(gpu.backend, "epoch", case.start(), images, case.recipe(32))
    with pytest.raises(LaunchError, match=r"^found 119\d\d\d bytes of shared memory, of 49152"):
        engine.run_epoch(np.arange(32))
