"""The fused kernels on a GPU, held to the reference at the sizes that training has."""

from typing import Any

import numpy as np
import pytest

from gpunn import Backend
from gpunn.kernels import reference

pytestmark = pytest.mark.gpu

SHAPES = [(1, 1), (1, 784), (7, 16), (32, 10), (33, 257), (1024, 2048), (60_000, 10)]


def floats(shape: tuple[int, ...], seed: int = 0, scale: float = 2) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def run(gpu: Backend, name: str, *args: Any, out: np.ndarray, in_place: bool = False) -> list[np.ndarray]:
    """Run a kernel on the GPU; return `out` and the arguments afterwards, on the host."""
    with gpu.activate():
        there = [gpu.asarray(value) if isinstance(value, np.ndarray) else value for value in args]
        target = there[0] if in_place else gpu.asarray(np.full_like(out, np.nan))
        getattr(gpu.kernels, name)(*there, out=target)
        return [gpu.to_host(value) if hasattr(value, "shape") else value for value in (target, *there)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gather_scale(gpu: Backend, shape: tuple[int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (500, shape[1]), dtype=np.uint8)
    rows = np.random.default_rng(1).integers(0, 500, shape[0])
    expected = np.empty(shape, np.float32)
    reference.gather_scale(images, rows, out=expected)
    np.testing.assert_array_equal(run(gpu, "gather_scale", images, rows, out=expected)[0], expected)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bias_sigmoid(gpu: Backend, shape: tuple[int, int], in_place: bool) -> None:
    z, bias, expected = floats(shape, scale=30), floats(shape[1:], 1), np.empty(shape, np.float64)
    reference.bias_sigmoid(z.astype(np.float64), bias.astype(np.float64), out=expected)
    found = run(gpu, "bias_sigmoid", z, bias, out=z, in_place=in_place)[0]
    # The sum is rounded before the function is taken of it.
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=3e-7)


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (32, 10), (1000, 10), (60_000, 10), (50, 256)], ids=str)
def test_output_delta(gpu: Backend, shape: tuple[int, int]) -> None:
    a = 1 / (1 + np.exp(-floats(shape)))
    labels = np.random.default_rng(1).integers(0, shape[1], shape[0], dtype=np.uint8)
    expected, loss = np.empty(shape, np.float32), np.ones(1)
    reference.output_delta(a, labels, 0.25, loss, out=expected)
    found, *args = run(gpu, "output_delta", a, labels, 0.25, np.ones(1), out=expected)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(args[3], loss, rtol=1e-6)
    again = run(gpu, "output_delta", a, labels, 0.25, np.ones(1), out=expected)
    np.testing.assert_array_equal(again[4], args[3])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_hidden_delta_and_the_step(gpu: Backend, shape: tuple[int, int]) -> None:
    delta, a, expected = floats(shape), 1 / (1 + np.exp(-floats(shape, 1))), np.empty(shape, np.float32)
    reference.hidden_delta(delta, a, out=expected)
    found = run(gpu, "hidden_delta", delta, a, out=expected, in_place=True)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
    reference.descend(delta, a, 0.3, out=expected)
    found = run(gpu, "descend", delta, a, 0.3, out=expected, in_place=True)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_descend_sums(gpu: Backend, shape: tuple[int, int]) -> None:
    b, gradients = floats(shape[1:]), floats(shape, 1)
    expected = np.empty(shape[1:], np.float64)
    reference.descend_sums(b.astype(np.float64), gradients.astype(np.float64), 0.01, out=expected)
    found = [run(gpu, "descend_sums", b, gradients, 0.01, out=b, in_place=True)[0] for _ in range(2)]
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(found[0], found[1])


def test_nothing_is_read_outside(gpu: Backend) -> None:
    images, out = np.ones((4, 5), np.uint8), np.empty((3, 5), np.float32)
    found = run(gpu, "gather_scale", images, np.array([0, 4, -1]), out=out)[0]
    np.testing.assert_array_equal(np.isnan(found).all(axis=1), [False, True, True])


def test_what_breaks_the_contract_is_refused(gpu: Backend) -> None:
    z, bias = floats((3, 4)), floats((4,))
    with pytest.raises(TypeError, match="expected an array on the GPU"), gpu.activate():
        gpu.kernels.bias_sigmoid(z, gpu.asarray(bias), out=gpu.asarray(z))
    with pytest.raises(TypeError, match="float64"):
        run(gpu, "bias_sigmoid", z.astype(np.float64), bias, out=z)
    with pytest.raises(ValueError, match="shape"):
        run(gpu, "bias_sigmoid", z, bias[:3].copy(), out=z)
