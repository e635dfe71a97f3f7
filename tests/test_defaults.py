"""Default learning rates: every network that the guide offers learns, and one that doesn't gets a warning."""

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from gpunn import MLP, SGD, Adam, Dataset, Split, train
from gpunn.defaults import default_learning_rate
from gpunn.engines.threads import blas_threads
from gpunn.guessing import Guessing
from gpunn.optimizers import OPTIMIZERS

from .default_rates import BAR, Combination, combinations

OFFERED = list(dict.fromkeys(combinations()))
QUICK = [row for row in OFFERED if sum(row.hidden) <= 64 and row.batch_size >= 32]

LESS = 0.1
"""Loss of accuracy from training on a sixth of the images, for fewer epochs: a rate that is wrong loses far more."""


def name_of(row: Combination) -> str:
    return "-".join(
        map(
            str,
            (*row.sizes, row.activation, row.output, row.loss, row.init, row.optimizer, row.schedule, row.batch_size),
        )
    )


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Keep BLAS to one thread: its threads spin, and the other processes of the tests need the cores."""
    with blas_threads(1):
        yield


@pytest.fixture(scope="module")
def part(mnist: Dataset) -> Dataset:
    return Dataset(mnist.train[:10_000], mnist.test[:2000])


@pytest.mark.parametrize("row", QUICK, ids=name_of)
def test_the_default_rate_teaches_every_combination_that_is_offered(part: Dataset, row: Combination) -> None:
    epochs = 15 if row.batch_size > 32 or row.init == "normal" else 6  # few steps, and a slow start
    assert row.train(part, epochs=epochs, engine="plain") >= row.bar - LESS


@pytest.mark.parametrize("hidden", [300, 512, 1024])
@pytest.mark.parametrize(("activation", "output"), [("sigmoid", "sigmoid"), ("tanh", "identity"), ("relu", "softmax")])
def test_the_default_rate_bears_wide_layers(mnist: Dataset, hidden: int, activation: str, output: str) -> None:
    row = Combination((hidden,), activation, output)
    # A few steps suffice to saturate what a rate that is too high saturates.
    found = row.train(Dataset(mnist.train[:4000], mnist.test[:1000]), epochs=2, engine="plain")
    assert found >= 0.4


def test_the_textbooks_network_keeps_its_rate() -> None:
    assert default_learning_rate((784, 16, 10), ("sigmoid", "sigmoid"), "squared_error", SGD()) == 1.0


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_rates_have_one_digit_and_leave_room_for_momentum(optimizer: Any) -> None:
    for n in (1, 7, 16, 100, 1000, 100_000):
        rate = default_learning_rate((784, n, 10), ("sigmoid", "sigmoid"), "squared_error", optimizer)
        assert f"{rate:.0e}"[0] in "125"
        assert float(f"{rate:.0e}") == pytest.approx(rate)
        plain = default_learning_rate((784, n, 10), ("sigmoid", "sigmoid"), "squared_error", SGD())
        assert rate == 1e-3 if isinstance(optimizer, Adam) else rate <= plain * (1 - optimizer.momentum) * (1 + 1e-9)


def test_training_takes_the_defaults_of_the_command_line(small: Split) -> None:
    recipe = train(MLP([12, 5, 3]), small, epochs=1).recipe
    assert (recipe.batch_size, recipe.learning_rate) == (32, 1.0)
    assert train(MLP([12, 5, 3]), small[:5], epochs=1).recipe.batch_size == 5
    assert len(train(MLP([12, 5, 3]), small).epochs) == 15


def test_names_of_optimisers_and_schedules_are_taken(small: Split) -> None:
    recipe = train(MLP([12, 5, 3]), small, epochs=1, optimizer="adam", schedule="step:3,0.5").recipe
    assert recipe.to_dict()["optimizer"]["name"] == "Adam"
    assert recipe.to_dict()["schedule"] == {"name": "Steps", "every": 3, "by": 0.5}
    assert recipe.learning_rate == 0.001


def test_a_network_that_guesses_is_warned_of_once(mnist: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    history = train(MLP([784, 512, 10]), Dataset(mnist.train[:10_000], mnist.test[:500]), epochs=3, learning_rate=1.0)
    (warning,) = history.warnings
    assert warning.startswith("after epoch 1, the network does no better than guessing (test accuracy ")
    assert warning.endswith("learning rate 1): try learning rate 0.1")
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [warning]
    assert history.to_dict()["warnings"] == [warning]


def test_a_loss_that_does_not_fall_is_warned_of_without_a_test_set(mnist: Dataset) -> None:
    split = mnist.train[:4000]
    (warning,) = train(MLP([784, 16, 10]), split, epochs=2, learning_rate=1e-7).warnings
    assert "no better than guessing (loss " in warning
    assert warning.endswith("try learning rate 1")
    assert train(MLP([784, 16, 10]), split[:50], epochs=1, learning_rate=1e-7).warnings != []
    assert train(MLP([784, 16, 10]), split, epochs=2).warnings == []


def test_a_network_that_learns_is_not_warned_of(mnist: Dataset) -> None:
    part = Dataset(mnist.train[:10_000], mnist.test[:1000])
    for hidden in (16, 128):
        assert train(MLP([784, hidden, 10]), part, epochs=1).warnings == []


@pytest.mark.parametrize("loss", ["squared_error", "binary_cross_entropy", "cross_entropy"])
def test_guessing_is_the_loss_of_the_best_constant_answer(loss: str) -> None:
    labels = np.repeat(np.arange(3, dtype=np.uint8), [5, 3, 2])
    net = MLP([4, 3], output="softmax" if loss == "cross_entropy" else "sigmoid")
    p = np.array([0.5, 0.3, 0.2])
    net.weights[0][:] = 0
    net.biases[0][:] = np.log(p) if loss == "cross_entropy" else np.log(p / (1 - p))
    from gpunn import evaluate

    found = evaluate(net, Split(np.zeros((10, 4), np.uint8), labels), loss=loss)
    by_label = Guessing.on(labels, 3, loss)
    by_row = Guessing.on(np.eye(3, dtype=np.float32)[labels], 3, loss)
    assert (by_label.loss, by_label.accuracy) == pytest.approx((found.loss, found.accuracy), rel=1e-6)
    assert by_row.loss == pytest.approx(found.loss, rel=1e-6)


def test_the_table_has_the_bar_of_nine_in_ten_but_for_least_squares() -> None:
    below = [row for row in OFFERED if row.bar < BAR]
    assert [(row.activation, row.output) for row in below] == [("identity", end) for end in ("tanh", "elu", "identity")]


def test_a_toy_that_learns_late_is_not_warned_of() -> None:
    xor = Split([[0, 0], [0, 1], [1, 0], [1, 1]], [[0], [1], [1], [0]])
    for seed in range(2):
        net = MLP([2, 4, 1], seed=seed)
        assert train(net, xor, epochs=3000, learning_rate=3, seed=seed).warnings == []
        assert net.predict(xor.images).tolist() == [0, 1, 1, 0]


def test_data_of_one_class_is_no_reason_to_warn(mnist: Dataset) -> None:
    split = Split(mnist.train.images[:3000], np.zeros(3000, np.uint8))
    assert train(MLP([784, 16, 10]), split, epochs=3).warnings == []


def test_advice_for_a_suited_rate_names_no_other(mnist: Dataset) -> None:
    (warning,) = train(MLP([784, 64, 10]), mnist.train, epochs=1, batch_size=60_000).warnings
    assert warning.endswith("learning rate 1): try more epochs or smaller batches")
