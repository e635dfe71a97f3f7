from typing import Any

import numpy as np
import pytest

from gpunn import MLP, DataError, DivergenceError, Evaluation, Split, evaluate, evaluation
from gpunn.backends.cuda import CudaBackend
from gpunn.equations import Array, Pass

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
