"""The `plain` engine: array operations only, line for line the equations of `gpunn.equations`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gpunn.backends import Backend
from gpunn.backends.limits import usable_cores
from gpunn.dropout import keys, mask
from gpunn.engines.base import Engine, Examples, Parameters, Recipe, tf32_reason
from gpunn.engines.checks import checked_order, own_examples, rates_of
from gpunn.engines.stopping import check_stopped
from gpunn.equations import Array, backpropagate, scale
from gpunn.losses import LOSSES
from gpunn.optimizers import OptimizerState


@final
class PlainEngine(Engine):
    """The simplest engine: supports float32, float64 and every recipe, and is the reference for the others."""

    name = "plain"
    own_threads = False

    def __init__(self, backend: Backend, start: Parameters, examples: Examples, recipe: Recipe) -> None:
        self._backend = backend
        self._weights = [backend.xp.array(W) for W in start.weights]
        self._biases = [backend.xp.array(b) for b in start.biases]
        self._functions = start.functions
        self._examples = own_examples(backend.xp, examples, start.sizes[0], start.sizes[-1])
        self._recipe = recipe
        self._loss = replace(LOSSES[recipe.loss], largest=recipe.largest_loss)
        self._one_hot = backend.xp.eye(len(self._biases[-1]), dtype=self._biases[-1].dtype)
        self._stepper = recipe.optimizer.stepper(backend.xp, (*self._weights, *self._biases), start.memory)
        self._epoch = 0
        self.threads = usable_cores() if backend.name == "cpu" else 1

    @classmethod
    def unsupported_reason(
        cls,
        backend: Backend,  # noqa: ARG003
        start: Parameters,  # noqa: ARG003
        recipe: Recipe,
        examples: Examples | None = None,  # noqa: ARG003
    ) -> str | None:
        return tf32_reason(recipe)

    def run_epoch(self, order: NDArray[Any], rates: NDArray[np.float64] | None = None) -> float:
        xp, m = self._backend.xp, self._recipe.batch_size
        parameters, dtype = (*self._weights, *self._biases), self._one_hot.dtype
        order = checked_order(order, len(self._examples.inputs))
        batches = range(0, len(order), m)
        steps = self._stepper.numbers(rates_of(self._recipe, len(order), rates), self._recipe.l2)
        layers = keys(self._recipe.seed, self._epoch, len(self._biases) - 1) if self._recipe.dropout else []
        rows = self._backend.asarray(order)
        # Kept on the device, so that no batch waits for the previous loss to be read.
        losses = xp.empty(len(batches), dtype)
        # Finite numbers are checked for after the epoch, not at every operation.
        with np.errstate(over="ignore", invalid="ignore"):
            for number, (first, step) in enumerate(zip(batches, steps, strict=True)):
                check_stopped()
                X, Y, counts = self._batch(rows[first : first + m])
                losses[number], dW, db = backpropagate(
                    xp,
                    self._weights,
                    self._biases,
                    X,
                    Y,
                    functions=self._functions,
                    loss=self._loss,
                    masks=self._masks(layers, first, len(X)),
                    weights_of_examples=counts,
                )
                self._stepper.step(parameters, (*dW, *db), *step)
        self._epoch += 1
        # Batches are weighted by size, as the last one may be smaller.
        sizes = np.minimum(m, len(order) - np.array(batches))
        return float(np.average(self._backend.to_host(losses).astype(np.float64), weights=sizes))

    def _batch(self, rows: Array) -> tuple[Array, Array, Array | None]:
        """Return inputs, targets and weights of the examples `rows`."""
        inputs, targets, weights = self._examples
        X, Y = inputs.take(rows, axis=0), targets.take(rows, axis=0)
        if self._examples.grey:
            X = scale(X, self._one_hot.dtype)
        if self._examples.labeled:
            Y = self._one_hot[Y]
        return X, Y, None if weights is None else weights[rows]

    def _masks(self, layers: Sequence[int], first: int, m: int) -> Sequence[Array]:
        """Return dropout masks of the hidden layers for `m` examples from position `first` on; none without dropout."""
        xp, share, dtype = self._backend.xp, self._recipe.dropout, self._one_hot.dtype
        hidden = zip(self._biases, layers, strict=False)  # the output layer has no key
        return [mask(xp, key, first, (m, len(b)), share=share, dtype=dtype) for b, key in hidden]

    def prepare(self, inputs: Array) -> Array:
        return inputs

    def use(self, prepared: Array) -> None:
        self._examples = self._examples._replace(inputs=prepared)

    def parameters(self) -> Parameters:
        copy = self._backend.xp.array
        return Parameters([copy(W) for W in self._weights], [copy(b) for b in self._biases], self._functions)

    def memory(self) -> OptimizerState:
        to_host = self._backend.to_host
        moments = [[np.array(to_host(moment)) for moment in moments] for moments in self._stepper.moments]
        return OptimizerState(self._stepper.steps, tuple(moments))
