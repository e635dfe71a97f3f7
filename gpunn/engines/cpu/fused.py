"""The `fused` engine: matrix products by BLAS, everything between them by fused kernels."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from gpunn.backends import Backend
from gpunn.backends.limits import usable_cores
from gpunn.dropout import keys as keys_of
from gpunn.engines.base import (
    Examples,
    Parameters,
    Recipe,
    examples_reason,
    kernels_reason,
    optimizer_reason,
    tf32_reason,
)
from gpunn.engines.checks import checked_order, own_examples, rates_of
from gpunn.engines.cpu.first_layer import DenseInputs, SparseInputs, multiplied_sparsely
from gpunn.engines.cpu.steps import GRADIENT_ROWS, Descent, ParamAndMoments, is_implicit
from gpunn.engines.cpu.threads import part
from gpunn.engines.data_parallel import Sharing, SharingEngine, views
from gpunn.engines.kinds import kind_of
from gpunn.engines.speed import MIN_PRODUCTS_FOR_THREADS
from gpunn.engines.stopping import check_stopped
from gpunn.engines.threads import blas_threads
from gpunn.equations import Array
from gpunn.losses import LOSSES
from gpunn.max_norm import limit_norms
from gpunn.optimizers import OptimizerState


class _Batch(NamedTuple):
    rows: NDArray[np.int64]
    """Indices of its examples, or of this process's part of them."""
    targets: Array
    first: int
    """Position in the epoch of the first of these."""
    keys: Sequence[int]
    """Keys of dropout, one for each hidden layer; none without dropout."""
    size: int
    """Number of its examples, those of other processes included."""


@final
class FusedEngine(SharingEngine):
    """Multiplies by BLAS, with fused kernels between the products; for large networks.

    Threads share each batch: in forward and backward by examples, in the update by neurons. BLAS runs inside each of
    them, single-threaded. All work space is allocated once.
    """

    name = "fused"
    own_threads = True

    def __init__(self, backend: Backend, start: Parameters, examples: Examples, recipe: Recipe) -> None:
        from gpunn.engines.cpu.threads import Team
        from gpunn.kernels.announcement import announced

        self._kernels = backend.kernels
        self._recipe = recipe
        examples = own_examples(np, examples, start.sizes[0], start.sizes[-1])
        self._n_images, self._targets = examples.n, examples.targets
        self._epoch = start.epochs
        self._sharing: Sharing | None = None
        self._names = tuple(start.functions)
        self._functions = LOSSES[recipe.loss].computed(self._names)
        m = recipe.batch_size
        sizes = start.sizes
        products = m * max(n_in * n_out for n_in, n_out in pairwise(sizes))
        self._team = Team(usable_cores() if products >= MIN_PRODUCTS_FOR_THREADS else 1)
        self.threads = self._team.threads
        self._losses = [np.zeros(1, np.float64) for _ in range(self._team.threads)]

        parameters = (*start.weights, *start.biases)
        # For each parameter: its values, then its moments.
        param_and_moments = list(zip(parameters, *recipe.optimizer.moments(np, parameters, start.memory), strict=True))
        sparse = multiplied_sparsely(examples)
        with announced(kind_of(self.name, start, recipe, examples, sparse=sparse)):
            self._lay_out(param_and_moments, sizes, examples, start.steps, sparse=sparse)
            self._compile()

    def _lay_out(
        self,
        param_and_moments: Sequence[ParamAndMoments],
        sizes: Sequence[int],
        examples: Examples,
        steps: int,
        *,
        sparse: bool,
    ) -> None:
        """Copy the parameters and moments `param_and_moments`, after `steps` steps, and allocate all work space."""
        m, recipe = self._recipe.batch_size, self._recipe
        first, *weights = param_and_moments[: len(sizes) - 1]
        self._inputs: DenseInputs | SparseInputs
        if sparse:
            threads, padded = self._team.threads, len(sizes) > 2
            self._inputs = SparseInputs(first, examples.inputs, m, threads, implicit=is_implicit(recipe), padded=padded)
        else:
            self._inputs = DenseInputs(self._kernels, first, examples.inputs, m)
        # Sparse inputs pad a hidden layer with neurons without weights.
        self._n_first = sizes[1]
        widths = [self._inputs.width, *sizes[2:]]
        padding = widths[0] - self._n_first
        self._weights = [[np.array(W) for W in layer] for layer in weights]
        self._biases = [[np.array(b) for b in layer] for layer in param_and_moments[len(sizes) - 1 :]]
        self._biases[0] = [np.pad(b, (0, padding)) for b in self._biases[0]]
        if self._weights:
            self._weights[0] = [np.pad(W, ((0, 0), (0, padding))) for W in self._weights[0]]

        # Zeros: some products warn of NaN in uninitialised memory, although they don't use it.
        self._activations = [np.zeros((m, n), np.float32) for n in widths]
        self._deltas = [np.zeros((m, n), np.float32) for n in widths]
        # Inputs of the next layer: the activations, after dropout.
        self._passed = [np.zeros_like(A) if recipe.dropout else A for A in self._activations[:-1]]
        by_blas = [W.shape for W in (first[0], *(layer[0] for layer in self._weights))]
        if isinstance(self._inputs, SparseInputs):
            del by_blas[0]
        longest = max([*widths, *(min(n, GRADIENT_ROWS) * n_in for n, n_in in by_blas)])
        self._descent = Descent(self._kernels, recipe, steps, longest, self._team.threads)

    def _compile(self) -> None:
        """Compile every kernel by an empty call, so that the first epoch doesn't include the time."""
        rows = np.zeros(0, np.int64)
        keys = [0] * (len(self._biases) - 1) if self._recipe.dropout else []
        self._compute_delta(0, slice(0, 0), _Batch(rows, self._targets[rows], 0, keys, 1))
        self._inputs.compile(rows)
        self._descent.compile()

    @classmethod
    def unsupported_reason(
        cls, backend: Backend, start: Parameters, recipe: Recipe, examples: Examples | None = None
    ) -> str | None:
        return (
            tf32_reason(recipe)
            or examples_reason(examples, floats=True, rows=True, sparse=True)
            or optimizer_reason(recipe)
            or kernels_reason(backend, start, "numba", "threadpoolctl")
        )

    def run_epoch(self, order: NDArray[Any], rates: NDArray[np.float64] | None = None) -> float:
        rows = checked_order(order, self._n_images)
        m, n = self._recipe.batch_size, len(rows)
        self._descent.begin(rates_of(self._recipe, n, rates))
        targets = self._targets[rows]
        hidden = len(self._biases) - 1
        keys = keys_of(self._recipe.seed, self._epoch, hidden) if self._recipe.dropout else []
        for loss in self._losses:
            loss[...] = 0
        # Finite numbers are checked for after the epoch, not at every operation.
        with blas_threads(1), np.errstate(over="ignore", invalid="ignore"):
            for first in range(0, n, m):
                check_stopped()
                batch = own = slice(first, min(first + m, n))
                if self._sharing is not None:
                    own = self._sharing.own(batch)
                self._step(_Batch(rows[own], targets[own], own.start, keys, batch.stop - batch.start))
        self._epoch += 1
        mean = sum(float(loss[0]) for loss in self._losses) / n
        return mean if self._sharing is None else self._sharing.total(mean)

    def _step(self, batch: _Batch) -> None:
        """Train on one batch."""
        m, threads = len(batch.rows), self._team.threads

        def delta(thread: int) -> None:
            self._compute_delta(thread, part(m, thread, threads), batch)

        def update(thread: int) -> None:
            self._update(thread, batch.rows)

        def differentiate(thread: int) -> None:
            self._differentiate(thread, batch.rows)

        self._descent.next_step()
        self._team.run(delta)
        if self._sharing is None:
            self._team.run(update)
        else:
            self._team.run(differentiate)
            self._sharing.add_up(self._gradient)
            self._team.run(self._update_by_gradients)
        if self._recipe.max_norm:
            self._team.run(self._limit_norms)

    def _limit_norms(self, thread: int) -> None:
        """Scale down weights of this thread's share of each hidden layer's neurons where their norm is too large."""
        most, threads = self._recipe.max_norm, self._team.threads
        self._inputs.limit_norms(most, thread, threads)
        for weights, *_ in self._weights[:-1]:
            limit_norms(np, weights[part(len(weights), thread, threads)], most)

    def _compute_delta(self, thread: int, own: slice, batch: _Batch) -> None:
        """Compute forward and backward passes of the part `own` of the examples."""
        kernels, functions, share = self._kernels, self._functions, self._recipe.dropout
        keys, first = batch.keys, batch.first + own.start
        A = [activations[own] for activations in self._activations]
        passed = [inputs[own] for inputs in self._passed]
        D = [delta[own] for delta in self._deltas]

        for layer, ((b, *_), function) in enumerate(zip(self._biases, functions, strict=True)):
            if layer == 0:
                self._inputs.multiply(batch.rows[own], own, out=A[0])
            else:
                np.dot(passed[layer - 1], self._weights[layer - 1][0].T, out=A[layer])
            kernels.bias_activate(A[layer], b, function, out=A[layer])
            if layer == 0 and A[0].shape[1] > self._n_first:
                A[0][:, self._n_first :] = 0
            if layer < len(keys):
                kernels.drop(A[layer], keys[layer], first, share, out=passed[layer])

        targets, total = batch.targets[own], self._losses[thread]
        kernels.output_delta(A[-1], targets, 1 / batch.size, total, functions[-1], self._recipe.loss, out=D[-1])
        for layer in reversed(range(len(self._weights))):
            np.dot(D[layer + 1], self._weights[layer][0], out=D[layer])
            kernels.hidden_delta(D[layer], A[layer], functions[layer], out=D[layer])
            if keys:
                kernels.drop(D[layer], keys[layer], first, share, out=D[layer])

    def _update(self, thread: int, rows: Array) -> None:
        """Make the step for this thread's share of each layer's neurons."""
        m, threads, descent = len(rows), self._team.threads, self._descent
        self._inputs.step(descent, rows, self._deltas[0][:m], thread, threads)
        for layer, param_and_moments in enumerate(self._weights, 1):
            own = part(len(param_and_moments[0]), thread, threads)
            descent.step_rows(param_and_moments, self._deltas[layer][:m], self._passed[layer - 1][:m], own, thread)
        for layer, (param_and_moments, delta) in enumerate(zip(self._biases, self._deltas, strict=True)):
            if layer % threads == thread:
                descent.step_biases(param_and_moments, delta[:m], thread)

    def share(self, sharing: Sharing) -> None:
        shapes = [(self._inputs.n_gradient,), *(layer[0].shape for layer in (*self._weights, *self._biases))]
        self._gradient = sharing.buffer(np, sum(map(math.prod, shapes)), np.dtype(np.float32))
        self._of_inputs, *self._gradients = views(self._gradient, shapes)
        self._differentiate(0, np.zeros(0, np.int64))  # compiles its kernels
        self._sharing = sharing

    def _differentiate(self, thread: int, rows: Array) -> None:
        """Compute the gradients of this thread's share of each layer's neurons, from the delta of the examples."""
        m, threads = len(rows), self._team.threads
        of_weights, of_biases = self._gradients[: len(self._weights)], self._gradients[len(self._weights) :]
        self._inputs.differentiate(rows, self._deltas[0][:m], thread, threads, out=self._of_inputs)
        for layer, gradient in enumerate(of_weights, 1):
            own = part(len(gradient), thread, threads)
            np.dot(self._deltas[layer][:m, own].T, self._passed[layer - 1][:m], out=gradient[own])
        for layer, (gradient, delta) in enumerate(zip(of_biases, self._deltas, strict=True)):
            if layer % threads == thread:
                self._kernels.column_sums(delta[:m], out=gradient)

    def _update_by_gradients(self, thread: int) -> None:
        """Make the step for this thread's share of each layer's neurons, by the sums of all processes' gradients."""
        threads, descent = self._team.threads, self._descent
        of_weights, of_biases = self._gradients[: len(self._weights)], self._gradients[len(self._weights) :]
        self._inputs.step_by_gradient(descent, self._of_inputs, thread, threads)
        for param_and_moments, gradient in zip(self._weights, of_weights, strict=True):
            own = part(len(gradient), thread, threads)
            descent.step([array[own] for array in param_and_moments], gradient[own])
        for layer, (param_and_moments, gradient) in enumerate(zip(self._biases, of_biases, strict=True)):
            if layer % threads == thread:
                descent.step_biases_by_gradient(param_and_moments, gradient)

    def prepare(self, inputs: Array) -> Any:
        return self._inputs.prepare(inputs)

    def use(self, prepared: Any) -> None:
        self._inputs.use(prepared)

    def memory(self) -> OptimizerState:
        numbers = range(1, 1 + self._recipe.optimizer.n_moments)
        return OptimizerState(self._descent.steps, tuple(map(self._copies, numbers)))

    def parameters(self) -> Parameters:
        found = self._copies(0)
        n_layers = len(self._biases)
        return Parameters(found[:n_layers], found[n_layers:], self._names)

    def _copies(self, number: int) -> list[NDArray[np.float32]]:
        """Return copies of weights, then biases (`number` 0), or of a moment (from 1 on), without padding."""
        n = self._n_first
        weights = [layer[number] for layer in self._weights]
        if weights:
            weights[0] = weights[0][:, :n]
        arrays = [*weights, self._biases[0][number][:n], *(layer[number] for layer in self._biases[1:])]
        return [self._inputs.copy_of(number), *map(np.array, arrays)]
