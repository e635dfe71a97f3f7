"""The CUDA kernels beside the reference, on every shape that blocks and grids divide differently."""

import inspect
from typing import Any

import numpy as np
import pytest

from gpunn.kernels import cuda, reference

from .. import test_kernels as contract
from ..test_kernels import KERNELS, SHARED, call

EPS = float(np.finfo(np.float32).eps)
SHAPES = [(1, 1), (1, 35), (3, 5), (9, 10), (2, 33), (33, 2)]
TAKES_OUT_AS_FIRST = [name for name in KERNELS if name != "gather_scale"]


def drawn(name: str, m: int, n: int) -> tuple[list[Any], np.ndarray, Any]:
    """Return arguments of a kernel, its output, and how far it may be from the exact result."""
    rng = np.random.default_rng([m, n])

    def floats(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    out = np.full((m, n), 7, np.float32)
    a, b = floats(m, n), floats(m, n)
    if name == "gather_scale":
        return [rng.integers(0, 256, (11, n), dtype=np.uint8), rng.integers(0, 11, m)], out, EPS / 2
    if name == "bias_sigmoid":
        # The sum is rounded, and sigma is nowhere steeper than 1/4; exp, the sum and the quotient are rounded.
        return [3 * a, b[0]], out, EPS * (3 * np.abs(a) + np.abs(b[0])) / 4 + 3 * EPS
    if name == "output_delta":
        labels = rng.integers(0, n, m, dtype=np.uint8)
        # 1 - a and a - y may cancel.
        return [a, labels, 0.3, np.array([1.5])], out, 4 * EPS * 0.3 * (np.abs(a) + 1) ** 2 * np.abs(a)
    if name == "hidden_delta":
        return [a, b], out, 4 * EPS * np.abs(a * b) * (np.abs(b) + 1)
    if name == "descend":
        return [a, b, 0.7], out, 2 * EPS * (np.abs(a) + 0.7 * np.abs(b))
    return [a[0], b, 0.7], out[0].copy(), EPS * (m + 2) * (np.abs(a[0]) + 0.7 * np.abs(b).sum(axis=0))


def check(name: str, m: int, n: int, *, in_place: bool = False) -> None:
    ours, out, tolerance = drawn(name, m, n)
    exact = [
        argument.astype(np.float64) if getattr(argument, "dtype", None) in (np.float32, np.float64) else argument
        for argument in ours
    ]
    expected = out.astype(np.float64)
    getattr(reference, name)(*exact, out=expected)
    target = ours[0] if in_place else out
    getattr(cuda, name)(*ours, out=target)
    assert (np.abs(target - expected) <= tolerance).all()
    if name == "output_delta":
        np.testing.assert_allclose(ours[3], exact[3], rtol=8 * EPS)


@pytest.mark.usefixtures("launches")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", KERNELS)
def test_simulated_kernels_do_what_the_reference_does(name: str, shape: tuple[int, int]) -> None:
    check(name, *shape)


@pytest.mark.parametrize("name", TAKES_OUT_AS_FIRST)
def test_out_may_be_the_first_input(name: str) -> None:
    check(name, 5, 3, in_place=True)


@pytest.mark.parametrize("shape", [(7,), (2, 3, 2), (0,)], ids=str)
def test_parameters_of_any_shape_descend(shape: tuple[int, ...]) -> None:
    parameter = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    cuda.descend(parameter, np.full(shape, 2, np.float32), 0.5, out=parameter)
    np.testing.assert_array_equal(parameter.ravel(), np.arange(-1, parameter.size - 1))


def test_simulated_kernels_make_a_step_of_backpropagation() -> None:
    contract.test_the_kernels_make_a_step_of_backpropagation(cuda, np.float32, 7)


def test_the_names_and_signatures_are_those_of_the_reference() -> None:
    for name in KERNELS:
        ours, theirs = (inspect.signature(getattr(module, name)).parameters for module in (cuda, reference))
        assert [(p.name, p.kind) for p in ours.values()] == [(p.name, p.kind) for p in theirs.values()]


def test_sigmoid_saturates_in_silence_and_keeps_nan() -> None:
    contract.test_sigmoid_saturates_in_silence_and_keeps_nan(cuda)


def test_sigmoid_of_large_negative_numbers_keeps_its_relative_accuracy() -> None:
    z = np.linspace(-80, 20, 41, dtype=np.float32)[None]
    found = np.empty_like(z)
    cuda.bias_sigmoid(z, np.zeros(41, np.float32), out=found)
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


@pytest.mark.parametrize("label", [3, 255])
def test_a_label_out_of_range_gives_nan(label: int) -> None:
    a = np.full((3, 3), 0.5, np.float32)
    total = np.zeros(1)
    cuda.output_delta(a, np.array([1, label, 2], np.uint8), 4.0, total, out=a)
    np.testing.assert_array_equal(a, [[0.5, -0.5, 0.5], [np.nan] * 3, [0.5, 0.5, -0.5]])
    assert np.isnan(total[0])


@pytest.mark.parametrize("name", KERNELS)
def test_an_empty_batch_is_no_work(name: str) -> None:
    contract.test_an_empty_batch_is_no_work(cuda, name)


def test_the_sum_of_no_rows_is_zero() -> None:
    out = np.zeros(3, np.float32)
    cuda.descend_sums(np.arange(3, dtype=np.float32), np.zeros((0, 3), np.float32), 1.0, out=out)
    np.testing.assert_array_equal(out, [0, 1, 2])


@pytest.mark.parametrize(
    ("name", "change", "error", "message"),
    [
        (
            "gather_scale",
            {"images": np.zeros((9, 3), np.float32)},
            TypeError,
            "of dtype float32, expected uint8",
        ),
        ("gather_scale", {"images": np.zeros((9, 4), np.uint8)}, ValueError, r"shape \(9, 4\), expected \(9, 3\)"),
        ("gather_scale", {"images": np.zeros((), np.uint8)}, ValueError, r"shape \(\), expected \(3,\)"),
        ("gather_scale", {"rows": np.zeros(4, np.int32)}, TypeError, "rows of dtype int32, expected int64"),
        ("gather_scale", {"out": np.zeros((4, 3))}, TypeError, "^found out of float64, expected a float32 array$"),
        ("bias_sigmoid", {"z": np.zeros((4, 3))}, TypeError, "z of dtype float64, expected float32"),
        ("bias_sigmoid", {"z": np.zeros((3, 4), np.float32).T}, ValueError, "expected a C-contiguous array"),
        ("bias_sigmoid", {"bias": [0.0, 0.0, 0.0]}, TypeError, "bias of type list, expected a NumPy array"),
        ("bias_sigmoid", {"out": SHARED, "bias": SHARED[0]}, ValueError, "out overlapping an input"),
        ("bias_sigmoid", {"out": SHARED[:3], "z": SHARED[1:]}, ValueError, "out overlapping an input"),
        ("bias_sigmoid", {"out": np.zeros(3, np.float32)}, ValueError, "expected 2 dimensions"),
        ("output_delta", {"labels": np.zeros(4, np.int64)}, TypeError, "labels of dtype int64, expected uint8"),
        ("output_delta", {"total": np.zeros(1, np.float32)}, TypeError, "total of dtype float32, expected float64"),
        ("hidden_delta", {"out": SHARED, "activation": SHARED}, ValueError, "out overlapping an input"),
        ("hidden_delta", {"out": np.zeros((4, 6), np.float32)[:, ::2]}, ValueError, "not C-contiguous"),
        ("descend", {"gradient": np.zeros((4, 4), np.float32)}, ValueError, r"gradient of shape \(4, 4\)"),
        ("descend_sums", {"gradients": np.zeros((4, 4), np.float32)}, ValueError, r"gradients of shape \(4, 4\)"),
    ],
)
def test_what_breaks_the_contract_is_refused(
    name: str, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(cuda, name, **change)


def test_neighbours_in_memory_do_not_overlap() -> None:
    both = np.zeros((2, 4, 3), np.float32)
    call(cuda, "bias_sigmoid", z=both[0], out=both[1])
    assert (both[1] == 0.5).all()
