"""The fused kernels on a GPU, held to the oracle at the sizes that training has."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from gpunn import Backend
from gpunn.dropout import mask

from ..kernel_cases import CASES, EPS, ONCE, Case, check

pytestmark = pytest.mark.gpu

SHAPES = [(1, 1), (1, 784), (7, 16), (32, 10), (33, 257), (1024, 2048), (60_000, 10)]


def run(gpu: Backend, name: str, *args: Any, out: np.ndarray, in_place: bool = False) -> list[Any]:
    """Run a kernel on the GPU; return `out` and the arguments afterwards, on the host."""
    with gpu.activate():
        there = [gpu.asarray(value) if isinstance(value, np.ndarray) else value for value in args]
        target = there[0] if in_place else gpu.asarray(np.full_like(out, np.nan))
        getattr(gpu.kernels, name)(*there, out=target)
        return [gpu.to_host(value) if hasattr(value, "shape") else value for value in (target, *there)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_kernels_do_what_the_oracle_does(gpu: Backend, case: Case, shape: tuple[int, int]) -> None:
    check(case, partial(run, gpu), *shape)


@pytest.mark.parametrize("case", [case for case in CASES if case.name not in ONCE], ids=str)
def test_out_may_be_the_first_input(gpu: Backend, case: Case) -> None:
    check(case, partial(run, gpu), 33, 257, in_place=True)


@pytest.mark.parametrize("shape", [(60_000, 10), (50, 256)], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_same_input_gives_the_same_bits(gpu: Backend, case: Case, shape: tuple[int, int]) -> None:
    arguments, _, out_shape, _ = case.draw(np.random.default_rng(0), *shape)
    first, second = (run(gpu, case.name, *arguments, out=np.empty(out_shape, np.float32)) for _ in range(2))
    for ours, again in zip(first, second, strict=True):
        np.testing.assert_array_equal(ours, again)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999999])
def test_the_places_that_are_dropped_are_those_of_the_masks(gpu: Backend, share: float) -> None:
    ones = np.ones((700, 300), np.float32)
    found = run(gpu, "drop", ones, 4_000_000_007, 59_000, share, out=ones)[0]
    expected = mask(np, 4_000_000_007, 59_000, (700, 300), share=share, dtype=np.float32)
    np.testing.assert_allclose(found, expected, rtol=EPS)


def test_nothing_is_read_outside(gpu: Backend) -> None:
    images, out = np.ones((4, 5), np.uint8), np.empty((3, 5), np.float32)
    found = run(gpu, "gather_scale", images, np.array([0, 4, -1]), out=out)[0]
    np.testing.assert_array_equal(np.isnan(found).all(axis=1), [False, True, True])


def test_what_breaks_the_contract_is_refused(gpu: Backend) -> None:
    z, bias = np.ones((3, 4), np.float32), np.ones(4, np.float32)
    with pytest.raises(TypeError, match="expected an array on the GPU"), gpu.activate():
        gpu.kernels.bias_activate(z, gpu.asarray(bias), out=gpu.asarray(z))
    with pytest.raises(TypeError, match="float64"):
        run(gpu, "bias_activate", z.astype(np.float64), bias, out=z)
    with pytest.raises(ValueError, match="shape"):
        run(gpu, "bias_activate", z, bias[:3].copy(), out=z)
