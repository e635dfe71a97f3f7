"""The kernels' contract on CUDA, simulated; shapes are those that blocks and grids divide differently."""

from typing import Any

import numpy as np
import pytest

from gpunn.distortion import Distortion
from gpunn.kernels.cuda import contract as cuda
from gpunn.kernels.formulas.steps import Numbers

from .. import distortion_oracle
from ..kernel_cases import EPS
from ..kernel_contract import KernelContract, Machine

SHAPES = ((1, 1), (1, 35), (3, 5), (9, 10), (2, 33), (33, 2))


class TestSimulated(KernelContract):
    @pytest.fixture
    def machine(self) -> Machine:
        return Machine(cuda, SHAPES, expected="a NumPy array, as CUDA is simulated", on_host=False)


def test_sigmoid_of_large_negative_numbers_keeps_its_relative_accuracy() -> None:
    z = np.linspace(-80, 20, 41, dtype=np.float32)[None]
    found = np.empty_like(z)
    cuda.bias_activate(z, np.zeros(41, np.float32), out=found)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-z.astype(np.float64))), rtol=3 * EPS)


def test_batches_follow_each_other_through_an_order() -> None:
    rng, m = np.random.default_rng(0), 40
    order, labels = rng.permutation(90), rng.integers(0, 10, 90, dtype=np.uint8)
    table, place = rng.random((3, 18), np.float32), np.zeros(2, np.int64)
    rows, classes, first, numbers = np.zeros(m, np.int64), np.zeros(m, np.uint8), np.zeros(1, np.uint32), table[0] * 0
    (launch,) = cuda.next_batch.prepare(
        order, labels, table, place, rows=rows, classes=classes, first=first, numbers=numbers
    )
    for batch in range(4):
        launch()
        begin = batch * m
        there = order[begin : begin + m]
        np.testing.assert_array_equal(rows, [*there, *[-1] * (m - len(there))])
        np.testing.assert_array_equal(classes[: len(there)], labels[begin : begin + m])
        np.testing.assert_array_equal(numbers, table[min(batch, 2)])
        assert (first[0], place.tolist()) == (begin, [batch + 1, begin + m])


def test_numbers_may_be_in_arrays() -> None:
    rng = np.random.default_rng(0)
    a, gradient, labels = *rng.random((2, 9, 5), np.float32), rng.integers(0, 5, 9, dtype=np.uint8)
    of_step = np.array([0.3, 1, 0.9, 0.1, 0.99, 0.01, 1e-8, 0.2, 1], np.float32)
    operations: list[tuple[str, list[Any], list[Any]]] = [
        ("output_delta", [a, labels, np.array([0.25], np.float32)], [a, labels, 0.25]),
        ("drop", [a, np.array([7], np.uint32), np.array([2**32 - 3], np.uint32)], [a, 7, 2**32 - 3]),
        ("optimizer_step", [a, gradient, of_step], [a, gradient, Numbers(*of_step.tolist())]),
    ]
    rest: dict[str, Any] = {"output_delta": [np.zeros(1)], "drop": [0.5], "optimizer_step": []}
    for name, *both in operations:
        found = []
        for arguments in both:
            found.append(np.empty_like(a))
            getattr(cuda, name)(*arguments, *rest[name], out=found[-1])
        np.testing.assert_array_equal(*found)


def test_images_are_distorted_as_by_scipy_in_float64() -> None:
    distortion, shape = Distortion(rotation=40, shear=20, scaling=0.3, shift=1, sigma=0.7, alpha=3), (4, 5)
    rng = np.random.default_rng(0)
    images, ease = rng.integers(0, 256, (3, 20), dtype=np.uint8), rng.random(3, np.float32)
    out = np.full_like(images, 77)
    cuda.distort(images, ease, distortion.elastic(shape), distortion.limits(), 2**32 - 1, out=out)
    expected = distortion_oracle.distorted(images, shape, ease, distortion, 2**32 - 1)
    np.testing.assert_allclose(out, expected, atol=0.51)
