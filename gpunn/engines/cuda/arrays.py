"""Arrays in a GPU's memory, as cuBLAS takes them and as kernels do; and cuBLAS's product."""

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from gpunn.backends import Backend
from gpunn.equations import Array

ALIGNMENT = 64
"""Alignment of arrays, in float32 numbers: 256 bytes, for cuBLAS."""

MATH_MODES = {"float32": 0, "tf32": 3}
"""cuBLAS's CUBLAS_DEFAULT_MATH and CUBLAS_TF32_TENSOR_OP_MATH."""


class Shared(NamedTuple):
    """An array in the GPU's memory, and Numba's handle of it: one for cuBLAS, the other for kernels."""

    array: Array
    handle: Any


@final
class Packed:
    """Arrays shaped like the weights and biases of a network, in one: a kernel passes over all of them in one launch.

    `everything`, or apart `all_weights` and `all_biases`, are for that, (any,); zeros fill the gaps between the arrays.
    """

    def __init__(self, backend: Backend, weights: Sequence[NDArray[Any]], biases: Sequence[NDArray[Any]]) -> None:
        """Take a copy of `weights` and `biases`, which are on the host and float32."""
        self._backend, kernels = backend, backend.kernels
        places, size = [], 0
        for array in (*weights, *biases):
            places.append(slice(size, size + array.size))
            size += -(-array.size // ALIGNMENT) * ALIGNMENT
        flat = np.zeros(size, np.float32)
        for place, array in zip(places, (*weights, *biases), strict=True):
            flat[place] = array.ravel()
        on_device = backend.asarray(flat)

        def shared(array: Array) -> Shared:
            return Shared(array, kernels.as_handle(array))

        first_bias = places[len(weights)].start
        self.everything = shared(on_device)
        self.all_weights, self.all_biases = shared(on_device[:first_bias]), shared(on_device[first_bias:])
        arrays = [
            on_device[place].reshape(array.shape) for place, array in zip(places, (*weights, *biases), strict=True)
        ]
        self.weights = arrays[: len(weights)]
        self.biases = [shared(array) for array in arrays[len(weights) :]]

    def to_host(self) -> list[NDArray[Any]]:
        """Return copies of all arrays: the weights, then the biases."""
        arrays = (*self.weights, *(b.array for b in self.biases))
        return [np.array(self._backend.to_host(array)) for array in arrays]


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
        """Set cuBLAS's math mode, "float32" or "tf32", within the block; restore it afterwards."""
        cuda = self._cupy.cuda
        handle = cuda.get_cublas_handle()
        before = cuda.cublas.getMathMode(handle)
        cuda.cublas.setMathMode(handle, MATH_MODES[name])
        try:
            yield
        finally:
            cuda.cublas.setMathMode(handle, before)
