"""The reference kernels: put together they are back-propagation, and what breaks their contract is refused."""

from typing import Any

import numpy as np
import pytest

from gpunn import MLP
from gpunn.equations import backpropagate
from gpunn.kernels import reference

from .conftest import random_split


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("m", [1, 7, 32])
def test_the_kernels_make_a_step_of_backpropagation(dtype: Any, m: int) -> None:
    split = random_split(40, 12, 3)
    net = MLP([12, 5, 3], seed=1, dtype=dtype)
    rows = np.random.default_rng(0).permutation(40)[:m]

    X = np.empty((m, 12), dtype)
    reference.gather_scale(split.images, rows, out=X)
    hidden = X @ net.weights[0].T
    reference.bias_sigmoid(hidden, net.biases[0], out=hidden)
    output = hidden @ net.weights[1].T
    reference.bias_sigmoid(output, net.biases[1], out=output)
    total = np.zeros(1)
    delta2 = np.empty_like(output)
    reference.output_delta(output, split.labels[rows], total, out=delta2)
    delta1 = delta2 @ net.weights[1]
    reference.hidden_delta(delta1, hidden, out=delta1)
    stepped = net.weights[0].copy()
    reference.descend(stepped, np.ascontiguousarray(delta1.T @ X), 0.5, out=stepped)

    Y = np.eye(3, dtype=dtype)[split.labels[rows]]
    loss, dW, db = backpropagate(np, net.weights, net.biases, split.images[rows].astype(dtype) / 255, Y)
    close: dict[str, Any] = {"rtol": 0, "atol": 8 * float(np.finfo(dtype).eps)}
    assert total[0] / m == pytest.approx(float(loss), rel=1e-6)
    np.testing.assert_allclose(delta2.T @ hidden, dW[1], **close)
    np.testing.assert_allclose(delta2.sum(axis=0), db[1], **close)
    np.testing.assert_allclose(delta1.T @ X, dW[0], **close)
    np.testing.assert_allclose(stepped, net.weights[0] - 0.5 * dW[0], **close)


def call(name: str, **change: Any) -> None:
    """Call a kernel with good arguments but for `change`."""
    floats = np.zeros((4, 3), np.float32)
    good: dict[str, dict[str, Any]] = {
        "gather_scale": {"images": np.zeros((9, 3), np.uint8), "rows": np.zeros(4, np.int64)},
        "bias_sigmoid": {"z": floats.copy(), "bias": np.zeros(3, np.float32)},
        "output_delta": {"activation": floats.copy(), "labels": np.zeros(4, np.uint8), "total": np.zeros(1)},
        "hidden_delta": {"delta": floats.copy(), "activation": floats.copy()},
        "descend": {"parameter": floats.copy(), "gradient": floats.copy(), "learning_rate": 1.0},
    }
    getattr(reference, name)(**({"out": floats.copy()} | good[name] | change))


@pytest.mark.parametrize("name", ["gather_scale", "bias_sigmoid", "output_delta", "hidden_delta", "descend"])
def test_good_arguments_are_taken(name: str) -> None:
    call(name)
    call(name, out=np.zeros((4, 3), np.float32))


SHARED = np.zeros((4, 3), np.float32)


@pytest.mark.parametrize(
    ("name", "change", "error", "message"),
    [
        (
            "gather_scale",
            {"images": np.zeros((9, 3), np.float32)},
            TypeError,
            "dtype float32, expected uint8",
        ),
        ("gather_scale", {"images": np.zeros((9, 4), np.uint8)}, ValueError, r"shape \(9, 4\), expected \(9, 3\)"),
        ("gather_scale", {"rows": np.zeros(4, np.int32)}, TypeError, "rows of dtype int32, expected int64"),
        ("gather_scale", {"rows": np.array([0, 1, 2, 9])}, IndexError, "found rows from 0 to 9, expected 0 to 8"),
        ("gather_scale", {"rows": np.array([0, -1, 2, 3])}, IndexError, "found rows from -1 to 3"),
        ("gather_scale", {"out": np.zeros((4, 3), np.float16)}, TypeError, "out of float16, expected a float32"),
        ("bias_sigmoid", {"z": np.zeros((4, 3))}, TypeError, "z of dtype float64, expected float32"),
        ("bias_sigmoid", {"z": np.zeros((3, 4), np.float32).T}, ValueError, "expected a C-contiguous array"),
        ("bias_sigmoid", {"bias": [0.0, 0.0, 0.0]}, TypeError, "bias of type list, expected a NumPy array"),
        ("bias_sigmoid", {"out": SHARED, "bias": SHARED[0]}, ValueError, "out overlapping an input"),
        ("bias_sigmoid", {"out": np.zeros(3, np.float32)}, ValueError, "expected 2 dimensions"),
        ("output_delta", {"labels": np.array([0, 1, 2, 3], np.uint8)}, IndexError, "index 3 is out of bounds"),
        ("output_delta", {"total": np.zeros(1, np.float32)}, TypeError, "total of dtype float32, expected float64"),
        ("hidden_delta", {"out": SHARED, "activation": SHARED}, ValueError, "out overlapping an input"),
        ("hidden_delta", {"out": np.zeros((4, 6), np.float32)[:, ::2]}, ValueError, "not C-contiguous"),
        ("descend", {"gradient": np.zeros((4, 4), np.float32)}, ValueError, r"gradient of shape \(4, 4\)"),
    ],
)
def test_what_breaks_the_contract_is_refused(
    name: str, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(name, **change)


def test_sigmoid_saturates_in_silence_and_keeps_nan() -> None:
    z = np.array([[-np.inf, -1e38, 0, 1e38, np.inf, np.nan]], np.float32)
    reference.bias_sigmoid(z, np.zeros(6, np.float32), out=z)
    np.testing.assert_array_equal(z, np.array([[0, 0, 0.5, 1, 1, np.nan]], np.float32))
