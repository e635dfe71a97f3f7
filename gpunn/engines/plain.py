"""The `plain` engine: array operations only, line for line the equations of `gpunn.equations`."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gpunn.backends import Backend
from gpunn.backends.limits import usable_cores
from gpunn.dropout import keys, mask
from gpunn.engines.base import Examples, Parameters, Recipe, tf32_reason
from gpunn.engines.checks import checked_order, own_examples, rates_of
from gpunn.engines.data_parallel import Sharing, SharingEngine, views
from gpunn.engines.stopping import check_stopped
from gpunn.equations import Array, backpropagate, scale
from gpunn.losses import LOSSES
from gpunn.max_norm import limit_norms
from gpunn.optimizers import OptimizerState


@final
class PlainEngine(SharingEngine):
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
        self._epoch = start.epochs
        if self._examples.sparse:  # SciPy's products read the first layer's arrays by columns, and make gradients so
            for arrays in (self._weights, *self._stepper.moments):
                arrays[0] = np.asfortranarray(arrays[0])
        self._sharing: Sharing | None = None
        self.threads = usable_cores() if backend.name == "cpu" else 1

    @classmethod
    def unsupported_reason(
        cls,
        backend: Backend,
        start: Parameters,  # noqa: ARG003
        recipe: Recipe,
        examples: Examples | None = None,
    ) -> str | None:
        if examples is not None and examples.sparse and backend.name != "cpu":
            return "on a GPU its inputs must be an array, got a sparse matrix"
        return tf32_reason(recipe)

    def run_epoch(self, order: NDArray[Any], rates: NDArray[np.float64] | None = None) -> float:
        xp, m = self._backend.xp, self._recipe.batch_size
        parameters, dtype = (*self._weights, *self._biases), self._one_hot.dtype
        order = checked_order(order, self._examples.n)
        n = len(order)
        batches = [slice(first, min(first + m, n)) for first in range(0, n, m)]
        steps = self._stepper.numbers(rates_of(self._recipe, n, rates), self._recipe.l2)
        layers = keys(self._recipe.seed, self._epoch, len(self._biases) - 1) if self._recipe.dropout else []
        rows = self._backend.asarray(order)
        # Kept on the device, so that no batch waits for the previous loss to be read.
        losses = xp.zeros(len(batches), dtype)
        differentiate = (
            self._differentiate if self._sharing is None else partial(self._differentiate_own, self._sharing)
        )
        # Finite numbers are checked for after the epoch, not at every operation.
        with np.errstate(over="ignore", invalid="ignore"):
            for number, (batch, step) in enumerate(zip(batches, steps, strict=True)):
                check_stopped()
                losses[number], gradients = differentiate(rows, batch, layers)
                self._stepper.step(parameters, gradients, *step)
                if self._recipe.max_norm:
                    for W in self._weights[:-1]:
                        limit_norms(xp, W, self._recipe.max_norm)
        self._epoch += 1
        # Batches are weighted by size, as the last one may be smaller.
        sizes = [batch.stop - batch.start for batch in batches]
        loss = float(np.average(self._backend.to_host(losses).astype(np.float64), weights=sizes))
        return loss if self._sharing is None else self._sharing.total(loss)

    def _differentiate(self, rows: Array, batch: slice, layers: Sequence[int]) -> tuple[Array, Sequence[Array]]:
        """Return the loss and its gradients for a `batch` of the examples `rows`; `layers` are the keys of dropout."""
        X, Y, counts = self._batch(rows[batch])
        loss, dW, db = backpropagate(
            self._backend.xp,
            self._weights,
            self._biases,
            X,
            Y,
            functions=self._functions,
            loss=self._loss,
            masks=self._masks(layers, batch.start, len(Y)),
            weights_of_examples=counts,
        )
        return loss, (*dW, *db)

    def share(self, sharing: Sharing) -> None:
        parameters = (*self._weights, *self._biases)
        self._gradient = sharing.buffer(self._backend.xp, sum(w.size for w in parameters), self._one_hot.dtype)
        self._parts = views(self._gradient, [w.shape for w in parameters])
        self._sharing = sharing

    def _differentiate_own(
        self, sharing: Sharing, rows: Array, batch: slice, layers: Sequence[int]
    ) -> tuple[Array | float, Sequence[Array]]:
        """Return what the own part of `batch` adds to its loss, and the gradients of the whole batch."""
        own = sharing.own(batch)
        share = (own.stop - own.start) / (batch.stop - batch.start)
        loss: Array | float = 0.0
        if share:
            loss, gradients = self._differentiate(rows, own, layers)
            loss *= share
            for gradient, part in zip(gradients, self._parts, strict=True):
                self._backend.xp.multiply(gradient, share, out=part)
        else:
            self._gradient.fill(0)
        sharing.add_up(self._gradient)
        return loss, self._parts

    def _batch(self, rows: Array) -> tuple[Array, Array, Array | None]:
        """Return inputs, targets and weights of the examples `rows`."""
        inputs, targets, weights = self._examples
        X = inputs[rows] if self._examples.sparse else inputs.take(rows, axis=0)
        Y = targets.take(rows, axis=0)
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
