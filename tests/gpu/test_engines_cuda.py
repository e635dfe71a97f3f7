"""Engines and evaluation on a GPU, held to float64 on the CPU."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from gpunn import MLP, Backend, Dataset, OutOfMemoryError, Split, devices, evaluate, get_backend, train, train_many
from gpunn.backends.cuda import CudaBackend
from gpunn.engines import Examples, Parameters, Recipe, choose_engine
from gpunn.optimizers import SGD

from ..conftest import parameters, random_split

pytestmark = pytest.mark.gpu

ENGINES = ["plain", "fused", "epoch"]
# What `epoch` trains here is also in `compile_ahead`, which compiles all of it before the tests.
SIZES = [(784, 10), (784, 16, 10), (784, 37, 11, 10), (784, 128, 10)]
BATCH_SIZES = [1, 7, 32, 128, 1000, 3000]
SHAPES = [
    (1, (784, 16, 10), 1),
    (300, (1, 1, 2), 7),
    (300, (13, 300, 5, 3), 64),
    (500, (1000, 33, 17, 29, 10), 100),
    # Parameters in shared memory, what is collected of their changes outside, on GPUs with 227 KiB.
    (300, (784, 48, 10), 128),
    (400, (784, 100, 50, 10), 33),
]
"""Numbers of examples, layer sizes and batch sizes."""
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
@pytest.mark.parametrize("batch_size", BATCH_SIZES)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_an_epoch_follows_float64(
    gpu: Backend, mnist: Dataset, sizes: tuple[int, ...], batch_size: int, engine: str
) -> None:
    assert_follows_float64(gpu, mnist.train[:3000], sizes, batch_size, engine)


@pytest.mark.parametrize("engine", ["fused", "epoch"])
@pytest.mark.parametrize(("n", "sizes", "batch_size"), SHAPES, ids=str)
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
    if float(gpu.describe()["compute capability"]) < 8:
        pytest.skip(f"needs a GPU of compute capability 8.0 or newer for TF32, found {gpu.describe()}")
    nets = {precision: MLP([784, 512, 512, 10]) for precision in ("float32", "tf32")}
    for precision, net in nets.items():
        train(net, split, **recipe, precision=precision, device=gpu, engine="fused")
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


def test_batches_of_fused_are_recorded(gpu: Backend, mnist: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "gpunn")
    recipe: dict[str, Any] = {"epochs": 1, "batch_size": 32, "learning_rate": 0.5, "l2": 0.01, "dropout": 0.2}
    train(MLP([784, 16, 10]), mnist.train[:3000], **recipe, device=gpu, engine="fused")
    assert not [message for message in caplog.messages if "every batch is launched by itself" in message]


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
    # The last digits wander from epoch to epoch.
    assert max(history.accuracies) >= 0.94


@pytest.mark.parametrize("engine", ENGINES)
def test_two_streams_at_once_give_what_one_gives(gpu: Backend, mnist: Dataset, engine: str) -> None:
    split, order = mnist.train[:4000], np.random.default_rng(0).permutation(4000)

    def runner() -> Any:
        net, recipe = MLP([784, 32, 10]), Recipe(100, 0.5)
        start = Parameters(net.weights, net.biases)
        images, labels = gpu.asarray(split.images), gpu.asarray(split.labels)
        return choose_engine(engine, gpu, start, recipe)(gpu, start, Examples(images, labels), recipe)

    def arrays(engine: Any) -> list[np.ndarray]:
        found = engine.parameters()
        return [gpu.to_host(array) for array in (*found.weights, *found.biases)]

    with gpu.activate():
        alone = runner()
        loss = alone.run_epoch(order)
        expected = arrays(alone)

    def on_a_stream_of_its_own(_: int) -> tuple[float, list[np.ndarray]]:
        with gpu.activate(), gpu.xp.cuda.Stream(non_blocking=True):
            other = runner()
            together.wait()
            return other.run_epoch(order), arrays(other)

    together = threading.Barrier(2, timeout=60)
    with ThreadPoolExecutor(2) as pool:
        for found_loss, found in pool.map(on_a_stream_of_its_own, range(2)):
            assert found_loss == loss
            for ours, theirs in zip(found, expected, strict=True):
                np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("engine", ENGINES)
def test_memory_does_not_grow(gpu: Backend, mnist: Dataset, engine: str) -> None:
    net, recipe, split = MLP([784, 16, 10]), Recipe(500, 0.5), mnist.train[:2250]
    start = Parameters(net.weights, net.biases)
    order = np.arange(len(split))
    with gpu.activate():
        images, labels = gpu.asarray(split.images), gpu.asarray(split.labels)
        runner: Any = choose_engine(engine, gpu, start, recipe)(gpu, start, Examples(images, labels), recipe)
        used, free = [], []
        for _ in range(100):
            runner.run_epoch(order)
            used.append(gpu.xp.get_default_memory_pool().total_bytes())
            free.append(gpu.xp.cuda.runtime.memGetInfo()[0])
        assert used[-1] == used[2]
        # Others may use the GPU too; 100 epochs that each lost their order would lose more than that.
        assert free[-1] >= free[2] - 2**20


def test_memory_does_not_grow_from_network_to_network(gpu: Backend, mnist: Dataset) -> None:
    used = []
    for seed in range(20):
        net = MLP([784, 16, 10], seed=seed)
        train(net, mnist.train[:500], epochs=1, batch_size=50, learning_rate=0.5, device=gpu, engine="epoch")
        with gpu.activate():
            used.append(gpu.xp.get_default_memory_pool().total_bytes())
    assert used[-1] == used[2]


def test_running_out_of_memory_says_what_was_needed_and_free(gpu: Backend) -> None:
    message = r"is out of memory \(.*1,125,899,906,842,624.* bytes are free\)"
    with pytest.raises(OutOfMemoryError, match=message), gpu.activate():
        gpu.xp.empty(2**50, np.uint8)
    with gpu.activate():
        assert float(gpu.xp.ones(3, np.float32).sum()) == 3


def test_auto_goes_on_on_the_cpu_where_the_gpu_is_too_small(
    gpu: Backend, mnist: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "gpunn")
    pool = gpu.xp.get_default_memory_pool()
    pool.free_all_blocks()
    recipe: dict[str, Any] = {"epochs": 1, "batch_size": 500, "learning_rate": 0.5}
    pool.set_limit(size=2**20)
    try:
        assert train(MLP([784, 16, 10]), mnist.train[:3000], **recipe).device == "cpu"
        with pytest.raises(OutOfMemoryError, match="use a smaller batch, or the CPU"):
            train(MLP([784, 16, 10]), mnist.train[:3000], **recipe, device=gpu)
    finally:
        pool.set_limit(size=0)
    assert any("device auto: cpu, as cuda:0 is out of memory" in message for message in caplog.messages)
    assert train(MLP([784, 16, 10]), mnist.train[:3000], **recipe).device == gpu.name


def test_one_launch_trains_more_networks_than_there_are_multiprocessors(gpu: Backend) -> None:
    from gpunn.kernels.cuda.epoch.run import EpochKernel

    sizes, n_networks, split = (784, 48, 10), 150, random_split(300, 784, 10)
    rng = np.random.default_rng(0)
    nets = [MLP(sizes, seed=seed) for seed in range(n_networks)]
    batch_sizes, rates = rng.choice([1, 7, 40, 128], n_networks), rng.choice([0.01, 0.05], n_networks)
    orders = np.stack([rng.permutation(300) for _ in nets])
    with gpu.activate():
        kernel = EpochKernel(sizes, batch_size=128, threads=512)
        layout = kernel.layout
        parameters_there = gpu.asarray(np.stack([layout.pack(net.weights, net.biases) for net in nets]))
        losses = gpu.asarray(np.zeros((n_networks, layout.threads)))
        kernel.prepare(
            words=gpu.asarray(split.images.view(np.uint32)),
            labels=gpu.asarray(split.labels),
            orders=gpu.asarray(orders),
            batch_sizes=gpu.asarray(batch_sizes.astype(np.int64)),
            numbers=gpu.asarray(
                np.stack([SGD().numbers(0, np.full(300, rate), 0.0) for rate in rates], dtype=np.float32)
            ),
            parameters=parameters_there,
            collected=gpu.asarray(np.zeros((n_networks, layout.n_parameters), np.float32)),
            moments=gpu.asarray(np.zeros((n_networks, 1), np.float32)),
            drops=gpu.asarray(np.zeros((n_networks, 1), np.uint32)),
            losses=losses,
        )
        kernel.compile(gpu.asarray(np.zeros(n_networks, np.int64)))
        kernel.launch(gpu.asarray(np.full(n_networks, 300)))
        packed, found_losses = gpu.to_host(parameters_there), gpu.to_host(losses).sum(axis=1) / 300
    cpu = get_backend("cpu")
    for number in range(0, n_networks, 7):
        net, recipe = nets[number], Recipe(int(batch_sizes[number]), float(rates[number]))
        start = Parameters([W.astype(np.float64) for W in net.weights], [b.astype(np.float64) for b in net.biases])
        engine = choose_engine("plain", cpu, start, recipe)(cpu, start, Examples(split.images, split.labels), recipe)
        assert found_losses[number] == pytest.approx(engine.run_epoch(orders[number]), rel=1e-4)
        expected = engine.parameters()
        weights, biases = layout.unpack(packed[number])
        for ours, theirs in zip((*weights, *biases), (*expected.weights, *expected.biases), strict=True):
            assert np.abs(ours - theirs).max() <= 1e-4 * max(1, np.abs(theirs).max())


@pytest.mark.parametrize("optimizer", ["sgd", "nesterov", "adam"])
def test_many_networks_come_out_as_each_alone(gpu: Backend, mnist: Dataset, optimizer: str) -> None:
    count, data = 200, mnist.train[:2000]  # more than there are multiprocessors
    settings: dict[str, Any] = {
        "epochs": 2,
        "optimizer": optimizer,
        "l2": 1e-4,
        "device": gpu,
        "test": mnist.test[:500],
    }
    batch_sizes = [1 + number % 40 for number in range(count)]
    nets = [MLP([784, 16, 10], seed=number) for number in range(count)]
    histories = train_many(nets, data, batch_size=batch_sizes, seed=range(count), engine="epoch", **settings)
    for number in range(0, count, 23):
        net = MLP([784, 16, 10], seed=number)
        history = train(net, data, batch_size=batch_sizes[number], seed=number, engine="epoch", **settings)
        assert histories[number].losses == history.losses
        assert histories[number].accuracies == history.accuracies
        for ours, theirs in zip(parameters(nets[number]), parameters(net), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_auto_takes_the_gpu_where_it_is_faster_and_its_fastest_engine(gpu: Backend, mnist: Dataset) -> None:
    recipe: dict[str, Any] = {"epochs": 1, "batch_size": 32, "learning_rate": 0.5}
    assert train(MLP([784, 16, 10]), mnist.train[:320], **recipe).device == "cpu"
    history = train(MLP([784, 16, 10]), mnist.train[:320], **recipe, device="cuda")
    assert (history.device, history.engine) == (gpu.name, "epoch")
    recipe["batch_size"] = 2000
    history = train(MLP([784, 2048, 2048, 10]), mnist.train, **recipe)
    assert (history.device, history.engine) == (gpu.name, "fused")


def test_evaluation_agrees_with_the_cpu(gpu: Backend, mnist: Dataset) -> None:
    net = MLP([784, 16, 10])
    train(net, mnist.train[:6000], epochs=1, batch_size=32, learning_rate=1.0, device="cpu")
    ours, theirs = evaluate(net, mnist.test, device=gpu), evaluate(net, mnist.test, device="cpu")
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
    # Two outputs may be so close that rounding decides.
    assert np.abs(ours.confusion - theirs.confusion).sum() <= 4


def test_the_gpu_describes_itself(gpu: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    assert isinstance(gpu, CudaBackend)
    status = next(status for status in devices() if status.name == gpu.name)
    assert status.usable
    assert list(status.description) == [
        "name",
        "compute capability",
        "multiprocessors",
        "memory",
        "driver",
        "runtime",
        "cupy",
        "numba-cuda",
    ]
