"""The `fused` engine on CUDA: matrix products by cuBLAS, everything between them by fused kernels."""

from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from gpunn.backends import Backend
from gpunn.dropout import keys
from gpunn.engines.base import (
    Engine,
    Examples,
    Parameters,
    Recipe,
    examples_reason,
    kernels_reason,
    max_norm_reason,
    optimizer_reason,
)
from gpunn.engines.checks import checked_order, own_examples, rates_of
from gpunn.engines.cuda.arrays import Cublas, Shared
from gpunn.engines.cuda.graphs import AT_ONCE, Replay, record
from gpunn.engines.cuda.steps import Launches, descent
from gpunn.equations import Array
from gpunn.losses import LOSSES
from gpunn.optimizers import OptimizerState

TF32_SINCE = 8.0
"""First compute capability with TF32."""


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

    All arrays, launches and products of a batch are prepared once: from batch to batch and from epoch to epoch nothing
    changes but numbers on the GPU, which `next_batch` picks for each. Where an epoch has many batches, they are
    launched as graphs. Nothing waits for the GPU before the end of an epoch. Steps are made as
    `gpunn.engines.cuda.steps` says.
    """

    name = "fused"
    own_threads = False

    def __init__(self, backend: Backend, start: Parameters, examples: Examples, recipe: Recipe) -> None:
        self._backend, self._kernels, self._recipe = backend, backend.kernels, recipe
        self.threads = 1
        self._cublas = Cublas(backend.xp)
        self._descent = descent(backend, self._cublas, start, recipe)
        self._functions = tuple(start.functions)
        self._computed = LOSSES[recipe.loss].computed(self._functions)
        examples = own_examples(backend.xp, examples, start.sizes[0], start.sizes[-1])
        # Launches are prepared for one array, into which other inputs are copied.
        self._inputs = self._shared(backend.xp.array(examples.inputs) if recipe.distort else examples.inputs)
        self._targets = examples.targets if examples.labeled else self._shared(examples.targets)
        self._labeled = examples.labeled

        xp, n, m = backend.xp, len(examples.inputs), recipe.batch_size
        n_inputs, *sizes = start.sizes

        def rows(*sizes: int) -> list[Array]:
            return [xp.empty((m, size), np.float32) for size in sizes]

        dropped = sizes[:-1] if recipe.dropout else []
        self._arrays = rows(*sizes), rows(*sizes), rows(n_inputs, *dropped), rows(*sizes[-1:] * (not self._labeled))
        self._total = self._shared(xp.zeros(1, np.float64))
        # The order of an epoch, its labels, the numbers of its steps, dropout's keys, and how far it has come.
        self._order, self._ordered = xp.zeros(n, np.int64), xp.zeros(n, np.uint8)
        self._table = xp.zeros((-(-n // m), self._descent.n_numbers), np.float32)
        self._keys, self._place = xp.zeros(len(sizes), np.uint32), xp.zeros(2, np.int64)
        # Those of a batch.
        self._rows, self._classes = xp.zeros(m, np.int64), xp.zeros(m, np.uint8)
        self._first, self._numbers = xp.zeros(1, np.uint32), xp.zeros(self._descent.n_numbers, np.float32)
        self._prepared: dict[int, Launches] = {}
        self._replays: list[Replay] | None = None
        self._epoch = start.epochs
        self._launches(min(n, m))

    @classmethod
    def unsupported_reason(
        cls, backend: Backend, start: Parameters, recipe: Recipe, examples: Examples | None = None
    ) -> str | None:
        reason = (
            examples_reason(examples, floats=True, rows=True)
            or optimizer_reason(recipe)
            or max_norm_reason(recipe)
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
        self._begin(order, rates_of(recipe, n, rates))
        whole, rest = divmod(n, m)
        with self._cublas.in_use(recipe.precision):
            self._train(m, whole)
            self._train(rest, min(rest, 1))
        return float(self._backend.to_host(self._total.array)[0]) / n

    def _begin(self, order: NDArray[np.int64], rates: NDArray[np.float64]) -> None:
        """Put on the GPU what an epoch's batches differ in."""
        asarray, n, m, recipe = self._backend.asarray, len(order), self._recipe.batch_size, self._recipe
        sizes = np.minimum(m, n - m * np.arange(len(rates)))
        with np.errstate(over="ignore", invalid="ignore"):  # what is beyond float32 is seen to diverge
            numbers = self._descent.numbers(rates, sizes).astype(np.float32)
        self._table[: len(numbers)] = asarray(numbers)
        self._order[:n] = asarray(order)
        if self._labeled:
            self._ordered[:n] = self._targets[self._order[:n]]
        if recipe.dropout:
            layers = keys(recipe.seed, self._epoch, len(self._functions) - 1)
            self._keys[: len(layers)] = asarray(np.array(layers, np.uint32))
        self._epoch += 1
        self._place.fill(0)
        self._total.array.fill(0)

    def _train(self, size: int, times: int) -> None:
        """Train on the next `times` batches of `size` examples."""
        if times > AT_ONCE and self._replays is None:
            # Graphs can only be captured from what has run before.
            self._launch(size)
            times -= 1
            self._replays = record(self._backend.xp, self._cublas, self._launches(size))
        if size == self._recipe.batch_size:
            for n, replay in self._replays or ():
                for _ in range(times // n):
                    replay()
                times %= n
        for _ in range(times):
            self._launch(size)

    def _launch(self, size: int) -> None:
        for launch in self._launches(size):
            launch()

    def _launches(self, size: int) -> Launches:
        """Return what trains on the next `size` examples of the order, in turn."""
        if size not in self._prepared:
            self._prepared[size] = self._prepare(size)
        return self._prepared[size]

    def _prepare(self, size: int) -> Launches:
        kernels, product, functions = self._kernels, self._cublas.prepare, self._computed
        handle = kernels.as_handle
        parameters, share = self._descent.parameters, self._recipe.dropout
        A, D, inputs, target_rows = self._space(size)
        rows, classes, first = handle(self._rows[:size]), handle(self._classes[:size]), handle(self._first)
        layer_keys = [handle(self._keys[layer : layer + 1]) for layer in range(len(A) - 1)] if share else []
        place = (handle(array) for array in (self._order, self._ordered, self._table, self._place))
        numbers = handle(self._numbers)

        launches: Launches = kernels.next_batch.prepare(
            *place, rows=rows, classes=classes, first=first, numbers=numbers
        )
        launches += kernels.gather_scale.prepare(self._inputs.handle, rows, out=inputs[0].handle)
        for layer, (W, b, a) in enumerate(zip(parameters.weights, parameters.biases, A, strict=True)):
            launches.append(product(inputs[layer].array, W.T, out=a.array))
            launches += kernels.bias_activate.prepare(a.handle, b.handle, functions[layer], out=a.handle)
            if layer < len(layer_keys):
                below = inputs[layer + 1].handle
                launches += kernels.drop.prepare(a.handle, layer_keys[layer], first, share, out=below)

        targets = classes
        if target_rows is not None:
            targets = target_rows.handle
            launches += kernels.gather_scale.prepare(self._targets.handle, rows, out=targets)
        factor, total, last = self._descent.factor(size, self._numbers), self._total.handle, D[-1].handle
        kind = functions[-1], self._recipe.loss
        launches += kernels.output_delta.prepare(A[-1].handle, targets, factor, total, *kind, out=last)
        for layer in reversed(range(len(D) - 1)):
            delta = D[layer]
            launches.append(product(D[layer + 1].array, parameters.weights[layer + 1], out=delta.array))
            launches += kernels.hidden_delta.prepare(delta.handle, A[layer].handle, functions[layer], out=delta.handle)
            if layer_keys:
                launches += kernels.drop.prepare(delta.handle, layer_keys[layer], first, share, out=delta.handle)
        return launches + self._descent.prepare(D, inputs, self._numbers)

    def _space(self, m: int) -> _Space:
        """Return the work space of a batch of `m` examples: all of it, or where a batch is smaller its first rows."""
        A, D, inputs, targets = [[self._shared(array[:m]) for array in arrays] for arrays in self._arrays]
        if not self._recipe.dropout:
            inputs += A[:-1]
        return _Space(A, D, inputs, targets[0] if targets else None)

    def _shared(self, array: Array) -> Shared:
        return Shared(array, self._kernels.as_handle(array))

    def prepare(self, inputs: Array) -> Array:
        return inputs

    def use(self, prepared: Array) -> None:
        self._inputs.array[...] = prepared

    def memory(self) -> OptimizerState:
        return self._descent.memory()

    def parameters(self) -> Parameters:
        found = self._descent.parameters
        return Parameters(found.weights, [b.array for b in found.biases], self._functions)
