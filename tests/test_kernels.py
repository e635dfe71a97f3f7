"""The kernels, oracle and compiled: together they are back-propagation; what breaks their contract is refused."""

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpunn import MLP
from gpunn.dropout import mask
from gpunn.equations import backpropagate
from gpunn.kernels.cpu import contract as cpu
from gpunn.kernels.formulas.activations import ACTIVATIONS

from . import oracle
from .conftest import random_split
from .kernel_cases import CASES, NAMES, ONCE, Case, check

OF_COLUMNS = ("column_sums", "descend_sums")
"""Whose output is one number a column."""

either = pytest.mark.parametrize("kernels", [oracle, cpu], ids=["oracle", "cpu"])


@pytest.mark.parametrize(("kernels", "dtype"), [(oracle, np.float32), (oracle, np.float64), (cpu, np.float32)])
@pytest.mark.parametrize("m", [1, 7, 32])
def test_the_kernels_make_a_step_of_backpropagation(kernels: Any, dtype: Any, m: int) -> None:
    split = random_split(40, 12, 3)
    net = MLP([12, 5, 3], seed=1, dtype=dtype)
    rows = np.random.default_rng(0).permutation(40)[:m]

    X = np.empty((m, 12), dtype)
    kernels.gather_scale(split.images, rows, out=X)
    hidden = X @ net.weights[0].T
    kernels.bias_activate(hidden, net.biases[0], out=hidden)
    output = hidden @ net.weights[1].T
    kernels.bias_activate(output, net.biases[1], out=output)
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


def good_arguments(name: str) -> dict[str, Any]:
    """Return arguments that a kernel takes."""
    floats, row = np.zeros((4, 3), np.float32), np.zeros(3, np.float32)
    stepped = {"parameter": floats.copy(), "gradient": floats.copy(), "learning_rate": 1.0}
    good: dict[str, dict[str, Any]] = {
        "gather_scale": {"images": np.zeros((9, 3), np.uint8), "rows": np.zeros(4, np.int64)},
        "bias_activate": {"z": floats.copy(), "bias": row.copy()},
        "hidden_delta": {"delta": floats.copy(), "activations": floats.copy()},
        "output_delta": {
            "output": floats.copy(),
            "targets": np.zeros(4, np.uint8),
            "factor": 0.5,
            "total": np.zeros(1),
        },
        "drop": {"activations": floats.copy(), "key": 5, "first": 0, "share": 0.5},
        "descend": stepped,
        "descend_sums": {"parameter": row.copy(), "gradients": floats.copy(), "learning_rate": 1.0},
        "column_sums": {"rows": floats.copy()},
        "momentum_step": stepped | {"velocity": floats.copy(), "momentum": 0.9},
        "adam_step": stepped
        | {"mean": floats.copy(), "square": floats.copy(), "root": 1.0, "beta1": 0.9, "beta2": 0.9, "epsilon": 1.0},
    }
    return {"out": row.copy() if name in OF_COLUMNS else floats.copy()} | good[name]


def call(kernels: Any, name: str, **change: Any) -> None:
    """Call a kernel with good arguments but for `change`."""
    getattr(kernels, name)(**(good_arguments(name) | change))


@either
@pytest.mark.parametrize("name", NAMES)
def test_good_arguments_are_taken(kernels: Any, name: str) -> None:
    call(kernels, name)


def test_every_kernel_of_the_oracle_is_compiled_with_its_signature() -> None:
    def signatures(names: Iterable[str], module: Any) -> dict[str, Any]:
        functions = {name: inspect.signature(getattr(module, name)).parameters.values() for name in names}
        return {name: [(p.name, p.kind, p.default) for p in found] for name, found in functions.items()}

    theirs = {name for name, value in vars(oracle).items() if inspect.isfunction(value) and name[0] != "_"}
    theirs = {name for name in theirs if getattr(oracle, name).__module__ == oracle.__name__}
    assert theirs == set(NAMES) == set(cpu.__all__)
    assert signatures(NAMES, cpu) == signatures(NAMES, oracle)


def run(name: str, *arguments: Any, out: np.ndarray, in_place: bool) -> list[Any]:
    target = arguments[0] if in_place else out
    getattr(cpu, name)(*arguments, out=target)
    return [target, *arguments]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_compiled_kernels_do_what_the_oracle_does(case: Case) -> None:
    for m, n in ((1, 1), (3, 5), (33, 2), (9, 16), (2, 33), (40, 130), (7, 255)):
        check(case, run, m, n)
        if case.name not in ONCE:
            check(case, run, m, n, in_place=True)


@given(m=st.integers(1, 40), n=st.integers(1, 200), in_place=st.booleans(), data=st.data())
@settings(deadline=None, max_examples=200)
def test_compiled_kernels_do_what_the_oracle_does_at_any_shape(
    m: int, n: int, in_place: bool, data: st.DataObject
) -> None:
    case = data.draw(st.sampled_from(CASES))
    check(case, run, m, n, in_place=in_place and case.name not in ONCE)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "gather_scale"])
def test_compiled_kernels_refuse_float64(name: str) -> None:
    out = np.zeros(3) if name in OF_COLUMNS else np.zeros((4, 3))
    with pytest.raises(TypeError, match=r"^found out of float64, expected a float32 array$"):
        call(cpu, name, out=out)


@either
@pytest.mark.parametrize("name", NAMES)
def test_an_empty_batch_is_no_work(kernels: Any, name: str) -> None:
    nothing = np.zeros((0, 3), np.float32)
    empty: dict[str, dict[str, Any]] = {
        "gather_scale": {"rows": np.zeros(0, np.int64)},
        "bias_activate": {"z": nothing},
        "output_delta": {"output": nothing, "targets": np.zeros(0, np.uint8)},
        "hidden_delta": {"delta": nothing, "activations": nothing},
        "drop": {"activations": nothing},
        "descend": {"parameter": nothing, "gradient": nothing},
        "descend_sums": {"gradients": nothing},
        "column_sums": {"rows": nothing},
        "momentum_step": {"parameter": nothing, "gradient": nothing, "velocity": nothing},
        "adam_step": {"parameter": nothing, "gradient": nothing, "mean": nothing, "square": nothing},
    }
    change = empty[name] | ({} if name in OF_COLUMNS else {"out": nothing.copy()})
    call(kernels, name, **change)


@either
@pytest.mark.parametrize("loss", oracle.LOSSES)
@pytest.mark.parametrize("targets", [np.zeros(0, np.uint8), np.zeros((0, 3), np.float32)], ids=["labels", "rows"])
def test_an_empty_batch_has_no_loss(kernels: Any, loss: str, targets: Any) -> None:
    total = np.array([2.5])
    nothing = np.zeros((0, 3), np.float32)
    kernels.output_delta(nothing, targets, 1.0, total, "identity", loss, out=nothing)
    assert total[0] == 2.5


SHARED = np.zeros((4, 3), np.float32)


@pytest.mark.parametrize(
    ("name", "change", "error", "message"),
    [
        (
            "gather_scale",
            {"images": np.zeros((9, 3), np.float64)},
            TypeError,
            "dtype float64, expected uint8",
        ),
        ("gather_scale", {"images": np.zeros((9, 4), np.uint8)}, ValueError, r"shape \(9, 4\), expected \(9, 3\)"),
        ("gather_scale", {"rows": np.zeros(4, np.int32)}, TypeError, "rows of dtype int32, expected int64"),
        ("gather_scale", {"rows": np.array([0, 1, 2, 9])}, IndexError, "found rows from 0 to 9, expected 0 to 8"),
        ("gather_scale", {"rows": np.array([0, -1, 2, 3])}, IndexError, "found rows from -1 to 3"),
        ("gather_scale", {"out": np.zeros((4, 3), np.float16)}, TypeError, "out of float16, expected a float32"),
        ("bias_activate", {"z": np.zeros((4, 3))}, TypeError, "z of dtype float64, expected float32"),
        ("bias_activate", {"z": np.zeros((3, 4), np.float32).T}, ValueError, "expected a C-contiguous array"),
        ("bias_activate", {"bias": [0.0, 0.0, 0.0]}, TypeError, "bias of type list, expected a NumPy array"),
        ("bias_activate", {"out": SHARED, "bias": SHARED[0]}, ValueError, "out overlapping an input"),
        ("bias_activate", {"out": np.zeros(3, np.float32)}, ValueError, "expected 2 dimensions"),
        (
            "output_delta",
            {"targets": np.array([0, 1, 2, 3], np.uint8)},
            IndexError,
            "found labels from 0 to 3, expected 0 to 2",
        ),
        ("output_delta", {"targets": np.zeros(4, np.int64)}, TypeError, "labels of dtype int64, expected uint8"),
        ("output_delta", {"targets": np.zeros((4, 3))}, TypeError, "targets of dtype float64, expected float32"),
        ("output_delta", {"targets": np.zeros((4, 2), np.float32)}, ValueError, r"targets of shape \(4, 2\), expected"),
        (
            "output_delta",
            {"loss": "hinge"},
            ValueError,
            "found the loss 'hinge', expected squared_error, binary_cross_",
        ),
        ("output_delta", {"activation": "softmax"}, ValueError, "found the activation 'softmax', expected sigmoid"),
        ("output_delta", {"targets": SHARED, "out": SHARED}, ValueError, "out overlapping an input"),
        ("bias_activate", {"activation": "swish"}, ValueError, "found the activation 'swish', expected sigmoid, tanh"),
        ("hidden_delta", {"activation": "swish"}, ValueError, "found the activation 'swish', expected sigmoid, tanh"),
        ("output_delta", {"total": np.zeros(1, np.float32)}, TypeError, "total of dtype float32, expected float64"),
        ("hidden_delta", {"out": SHARED, "activations": SHARED}, ValueError, "out overlapping an input"),
        ("hidden_delta", {"out": np.zeros((4, 6), np.float32)[:, ::2]}, ValueError, "not C-contiguous"),
        ("descend", {"gradient": np.zeros((4, 4), np.float32)}, ValueError, r"gradient of shape \(4, 4\)"),
        ("descend_sums", {"gradients": np.zeros((4, 4), np.float32)}, ValueError, r"gradients of shape \(4, 4\)"),
        ("descend_sums", {"out": SHARED[0], "gradients": SHARED}, ValueError, "out overlapping an input"),
        ("column_sums", {"rows": np.zeros((4, 4), np.float32)}, ValueError, r"rows of shape \(4, 4\)"),
        ("column_sums", {"out": SHARED[0], "rows": SHARED}, ValueError, "out overlapping an input"),
        ("drop", {"activations": np.zeros((4, 4), np.float32)}, ValueError, r"activations of shape \(4, 4\)"),
        ("drop", {"activations": SHARED, "out": SHARED[:]}, ValueError, "out overlapping an input"),
        ("momentum_step", {"velocity": np.zeros((4, 4), np.float32)}, ValueError, r"first moment of shape \(4, 4\)"),
        ("momentum_step", {"out": SHARED, "velocity": SHARED}, ValueError, "out overlapping an input"),
        ("adam_step", {"square": np.zeros((4, 3))}, TypeError, "second moment of dtype float64, expected float32"),
        ("adam_step", {"out": SHARED, "gradient": SHARED}, ValueError, "out overlapping an input"),
        ("output_delta", {"factor": "1"}, TypeError, "found factor of type str, expected a number"),
        ("output_delta", {"activation": ["tanh"]}, TypeError, r"found the activation \['tanh'\], expected its name"),
        ("output_delta", {"loss": None}, TypeError, "found the loss None, expected its name"),
        ("bias_activate", {"activation": 7}, TypeError, "found the activation 7, expected its name"),
        ("descend", {"learning_rate": None}, TypeError, "found learning rate of type NoneType, expected a number"),
        ("descend", {"l2": np.ones(2)}, TypeError, "found l2 of type ndarray, expected a number"),
        ("descend", {"learning_rate": 1j}, TypeError, "found learning rate of type complex, expected a number"),
        ("descend_sums", {"learning_rate": True}, TypeError, "found learning rate of type bool, expected a number"),
        ("momentum_step", {"momentum": "much"}, TypeError, "found momentum of type str, expected a number"),
        ("momentum_step", {"nesterov": "yes"}, TypeError, "found nesterov of type str, expected True or False"),
        ("adam_step", {"beta2": []}, TypeError, "found beta2 of type list, expected a number"),
        ("adam_step", {"root": 0.0}, ValueError, "found root 0, expected a number above 0"),
        ("adam_step", {"root": np.nan}, ValueError, "found root nan, expected a number above 0"),
        ("drop", {"share": 1.0}, ValueError, "found share 1, expected 0 or more, and below 1"),
        ("drop", {"share": None}, TypeError, "found share of type NoneType, expected a number"),
        ("drop", {"key": 0.5}, TypeError, "found key of type float, expected a whole number"),
        ("drop", {"key": 2**32}, ValueError, "found key 4294967296, expected 0 to 4294967295"),
        ("drop", {"first": -1}, ValueError, "found first -1, expected 0 to 4294967295"),
    ],
)
@either
def test_what_breaks_the_contract_is_refused(
    kernels: Any, name: str, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(kernels, name, **change)


NO_ARRAYS: list[Callable[[Any], Any]] = [
    np.ma.masked_array,
    lambda array: array.view(np.matrix),
    lambda array: array.tolist(),
    lambda _: None,
    lambda _: "array",
    lambda _: 7,
]


@pytest.mark.parametrize("name", NAMES)
@either
def test_what_is_no_plain_array_is_refused_in_the_place_of_each(kernels: Any, name: str) -> None:
    for argument, value in good_arguments(name).items():
        if isinstance(value, np.ndarray):
            for change in NO_ARRAYS:
                wrong = change(value)
                expected = rf"^found [a-z ]+ of type {type(wrong).__name__}, expected a NumPy array$"
                with pytest.raises(TypeError, match=expected):
                    call(kernels, name, **{argument: wrong})


@pytest.mark.parametrize("name", NAMES)
@either
def test_what_is_no_number_is_refused_in_the_place_of_each(kernels: Any, name: str) -> None:
    given = good_arguments(name)
    numbers = [key for key, value in given.items() if isinstance(value, int | float)]
    optional = [key for key in ("l2", "decay") if key in inspect.signature(getattr(kernels, name)).parameters]
    for argument in (*numbers, *optional):
        for wrong in (None, "1", [1.0], np.ones(1), 1j, True):
            with pytest.raises(TypeError, match=rf"^found [a-z0-9 ]+ of type {type(wrong).__name__}, expected a "):
                call(kernels, name, **{argument: wrong})


@either
def test_arrays_in_files_are_arrays(kernels: Any, tmp_path: Path) -> None:
    images = np.memmap(tmp_path / "images", np.uint8, "w+", shape=(9, 3))
    call(kernels, "gather_scale", images=images)


def test_a_number_too_large_for_float32_is_infinite_without_a_warning() -> None:
    parameter, gradient = np.ones((2, 2), np.float32)
    cpu.descend(parameter, gradient, 1e300, out=parameter)
    assert (parameter == -np.inf).all()


ENDS = {
    "sigmoid": (0, 0.5, 1),
    "tanh": (-1, 0, 1),
    "relu": (0, 0, np.inf),
    "leaky_relu": (-np.inf, 0, np.inf),
    "elu": (-1, 0, np.inf),
    "identity": (-np.inf, 0, np.inf),
}
"""f of what is as small as can be, of 0, and of what is as large as can be."""


@either
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_saturate_in_silence_and_keep_nan(kernels: Any, activation: str) -> None:
    z = np.array([[-np.inf, 0, np.inf, -1e38, 1e38, np.nan]], np.float32)
    kernels.bias_activate(z, np.zeros(6, np.float32), activation, out=z)
    np.testing.assert_allclose(z[0, :3], ENDS[activation], rtol=0, atol=3e-7)
    assert np.isnan(z[0]).tolist() == [False] * 5 + [True]
    delta = np.full((1, 2), np.nan, np.float32)
    kernels.hidden_delta(delta, np.ones((1, 2), np.float32), activation, out=delta)
    assert np.isnan(delta).all()


@either
@pytest.mark.parametrize("loss", oracle.LOSSES)
def test_a_loss_of_nan_is_nan(kernels: Any, loss: str) -> None:
    for place in range(3):
        output, total = np.array([[1, 2, 3], [1, 2, 3]], np.float32), np.zeros(1)
        output[1, place] = np.nan
        kernels.output_delta(output, np.array([0, 2], np.uint8), 1.0, total, "identity", loss, out=output)
        assert np.isnan(total[0])
        assert not np.isnan(output[0]).any()
        assert np.isnan(output[1, place])
        assert np.isnan(output[1]).all() == (loss == "cross_entropy")


@either
def test_cross_entropies_of_certain_outputs_are_right(kernels: Any) -> None:
    logits, labels = np.array([[200, -200, 0], [-300, 300, -300]], np.float32), np.array([0, 0], np.uint8)
    for loss, value, of_zero in (("cross_entropy", 600.0, 0.0), ("binary_cross_entropy", 600 + np.log(2), 0.5)):
        total, out = np.zeros(1), np.empty_like(logits)
        kernels.output_delta(logits, labels, 1.0, total, "identity", loss, out=out)
        assert total[0] == pytest.approx(value, rel=1e-7)
        np.testing.assert_allclose(out, np.array([[0, 0, of_zero], [-1, 1, 0]]), rtol=0, atol=2e-7)
    # A product of so many numbers near 2 would be no float64.
    many, total = np.zeros((1, 1500), np.float32), np.zeros(1)
    kernels.output_delta(many, many.copy(), 1.0, total, "identity", "binary_cross_entropy", out=np.empty_like(many))
    assert total[0] == pytest.approx(1500 * np.log(2))


@either
@pytest.mark.parametrize("share", [0.1, 0.5, 1 - 1e-12])
def test_what_is_dropped_is_what_the_masks_drop(kernels: Any, share: float) -> None:
    for key, first in ((4_000_000_007, 59_000), (0, 2**31), (2**32 - 1, 0)):
        out = np.ones((30, 37), np.float32)
        kernels.drop(out, key, first, share, out=out)
        np.testing.assert_array_equal(out, mask(np, key, first, (30, 37), share=share, dtype=np.float32))
        assert share == 0.1 or (out == 0).any()


@either
def test_float_inputs_are_taken_as_they_are(kernels: Any) -> None:
    rng = np.random.default_rng(3)
    inputs, rows, out = (
        rng.normal(size=(50, 37)).astype(np.float32),
        rng.integers(0, 50, 60),
        np.empty((60, 37), np.float32),
    )
    kernels.gather_scale(inputs, rows, out=out)
    np.testing.assert_array_equal(out, inputs[rows])


@either
def test_parameters_of_any_shape_make_steps(kernels: Any) -> None:
    for shape in ((7,), (2, 3, 2), (0,)):
        ones = np.ones(shape, np.float32)
        for name, numbers, expected in (
            ("descend", (0.5, 1.0), 0.0),
            ("momentum_step", (0.5, 0.5), 1 - 0.5 * 1.5),
            ("momentum_step", (0.5, 0.5, 0.0, True), 1 - 0.5 * 1.75),
            ("adam_step", (0.5, 1.0, 0.5, 0.5, 1.0, 0.0, 0.25), 0.75 - 0.5 / 2),
        ):
            moments = {"descend": 0, "momentum_step": 1, "adam_step": 2}[name]
            parameter = ones.copy()
            getattr(kernels, name)(parameter, ones, *(ones.copy() for _ in range(moments)), *numbers, out=parameter)
            np.testing.assert_allclose(parameter, np.full(shape, expected, np.float32), rtol=1e-6)


def test_moments_that_fade_away_are_forgotten() -> None:
    # Arithmetic with subnormal numbers, which they would become, is many times as slow.
    parameter, gradient = np.ones(20, np.float32), np.zeros(20, np.float32)
    velocity, mean, square = np.full((3, 20), 1.1e-30, np.float32)
    square[:] = 1.2e-38
    mean[1] = velocity[1] = np.nan
    cpu.momentum_step(parameter, gradient, velocity, 0.1, 0.9, out=parameter)
    cpu.adam_step(parameter, gradient, mean, square, 0.1, 1.0, 0.9, 0.9, 1e-8, out=parameter)
    for moment in (velocity, mean, square):
        assert (moment[2:] == 0).all()
    assert np.isnan([velocity[1], mean[1], parameter[1]]).all()


def test_compiled_sigmoid_is_right_to_2e_7_for_every_kind_of_float32() -> None:
    bits = np.arange(0, 2**32, 997, dtype=np.uint64).astype(np.uint32)
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e38, -1e38, 1e-45, -1e-45], np.float32)
    z = np.concatenate([bits.view(np.float32), special])
    found = np.empty((1, len(z)), np.float32)
    cpu.bias_activate(z[None], np.zeros(len(z), np.float32), out=found)
    with np.errstate(over="ignore", invalid="ignore"):
        exact = 1 / (1 + np.exp(-z.astype(np.float64)))
    np.testing.assert_array_equal(np.isnan(found[0]), np.isnan(z))
    number = ~np.isnan(z)
    assert np.abs(found[0] - exact)[number].max() <= 2e-7
    rising = found[0][number][np.argsort(z[number], kind="stable")].astype(np.float64)
    assert (rising - np.maximum.accumulate(rising)).min() >= -2.4e-7
    assert rising.min() >= 0
    assert rising.max() <= 1


@pytest.mark.parametrize("kernels", [oracle, cpu])
def test_moments_have_arrays_of_their_own(kernels: Any) -> None:
    parameter, gradient, one = np.ones((3, 4), np.float32)
    with pytest.raises(ValueError, match="overlapping an input"):
        kernels.adam_step(parameter, gradient, one, one, 0.1, 1.0, 0.9, 0.9, 1e-8, out=parameter)
    with pytest.raises(ValueError, match="overlapping an input"):
        kernels.momentum_step(parameter, gradient, gradient, 0.1, 0.9, out=parameter)
    one.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        kernels.momentum_step(parameter, gradient, one, 0.1, 0.9, out=parameter)
    assert (parameter == 1).all()
    assert (one == 1).all()
