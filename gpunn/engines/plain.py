"""The `plain` engine: array operations only, line for line the equations of `gpunn.equations`."""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gpunn.backends import Backend
from gpunn.dropout import keys, mask
from gpunn.engines.base import Engine, Parameters, Recipe, rates_of, tf32_refusal
from gpunn.equations import Array, backpropagate, scale
from gpunn.losses import LOSSES


@final
class PlainEngine(Engine):
    """Reads best, takes float32 and float64 and every recipe, and is what the other engines are held to."""

    name = "plain"
    own_threads = False

    def __init__(self, backend: Backend, start: Parameters, images: Array, labels: Array, recipe: Recipe) -> None:
        self._backend = backend
        self._weights = [backend.xp.array(W) for W in start.weights]
        self._biases = [backend.xp.array(b) for b in start.biases]
        self._functions = start.functions
        self._images = images
        self._labels = labels
        self._recipe = recipe
        self._loss = LOSSES[recipe.loss]
        self._one_hot = backend.xp.eye(len(self._biases[-1]), dtype=self._biases[-1].dtype)
        self._stepper = recipe.optimizer.stepper(backend.xp, (*self._weights, *self._biases))
        self._epoch = 0

    @classmethod
    def refusal(cls, backend: Backend, start: Parameters, recipe: Recipe) -> str | None:  # noqa: ARG003
        return tf32_refusal(recipe)

    def run_epoch(self, order: NDArray[Any], rates: NDArray[np.float64] | None = None) -> float:
        xp, m = self._backend.xp, self._recipe.batch_size
        parameters, dtype = (*self._weights, *self._biases), self._one_hot.dtype
        batches = range(0, len(order), m)
        etas = rates_of(self._recipe, len(order), rates).tolist()
        layers = keys(self._recipe.seed, self._epoch, len(self._biases) - 1)
        order = self._backend.asarray(order)
        labels = self._labels[order]
        # Kept on the device, so that no batch waits for the one before to be read back.
        losses = xp.empty(len(batches), dtype)
        # Whether the numbers stay finite is checked where the epoch ends, not at every operation.
        with np.errstate(over="ignore", invalid="ignore"):
            for step, (first, eta) in enumerate(zip(batches, etas, strict=True)):
                X = scale(self._images.take(order[first : first + m], axis=0), dtype)
                Y = self._one_hot[labels[first : first + m]]
                masks = self._masks(layers, first, len(X))
                losses[step], dW, db = backpropagate(
                    xp, self._weights, self._biases, X, Y, functions=self._functions, loss=self._loss, masks=masks
                )
                self._penalize(dW, eta)
                self._stepper.step(parameters, (*dW, *db), eta)
        self._epoch += 1
        # The last batch may be smaller than the others, and counts by its size.
        sizes = np.minimum(m, len(order) - np.array(batches))
        return float(np.average(self._backend.to_host(losses).astype(np.float64), weights=sizes))

    def _masks(self, layers: Sequence[int], first: int, m: int) -> Sequence[Array]:
        """Return what dropout multiplies the hidden activations of the examples from `first` on with, or nothing."""
        if not self._recipe.dropout:
            return ()
        xp, share, dtype = self._backend.xp, self._recipe.dropout, self._one_hot.dtype
        hidden = zip(self._biases, layers, strict=False)  # the output layer has no key
        return [mask(xp, key, first, (m, len(b)), share=share, dtype=dtype) for b, key in hidden]

    def _penalize(self, dW: Sequence[Array], eta: float) -> None:
        """Add the L2 penalty: to the gradients, or by shrinking the weights, as the optimiser has it."""
        if not self._recipe.l2:
            return
        for W, gradient in zip(self._weights, dW, strict=True):
            if self._recipe.optimizer.decays_apart:
                W *= 1 - eta * self._recipe.l2
            else:
                gradient += self._recipe.l2 * W

    def parameters(self) -> Parameters:
        return Parameters(self._weights, self._biases, self._functions)
