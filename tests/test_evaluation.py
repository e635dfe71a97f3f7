from typing import Any

import numpy as np
import pytest

from gpunn import MLP, DataError, Dataset, DivergenceError, Evaluation, Split, evaluate, evaluation, get_backend, train
from gpunn.backends.cuda import CudaBackend
from gpunn.engines.base import Parameters
from gpunn.engines.cpu.first_layer import SparseImages
from gpunn.equations import Array, Pass
from gpunn.evaluation import evaluate_on_device, inputs_on_device

from .conftest import random_split
from .strict_cupy import StrictCupy


def test_evaluation_counts_every_image(small: Split) -> None:
    net = MLP([12, 5, 3], seed=2)
    result = evaluate(net, small)
    predicted = net.predict(small.images)
    expected = np.zeros((3, 3), int)
    for label, guess in zip(small.labels, predicted, strict=True):
        expected[label, guess] += 1
    np.testing.assert_array_equal(result.confusion, expected)
    assert result.accuracy == np.mean(predicted == small.labels)
    squared = (net.feedforward(small.images) - np.eye(3)[small.labels]) ** 2
    assert result.loss == pytest.approx(squared.sum(axis=1).mean(), rel=1e-6)


def test_chunks_do_not_change_the_result(small: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    net = MLP([12, 5, 3])
    whole = evaluate(net, small)
    for chunk in (1, 7, 199, 200):
        monkeypatch.setattr(evaluation, "CHUNK_ON_CPU", chunk)
        result = evaluate(net, small)
        np.testing.assert_array_equal(result.confusion, whole.confusion)
        assert result.loss == pytest.approx(whole.loss, rel=1e-6)


def test_the_cuda_backends_code_path_gives_the_same(small: Split) -> None:
    net = MLP([12, 5, 3])
    cpu, gpu = evaluate(net, small, device="cpu"), evaluate(net, small, device=CudaBackend(StrictCupy(), 0))
    assert gpu.to_dict() == cpu.to_dict()
    assert type(gpu.confusion) is np.ndarray


@pytest.mark.parametrize(
    ("sizes", "options"),
    [
        ((784, 10), {"output": "softmax"}),
        ((784, 16, 10), {}),
        ((784, 70, 10), {"hidden": "tanh"}),
        ((784, 33, 20, 10), {"hidden": "relu", "output": "softmax"}),
    ],
)
def test_sparse_images_give_the_same_to_rounding(mnist: Dataset, sizes: tuple[int, ...], options: Any) -> None:
    net, split, cpu = MLP(sizes, **options), mnist.test[:2500], get_backend("cpu")
    images = inputs_on_device(cpu, split.images, compiled=True)
    assert isinstance(images, SparseImages)
    for part in (slice(None), slice(1000, 1777), slice(2499, None), slice(7, 7)):
        X = split.images[part].astype(np.float64) / 255
        np.testing.assert_allclose(images[part] @ net.weights[0].T, X @ net.weights[0].T, rtol=0, atol=1e-5)
    loss = "cross_entropy" if options.get("output") == "softmax" else "squared_error"
    found = evaluate_on_device(cpu, Parameters(net.weights, net.biases, net.functions), images, split.labels, loss)
    expected = evaluate(net, split, device="cpu")
    assert found.loss == pytest.approx(expected.loss, rel=1e-6)
    np.testing.assert_array_equal(found.confusion, expected.confusion)


def test_images_that_are_dense_or_floats_stay_arrays(mnist: Dataset) -> None:
    cpu, images = get_backend("cpu"), mnist.test.images[:100]
    for inputs, compiled in ((255 - images, True), (images / np.float32(255), True), (images, False)):
        assert inputs_on_device(cpu, inputs, compiled=compiled) is inputs
    assert isinstance(inputs_on_device(cpu, images, compiled=True), SparseImages)


@pytest.mark.parametrize("engine", ["epoch", "fused", "plain"])
def test_training_evaluates_as_evaluate_does(mnist: Dataset, engine: str) -> None:
    net, data = MLP([784, 16, 10]), Dataset(mnist.train[:3000], mnist.test[:1100])
    (epoch,) = train(net, data, epochs=1, device="cpu", engine=engine).epochs
    for found, split in ((epoch.test, data.test), (epoch.train, data.train)):
        assert found is not None
        expected = evaluate(net, split, device="cpu")
        assert found.loss == pytest.approx(expected.loss, rel=1e-6)
        np.testing.assert_array_equal(found.confusion, expected.confusion)


def test_data_must_fit_the_network() -> None:
    with pytest.raises(DataError, match="the network expects 12"):
        evaluate(MLP([12, 3]), random_split(4, 13, 3))
    with pytest.raises(DataError, match="expected 0 to 1 for 2 classes"):
        evaluate(MLP([12, 2]), random_split(40, 12, 3))


def test_a_network_whose_outputs_are_no_numbers_is_named(small: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whether sums of huge weights end as inf - inf depends on the order in which a BLAS adds.
    def propagate(xp: Any, weights: Any, biases: Any, X: Array, **_: Any) -> Pass:
        output = np.full((len(X), 3), np.nan, np.float32)
        return Pass([output], [], output)

    monkeypatch.setattr(evaluation, "propagate", propagate)
    with pytest.raises(DivergenceError, match="the loss is nan, as the network's weights are too large"):
        evaluate(MLP([12, 3]), small, device="cpu")


def test_an_evaluation_shows_itself_in_one_line() -> None:
    shown = repr(Evaluation(0.25, np.array([[3, 1], [0, 4]])))
    assert shown == "Evaluation: loss 0.2500, accuracy 87.50% of 8"
