"""The `fused` engine on CUDA: matrix products by cuBLAS, everything between them by fused kernels."""

from collections.abc import Sequence
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from gpunn.backends import Backend
from gpunn.dropout import keys
from gpunn.engines.base import Engine, Examples, Parameters, Recipe, examples_reason, kernels_reason, optimizer_reason
from gpunn.engines.checks import checked_order, own_examples, rates_of
from gpunn.engines.cuda.arrays import Cublas, Shared
from gpunn.engines.cuda.steps import descent
from gpunn.equations import Array
from gpunn.losses import LOSSES
from gpunn.optimizers import OptimizerState

TF32_SINCE = 8.0
"""First compute capability with TF32."""

MOST_HANDLES = 5000
"""Maximum batches whose handles of the order and the labels are kept: all of 60,000 images in batches of 12 or more."""


class _Space(NamedTuple):
    """Work space of a batch of one size."""

    activations: list[Shared]
    """Activations of every layer; of the last one the logits if the loss takes them."""
    deltas: list[Shared]
    inputs: list[Shared]
    """Inputs of each layer: the examples', and the activations of the layer below after dropout."""
    targets: Shared | None
    """Targets, if they are rows."""


@final
class FusedCudaEngine(Engine):
    """For all networks that keep more than one multiprocessor busy, and all recipes.

    All arrays, and Numba's handles of them, are made once; nothing waits for the GPU before the end of an epoch. Steps
    are made as `gpunn.engines.cuda.steps` says.
    """

    name = "fused"
    own_threads = False

    def __init__(self, backend: Backend, start: Parameters, examples: Examples, recipe: Recipe) -> None:
        self._backend, self._kernels, self._recipe = backend, backend.kernels, recipe
        self._cublas = Cublas(backend.xp)
        self._descent = descent(backend, start, recipe)
        self._functions = tuple(start.functions)
        self._computed = LOSSES[recipe.loss].computed(self._functions)
        examples = own_examples(backend.xp, examples, start.sizes[0], start.sizes[-1])
        self._inputs = self._shared(examples.inputs)
        self._targets = examples.targets if examples.labeled else self._shared(examples.targets)
        self._labeled = examples.labeled

        xp, n, m = backend.xp, len(examples.inputs), recipe.batch_size
        n_inputs, *sizes = start.sizes

        def rows(*sizes: int) -> list[Array]:
            return [xp.empty((m, size), np.float32) for size in sizes]

        dropped = sizes[:-1] if recipe.dropout else []
        self._arrays = rows(*sizes), rows(*sizes), rows(n_inputs, *dropped), rows(*sizes[-1:] * (not self._labeled))
        self._spaces: dict[int, _Space] = {}
        self._total = self._shared(xp.zeros(1, np.float64))
        # The order of an epoch and its labels, and handles of each batch's part of both.
        self._order, self._ordered = xp.zeros(n, np.int64), xp.zeros(n if self._labeled else 1, np.uint8)
        self._parts: dict[tuple[int, int], tuple[Any, Any]] = {}
        self._epoch = 0

    @classmethod
    def unsupported_reason(
        cls, backend: Backend, start: Parameters, recipe: Recipe, examples: Examples | None = None
    ) -> str | None:
        reason = (
            examples_reason(examples, floats=True, rows=True)
            or optimizer_reason(recipe)
            or kernels_reason(backend, start)
        )
        if reason is None and recipe.precision == "tf32":
            capability = backend.describe()["compute capability"]
            if float(capability) < TF32_SINCE:
                return f"TF32 needs compute capability {TF32_SINCE}, and {backend.name} has {capability}"
        return reason

    def run_epoch(self, order: NDArray[Any], rates: NDArray[np.float64] | None = None) -> float:
        order = checked_order(order, len(self._order))
        n, m, recipe = len(order), self._recipe.batch_size, self._recipe
        self._descent.begin(rates_of(recipe, n, rates))
        layers = keys(recipe.seed, self._epoch, len(self._functions) - 1) if recipe.dropout else []
        self._epoch += 1
        self._order[:n] = self._backend.asarray(order)
        if self._labeled:
            self._ordered[:n] = self._targets[self._order[:n]]
        self._total.array.fill(0)
        with self._cublas.precision(recipe.precision):
            for first in range(0, n, m):
                self._step(first, min(first + m, n), layers)
        return float(self._backend.to_host(self._total.array)[0]) / n

    def _step(self, first: int, last: int, layers: Sequence[int]) -> None:
        """Train on the examples `first` to `last` of the order; `layers` are dropout's keys."""
        kernels, product, functions = self._kernels, self._cublas.gemm, self._computed
        parameters, share = self._descent.parameters, self._recipe.dropout
        rows, targets = self._part(first, last)
        A, D, inputs, target_rows = self._space(last - first)

        kernels.gather_scale(self._inputs.handle, rows, out=inputs[0].handle)
        for layer, (W, b, a) in enumerate(zip(parameters.weights, parameters.biases, A, strict=True)):
            product(inputs[layer].array, W.T, out=a.array)
            kernels.bias_activate(a.handle, b.handle, functions[layer], out=a.handle)
            if layer < len(layers):
                kernels.drop(a.handle, layers[layer], first, share, out=inputs[layer + 1].handle)

        if target_rows is not None:
            targets = target_rows.handle
            kernels.gather_scale(self._targets.handle, rows, out=targets)
        factor = 1 / (last - first)
        output, delta = A[-1].handle, D[-1].handle
        kernels.output_delta(output, targets, factor, self._total.handle, functions[-1], self._recipe.loss, out=delta)
        for layer in reversed(range(len(D) - 1)):
            product(D[layer + 1].array, parameters.weights[layer + 1], out=D[layer].array)
            delta = D[layer].handle
            kernels.hidden_delta(delta, A[layer].handle, functions[layer], out=delta)
            if layers:
                kernels.drop(delta, layers[layer], first, share, out=delta)

        self._descent.step(D, inputs)

    def _part(self, first: int, last: int) -> tuple[Any, Any]:
        """Return handles of the batch's part of the order, and of its labels where there are any."""
        part = self._parts.get((first, last))
        if part is None:
            as_handle = self._kernels.as_handle
            part = as_handle(self._order[first:last]), as_handle(self._ordered[first:last]) if self._labeled else None
            if len(self._parts) < MOST_HANDLES:
                self._parts[first, last] = part
        return part

    def _space(self, m: int) -> _Space:
        """Return the work space of a batch of `m` examples: all of it, or where a batch is smaller its first rows."""
        if m not in self._spaces:
            A, D, inputs, targets = [[self._shared(array[:m]) for array in arrays] for arrays in self._arrays]
            if not self._recipe.dropout:
                inputs += A[:-1]
            self._spaces[m] = _Space(A, D, inputs, targets[0] if targets else None)
        return self._spaces[m]

    def _shared(self, array: Array) -> Shared:
        return Shared(array, self._kernels.as_handle(array))

    def memory(self) -> OptimizerState:
        return self._descent.memory()

    def parameters(self) -> Parameters:
        found = self._descent.parameters
        return Parameters(found.weights, [b.array for b in found.biases], self._functions)
