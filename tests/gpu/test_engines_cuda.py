"""The `plain` engine and evaluation on a GPU, held to the CPU."""

import math
from typing import Any

import numpy as np
import pytest

from gpunn import MLP, Backend, Dataset, DeviceError, devices, evaluate, train

from ..conftest import parameters

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("batch_size", [1, 7, 32, 1000, 3000])
@pytest.mark.parametrize("sizes", [(784, 10), (784, 16, 10), (784, 37, 11, 10)], ids=str)
def test_an_epoch_on_the_gpu_follows_float64_on_the_cpu(
    gpu: Backend, mnist: Dataset, sizes: tuple[int, ...], batch_size: int
) -> None:
    split = mnist.train[:3000]
    on_gpu, exact = MLP(sizes), MLP(sizes, dtype=np.float64)
    # Online learning in large steps is chaotic: it magnifies every rounding.
    recipe: dict[str, Any] = {"epochs": 1, "batch_size": batch_size, "learning_rate": 0.02 if batch_size == 1 else 0.5}
    history = train(on_gpu, split, **recipe, device=gpu)
    expected = train(exact, split, **recipe, device="cpu")
    # Roundings of sums over a few hundred lit pixels, walking at random from step to step.
    tolerance = float(np.finfo(np.float32).eps) * (30 + math.sqrt(3000 / batch_size))
    for ours, theirs in zip(parameters(on_gpu), parameters(exact), strict=True):
        assert ours.dtype == np.float32
        assert np.abs(ours - theirs).max() <= tolerance * max(1, np.abs(theirs).max())
    assert history.losses == pytest.approx(expected.losses, rel=tolerance)
    assert history.device == gpu.name


def test_evaluation_agrees_with_the_cpu(gpu: Backend, mnist: Dataset) -> None:
    net = MLP([784, 16, 10])
    train(net, mnist.train[:6000], epochs=1, batch_size=32, learning_rate=1.0, device="cpu")
    ours, theirs = evaluate(net, mnist.test, device=gpu), evaluate(net, mnist.test, device="cpu")
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
    # Two outputs may be so close that rounding decides.
    assert np.abs(ours.confusion - theirs.confusion).sum() <= 4


def test_the_same_seed_gives_the_same_bits_twice(gpu: Backend, mnist: Dataset) -> None:
    first, second = MLP([784, 16, 10]), MLP([784, 16, 10])
    for net in (first, second):
        train(net, mnist.train[:6000], epochs=1, batch_size=32, learning_rate=1.0, device=gpu)
    for ours, theirs in zip(parameters(first), parameters(second), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_full_training_reaches_its_accuracy(gpu: Backend, mnist: Dataset) -> None:
    net = MLP([784, 16, 10])
    recipe: dict[str, Any] = {"epochs": 15, "batch_size": 32, "learning_rate": 1.0}
    history = train(net, mnist.train, **recipe, test=mnist.test, device=gpu)
    assert history.accuracies[-1] >= 0.94


def test_running_out_of_memory_is_one_line(gpu: Backend) -> None:
    with pytest.raises(DeviceError, match="is out of memory"), gpu.activate():
        gpu.xp.empty(2**50, np.uint8)


def test_the_gpu_describes_itself(gpu: Backend) -> None:
    status = next(status for status in devices() if status.name == gpu.name)
    assert status.usable
    assert set(status.description) == {"name", "compute capability", "memory", "driver", "runtime", "cupy"}
