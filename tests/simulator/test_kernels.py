"""The kernels' contract on CUDA, simulated; shapes are those that blocks and grids divide differently."""

import numpy as np
import pytest

from gpunn.kernels.cuda import contract as cuda

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
