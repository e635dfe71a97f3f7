"""The whole-epoch kernel in the simulator, held to float64."""

from typing import Any

import numpy as np
import pytest

from gpunn import MLP, ConfigurationError, Split, get_backend, train
from gpunn.backends.cuda import CudaBackend
from gpunn.engines import ENGINES, Examples, Parameters, Recipe, choose_engine
from gpunn.optimizers import PLAIN, Optimizer

from ..conftest import parameters, random_split

CPU = get_backend("cpu")


class Trained:
    """Networks after `kernel.launch`, as arrays in the kernel's layout are unpacked."""

    def __init__(
        self,
        kernel: Any,
        nets: list[MLP],
        split: Split,
        batch_sizes: list[int],
        rates: list[float],
        optimizer: Optimizer = PLAIN,
        l2: float = 0.0,
    ) -> None:
        layout = kernel.layout
        n, n_pixels = split.images.shape
        words = np.zeros((n, 4 * layout.n_words), np.uint8)
        words[:, :n_pixels] = split.images
        self.orders = np.stack([np.random.default_rng(number).permutation(n) for number in range(len(nets))])
        packed = np.stack([layout.pack(net.weights, net.biases) for net in nets])
        self.losses = np.full((len(nets), layout.threads), np.nan)
        kernel.prepare(
            words=words.view(np.uint32),
            labels=split.labels.copy(),  # the simulator writes all arrays back
            orders=self.orders,
            batch_sizes=np.array(batch_sizes),
            numbers=np.stack([optimizer.numbers(0, np.full(n, rate), l2) for rate in rates], dtype=np.float32),
            parameters=packed,
            collected=np.zeros((len(nets), layout.n_parameters), np.float32),
            moments=np.zeros((len(nets), 2 * layout.n_parameters), np.float32),
            drops=np.ones((len(nets), max(1, layout.n_drops)), np.uint32),
            losses=self.losses,
        )
        kernel.launch(np.full(len(nets), n))
        self.packed = packed
        self.parameters = [Parameters(*layout.unpack(row)) for row in packed]


def assert_follow_float64(
    kernel: Any, nets: list[MLP], split: Split, batch_sizes: list[int], rates: list[float]
) -> Trained:
    trained = Trained(kernel, nets, split, batch_sizes, rates)
    for number, net in enumerate(nets):
        exact = Parameters([W.astype(np.float64) for W in net.weights], [b.astype(np.float64) for b in net.biases])
        engine = ENGINES["plain"](
            CPU, exact, Examples(split.images, split.labels), Recipe(batch_sizes[number], rates[number])
        )
        loss = engine.run_epoch(trained.orders[number])
        assert trained.losses[number].sum() / len(split) == pytest.approx(loss, rel=1e-5)
        found, expected = trained.parameters[number], engine.parameters()
        for ours, theirs in zip((*found.weights, *found.biases), (*expected.weights, *expected.biases), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)
    return trained


@pytest.mark.parametrize(
    ("sizes", "batch_size", "threads"),
    [
        ((12, 5, 3), 1, 32),
        ((12, 5, 3), 4, 64),
        ((13, 6, 5, 3), 7, 64),
        ((12, 3), 5, 32),
        # More tiles than threads; chunks smaller than a batch; a number of images that no tile divides.
        ((30, 40, 10), 30, 32),
        ((131, 4, 2), 9, 32),
        ((1, 1, 1), 3, 32),
    ],
    ids=str,
)
def test_an_epoch_follows_float64(sizes: tuple[int, ...], batch_size: int, threads: int) -> None:
    from gpunn.kernels.cuda.epoch.run import EpochKernel

    kernel = EpochKernel(sizes, batch_size=batch_size, threads=threads)
    assert kernel.layout.in_shared
    split = random_split(34, sizes[0], sizes[-1])
    assert_follow_float64(kernel, [MLP(sizes)], split, [batch_size], [0.5])


@pytest.mark.parametrize(
    ("capacity", "in_shared", "collects_in_shared"),
    [(20_000, True, True), (11_000, True, False), (8_000, False, False), (7_000, False, False)],
)
def test_what_does_not_fit_shared_memory_stays_outside(
    capacity: int, in_shared: bool, collects_in_shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpunn.kernels.cuda.epoch import run as epoch_cuda

    monkeypatch.setattr(epoch_cuda, "shared_memory", lambda: capacity)
    kernel = epoch_cuda.EpochKernel((30, 20, 10), batch_size=33, threads=32)
    assert (kernel.layout.in_shared, kernel.layout.collects_in_shared) == (in_shared, collects_in_shared)
    assert kernel.layout.shared_bytes <= capacity
    assert_follow_float64(kernel, [MLP((30, 20, 10))], random_split(50, 30, 10), [33], [0.5])


@pytest.mark.parametrize("capacity", [10**6, 11_000])
def test_networks_of_one_launch_have_batches_of_their_own(capacity: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from gpunn.kernels.cuda.epoch import run as epoch_cuda

    monkeypatch.setattr(epoch_cuda, "shared_memory", lambda: capacity)
    nets, split = [MLP([30, 20, 10], seed=seed) for seed in range(4)], random_split(40, 30, 10)
    kernel = epoch_cuda.EpochKernel((30, 20, 10), batch_size=40, threads=32)
    assert kernel.layout.collects_outside == (capacity == 11_000)
    assert_follow_float64(kernel, nets, split, [3, 17, 33, 40], [0.1, 0.5, 0.5, 0.5])


def test_engines_of_one_shape_share_a_compiled_kernel() -> None:
    from gpunn.kernels.cuda.epoch.layout import CudaLayout, KernelSpec
    from gpunn.kernels.cuda.epoch.run import compile_epoch

    first, same, *others = (
        compile_epoch(
            CudaLayout((12, n, 3), batch_size=m, threads=32, capacity=10**5), KernelSpec((function, "sigmoid"))
        )
        for n, m, function in ((5, 70, "relu"), (5, 80, "relu"), (6, 70, "relu"), (5, 70, "tanh"))
    )
    assert first is same
    assert len({first, *others}) == 3


def test_one_launch_trains_networks_apart() -> None:
    from gpunn.kernels.cuda.epoch.run import EpochKernel

    nets, split = [MLP([12, 5, 3], seed=seed) for seed in range(3)], random_split(12, 12, 3)
    kernel = EpochKernel((12, 5, 3), batch_size=70, threads=32)
    trained = assert_follow_float64(kernel, nets, split, [1, 5, 12], [0.1, 0.5, 2.0])
    again = Trained(kernel, nets, split, [1, 5, 12], [0.1, 0.5, 2.0])
    np.testing.assert_array_equal(trained.packed, again.packed)


def test_layers_too_wide_and_images_too_large_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from gpunn.kernels.cuda.epoch import run as epoch_cuda

    with pytest.raises(ValueError, match="found images of 2049 pixels, expected at most 2048"):
        epoch_cuda.EpochKernel((2049, 3), batch_size=1, threads=32)
    monkeypatch.setattr(epoch_cuda, "shared_memory", lambda: 4000)
    with pytest.raises(
        ValueError, match=r"found layers that need [0-9]+ bytes of shared memory, expected at most 4000"
    ):
        epoch_cuda.EpochKernel((30, 200, 10), batch_size=8, threads=32)


@pytest.mark.parametrize("engine", ["fused", "epoch"])
def test_engines_train_with_simulated_kernels(gpu: CudaBackend, engine: str) -> None:
    split = random_split(40, 13, 3)
    net, exact = MLP([13, 5, 3]), MLP([13, 5, 3], dtype=np.float64)
    recipe: dict[str, Any] = {"epochs": 2, "batch_size": 15, "learning_rate": 0.5}
    history = train(net, split, **recipe, device=gpu, engine=engine)
    expected = train(exact, split, **recipe, device="cpu")
    assert (history.device, history.engine) == ("cuda:0", engine)
    assert history.losses == pytest.approx(expected.losses, rel=1e-5)
    for ours, theirs in zip(parameters(net), parameters(exact), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_auto_takes_one_multiprocessor_for_small_batches(gpu: CudaBackend) -> None:
    recipe: dict[str, Any] = {"epochs": 1, "batch_size": 15, "learning_rate": 0.5}
    for sizes, expected in (([13, 5, 3], "epoch"), ([13, 1100, 1100, 3], "fused"), ([3000, 3], "fused")):
        net = MLP(sizes)
        assert choose_engine("auto", gpu, Parameters(net.weights, net.biases), Recipe(15, 0.5)).name == expected
    with pytest.raises(ConfigurationError, match="the engine epoch can't train this network: found images of 3000"):
        train(MLP([3000, 3]), random_split(40, 3000, 3), **recipe, device=gpu, engine="epoch")
