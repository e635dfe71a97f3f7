import math
import re
from typing import Any

import numpy as np
import pytest

from gpunn import MLP, ConfigurationError, DataError, Dataset, DivergenceError, History, Split, engines, evaluate, train
from gpunn.activations import HIDDEN
from gpunn.backends.base import Backend
from gpunn.backends.cpu import CpuBackend
from gpunn.backends.cuda import CudaBackend
from gpunn.early_stopping import EarlyStopping
from gpunn.engines import Recipe
from gpunn.engines.plain import PlainEngine
from gpunn.equations import Array, backpropagate
from gpunn.losses import smoothed
from gpunn.optimizers import SGD, Adam, Optimizer
from gpunn.schedules import Cosine

from .conftest import parameters, random_split
from .strict_cupy import StrictCupy

RECIPE: dict[str, Any] = {"epochs": 3, "batch_size": 32, "learning_rate": 0.5}


def assert_same_bits(ours: MLP, theirs: MLP) -> None:
    for mine, other in zip(parameters(ours), parameters(theirs), strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("batch_size", [1, 7, 32, 199, 200])
def test_training_is_the_textbooks_loop(small: Split, batch_size: int) -> None:
    net = MLP([12, 5, 3], seed=4, dtype=np.float64)
    history = train(net, small, epochs=2, batch_size=batch_size, learning_rate=0.3, seed=9)

    expected = MLP([12, 5, 3], seed=4, dtype=np.float64)
    rng = np.random.default_rng(9)
    losses = []
    for _ in range(2):
        order = rng.permutation(200)
        costs = []
        for first in range(0, 200, batch_size):
            batch = order[first : first + batch_size]
            X, Y = small.images[batch] / 255, np.eye(3)[small.labels[batch]]
            cost, dW, db = backpropagate(np, expected.weights, expected.biases, X, Y)
            costs += [cost] * len(batch)
            expected.weights = [W - 0.3 * d for W, d in zip(expected.weights, dW, strict=True)]
            expected.biases = [b - 0.3 * d for b, d in zip(expected.biases, db, strict=True)]
        losses.append(np.mean(costs))
    for ours, theirs in zip(parameters(net), parameters(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)
    assert history.losses == pytest.approx(losses, rel=1e-12)


@pytest.mark.parametrize("sizes", [(12, 3), (12, 5, 3), (12, 8, 4, 3)])
@pytest.mark.parametrize("batch_size", [1, 7, 32, 200])
def test_float32_follows_float64_to_rounding(small: Split, sizes: tuple[int, ...], batch_size: int) -> None:
    single, double = MLP(sizes), MLP(sizes, dtype=np.float64)
    for net in (single, double):
        train(net, small, epochs=1, batch_size=batch_size, learning_rate=0.5)
    steps = math.ceil(200 / batch_size)
    tolerance = float(np.finfo(np.float32).eps) * (steps + 20) * 2
    for ours, exact in zip(parameters(single), parameters(double), strict=True):
        assert ours.dtype == np.float32
        assert np.abs(ours - exact).max() <= tolerance * max(1, np.abs(exact).max())


def test_the_same_seed_gives_the_same_bits_twice(mnist: Dataset) -> None:
    first, second = MLP([784, 16, 10]), MLP([784, 16, 10])
    histories = [train(net, mnist.train[:5000], **RECIPE, seed=3) for net in (first, second)]
    assert_same_bits(first, second)
    assert histories[0].losses == histories[1].losses
    other = MLP([784, 16, 10])
    train(other, mnist.train[:5000], **RECIPE, seed=4)
    assert not np.array_equal(first.weights[0], other.weights[0])


def test_every_engine_and_backend_starts_alike_and_sees_the_same_batches(
    small: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[list[np.ndarray], list[np.ndarray]]] = []

    class Spy(PlainEngine):  # type: ignore[misc]
        name = "spy"

        def __init__(self, backend: Backend, start: Any, *args: Any) -> None:
            super().__init__(backend, start, *args)
            seen.append(([W.copy() for W in start.weights], []))

        def run_epoch(self, order: np.ndarray, rates: np.ndarray | None = None) -> float:
            seen[-1][1].append(order.copy())
            return super().run_epoch(order, rates)

    monkeypatch.setitem(engines.ENGINES, "spy", Spy)
    for backend in (CpuBackend(), CudaBackend(StrictCupy(), 0)):
        train(MLP([12, 4, 3]), small, **RECIPE, device=backend, engine="spy")
    (weights, orders), (other_weights, other_orders) = seen
    np.testing.assert_array_equal(orders, other_orders)
    assert all(sorted(order) == list(range(200)) for order in orders)
    for ours, theirs in zip(weights, other_weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("batch_size", [1, 7, 200])
def test_the_cuda_backends_code_path_keeps_to_the_device_and_gives_the_same_network(
    small: Split, batch_size: int
) -> None:
    on_cpu, on_gpu = MLP([12, 5, 3]), MLP([12, 5, 3])
    recipe: dict[str, Any] = {"epochs": 2, "batch_size": batch_size, "learning_rate": 0.5, "test": small[:50]}
    cpu = train(on_cpu, small, **recipe, device="cpu", engine="plain")
    gpu = train(on_gpu, small, **recipe, device=CudaBackend(StrictCupy(), 0))
    assert_same_bits(on_cpu, on_gpu)
    assert gpu.device == "cuda:0"
    assert gpu.losses == cpu.losses
    assert gpu.accuracies == cpu.accuracies
    assert type(on_gpu.weights[0]) is np.ndarray


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": Adam(), "l2": 0.01, "schedule": Cosine()},
        {"optimizer": SGD(0.9, nesterov=True), "dropout": 0.3},
        {"loss": "binary_cross_entropy", "early_stopping": EarlyStopping(patience=1)},
    ],
)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_every_recipe_keeps_to_the_device(small: Split, hidden: str, options: dict[str, Any]) -> None:
    nets = []
    for device in ("cpu", CudaBackend(StrictCupy(), 0)):
        net = MLP([12, 5, 3], hidden=hidden, output="sigmoid" if "loss" in options else "softmax")
        train(net, small, epochs=2, batch_size=30, learning_rate=0.05, **options, device=device, engine="plain")
        nets.append(net)
    assert_same_bits(*nets)


def test_batch_sizes_at_both_ends_count_their_steps(small: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def counting(xp: Any, weights: Any, biases: Any, X: Array, Y: Array, **options: Any) -> Any:
        sizes.append(len(X))
        return backpropagate(xp, weights, biases, X, Y, **options)

    monkeypatch.setattr("gpunn.engines.plain.backpropagate", counting)
    for batch_size, expected in ((200, [200]), (1, [1] * 200), (150, [150, 50])):
        sizes.clear()
        train(MLP([12, 3]), small, epochs=1, batch_size=batch_size, learning_rate=0.5, engine="plain")
        assert sizes == expected


def test_history_records_the_run(small: Split) -> None:
    seen: list[tuple[int, np.ndarray]] = []
    net = MLP([12, 5, 3])

    def on_epoch(so_far: History) -> None:
        seen.append((so_far.epochs[-1].number, net.weights[0].copy()))

    history = train(net, small, **RECIPE, test=small[:40], device="cpu", on_epoch=on_epoch)
    assert [number for number, _ in seen] == [1, 2, 3]
    assert not np.array_equal(seen[0][1], seen[1][1])
    np.testing.assert_array_equal(seen[2][1], net.weights[0])
    assert (history.device, history.engine, history.recipe) == ("cpu", "plain", Recipe(32, 0.5))
    assert history.losses[2] < history.losses[0]
    assert history.accuracies[-1] == evaluate(net, small[:40]).accuracy
    for epoch in history.epochs:
        assert epoch.images_per_second == pytest.approx(200 / epoch.seconds)
    assert history.to_dict()["epochs"][2]["test_accuracy"] == history.accuracies[-1]
    assert train(MLP([12, 3]), small, **RECIPE).accuracies == []


def test_history_has_test_losses_and_the_accuracy_on_training_examples(small: Split) -> None:
    net = MLP([12, 5, 3])
    history = train(net, small[:150], **RECIPE, test=small[150:])
    assert history.test_losses[-1] == evaluate(net, small[150:]).loss
    assert history.train_accuracies[-1] == evaluate(net, small[:150]).accuracy
    assert history.to_dict()["epochs"][-1]["train_accuracy"] == history.train_accuracies[-1]
    assert train(net, small, **RECIPE).train_accuracies == []


def test_training_accuracy_is_measured_on_an_even_sample(mnist: Dataset) -> None:
    net = MLP([784, 10])
    history = train(net, mnist.train[:25_000], epochs=1, test=mnist.test[:100])
    assert history.train_accuracies == [evaluate(net, mnist.train[:25_000:3]).accuracy]


def test_a_history_shows_itself_in_one_line(small: Split) -> None:
    net = MLP([12, 5, 3])
    history = train(net, small, **RECIPE, test=small[:40], device="cpu", engine="plain")
    form = r"History: 3 epochs in \d\.\d s on cpu, engine plain, loss \d\.\d{4}, test accuracy \d+\.\d\d%"
    assert re.fullmatch(form, repr(history))
    assert repr(train(net, small, epochs=1, device="cpu", engine="plain")).startswith(
        "History: 1 epoch in 0.0 s on cpu"
    )


def test_a_callback_that_returns_false_ends_the_training(small: Split) -> None:
    net, same = MLP([12, 5, 3]), MLP([12, 5, 3])
    history = train(net, small, epochs=9, on_epoch=lambda so_far: len(so_far.epochs) < 3)
    assert len(history.epochs) == 3
    assert len(train(MLP([12, 3]), small, epochs=9, on_epoch=lambda so_far: np.bool_(False)).epochs) == 1  # type: ignore[arg-type, return-value]
    train(same, small, epochs=3)
    assert_same_bits(net, same)


def test_progress_prints_a_line_an_epoch(small: Split, capsys: pytest.CaptureFixture[str]) -> None:
    history = train(MLP([12, 5, 3]), small, epochs=10, test=small[:40], progress=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [epoch.line(10) for epoch in history.epochs]
    assert all(len(line) <= 80 for line in lines)


def test_numpy_scalars_do_not_widen_the_network(small: Split) -> None:
    net = MLP([12, 5, 3])
    train(net, small, epochs=1, batch_size=int(np.int64(32)), learning_rate=np.float64(0.5))
    same = MLP([12, 5, 3])
    train(same, small, epochs=1, batch_size=32, learning_rate=0.5)
    assert_same_bits(net, same)


@pytest.mark.parametrize("when", ["in an epoch", "in the callback"])
def test_an_interrupted_run_leaves_the_network_of_the_last_finished_epoch(
    small: Split, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    finished = MLP([12, 5, 3])
    train(finished, small, epochs=2, batch_size=32, learning_rate=0.5, engine="plain")

    calls = 0

    def interrupting(xp: Any, weights: Any, biases: Any, X: Array, Y: Array, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if when == "in an epoch" and calls == 2 * 7 + 4:
            raise KeyboardInterrupt
        return backpropagate(xp, weights, biases, X, Y, **options)

    def on_epoch(so_far: History) -> None:
        if when == "in the callback" and len(so_far.epochs) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("gpunn.engines.plain.backpropagate", interrupting)
    net = MLP([12, 5, 3])
    with pytest.raises(KeyboardInterrupt):
        train(net, small, epochs=9, batch_size=32, learning_rate=0.5, engine="plain", on_epoch=on_epoch)
    assert_same_bits(net, finished)


def test_training_that_diverges_stops_and_suggests_a_rate(small: Split) -> None:
    net, untouched = MLP([12, 5, 3]), MLP([12, 5, 3])
    with pytest.raises(DivergenceError, match=r"diverged in epoch 1 .* with learning rate 1e\+300: try 1$"):
        train(net, small, epochs=5, batch_size=10, learning_rate=1e300)
    assert_same_bits(net, untouched)


@pytest.mark.parametrize("engine", ["plain", "epoch", "fused"])
@pytest.mark.parametrize("optimizer", [SGD(), SGD(0.9), SGD(0.9, nesterov=True), Adam(), Adam(decoupled=True)], ids=str)
def test_numbers_beyond_float32_diverge_without_a_warning(engine: str, optimizer: Optimizer, small: Split) -> None:
    how: dict[str, Any] = {"optimizer": optimizer, "engine": engine, "device": "cpu"}
    for numbers in ({"learning_rate": 1e300}, {"learning_rate": 0.1, "l2": 1e300}):
        with pytest.raises(DivergenceError, match="training diverged in epoch 1"):
            train(MLP([12, 5, 3]), small, epochs=1, batch_size=10, **how | numbers)


def test_divergence_in_the_very_last_step_is_found_too(small: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    def overflowing(xp: Any, weights: Any, biases: Any, X: Array, Y: Array, **options: Any) -> Any:
        loss, dW, db = backpropagate(xp, weights, biases, X, Y, **options)
        return loss, [np.full_like(d, np.inf) for d in dW], db

    monkeypatch.setattr("gpunn.engines.plain.backpropagate", overflowing)
    with pytest.raises(DivergenceError, match=r"epoch 1 \(loss 0\.\d+, or non-finite parameters\)"):
        train(MLP([12, 3]), small, epochs=1, batch_size=200, learning_rate=0.05, engine="plain")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"epochs": 0}, ConfigurationError, "epochs must be an integer >= 1, got 0"),
        ({"epochs": 1.5}, ConfigurationError, "epochs must be an integer >= 1, got 1.5"),
        ({"batch_size": 0}, ConfigurationError, "batch_size must be an integer >= 1, got 0"),
        (
            {"batch_size": 201},
            ConfigurationError,
            "batch_size must be at most 200, the number of training examples, got 201",
        ),
        ({"learning_rate": 0}, ConfigurationError, "learning_rate must be a finite number > 0, got 0"),
        ({"learning_rate": -1.0}, ConfigurationError, "learning_rate must be a finite number > 0, got -1.0"),
        ({"learning_rate": "1"}, ConfigurationError, "learning_rate must be a finite number > 0, got '1'"),
        ({"learning_rate": math.nan}, ConfigurationError, "learning_rate must be a finite number > 0, got nan"),
        ({"learning_rate": math.inf}, ConfigurationError, "learning_rate must be a finite number > 0, got inf"),
        ({"seed": -1}, ConfigurationError, "seed must be an integer >= 0, got -1"),
        ({"engine": "warp"}, ConfigurationError, "engine must be one of auto, plain, fused, epoch, got 'warp'"),
        ({"device": "tpu"}, ConfigurationError, "device must be auto, cpu, cuda or cuda:N, got 'tpu'"),
        ({"test": random_split(5, 13, 3)}, DataError, "found images of 13 pixels, the network expects 12"),
        ({"test": random_split(50, 12, 4)}, DataError, "found the label 3, expected 0 to 2 for 3 classes"),
    ],
)
def test_bad_arguments_are_refused_before_anything_changes(
    small: Split, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    net, untouched = MLP([12, 5, 3]), MLP([12, 5, 3])
    with pytest.raises(error, match=message):
        train(net, small, **(RECIPE | change))
    assert_same_bits(net, untouched)


def test_a_dataset_is_trained_on_and_tested_but_not_evaluated(small: Split, mnist: Dataset) -> None:
    whole, parts = MLP([12, 5, 3]), MLP([12, 5, 3])
    history = train(whole, Dataset(small, small[:50]), **RECIPE)
    assert history.accuracies == train(parts, small, test=small[:50], **RECIPE).accuracies
    assert_same_bits(whole, parts)
    with pytest.raises(DataError, match="found a Dataset, expected a Split"):
        evaluate(MLP([784, 10]), mnist)  # type: ignore[arg-type]


def test_images_and_labels_must_fit_the_network(small: Split) -> None:
    with pytest.raises(DataError, match="found images of 12 pixels, the network expects 784"):
        train(MLP([784, 3]), small, **RECIPE)
    with pytest.raises(DataError, match="found the label 2, expected 0 to 1 for 2 classes"):
        train(MLP([12, 2]), small, **RECIPE)


@pytest.mark.parametrize(
    "split",
    [
        random_split(1, 12, 3),
        Split(np.zeros((50, 12), np.uint8), np.arange(50, dtype=np.uint8) % 3),
        Split(random_split(50, 12, 3).images, np.ones(50, np.uint8)),
    ],
    ids=["one image", "dark images", "one class"],
)
def test_odd_data_trains(split: Split) -> None:
    net = MLP([12, 5, 3])
    history = train(net, split, epochs=20, batch_size=1, learning_rate=0.5, test=split)
    assert history.losses[-1] < history.losses[0]


@pytest.mark.parametrize("engine", ["plain", "fused", "epoch"])
def test_label_smoothing_trains_on_rows_of_targets(engine: str) -> None:
    split = random_split(40, 12, 3)
    rows = np.full((40, 3), 0.3 / 3)
    rows[np.arange(40), split.labels] += 0.7
    found = []
    for data, share in ((split, 0.3), (Split(split.images, rows), 0.0)):
        net = MLP((12, 5, 3), output="softmax", seed=1)
        history = train(net, data, epochs=2, batch_size=7, engine=engine, device="cpu", label_smoothing=share)
        found.append([*net.weights, *net.biases, np.array(history.losses)])
    for mine, other in zip(*found, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-6)


def test_label_smoothing_of_one_output_goes_halfway() -> None:
    found = smoothed(np.array([[0.0], [1.0]]), 1, 0.2, np.float64)
    np.testing.assert_allclose(found, [[0.1], [0.9]])


def test_evaluations_know_no_label_smoothing() -> None:
    split = random_split(40, 12, 3)
    net = MLP((12, 5, 3), output="softmax", seed=1)
    history = train(net, split, epochs=1, test=split, device="cpu", label_smoothing=0.3)
    evaluation = history.epochs[0].test
    assert evaluation is not None
    assert evaluate(net, split, device="cpu").loss == pytest.approx(evaluation.loss)
    assert history.to_dict()["label_smoothing"] == 0.3


@pytest.mark.parametrize(
    ("data", "share", "message"),
    [
        (random_split(40, 12, 3), 1, "label_smoothing must be a finite number >= 0 and < 1, got 1"),
        (Split(np.zeros((4, 12)), np.ones((4, 3))), 0.1, "label_smoothing needs labels that are classes"),
    ],
)
def test_label_smoothing_out_of_place_is_refused(data: Split, share: float, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        train(MLP((12, 5, 3)), data, label_smoothing=share)
