"""The kernels' contract on a GPU, at the sizes that training has."""

import numpy as np
import pytest

from gpunn import Backend

from ..kernel_cases import CASES, Case
from ..kernel_contract import KernelContract, Machine

pytestmark = pytest.mark.gpu

SHAPES = ((1, 1), (1, 784), (7, 16), (32, 10), (33, 257), (1024, 2048), (60_000, 10))


def machine_of(gpu: Backend) -> Machine:
    expected = "an array on the GPU"
    return Machine(
        gpu.kernels,
        SHAPES,
        expected,
        on_host=False,
        put=gpu.asarray,
        get=gpu.to_host,
        activate=gpu.activate,
    )


class TestGPU(KernelContract):
    @pytest.fixture
    def machine(self, gpu: Backend) -> Machine:
        return machine_of(gpu)


@pytest.mark.parametrize("shape", [(60_000, 10), (50, 256)], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_same_input_gives_the_same_bits(gpu: Backend, case: Case, shape: tuple[int, int]) -> None:
    arguments, _, out_shape, _ = case.draw(np.random.default_rng(0), *shape)
    first, second = (machine_of(gpu).run(case.name, *arguments, out=np.empty(out_shape, np.float32)) for _ in range(2))
    for ours, again in zip(first, second, strict=True):
        np.testing.assert_array_equal(ours, again)


def test_arrays_of_the_host_are_refused(gpu: Backend) -> None:
    z, bias = np.ones((3, 4), np.float32), np.ones(4, np.float32)
    with pytest.raises(TypeError, match="expected an array on the GPU"), gpu.activate():
        gpu.kernels.bias_activate(z, gpu.asarray(bias), out=gpu.asarray(z))
