"""Engines and evaluation on a GPU, held to float64 on the CPU."""

import math
from typing import Any

import numpy as np
import pytest

from gpunn import MLP, Backend, ConfigurationError, Dataset, OutOfMemoryError, Split, devices, evaluate, train
from gpunn.backends.cuda import CudaBackend
from gpunn.engines import Parameters, Recipe, choose_engine

from ..conftest import parameters, random_split

pytestmark = pytest.mark.gpu

ENGINES = ["plain", "fused", "epoch"]
EPSILON = float(np.finfo(np.float32).eps)


def assert_follows_float64(
    gpu: Backend, split: Split, sizes: tuple[int, ...], batch_size: int, engine: str, tolerance: float | None = None
) -> None:
    """Train an epoch on the GPU, and on the CPU in float64; compare what comes out."""
    on_gpu, exact = MLP(sizes), MLP(sizes, dtype=np.float64)
    # Online learning in large steps is chaotic: it magnifies every rounding.
    recipe: dict[str, Any] = {"epochs": 1, "batch_size": batch_size, "learning_rate": 0.02 if batch_size == 1 else 0.5}
    history = train(on_gpu, split, **recipe, device=gpu, engine=engine)
    expected = train(exact, split, **recipe, device="cpu", engine="plain")
    if tolerance is None:
        # Roundings of sums over a few hundred lit pixels, walking at random from step to step.
        tolerance = EPSILON * (30 + math.sqrt(len(split) / batch_size))
    for ours, theirs in zip(parameters(on_gpu), parameters(exact), strict=True):
        assert ours.dtype == np.float32
        assert np.abs(ours - theirs).max() <= tolerance * max(1, np.abs(theirs).max())
    assert history.losses == pytest.approx(expected.losses, rel=tolerance)
    assert (history.device, history.engine) == (gpu.name, engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("batch_size", [1, 7, 32, 128, 1000, 3000])
@pytest.mark.parametrize("sizes", [(784, 10), (784, 16, 10), (784, 37, 11, 10), (784, 128, 10)], ids=str)
def test_an_epoch_follows_float64(
    gpu: Backend, mnist: Dataset, sizes: tuple[int, ...], batch_size: int, engine: str
) -> None:
    assert_follows_float64(gpu, mnist.train[:3000], sizes, batch_size, engine)


@pytest.mark.parametrize("engine", ["fused", "epoch"])
@pytest.mark.parametrize(
    ("n", "sizes", "batch_size"),
    [
        (1, (784, 16, 10), 1),
        (300, (1, 1, 2), 7),
        (300, (13, 300, 5, 3), 64),
        (500, (1000, 33, 17, 29, 10), 100),
        (400, (784, 100, 50, 10), 33),
    ],
    ids=str,
)
def test_any_shape_follows_float64(gpu: Backend, n: int, sizes: tuple[int, ...], batch_size: int, engine: str) -> None:
    assert_follows_float64(gpu, random_split(n, sizes[0], sizes[-1]), sizes, batch_size, engine)


@pytest.mark.parametrize("engine", ["plain", "fused"])
def test_large_layers_follow_float64(gpu: Backend, mnist: Dataset, engine: str) -> None:
    # Sums over a thousand neurons.
    assert_follows_float64(gpu, mnist.train[:2000], (784, 1024, 1024, 10), 128, engine, tolerance=200 * EPSILON)


def test_a_whole_epoch_gives_the_cpus_network(gpu: Backend, mnist: Dataset) -> None:
    recipe: dict[str, Any] = {"epochs": 1, "batch_size": 32, "learning_rate": 0.5}
    on_cpu = MLP([784, 16, 10])
    train(on_cpu, mnist.train, **recipe, device="cpu", engine="epoch")
    for engine in ENGINES:
        on_gpu = MLP([784, 16, 10])
        train(on_gpu, mnist.train, **recipe, device=gpu, engine=engine)
        for ours, theirs in zip(parameters(on_gpu), parameters(on_cpu), strict=True):
            assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max(), engine


def test_tf32_is_near_and_float32_nearer(gpu: Backend, mnist: Dataset) -> None:
    split = mnist.train[:4096]
    recipe: dict[str, Any] = {"epochs": 1, "batch_size": 256, "learning_rate": 0.5}
    nets = {}
    for precision in ("float32", "tf32"):
        nets[precision] = MLP([784, 512, 512, 10])
        try:
            train(nets[precision], split, **recipe, precision=precision, device=gpu, engine="fused")
        except ConfigurationError as error:
            pytest.skip(str(error))
    exact = MLP([784, 512, 512, 10], dtype=np.float64)
    train(exact, split, **recipe, device="cpu", engine="plain")
    off = {
        precision: max(
            np.abs(ours - theirs).max() / np.abs(theirs).max()
            for ours, theirs in zip(parameters(net), parameters(exact), strict=True)
        )
        for precision, net in nets.items()
    }
    assert off["float32"] < 2e-5
    assert off["float32"] < off["tf32"] < 2e-2


@pytest.mark.parametrize("engine", ENGINES)
def test_the_same_seed_gives_the_same_bits_twice(gpu: Backend, mnist: Dataset, engine: str) -> None:
    first, second = MLP([784, 16, 10]), MLP([784, 16, 10])
    histories = [
        train(net, mnist.train[:6000], epochs=2, batch_size=32, learning_rate=1.0, device=gpu, engine=engine)
        for net in (first, second)
    ]
    assert histories[0].losses == histories[1].losses
    for ours, theirs in zip(parameters(first), parameters(second), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("engine", ["auto", *ENGINES])
def test_a_full_training_reaches_its_accuracy(gpu: Backend, mnist: Dataset, engine: str) -> None:
    net = MLP([784, 16, 10])
    recipe: dict[str, Any] = {"epochs": 15, "batch_size": 32, "learning_rate": 1.0}
    if engine in {"plain", "fused"}:
        recipe |= {"batch_size": 128, "learning_rate": 3.0}
    history = train(net, mnist.train, **recipe, test=mnist.test, device=gpu, engine=engine)
    assert history.accuracies[-1] >= 0.94


@pytest.mark.parametrize("engine", ENGINES)
def test_two_streams_at_once_give_what_one_gives(gpu: Backend, mnist: Dataset, engine: str) -> None:
    split, order = mnist.train[:4000], np.random.default_rng(0).permutation(4000)

    def runner() -> Any:
        net, recipe = MLP([784, 32, 10]), Recipe(100, 0.5)
        start = Parameters(net.weights, net.biases)
        images, labels = gpu.asarray(split.images), gpu.asarray(split.labels)
        return choose_engine(engine, gpu, start, recipe)(gpu, start, images, labels, recipe)

    def arrays(engine: Any) -> list[np.ndarray]:
        found = engine.parameters()
        return [gpu.to_host(array) for array in (*found.weights, *found.biases)]

    with gpu.activate():
        alone = runner()
        loss = alone.run_epoch(order)
        streams = [gpu.xp.cuda.Stream(non_blocking=True) for _ in range(2)]
        runners = [runner() for _ in streams]
        gpu.synchronize()
        losses = []
        for stream, other in zip(streams, runners, strict=True):
            with stream:
                losses.append(other.run_epoch(order))
        gpu.synchronize()
        assert losses == [loss, loss]
        for other in runners:
            for ours, theirs in zip(arrays(other), arrays(alone), strict=True):
                np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("engine", ENGINES)
def test_memory_does_not_grow(gpu: Backend, mnist: Dataset, engine: str) -> None:
    net, recipe, split = MLP([784, 16, 10]), Recipe(500, 0.5), mnist.train[:2250]
    start = Parameters(net.weights, net.biases)
    order = np.arange(len(split))
    with gpu.activate():
        images, labels = gpu.asarray(split.images), gpu.asarray(split.labels)
        runner: Any = choose_engine(engine, gpu, start, recipe)(gpu, start, images, labels, recipe)
        used = []
        for _ in range(100):
            runner.run_epoch(order)
            used.append(gpu.xp.get_default_memory_pool().total_bytes())
        free = gpu.xp.cuda.runtime.memGetInfo()[0]
        runner.run_epoch(order)
        assert used[-1] == used[2]
        assert gpu.xp.cuda.runtime.memGetInfo()[0] >= free - 2**21


def test_running_out_of_memory_says_what_was_needed_and_free(gpu: Backend) -> None:
    message = r"is out of memory \(.*1,125,899,906,842,624.* bytes are free\)"
    with pytest.raises(OutOfMemoryError, match=message), gpu.activate():
        gpu.xp.empty(2**50, np.uint8)
    with gpu.activate():
        assert float(gpu.xp.ones(3, np.float32).sum()) == 3


def test_auto_takes_the_gpu_and_its_fastest_engine(gpu: Backend, mnist: Dataset) -> None:
    recipe: dict[str, Any] = {"epochs": 1, "batch_size": 32, "learning_rate": 0.5}
    history = train(MLP([784, 16, 10]), mnist.train[:320], **recipe)
    assert (history.device, history.engine) == (gpu.name, "epoch")
    recipe["batch_size"] = 320
    assert train(MLP([784, 1024, 1024, 10]), mnist.train[:320], **recipe).engine == "fused"


def test_evaluation_agrees_with_the_cpu(gpu: Backend, mnist: Dataset) -> None:
    net = MLP([784, 16, 10])
    train(net, mnist.train[:6000], epochs=1, batch_size=32, learning_rate=1.0, device="cpu")
    ours, theirs = evaluate(net, mnist.test, device=gpu), evaluate(net, mnist.test, device="cpu")
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
    # Two outputs may be so close that rounding decides.
    assert np.abs(ours.confusion - theirs.confusion).sum() <= 4


def test_the_gpu_describes_itself(gpu: Backend) -> None:
    assert isinstance(gpu, CudaBackend)
    status = next(status for status in devices() if status.name == gpu.name)
    assert status.usable
    assert list(status.description) == [
        "name",
        "compute capability",
        "memory",
        "driver",
        "runtime",
        "cupy",
        "numba-cuda",
    ]
