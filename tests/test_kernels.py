"""The kernels, reference and compiled: together they are back-propagation; what breaks their contract is refused."""

import inspect
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpunn import MLP
from gpunn.equations import backpropagate
from gpunn.kernels import cpu, reference

from .conftest import random_split

KERNELS = ["gather_scale", "bias_sigmoid", "output_delta", "hidden_delta", "descend", "descend_sums"]

either = pytest.mark.parametrize("kernels", [reference, cpu], ids=["reference", "cpu"])


@pytest.mark.parametrize(("kernels", "dtype"), [(reference, np.float32), (reference, np.float64), (cpu, np.float32)])
@pytest.mark.parametrize("m", [1, 7, 32])
def test_the_kernels_make_a_step_of_backpropagation(kernels: Any, dtype: Any, m: int) -> None:
    split = random_split(40, 12, 3)
    net = MLP([12, 5, 3], seed=1, dtype=dtype)
    rows = np.random.default_rng(0).permutation(40)[:m]

    X = np.empty((m, 12), dtype)
    kernels.gather_scale(split.images, rows, out=X)
    hidden = X @ net.weights[0].T
    kernels.bias_sigmoid(hidden, net.biases[0], out=hidden)
    output = hidden @ net.weights[1].T
    kernels.bias_sigmoid(output, net.biases[1], out=output)
    total = np.zeros(1)
    delta2 = np.empty_like(output)
    kernels.output_delta(output, split.labels[rows], 2 / m, total, out=delta2)
    delta1 = delta2 @ net.weights[1]
    kernels.hidden_delta(delta1, hidden, out=delta1)
    stepped = net.weights[0].copy()
    kernels.descend(stepped, np.ascontiguousarray(delta1.T @ X), 0.5, out=stepped)
    stepped_bias = net.biases[0].copy()
    kernels.descend_sums(stepped_bias, delta1, 0.5, out=stepped_bias)

    Y = np.eye(3, dtype=dtype)[split.labels[rows]]
    loss, dW, db = backpropagate(np, net.weights, net.biases, split.images[rows].astype(dtype) / 255, Y)
    close: dict[str, Any] = {"rtol": 0, "atol": 8 * float(np.finfo(dtype).eps)}
    assert total[0] / m == pytest.approx(float(loss), rel=1e-6)
    np.testing.assert_allclose(delta2.T @ hidden, dW[1], **close)
    np.testing.assert_allclose(delta2.sum(axis=0), db[1], **close)
    np.testing.assert_allclose(delta1.T @ X, dW[0], **close)
    np.testing.assert_allclose(stepped, net.weights[0] - 0.5 * dW[0], **close)
    np.testing.assert_allclose(stepped_bias, net.biases[0] - 0.5 * db[0], **close)


def call(kernels: Any, name: str, **change: Any) -> None:
    """Call a kernel with good arguments but for `change`."""
    floats = np.zeros((4, 3), np.float32)
    good: dict[str, dict[str, Any]] = {
        "gather_scale": {"images": np.zeros((9, 3), np.uint8), "rows": np.zeros(4, np.int64)},
        "bias_sigmoid": {"z": floats.copy(), "bias": np.zeros(3, np.float32)},
        "output_delta": {
            "activation": floats.copy(),
            "labels": np.zeros(4, np.uint8),
            "factor": 0.5,
            "total": np.zeros(1),
        },
        "hidden_delta": {"delta": floats.copy(), "activation": floats.copy()},
        "descend": {"parameter": floats.copy(), "gradient": floats.copy(), "learning_rate": 1.0},
        "descend_sums": {"parameter": floats[0].copy(), "gradients": floats.copy(), "learning_rate": 1.0},
    }
    out = floats[0].copy() if name == "descend_sums" else floats.copy()
    getattr(kernels, name)(**({"out": out} | good[name] | change))


@either
@pytest.mark.parametrize("name", KERNELS)
def test_good_arguments_are_taken(kernels: Any, name: str) -> None:
    call(kernels, name)


def test_every_set_of_kernels_has_the_same_names_and_signatures() -> None:
    for name in KERNELS:
        ours, theirs = (inspect.signature(getattr(kernels, name)).parameters for kernels in (reference, cpu))
        assert [(p.name, p.kind) for p in ours.values()] == [(p.name, p.kind) for p in theirs.values()]


@st.composite
def arguments(draw: st.DrawFn, name: str) -> tuple[list[Any], np.ndarray]:
    """Draw arguments of a kernel, and its output."""
    m, n = draw(st.integers(0, 40)), draw(st.integers(1, 200))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([1e-3, 1.0, 30.0]))

    def floats(*shape: int) -> np.ndarray:
        return (scale * rng.normal(size=shape)).astype(np.float32)

    rate = draw(st.floats(1e-3, 10))
    drawn: dict[str, list[Any]] = {
        "gather_scale": [rng.integers(0, 256, (11, n), dtype=np.uint8), rng.integers(0, 11, m)],
        "bias_sigmoid": [floats(m, n), floats(n)],
        "output_delta": [floats(m, n), rng.integers(0, n, m, dtype=np.uint8), rate, np.array([1.5])],
        "hidden_delta": [floats(m, n), floats(m, n)],
        "descend": [floats(m, n), floats(m, n), rate],
        "descend_sums": [floats(n), floats(m, n), rate],
    }
    return drawn[name], floats(n) if name == "descend_sums" else floats(m, n)


@pytest.mark.parametrize("name", KERNELS)
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_compiled_kernels_do_what_the_reference_does(name: str, data: st.DataObject) -> None:
    given_arguments, out = data.draw(arguments(name))
    in_place = data.draw(st.booleans()) and name not in ("gather_scale", "output_delta")
    ours = [argument.copy() if isinstance(argument, np.ndarray) else argument for argument in given_arguments]
    exact = [
        argument.astype(np.float64) if getattr(argument, "dtype", None) == np.float32 else argument
        for argument in given_arguments
    ]
    expected = out.astype(np.float64)
    getattr(reference, name)(*exact, out=expected)
    target = ours[0] if in_place else out
    getattr(cpu, name)(*ours, out=target)
    # A result is rounded a few times, and a sum once a term; sigma is right to 2e-7 by itself.
    eps = float(np.finfo(np.float32).eps)
    if name == "descend_sums":
        exact_terms = np.abs(exact[0]) + exact[2] * np.abs(exact[1]).sum(axis=0)
        tolerance = eps * (len(exact[1]) + 2) * exact_terms
    elif name == "descend":
        tolerance = 2 * eps * (np.abs(exact[0]) + exact[2] * np.abs(exact[1]))
    elif name == "output_delta":
        # 1 - a and a - y may cancel.
        tolerance = 4 * eps * exact[2] * (np.abs(exact[0]) + 1) ** 2 * np.abs(exact[0])
    elif name == "hidden_delta":
        tolerance = 4 * eps * np.abs(exact[0]) * np.abs(exact[1]) * (np.abs(exact[1]) + 1)
    elif name == "bias_sigmoid":
        # The sum of z and the bias is rounded too; sigma is nowhere steeper than 1/4.
        tolerance = 2e-7 + eps * (np.abs(exact[0]) + np.abs(exact[1])) / 4
    else:
        tolerance = eps / 2 * np.ones(expected.shape)
    assert (np.abs(target - expected) <= tolerance).all()
    if name == "output_delta":
        np.testing.assert_allclose(ours[3], exact[3], rtol=1e-5)


@pytest.mark.parametrize("name", [name for name in KERNELS if name != "gather_scale"])
def test_compiled_kernels_refuse_float64(name: str) -> None:
    out = np.zeros(3) if name == "descend_sums" else np.zeros((4, 3))
    with pytest.raises(TypeError, match=r"^found out of float64, expected a float32 array$"):
        call(cpu, name, out=out)


@either
@pytest.mark.parametrize("name", KERNELS)
def test_an_empty_batch_is_no_work(kernels: Any, name: str) -> None:
    nothing = np.zeros((0, 3), np.float32)
    empty: dict[str, dict[str, Any]] = {
        "gather_scale": {"rows": np.zeros(0, np.int64)},
        "bias_sigmoid": {"z": nothing},
        "output_delta": {"activation": nothing, "labels": np.zeros(0, np.uint8)},
        "hidden_delta": {"delta": nothing, "activation": nothing},
        "descend": {"parameter": nothing, "gradient": nothing},
        "descend_sums": {"gradients": nothing},
    }
    change = empty[name] | ({} if name == "descend_sums" else {"out": nothing.copy()})
    call(kernels, name, **change)


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
        (
            "output_delta",
            {"labels": np.array([0, 1, 2, 3], np.uint8)},
            IndexError,
            "found labels from 0 to 3, expected 0 to 2",
        ),
        ("output_delta", {"total": np.zeros(1, np.float32)}, TypeError, "total of dtype float32, expected float64"),
        ("hidden_delta", {"out": SHARED, "activation": SHARED}, ValueError, "out overlapping an input"),
        ("hidden_delta", {"out": np.zeros((4, 6), np.float32)[:, ::2]}, ValueError, "not C-contiguous"),
        ("descend", {"gradient": np.zeros((4, 4), np.float32)}, ValueError, r"gradient of shape \(4, 4\)"),
        ("descend_sums", {"gradients": np.zeros((4, 4), np.float32)}, ValueError, r"gradients of shape \(4, 4\)"),
    ],
)
@either
def test_what_breaks_the_contract_is_refused(
    kernels: Any, name: str, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(kernels, name, **change)


@either
def test_sigmoid_saturates_in_silence_and_keeps_nan(kernels: Any) -> None:
    z = np.array([[-np.inf, -1e38, 0, 1e38, np.inf, np.nan]], np.float32)
    kernels.bias_sigmoid(z, np.zeros(6, np.float32), out=z)
    np.testing.assert_allclose(z, np.array([[0, 0, 0.5, 1, 1, np.nan]], np.float32), rtol=0, atol=2e-7)


def test_compiled_sigmoid_is_right_to_2e_7_for_every_kind_of_float32() -> None:
    bits = np.arange(0, 2**32, 997, dtype=np.uint64).astype(np.uint32)
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e38, -1e38, 1e-45, -1e-45], np.float32)
    z = np.concatenate([bits.view(np.float32), special])
    found = np.empty((1, len(z)), np.float32)
    cpu.bias_sigmoid(z[None], np.zeros(len(z), np.float32), out=found)
    with np.errstate(over="ignore", invalid="ignore"):
        exact = 1 / (1 + np.exp(-z.astype(np.float64)))
    np.testing.assert_array_equal(np.isnan(found[0]), np.isnan(z))
    number = ~np.isnan(z)
    assert np.abs(found[0] - exact)[number].max() <= 2e-7
    rising = found[0][number][np.argsort(z[number], kind="stable")].astype(np.float64)
    assert (rising - np.maximum.accumulate(rising)).min() >= -2.4e-7
    assert rising.min() >= 0
    assert rising.max() <= 1
