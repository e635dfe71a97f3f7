"""Arrays in a GPU's memory, as cuBLAS takes them and as kernels do; and cuBLAS's product."""

import ctypes
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
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

FACTORS_ON_HOST, FACTORS_ON_GPU = 0, 1
"""cuBLAS's CUBLAS_POINTER_MODE_HOST and CUBLAS_POINTER_MODE_DEVICE."""

AS_IT_IS, TRANSPOSED = 0, 1
"""cuBLAS's CUBLAS_OP_N and CUBLAS_OP_T."""


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
    """The cuBLAS of `cupy`, whose current device and stream it uses; products are computed within `in_use` alone."""

    def __init__(self, cupy: Any) -> None:
        self._cuda = cupy.cuda
        self._sgemm = cupy.cuda.cublas.sgemm
        self._handle = 0

    def prepare(
        self, a: Array, b: Array, *, out: Array, factors: tuple[float, float] | Array = (1.0, 0.0)
    ) -> Callable[[], None]:
        """Return the function that computes out = alpha a b + beta out by one call, for float32 matrices.

        `a` and `b` may be transposed views. `factors` are alpha and beta; an array (2,) on the GPU is read at each
        call. Raises `ValueError` for arrays that are neither C-contiguous nor transposed ones.
        """
        (m, n), k = out.shape, a.shape[1]
        if a.shape != (m, k) or b.shape != (k, n) or not out.flags.c_contiguous:
            raise ValueError(f"found a product of {a.shape} and {b.shape} for {out.shape}")
        constant = isinstance(factors, tuple)
        scalars: Any = np.array(factors, np.float32) if constant else factors
        alpha = scalars.ctypes.data if constant else _address(scalars)
        # cuBLAS takes matrices by columns: what it sees are transposed ones, and out^T = b^T a^T.
        (of_b, ldb), (of_a, lda) = _operand(b), _operand(a)
        addresses = (alpha, _address(b), ldb, _address(a), lda, alpha + scalars.itemsize, _address(out), n)
        arguments = (of_b, of_a, n, m, k, *addresses)
        kept = a, b, out, scalars

        def multiply(kept: Any = kept) -> None:  # noqa: ARG001 - kept alive
            self._sgemm(self._handle, *arguments)

        def multiply_by_factors_there(kept: Any = kept) -> None:  # noqa: ARG001
            self._cuda.cublas.setPointerMode(self._handle, FACTORS_ON_GPU)
            self._sgemm(self._handle, *arguments)
            self._cuda.cublas.setPointerMode(self._handle, FACTORS_ON_HOST)

        return multiply if constant else multiply_by_factors_there

    @contextmanager
    def in_use(self, precision: str) -> Iterator[None]:
        """Compute products within the block, in "float32" or "tf32"; leave cuBLAS afterwards as it was."""
        cublas, handle = self._cuda.cublas, self._cuda.get_cublas_handle()
        mode, pointers = cublas.getMathMode(handle), cublas.getPointerMode(handle)
        self._handle = handle
        try:
            cublas.setMathMode(handle, MATH_MODES[precision])
            cublas.setPointerMode(handle, FACTORS_ON_HOST)
            yield
        finally:
            cublas.setMathMode(handle, mode)
            cublas.setPointerMode(handle, pointers)

    @contextmanager
    def recorded(self, stream: int, space: Array) -> Iterator[None]:
        """Let a graph be captured from products within the block, on the `stream` of that address.

        CuPy refuses to call cuBLAS while its stream is captured, so cuBLAS is called directly. `space` (any,) uint8 is
        its work space, and has to outlive the graph. Raises `OSError` where its library isn't found, and
        `RuntimeError` where it fails.
        """
        library, usual = cublas_library(self._cuda.cublas.getVersion(self._handle)), self._sgemm

        def call(function: str, *arguments: Any) -> None:
            status = getattr(library, function)(*arguments)
            if status != 0:
                raise RuntimeError(f"{function} returned {status}")

        # CuPy sets the stream at each product, and with that the usual work space.
        call("cublasSetStream_v2", self._handle, stream)
        call("cublasSetWorkspace_v2", self._handle, _address(space), space.nbytes)
        self._sgemm = functools.partial(call, "cublasSgemm_v2")
        try:
            yield
        finally:
            self._sgemm = usual


def cublas_library(version: int) -> ctypes.CDLL:
    """Return the library of cuBLAS that CuPy has loaded, of the `version` that it gives, such as 130100."""
    major = version // 10_000
    library = ctypes.CDLL(f"cublas64_{major}.dll" if sys.platform == "win32" else f"libcublas.so.{major}")
    address: Any = ctypes.c_void_p
    number: Any = ctypes.c_int
    library.cublasSetStream_v2.argtypes = [address, address]
    library.cublasSetWorkspace_v2.argtypes = [address, address, ctypes.c_size_t]
    matrix = [address, number]
    library.cublasSgemm_v2.argtypes = [address, *[number] * 5, address, *matrix, *matrix, address, *matrix]
    return library


def _operand(array: Array) -> tuple[int, int]:
    """Return cuBLAS's operation and leading dimension for the transpose of a matrix."""
    if array.flags.c_contiguous:
        return AS_IT_IS, array.shape[1]
    if array.flags.f_contiguous:
        return TRANSPOSED, array.shape[0]
    raise ValueError(f"found strides {array.strides}, expected a C-contiguous matrix or a transposed one")


def _address(array: Array) -> int:
    address: int = array.__cuda_array_interface__["data"][0]
    return address
