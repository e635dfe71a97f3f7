"""What one would write in NumPy for these networks and nothing else: no abstraction, no generality but in layers."""

from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from benchmarks.peers.base import Peer, Place, scaled
from gpunn import Split
from gpunn.engines import Parameters, Recipe
from gpunn.optimizers import Adam


@final
class NumpyByHand(Peer):
    """A loop over the batches, with all images scaled once, before the first epoch."""

    name = "numpy"
    threads_can_be_set = True

    def __init__(self, start: Parameters, split: Split, recipe: Recipe, place: Place) -> None:
        self._images = scaled(split)
        self._targets = np.eye(len(start.biases[-1]), dtype=np.float32)[split.labels]
        self._start, self._recipe, self._threads = start, recipe, place.threads
        self._softmax = start.functions[-1] == "softmax"
        # Made once: looking for the libraries to limit takes longer than some epochs.
        self._libraries = ThreadpoolController()
        self.reset()

    def reset(self) -> None:
        self._W = [W.copy() for W in self._start.weights]
        self._b = [b.copy() for b in self._start.biases]
        self._moments = [[np.zeros_like(array) for array in (*self._W, *self._b)] for _ in range(2)]
        self._steps = 0

    def run_epoch(self, order: NDArray[Any]) -> float:
        total, m = 0.0, self._recipe.batch_size
        with self._libraries.limit(limits=self._threads, user_api="blas"), np.errstate(over="ignore"):
            for first in range(0, len(order), m):
                total += self._step(order[first : first + m])
        return total / len(order)

    def _step(self, batch: NDArray[Any]) -> float:
        W, b, Y = self._W, self._b, self._targets[batch]
        A, last = [self._images.take(batch, axis=0)], len(W) - 1
        for layer in range(last):
            Z = A[layer] @ W[layer].T + b[layer]
            A.append(np.maximum(Z, 0) if self._softmax else 1 / (1 + np.exp(-Z)))
        Z = A[last] @ W[last].T + b[last]
        if self._softmax:
            Z -= Z.max(axis=1, keepdims=True)
            A.append(np.exp(Z))
            sums = A[-1].sum(axis=1, keepdims=True)
            loss = float((np.log(sums).sum()) - np.vdot(Y, Z))
            delta = (A[-1] / sums - Y) / len(batch)
        else:
            A.append(1 / (1 + np.exp(-Z)))
            error = A[-1] - Y
            loss = float(np.vdot(error, error))
            delta = 2 / len(batch) * error * A[-1] * (1 - A[-1])
        gradients = [Z] * (2 * len(W))
        for layer in reversed(range(len(W))):
            gradients[layer], gradients[len(W) + layer] = delta.T @ A[layer], delta.sum(axis=0)
            if layer > 0:
                slope = A[layer] > 0 if self._softmax else A[layer] * (1 - A[layer])
                delta = (delta @ W[layer]) * slope
        self._update(gradients)
        return loss

    def _update(self, gradients: list[NDArray[Any]]) -> None:
        optimizer, eta = self._recipe.optimizer, self._recipe.learning_rate
        self._steps += 1
        for w, d, m, v in zip((*self._W, *self._b), gradients, *self._moments, strict=True):
            if isinstance(optimizer, Adam):
                m *= optimizer.beta1
                m += (1 - optimizer.beta1) * d
                v *= optimizer.beta2
                v += (1 - optimizer.beta2) * d * d
                root = np.sqrt(v) / (1 - optimizer.beta2**self._steps) ** 0.5 + optimizer.epsilon
                w -= eta / (1 - optimizer.beta1**self._steps) * m / root
            elif optimizer.rule == "nesterov":
                m *= 0.9
                m += d
                w -= eta * (d + 0.9 * m)
            else:
                w -= eta * d

    def parameters(self) -> Parameters:
        return Parameters(self._W, self._b, self._start.functions)
