"""The `plain` engine: array operations only, line for line the equations of `gpunn.equations`."""

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gpunn.backends import Backend
from gpunn.engines.base import Engine, Parameters, Recipe, tf32_refusal
from gpunn.equations import Array, backpropagate, scale


@final
class PlainEngine(Engine):
    """Reads best, takes float32 and float64, and is what the other engines are held to."""

    name = "plain"
    own_threads = False

    def __init__(self, backend: Backend, start: Parameters, images: Array, labels: Array, recipe: Recipe) -> None:
        self._backend = backend
        self._weights = [backend.xp.array(W) for W in start.weights]
        self._biases = [backend.xp.array(b) for b in start.biases]
        self._images = images
        self._labels = labels
        self._recipe = recipe
        self._one_hot = backend.xp.eye(len(self._biases[-1]), dtype=self._biases[-1].dtype)

    @classmethod
    def refusal(cls, backend: Backend, start: Parameters, recipe: Recipe) -> str | None:  # noqa: ARG003
        return tf32_refusal(recipe)

    def run_epoch(self, order: NDArray[Any]) -> float:
        xp, eta, m = self._backend.xp, self._recipe.learning_rate, self._recipe.batch_size
        parameters, dtype = (*self._weights, *self._biases), self._one_hot.dtype
        batches = range(0, len(order), m)
        order = self._backend.asarray(order)
        labels = self._labels[order]
        # Kept on the device, so that no batch waits for the one before to be read back.
        losses = xp.empty(len(batches), dtype)
        # Whether the numbers stay finite is checked where the epoch ends, not at every operation.
        with np.errstate(over="ignore", invalid="ignore"):
            for step, first in enumerate(batches):
                X = scale(self._images.take(order[first : first + m], axis=0), dtype)
                Y = self._one_hot[labels[first : first + m]]
                losses[step], dW, db = backpropagate(xp, self._weights, self._biases, X, Y)
                for parameter, gradient in zip(parameters, (*dW, *db), strict=True):
                    parameter -= eta * gradient
        # The last batch may be smaller than the others, and counts by its size.
        sizes = np.minimum(m, len(order) - np.array(batches))
        return float(np.average(self._backend.to_host(losses).astype(np.float64), weights=sizes))

    def parameters(self) -> Parameters:
        return Parameters(self._weights, self._biases)
