"""All engines train the same network: `fused` and `epoch` are compared with `plain` in float64."""

import logging
import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from gpunn import MLP, ConfigurationError, Dataset, Split, get_backend, train
from gpunn.engines import ENGINES, Examples, Parameters, Recipe, choose_engine
from gpunn.engines.cpu import epoch as epoch_engine
from gpunn.engines.cpu import fused as fused_engine
from gpunn.kernels.cpu.epoch.layout import Layout

from .conftest import parameters

CPU = get_backend("cpu")
COMPILED = ["fused", "epoch"]


def start_of(sizes: tuple[int, ...], dtype: Any = np.float32) -> Parameters:
    net = MLP(sizes, seed=1)
    return Parameters([W.astype(dtype) for W in net.weights], [b.astype(dtype) for b in net.biases])


def arrays(found: Parameters) -> list[Any]:
    return [*found.weights, *found.biases]


def run(name: str, start: Parameters, split: Split, recipe: Recipe, epochs: int = 1) -> tuple[float, Parameters]:
    engine = ENGINES[name](CPU, start, Examples(split.images, split.labels), recipe)
    rng = np.random.default_rng(5)
    for _ in range(epochs):
        loss = engine.run_epoch(rng.permutation(len(split)))
    return loss, engine.parameters()


def assert_follow_float64(
    sizes: tuple[int, ...], split: Split, batch_size: int, epochs: int = 1, names: Sequence[str] = COMPILED
) -> None:
    """Compare engines' networks with that of `plain` in float64, up to rounding in float32."""
    # Online learning at a high rate is chaotic: rounding errors would grow from step to step.
    recipe = Recipe(batch_size, 0.02 if batch_size == 1 else 0.1)
    exact_loss, exact = run("plain", start_of(sizes, np.float64), split, recipe, epochs)
    # Each step rounds a parameter once, at random; a gradient is a sum over the batch and over the inputs.
    steps = epochs * math.ceil(len(split) / batch_size)
    tolerance = float(np.finfo(np.float32).eps) * (4 * math.sqrt(steps) + 16)
    for name in names:
        loss, found = run(name, start_of(sizes), split, recipe, epochs)
        assert loss == pytest.approx(exact_loss, rel=1e-5), name
        for ours, theirs in zip(arrays(found), arrays(exact), strict=True):
            assert ours.dtype == np.float32
            assert ours.shape == theirs.shape
            assert np.abs(ours - theirs).max() <= tolerance * max(1, np.abs(theirs).max()), name


@pytest.fixture(scope="module")
def digits(mnist: Dataset) -> Split:
    return mnist.train[:2000]


def dense(split: Split) -> Split:
    return Split(np.maximum(split.images, 1), split.labels)


@pytest.mark.parametrize("batch_size", [1, 7, 32, 1000, 2000])
@pytest.mark.parametrize(
    "sizes", [(784, 10), (784, 16, 10), (784, 100, 50, 10), (784, 17, 33, 5, 10), (784, 130, 10)], ids=str
)
def test_engines_follow_float64(sizes: tuple[int, ...], batch_size: int, digits: Split) -> None:
    assert_follow_float64(sizes, digits, batch_size)


@pytest.mark.parametrize("batch_size", [1, 7, 32, 1000])
@pytest.mark.parametrize("sizes", [(784, 10), (784, 16, 10), (784, 70, 33, 10)], ids=str)
def test_engines_follow_float64_on_images_without_a_zero_pixel(
    sizes: tuple[int, ...], batch_size: int, digits: Split
) -> None:
    assert_follow_float64(sizes, dense(digits), batch_size)


@pytest.mark.parametrize("batch_size", [50, 300, 600])
def test_engines_follow_float64_where_layers_are_large(batch_size: int, digits: Split) -> None:
    for split in (digits[:600], dense(digits[:600])):
        assert_follow_float64((784, 520, 530, 10), split, batch_size)


def test_engines_follow_float64_over_the_whole_of_mnist(mnist: Dataset) -> None:
    for batch_size in (1000, 60000):
        assert_follow_float64((784, 16, 10), mnist.train, batch_size)


@pytest.mark.parametrize("share", [0.05, 0.45, 0.55, 1.0])
def test_engines_follow_float64_at_any_density(share: float) -> None:
    rng = np.random.default_rng(2)
    images = (rng.integers(1, 256, (90, 37)) * (rng.random((90, 37)) < share)).astype(np.uint8)
    split = Split(images, rng.integers(0, 4, 90, dtype=np.uint8))
    for batch_size in (1, 20, 90):
        assert_follow_float64((37, 9, 4), split, batch_size, epochs=3)


@pytest.mark.parametrize(
    ("images", "labels", "sizes"),
    [
        (np.zeros((30, 12)), np.arange(30) % 3, (12, 5, 3)),
        (np.full((30, 12), 255), np.arange(30) % 3, (12, 5, 3)),
        (np.eye(1, 12) * 200, np.zeros(1), (12, 5, 3)),
        (np.eye(12) * 200, np.zeros(12), (12, 5, 1)),
        (np.arange(40).reshape(40, 1), np.arange(40) % 2, (1, 2)),
        (np.zeros((9, 1)), np.zeros(9), (1, 1, 1)),
        (np.eye(20, 16, 3) * 255, np.arange(20) % 2, (16, 16, 32, 2)),
    ],
    ids=["all zero", "all bright", "one image", "one class", "one pixel", "one zero pixel", "multiples of 16"],
)
def test_engines_follow_float64_at_the_edges(images: Any, labels: Any, sizes: tuple[int, ...]) -> None:
    split = Split(images.astype(np.uint8), labels.astype(np.uint8))
    for batch_size in sorted({1, min(7, len(split)), len(split)}):
        assert_follow_float64(sizes, split, batch_size, epochs=2)


@pytest.mark.parametrize("batch_size", [8, 45, 64, 300])
@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize(
    "sizes",
    [
        (784, 16, 10),
        (784, 64, 240, 10),
        (784, 64, 300, 10),
        (784, 60, 520, 10),
        (784, 150, 20, 10),
        (784, 70, 300, 10),
        (784, 520, 530, 10),
    ],
    ids=str,
)
def test_the_epoch_engine_makes_the_same_bits_with_any_number_of_threads(
    monkeypatch: pytest.MonkeyPatch, digits: Split, sizes: tuple[int, ...], batch_size: int, sparse: bool
) -> None:
    split = digits[:1000] if sparse else dense(digits[:1000])
    losses, networks = [], []
    for cores in (1, 2, 3):
        monkeypatch.setattr(epoch_engine, "usable_cores", lambda cores=cores: cores)
        engine: Any = ENGINES["epoch"](
            CPU, start_of(sizes), Examples(split.images, split.labels), Recipe(batch_size, 0.3)
        )
        blocks = 2 if max(sizes[1:]) <= 240 and sizes[1] <= 64 and batch_size >= 128 else math.ceil(sizes[1] / 64)
        shares = blocks if sparse else math.ceil(batch_size / 8) if batch_size >= 32 else 1
        assert engine._team.threads == min(cores, shares)
        rng = np.random.default_rng(5)
        loss, found = [(engine.run_epoch(rng.permutation(len(split))), engine.parameters()) for _ in range(2)][-1]
        losses.append(loss)
        networks.append(found)
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-12)
    for other in networks[1:]:
        for ours, theirs in zip(arrays(networks[0]), arrays(other), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_the_fused_engine_follows_float64_with_several_threads(monkeypatch: pytest.MonkeyPatch, digits: Split) -> None:
    monkeypatch.setattr(fused_engine, "usable_cores", lambda: 3)
    monkeypatch.setattr(fused_engine, "MIN_PRODUCTS_FOR_THREADS", 1)
    for split in (digits, dense(digits)):
        for batch_size in (1, 2, 100, 2000):
            part = split[:500] if batch_size < 100 else split
            assert_follow_float64((784, 70, 33, 10), part, batch_size, names=["fused"])


@pytest.mark.parametrize("name", ENGINES)
def test_the_same_start_gives_the_same_bits_twice(name: str, digits: Split) -> None:
    recipe = Recipe(32, 0.5)
    (loss, first), (other_loss, second) = (run(name, start_of((784, 150, 10)), digits, recipe) for _ in range(2))
    assert loss == other_loss
    for ours, theirs in zip(arrays(first), arrays(second), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_leaves_what_it_is_given_alone(name: str, digits: Split) -> None:
    start = start_of((784, 20, 10))
    before = [array.copy() for array in arrays(start)]
    images, labels = digits.images.copy(), digits.labels.copy()
    run(name, start, Split(images, labels), Recipe(100, 0.5))
    for array, old in zip(arrays(start), before, strict=True):
        np.testing.assert_array_equal(array, old)
    np.testing.assert_array_equal(images, digits.images)
    np.testing.assert_array_equal(labels, digits.labels)


@pytest.mark.parametrize("name", COMPILED)
def test_nan_is_not_trained_away(name: str, small: Split) -> None:
    start = start_of((12, 5, 3))
    start.biases[0][2] = np.nan
    loss, found = run(name, start, small, Recipe(32, 0.1))
    assert math.isnan(loss)
    assert np.isnan(found.biases[-1]).all()


@pytest.mark.parametrize("name", COMPILED)
def test_training_learns_mnist(name: str, mnist: Dataset) -> None:
    net = MLP([784, 16, 10])
    history = train(
        net, mnist.train, epochs=2, batch_size=32, learning_rate=1.0, test=mnist.test, device="cpu", engine=name
    )
    assert history.engine == name
    assert history.accuracies[-1] > 0.9


@pytest.mark.parametrize("batch_size", [1, 32])
def test_a_long_epoch_is_run_in_pieces_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch, digits: Split, batch_size: int
) -> None:
    whole = run("epoch", start_of((784, 150, 10)), digits, Recipe(batch_size, 0.02))
    monkeypatch.setattr(epoch_engine, "MAX_WORK_PER_CALL", 100 * 784 * 150)
    pieces = run("epoch", start_of((784, 150, 10)), digits, Recipe(batch_size, 0.02))
    assert pieces[0] == pytest.approx(whole[0], rel=1e-12)
    for ours, theirs in zip(whole[1].weights, pieces[1].weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_threads_that_are_interrupted_do_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch, digits: Split) -> None:
    monkeypatch.setattr(epoch_engine, "usable_cores", lambda: 2)
    engine: Any = ENGINES["epoch"](
        CPU, start_of((784, 128, 10)), Examples(digits.images, digits.labels), Recipe(32, 0.1)
    )
    run_kernel = engine._run
    order = np.arange(2000)
    engine.run_epoch(order)

    def interrupted(worker: Any, *arguments: Any) -> float:
        if worker.thread == 0:
            raise KeyboardInterrupt
        loss: float = run_kernel(worker, *arguments)
        return loss

    engine._run = interrupted
    with pytest.raises(KeyboardInterrupt):
        engine.run_epoch(order)
    # The other one comes to an end, where it would wait for the first without being told.
    engine._team._others.submit(int).result(timeout=30)


@pytest.mark.parametrize("failing", [0, 1])
def test_a_failed_thread_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, digits: Split, failing: int) -> None:
    monkeypatch.setattr(epoch_engine, "usable_cores", lambda: 2)
    engine: Any = ENGINES["epoch"](
        CPU, start_of((784, 128, 10)), Examples(digits.images, digits.labels), Recipe(32, 0.1)
    )
    run_kernel = engine._run

    def fails(worker: Any, *arguments: Any) -> Any:
        if worker.thread == failing:
            raise OSError("no space left")
        return run_kernel(worker, *arguments)

    engine._run = fails
    with pytest.raises(OSError, match="no space left"):
        engine.run_epoch(np.arange(2000))


@pytest.mark.parametrize("batch_size", [1, 2, 9, 32, 63, 64, 200])
@pytest.mark.parametrize("sizes", [(784, 16, 10), (784, 30, 45, 10), (784, 300, 270, 10)], ids=str)
def test_both_layouts_of_the_weights_stay_bit_for_bit_equal(
    digits: Split, sizes: tuple[int, ...], batch_size: int
) -> None:
    engine: Any = ENGINES["epoch"](
        CPU, start_of(sizes), Examples(digits.images, digits.labels), Recipe(batch_size, 0.1)
    )
    engine.run_epoch(np.arange(2000))
    layout: Layout = engine._layout
    for layer in layout.layers[1:]:
        forward = engine._parameters[layer.forward : layer.backward].reshape(layer.n_in, layer.width)
        backward = engine._parameters[layer.backward : layer.bias].reshape(layer.n_out, layer.width_in)
        np.testing.assert_array_equal(forward[:, : layer.n_out].T, backward[:, : layer.n_in])
        assert not forward[:, layer.n_out :].any()
        assert not backward[:, layer.n_in :].any()


@pytest.mark.parametrize("sparse", [True, False])
def test_images_may_have_any_number_of_pixels(sparse: bool) -> None:
    images = np.zeros((6, 70_000), np.uint8) if sparse else np.full((6, 70_000), 3, np.uint8)
    images[:, ::999] = np.random.default_rng(0).integers(0, 256, (6, 71))
    split = Split(images, np.arange(6, dtype=np.uint8) % 2)
    assert_follow_float64((70_000, 3, 2), split, 2)


@pytest.mark.parametrize("name", COMPILED)
@pytest.mark.parametrize("batch_size", [1024, 1500])
def test_large_batches_move_weights_that_one_image_would_not(digits: Split, name: str, batch_size: int) -> None:
    start = start_of((784, 600, 600, 10))
    recipe = Recipe(batch_size, 0.02)
    _, found = run(name, start, digits, recipe)
    exact = Parameters([W.astype(np.float64) for W in start.weights], [b.astype(np.float64) for b in start.biases])
    _, expected = run("plain", exact, digits, recipe)
    for ours, theirs, before in zip(found.weights, expected.weights, exact.weights, strict=True):
        # Products add to the weights once for 256 images.
        steps = -(-len(digits) // 256) + 2
        assert np.abs(ours - theirs).max() <= (steps + 1) * 2**-24 * np.abs(before).max()


def test_the_epoch_engine_refuses_invalid_examples(small: Split) -> None:
    start, recipe = start_of((12, 5, 3)), Recipe(32, 0.1)
    with pytest.raises(IndexError, match="found labels from 0 to 7, expected 0 to 2"):
        ENGINES["epoch"](CPU, start, Examples(small.images, np.arange(200, dtype=np.uint8) % 8), recipe)
    with pytest.raises(ValueError, match=r"found labels of shape \(199,\), expected \(200,\)"):
        ENGINES["epoch"](CPU, start, Examples(small.images, small.labels[1:]), recipe)
    with pytest.raises(TypeError, match="found images of dtype float64, expected float32"):
        ENGINES["epoch"](CPU, start, Examples(small.images.astype(np.float64), small.labels), recipe)
    with pytest.raises(ValueError, match=r"found targets of shape \(200, 2\), expected \(200, 3\)"):
        ENGINES["epoch"](CPU, start, Examples(small.images, np.zeros((200, 2), np.float32)), recipe)
    engine = ENGINES["epoch"](CPU, start, Examples(small.images, small.labels), recipe)
    for order in (np.arange(201), np.array([-1])):
        with pytest.raises(IndexError, match=r"found order from .* expected 0 to 199"):
            engine.run_epoch(order)


def test_auto_is_epoch_and_fused_for_the_largest(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gpunn")
    assert choose_engine("auto", CPU, start_of((784, 16, 10)), Recipe(32, 0.1)).name == "epoch"
    assert "engine auto: epoch, the fastest for networks of this size" in caplog.messages
    assert choose_engine("auto", CPU, start_of((784, 1024, 1024, 10)), Recipe(32, 0.1)).name == "epoch"
    assert choose_engine("auto", CPU, start_of((784, 2048, 2048, 10)), Recipe(32, 0.1)).name == "fused"
    assert "engine auto: fused, the fastest for hidden layers of 4,194,304 weights" in caplog.messages


def test_auto_is_plain_for_what_is_trained_before_kernels_are_compiled(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gpunn")

    def chosen(sizes: tuple[int, ...], n: int, batch_size: int) -> str:
        examples = Examples(np.zeros((n, sizes[0]), np.uint8), np.zeros(n, np.uint8))
        return choose_engine("auto", CPU, start_of(sizes), Recipe(batch_size, 0.1), examples).name

    assert chosen((64, 100, 10), 1_797, 200) == "plain"
    assert "engine auto: plain, as 1,797 examples take it 2.1 ms, less than compiling kernels" in caplog.messages
    assert chosen((64, 100, 10), 17_970, 200) == "epoch"
    assert chosen((64, 100, 10), 1_797, 1) == "epoch"


def test_plain_trains_what_compiled_engines_cannot(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gpunn")
    start = start_of((784, 16, 10), np.float64)
    reason = "it computes in float32, and the network is float64"
    assert choose_engine("auto", CPU, start, Recipe(32, 0.1)).name == "plain"
    assert f"engine auto: plain, as epoch can't train this network: {reason}" in caplog.messages
    assert choose_engine("plain", CPU, start, Recipe(32, 0.1)).name == "plain"
    for name in COMPILED:
        with pytest.raises(ConfigurationError, match=f"^the engine {name} can't train this network: {reason}; choose"):
            choose_engine(name, CPU, start, Recipe(32, 0.1))


def test_without_numba_there_is_plain(monkeypatch: pytest.MonkeyPatch, small: Split) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    net, same = MLP([12, 5, 3]), MLP([12, 5, 3])
    recipe: dict[str, Any] = {"epochs": 1, "batch_size": 32, "learning_rate": 0.5, "device": "cpu"}
    assert train(net, small, **recipe).engine == "plain"
    train(same, small, **recipe, engine="plain")
    for ours, theirs in zip(parameters(net), parameters(same), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ConfigurationError, match="numba can't be imported"):
        train(net, small, **recipe, engine="epoch")


def test_without_threadpoolctl_there_is_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    start = start_of((784, 2048, 2048, 10))
    assert choose_engine("auto", CPU, start, Recipe(32, 0.1)).name == "epoch"
    with pytest.raises(ConfigurationError, match="threadpoolctl can't be imported"):
        choose_engine("fused", CPU, start, Recipe(32, 0.1))
