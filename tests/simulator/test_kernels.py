"""The kernels' contract on CUDA, simulated; shapes are those that blocks and grids divide differently."""

import pytest

from gpunn.kernels.cuda import contract as cuda

from ..kernel_contract import KernelContract, Machine

SHAPES = ((1, 1), (1, 35), (3, 5), (9, 10), (2, 33), (33, 2))


class TestSimulated(KernelContract):
    @pytest.fixture
    def machine(self) -> Machine:
        return Machine(cuda, SHAPES, expected="a NumPy array, as CUDA is simulated", on_host=False)
