"""The `fused` engine on CUDA: matrix products by cuBLAS, everything between them by fused kernels."""

from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from gpunn.backends import Backend
from gpunn.engines.base import Engine, Parameters, Recipe, checked_order, kernel_refusal, rates_of, recipe_refusal
from gpunn.engines.cublas import Cublas
from gpunn.engines.examples import Examples, examples_refusal
from gpunn.equations import Array
from gpunn.optimizers import Memory

TF32_SINCE = 8.0
"""The first compute capability with TF32."""

MOST_HANDLES = 5000
"""Batches whose part of the order keeps its handles: for those of 12 of 60,000 images and more, all."""


class _Shared(NamedTuple):
    """An array in the GPU's memory, and Numba's handle of it: one for cuBLAS, the other for kernels."""

    array: Array
    handle: Any


class _Space(NamedTuple):
    """The work space of a batch of some size: the images as activations, and those and delta of every layer."""

    X: _Shared
    activations: list[_Shared]
    deltas: list[_Shared]


@final
class FusedCudaEngine(Engine):
    """For all networks that keep more than one multiprocessor busy.

    All arrays, and Numba's handles of them, are made once; nothing waits for the GPU before the end of an epoch. The
    gradient step is a part of the product that computes the gradient: W <- W - eta delta^T A is one call of cuBLAS.
    """

    name = "fused"
    own_threads = False

    def __init__(self, backend: Backend, start: Parameters, examples: Examples, recipe: Recipe) -> None:
        images, labels, _ = examples
        self._steps = 0 if start.memory is None else start.memory.steps
        self._backend, self._kernels, self._recipe = backend, backend.kernels, recipe
        self._cublas = Cublas(backend.xp)
        xp, n = backend.xp, len(images)
        self._images, self._labels = self._shared(images), labels
        self._weights = [xp.array(W) for W in start.weights]
        self._biases = [self._shared(xp.array(b)) for b in start.biases]
        sizes, m = start.sizes, recipe.batch_size
        self._arrays = [xp.empty((m, size), np.float32) for size in (*sizes, *sizes[1:])]
        self._spaces: dict[int, _Space] = {}
        self._total = self._shared(xp.zeros(1, np.float64))
        # The order of an epoch and its labels, and handles of each batch's part of both.
        self._order, self._ordered = xp.zeros(n, np.int64), xp.zeros(n, np.uint8)
        self._examples: dict[tuple[int, int], tuple[Any, Any]] = {}

    @classmethod
    def refusal(
        cls, backend: Backend, start: Parameters, recipe: Recipe, examples: Examples | None = None
    ) -> str | None:
        reason = examples_refusal(examples) or recipe_refusal(start, recipe) or kernel_refusal(backend, start)
        if reason is None and recipe.precision == "tf32":
            capability = backend.describe()["compute capability"]
            if float(capability) < TF32_SINCE:
                return f"TF32 takes compute capability {TF32_SINCE}, and {backend.name} has {capability}"
        return reason

    def run_epoch(self, order: NDArray[Any], rates: NDArray[np.float64] | None = None) -> float:
        order = checked_order(order, len(self._order))
        n, m = len(order), self._recipe.batch_size
        etas = rates_of(self._recipe, n, rates).tolist()
        self._order[:n] = self._backend.asarray(order)
        self._ordered[:n] = self._labels[self._order[:n]]
        self._total.array.fill(0)
        self._steps += len(etas)
        with self._cublas.precision(self._recipe.precision):
            for first, eta in zip(range(0, n, m), etas, strict=True):
                self._step(first, min(first + m, n), eta)
        return float(self._backend.to_host(self._total.array)[0]) / n

    def _step(self, first: int, last: int, eta: float) -> None:
        """Train on the examples `first` to `last` of the order."""
        kernels, product, weights = self._kernels, self._cublas.gemm, self._weights
        examples = self._examples.get((first, last))
        if examples is None:
            examples = kernels.as_handle(self._order[first:last]), kernels.as_handle(self._ordered[first:last])
            if len(self._examples) < MOST_HANDLES:
                self._examples[first, last] = examples
        rows, labels = examples
        X, A, D = self._space(last - first)

        kernels.gather_scale(self._images.handle, rows, out=X.handle)
        below = X
        for W, b, a in zip(weights, self._biases, A, strict=True):
            product(below.array, W.T, out=a.array)
            kernels.bias_sigmoid(a.handle, b.handle, out=a.handle)
            below = a

        kernels.output_delta(A[-1].handle, labels, 2 / (last - first), self._total.handle, out=D[-1].handle)
        for layer in reversed(range(1, len(weights))):
            delta, a = D[layer - 1], A[layer - 1]
            product(D[layer].array, weights[layer], out=delta.array)
            kernels.hidden_delta(delta.handle, a.handle, out=delta.handle)

        for W, b, delta, below in zip(weights, self._biases, D, [X, *A[:-1]], strict=True):
            product(delta.array.T, below.array, out=W, alpha=-eta, beta=1.0)
            kernels.descend_sums(b.handle, delta.handle, eta, out=b.handle)

    def _space(self, m: int) -> _Space:
        """Return the work space of a batch of `m` examples: all of it, or where a batch is smaller its first rows."""
        if m not in self._spaces:
            X, *rest = [self._shared(array[:m]) for array in self._arrays]
            n_layers = len(self._weights)
            self._spaces[m] = _Space(X, rest[:n_layers], rest[n_layers:])
        return self._spaces[m]

    def _shared(self, array: Array) -> _Shared:
        return _Shared(array, self._kernels.as_handle(array))

    def memory(self) -> Memory:
        return Memory(self._steps, ())

    def parameters(self) -> Parameters:
        return Parameters(self._weights, [b.array for b in self._biases])
