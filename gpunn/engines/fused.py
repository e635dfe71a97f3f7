"""The `fused` engine: matrix products by BLAS, everything between them by fused kernels."""

from itertools import pairwise
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gpunn.backends import Backend
from gpunn.backends.cpu import usable_cores
from gpunn.engines.base import Engine, Parameters, Recipe, kernel_refusal, rates_of, recipe_refusal, tf32_refusal
from gpunn.engines.examples import Examples, examples_refusal
from gpunn.engines.inputs import DenseInputs, SparseInputs, are_sparse
from gpunn.engines.threads import blas_threads, part
from gpunn.equations import Array
from gpunn.optimizers import Memory

WORTH_THREADS = 1_500_000
"""Multiplications in a batch's largest product from which its parts are worth a thread each."""

GRADIENT_ROWS = 128
"""Rows of a weight matrix updated at a time: their gradient is used while it is in the cache."""


@final
class FusedEngine(Engine):
    """For large networks: all work space is made once, and no array is passed over without need.

    Threads share each batch: first by its examples, forward and backward, then by the neurons whose weights
    are updated. BLAS runs inside each of them, with no threads of its own to compete.
    """

    name = "fused"
    own_threads = True

    def __init__(self, backend: Backend, start: Parameters, examples: Examples, recipe: Recipe) -> None:
        from gpunn.kernels.team import Team

        images, labels, _ = examples
        self._steps = 0 if start.memory is None else start.memory.steps
        self._kernels = backend.kernels
        self._recipe = recipe
        self._labels = labels
        m = recipe.batch_size
        sizes = start.sizes
        products = m * max(n_in * n_out for n_in, n_out in pairwise(sizes))
        self._team = Team(usable_cores() if products >= WORTH_THREADS else 1)

        self._inputs: DenseInputs | SparseInputs
        if are_sparse(images):
            self._inputs = SparseInputs(start.weights[0], images, m, self._team.threads)
        else:
            self._inputs = DenseInputs(self._kernels, start.weights[0], images, m)
        # Sparse inputs pad the first layer with neurons without weights.
        self._n_first = sizes[1]
        widths = [self._inputs.width, *sizes[2:]]
        padding = widths[0] - self._n_first
        self._weights = [np.array(W) for W in start.weights[1:]]
        self._biases = [np.array(b) for b in start.biases]
        self._biases[0] = np.pad(self._biases[0], (0, padding))
        if self._weights:
            self._weights[0] = np.pad(self._weights[0], ((0, 0), (0, padding)))
        # Zeros: where memory happens to hold NaN, some products warn of it, though it takes no part in them.
        self._activations = [np.zeros((m, n), np.float32) for n in widths]
        self._deltas = [np.zeros((m, n), np.float32) for n in widths]
        self._gradients = [
            [np.zeros((min(len(W), GRADIENT_ROWS), W.shape[1]), np.float32) for W in self._weights]
            for _ in range(self._team.threads)
        ]
        self._losses = [np.zeros(1, np.float64) for _ in range(self._team.threads)]

    @classmethod
    def refusal(
        cls, backend: Backend, start: Parameters, recipe: Recipe, examples: Examples | None = None
    ) -> str | None:
        return (
            tf32_refusal(recipe)
            or examples_refusal(examples)
            or recipe_refusal(start, recipe)
            or kernel_refusal(backend, start, "numba", "threadpoolctl")
        )

    def run_epoch(self, order: NDArray[Any], rates: NDArray[np.float64] | None = None) -> float:
        m, etas = self._recipe.batch_size, rates_of(self._recipe, len(order), rates).tolist()
        rows = np.ascontiguousarray(order, np.int64)
        labels = self._labels[rows]
        for loss in self._losses:
            loss[...] = 0
        self._steps += len(etas)
        with blas_threads(1):
            for first, eta in zip(range(0, len(order), m), etas, strict=True):
                batch = slice(first, first + m)
                self._step(rows[batch], labels[batch], eta)
        return sum(float(loss[0]) for loss in self._losses) / len(order)

    def _step(self, rows: Array, labels: Array, eta: float) -> None:
        """Train on one batch."""
        m, threads = len(rows), self._team.threads

        def delta(thread: int) -> None:
            own = part(m, thread, threads)
            self._compute_delta(thread, own, rows[own], labels[own], 2 / m)

        def update(thread: int) -> None:
            self._update(thread, rows, eta)

        self._team.run(delta)
        self._team.run(update)

    def _compute_delta(self, thread: int, own: slice, rows: Array, labels: Array, factor: float) -> None:
        """Go forward and backward with the examples `own` of the batch."""
        kernels = self._kernels
        A = [activations[own] for activations in self._activations]
        D = [delta[own] for delta in self._deltas]

        self._inputs.multiply(rows, own, out=A[0])
        kernels.bias_sigmoid(A[0], self._biases[0], out=A[0])
        A[0][:, self._n_first :] = 0
        for layer, W in enumerate(self._weights, 1):
            np.dot(A[layer - 1], W.T, out=A[layer])
            kernels.bias_sigmoid(A[layer], self._biases[layer], out=A[layer])

        kernels.output_delta(A[-1], labels, factor, self._losses[thread], out=D[-1])
        for layer in reversed(range(len(self._weights))):
            np.dot(D[layer + 1], self._weights[layer], out=D[layer])
            kernels.hidden_delta(D[layer], A[layer], out=D[layer])

    def _update(self, thread: int, rows: Array, eta: float) -> None:
        """Make the gradient step for this thread's share of each layer's neurons."""
        kernels, m = self._kernels, len(rows)
        self._inputs.descend(rows, self._deltas[0][:m], eta, thread, self._team.threads)
        for layer, (W, room) in enumerate(zip(self._weights, self._gradients[thread], strict=True), 1):
            own = part(len(W), thread, self._team.threads)
            for first in range(own.start, own.stop, GRADIENT_ROWS):
                neurons = slice(first, min(first + GRADIENT_ROWS, own.stop))
                target, gradient = W[neurons], room[: neurons.stop - first]
                np.dot(self._deltas[layer][:m, neurons].T, self._activations[layer - 1][:m], out=gradient)
                kernels.descend(target, gradient, eta, out=target)
        for layer, (b, delta) in enumerate(zip(self._biases, self._deltas, strict=True)):
            if layer % self._team.threads == thread:
                kernels.descend_sums(b, delta[:m], eta, out=b)

    def memory(self) -> Memory:
        return Memory(self._steps, ())

    def parameters(self) -> Parameters:
        n = self._n_first
        weights = [self._inputs.weights(), *self._weights]
        if len(weights) > 1:
            weights[1] = weights[1][:, :n]
        return Parameters(weights, [self._biases[0][:n], *self._biases[1:]])
