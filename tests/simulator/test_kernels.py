"""The CUDA kernels beside the oracle, on every shape that blocks and grids divide differently."""

import inspect
from typing import Any

import numpy as np
import pytest

from gpunn.dropout import mask
from gpunn.kernels.cuda import contract as cuda

from .. import oracle
from ..kernel_cases import CASES, EPS, NAMES, ONCE, Case, check

SHAPES = [(1, 1), (1, 35), (3, 5), (9, 10), (2, 33), (33, 2)]


def run(name: str, *arguments: Any, out: np.ndarray, in_place: bool) -> list[Any]:
    target = arguments[0] if in_place else out
    getattr(cuda, name)(*arguments, out=target)
    return [target, *arguments]


@pytest.mark.usefixtures("launches")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_simulated_kernels_do_what_the_oracle_does(case: Case, shape: tuple[int, int]) -> None:
    check(case, run, *shape)


@pytest.mark.parametrize("case", [case for case in CASES if case.name not in ONCE], ids=str)
def test_out_may_be_the_first_input(case: Case) -> None:
    check(case, run, 5, 3, in_place=True)


@pytest.mark.parametrize("shape", [(7,), (2, 3, 2), (0,)], ids=str)
def test_parameters_of_any_shape_descend(shape: tuple[int, ...]) -> None:
    parameter = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    cuda.descend(parameter, np.full(shape, 2, np.float32), 0.5, out=parameter)
    np.testing.assert_array_equal(parameter.ravel(), np.arange(-1, parameter.size - 1))


def test_every_kernel_of_the_oracle_has_its_name_and_signature_here() -> None:
    def signatures(module: Any) -> dict[str, Any]:
        return {
            name: [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]
            for name, function in vars(module).items()
            if inspect.isfunction(function) and "out" in inspect.signature(function).parameters
            if not name.startswith(("_", "check_"))
        }

    assert signatures(cuda) == signatures(oracle)
    assert sorted(signatures(oracle)) == NAMES


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999999])
def test_the_places_that_are_dropped_are_those_of_the_masks(share: float) -> None:
    out = np.ones((30, 20), np.float32)
    cuda.drop(out, 4_000_000_007, 59_000, share, out=out)
    expected = mask(np, 4_000_000_007, 59_000, (30, 20), share=share, dtype=np.float32)
    np.testing.assert_allclose(out, expected, rtol=EPS)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "elu"])
def test_activations_saturate_in_silence_and_keep_nan(activation: str) -> None:
    z = np.array([[-np.inf, -1e38, 0, np.nan]], np.float32)
    cuda.bias_activate(z, np.zeros(4, np.float32), activation, out=z)
    low, middle = (0, 0.5) if activation == "sigmoid" else (-1, 0)
    np.testing.assert_array_equal(z, np.array([[low, low, middle, np.nan]], np.float32))


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "cross_entropy"])
def test_cross_entropies_of_large_logits_are_right(loss: str) -> None:
    z, total = np.array([[200, -200, 0], [-300, 300, -300]], np.float32), np.zeros(1)
    cuda.output_delta(z, np.array([0, 0], np.uint8), 1.0, total, "identity", loss, out=z)
    if loss == "cross_entropy":
        assert total[0] == 600
        np.testing.assert_array_equal(z, [[0, 0, 0], [-1, 1, 0]])
    else:
        assert total[0] == pytest.approx(600 + np.log(2), rel=4 * EPS)
        np.testing.assert_array_equal(z, [[0, 0, 0.5], [-1, 1, 0]])


def test_sigmoid_of_large_negative_numbers_keeps_its_relative_accuracy() -> None:
    z = np.linspace(-80, 20, 41, dtype=np.float32)[None]
    found = np.empty_like(z)
    cuda.bias_activate(z, np.zeros(41, np.float32), out=found)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-z.astype(np.float64))), rtol=3 * EPS)


@pytest.mark.parametrize("row", [-1, 4, -(2**63), 2**63 - 1])
def test_a_row_out_of_range_gives_nan_and_nothing_is_read_there(row: int) -> None:
    images = np.arange(12, dtype=np.uint8).reshape(4, 3)
    out = np.zeros((3, 3), np.float32)
    cuda.gather_scale(images, np.array([3, row, 0]), out=out)
    np.testing.assert_array_equal(out * 255, [[9, 10, 11], [np.nan] * 3, [0, 1, 2]])


def test_no_image_is_read_where_there_are_none() -> None:
    out = np.zeros((2, 3), np.float32)
    cuda.gather_scale(np.zeros((0, 3), np.uint8), np.zeros(2, np.int64), out=out)
    assert np.isnan(out).all()


@pytest.mark.parametrize("loss", oracle.LOSSES)
@pytest.mark.parametrize("label", [3, 255])
def test_a_label_out_of_range_gives_nan(label: int, loss: str) -> None:
    a = np.full((3, 3), 0.5, np.float32)
    total = np.zeros(1)
    cuda.output_delta(a, np.array([1, label, 2], np.uint8), 4.0, total, "identity", loss, out=a)
    np.testing.assert_array_equal(np.isnan(a).all(axis=1), [False, True, False])
    np.testing.assert_array_equal(np.sign(a[[0, 2]]), [[1, -1, 1], [1, 1, -1]])
    assert np.isnan(total[0])


def test_a_row_with_nan_has_no_finite_softmax() -> None:
    z, total = np.array([[1, np.nan, 2], [np.nan, 1, 2]], np.float32), np.zeros(1)
    cuda.output_delta(z, np.array([0, 0], np.uint8), 1.0, total, "identity", "cross_entropy", out=z)
    assert np.isnan(z).all()
    assert np.isnan(total[0])


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_batch_is_no_work(name: str) -> None:
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
    change = empty[name] | ({} if name in ("descend_sums", "column_sums") else {"out": nothing.copy()})
    call(name, **change)


def test_the_sum_of_no_rows_is_zero() -> None:
    out = np.zeros(3, np.float32)
    cuda.descend_sums(np.arange(3, dtype=np.float32), np.zeros((0, 3), np.float32), 1.0, out=out)
    np.testing.assert_array_equal(out, [0, 1, 2])

    out[...] = 7
    cuda.column_sums(np.zeros((0, 3), np.float32), out=out)
    assert (out == 0).all()


def call(name: str, **change: Any) -> None:
    """Call a kernel with good arguments but for `change`."""
    a, b, c, d = np.zeros((4, 4, 3), np.float32)
    adam = {"root": 1.0, "beta1": 0.9, "beta2": 0.9, "epsilon": 1e-8}
    good: dict[str, dict[str, Any]] = {
        "gather_scale": {"images": np.zeros((9, 3), np.uint8), "rows": np.zeros(4, np.int64)},
        "bias_activate": {"z": a, "bias": b[0]},
        "output_delta": {"output": a, "targets": np.zeros(4, np.uint8), "factor": 0.5, "total": np.zeros(1)},
        "hidden_delta": {"delta": a, "activations": b},
        "drop": {"activations": a, "key": 1, "first": 0, "share": 0.5},
        "descend": {"parameter": a, "gradient": b, "learning_rate": 1.0},
        "descend_sums": {"parameter": a[0], "gradients": b, "learning_rate": 1.0},
        "column_sums": {"rows": a},
        "momentum_step": {"parameter": a, "gradient": b, "velocity": c, "learning_rate": 1.0, "momentum": 0.9},
        "adam_step": {"parameter": a, "gradient": b, "mean": c, "square": d, "learning_rate": 1.0} | adam,
    }
    out = np.zeros(3 if name in ("descend_sums", "column_sums") else (4, 3), np.float32)
    getattr(cuda, name)(**({"out": out} | good[name] | change))


SHARED = np.zeros((4, 3), np.float32)


@pytest.mark.parametrize(
    ("name", "change", "error", "message"),
    [
        (
            "gather_scale",
            {"images": np.zeros((9, 3))},
            TypeError,
            "of dtype float64, expected uint8",
        ),
        ("gather_scale", {"images": np.zeros((9, 4), np.uint8)}, ValueError, r"shape \(9, 4\), expected \(9, 3\)"),
        ("gather_scale", {"images": np.zeros((), np.uint8)}, ValueError, r"shape \(\), expected \(3,\)"),
        ("gather_scale", {"rows": np.zeros(4, np.int32)}, TypeError, "rows of dtype int32, expected int64"),
        ("gather_scale", {"out": np.zeros((4, 3))}, TypeError, "^found out of float64, expected a float32 array$"),
        ("bias_activate", {"z": np.zeros((4, 3))}, TypeError, "z of dtype float64, expected float32"),
        ("bias_activate", {"z": np.zeros((3, 4), np.float32).T}, ValueError, "expected a C-contiguous array"),
        ("bias_activate", {"bias": [0.0, 0.0, 0.0]}, TypeError, "bias of type list, expected a NumPy array"),
        ("bias_activate", {"out": SHARED, "bias": SHARED[0]}, ValueError, "out overlapping an input"),
        ("bias_activate", {"out": SHARED[:3], "z": SHARED[1:]}, ValueError, "out overlapping an input"),
        ("bias_activate", {"out": np.zeros(3, np.float32)}, ValueError, "expected 2 dimensions"),
        ("output_delta", {"targets": np.zeros(4, np.int64)}, TypeError, "labels of dtype int64, expected uint8"),
        ("output_delta", {"total": np.zeros(1, np.float32)}, TypeError, "total of dtype float32, expected float64"),
        ("hidden_delta", {"out": SHARED, "activations": SHARED}, ValueError, "out overlapping an input"),
        ("hidden_delta", {"out": np.zeros((4, 6), np.float32)[:, ::2]}, ValueError, "not C-contiguous"),
        ("descend", {"gradient": np.zeros((4, 4), np.float32)}, ValueError, r"gradient of shape \(4, 4\)"),
        ("descend_sums", {"gradients": np.zeros((4, 4), np.float32)}, ValueError, r"gradients of shape \(4, 4\)"),
        ("bias_activate", {"activation": "softmax"}, ValueError, "found the activation 'softmax', expected sigmoid, "),
        ("hidden_delta", {"activation": "sine"}, ValueError, "found the activation 'sine', expected sigmoid, "),
        ("output_delta", {"loss": "hinge"}, ValueError, "found the loss 'hinge', expected squared_error, "),
        ("output_delta", {"targets": np.zeros((4, 3))}, TypeError, "targets of dtype float64, expected float32"),
        ("output_delta", {"targets": np.zeros((4, 2), np.float32)}, ValueError, r"targets of shape \(4, 2\)"),
        ("output_delta", {"targets": SHARED, "out": SHARED}, ValueError, "out overlapping an input"),
        ("drop", {"activations": np.zeros((4, 3))}, TypeError, "activations of dtype float64, expected float32"),
        ("column_sums", {"rows": SHARED, "out": SHARED[0]}, ValueError, "out overlapping an input"),
        ("momentum_step", {"velocity": SHARED, "out": SHARED}, ValueError, "out overlapping an input"),
        ("momentum_step", {"velocity": SHARED[1:]}, ValueError, r"first moment of shape \(3, 3\)"),
        ("adam_step", {"square": SHARED[1:]}, ValueError, r"second moment of shape \(3, 3\)"),
    ],
)
def test_what_breaks_the_contract_is_refused(
    name: str, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(name, **change)


def test_neighbours_in_memory_do_not_overlap() -> None:
    both = np.zeros((2, 4, 3), np.float32)
    call("bias_activate", z=both[0], out=both[1])
    assert (both[1] == 0.5).all()


def test_moments_have_arrays_of_their_own() -> None:
    parameter, gradient, one = np.ones((3, 4), np.float32)
    with pytest.raises(ValueError, match="overlapping an input"):
        cuda.adam_step(parameter, gradient, one, one, 0.1, 1.0, 0.9, 0.9, 1e-8, out=parameter)
    with pytest.raises(ValueError, match="overlapping an input"):
        cuda.momentum_step(parameter, gradient, gradient, 0.1, 0.9, out=parameter)
