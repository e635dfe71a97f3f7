"""Matrix products by cuBLAS, through CuPy, in the precision that was asked for."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

from gpunn.equations import Array

MATH_MODES = {"float32": 0, "tf32": 3}
"""cuBLAS's CUBLAS_DEFAULT_MATH and CUBLAS_TF32_TENSOR_OP_MATH."""


@final
class Cublas:
    """The cuBLAS of `cupy`, whose current device and stream it uses."""

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._gemm = importlib.import_module("cupy.cublas").gemm

    def gemm(self, a: Array, b: Array, *, out: Array, alpha: float = 1.0, beta: float = 0.0) -> None:
        """Compute out = alpha a b + beta out by one call, for float32 matrices; `a` and `b` may be transposed views."""
        self._gemm("N", "N", a, b, out=out, alpha=alpha, beta=beta)

    @contextmanager
    def precision(self, name: str) -> Iterator[None]:
        """Multiply in "float32" or "tf32" inside the block, whatever was set before and will be again after it."""
        cuda = self._cupy.cuda
        handle = cuda.get_cublas_handle()
        before = cuda.cublas.getMathMode(handle)
        cuda.cublas.setMathMode(handle, MATH_MODES[name])
        try:
            yield
        finally:
            cuda.cublas.setMathMode(handle, before)
