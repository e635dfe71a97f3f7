"""What one would write in NumPy for this network and nothing else: no abstraction, no generality but in layers."""

from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from benchmarks.peers.base import Peer, Place
from gpunn import Split
from gpunn.engines import Parameters, Recipe


def run_epoch(
    network: Parameters, images: NDArray[Any], labels: NDArray[np.uint8], order: NDArray[Any], recipe: Recipe
) -> float:
    """Train `network`, float32, in place for an epoch over `order`; return its mean loss.

    `images` are grey levels, uint8, or already scaled to [0, 1], float32.
    """
    W, b, m, eta = list(network.weights), list(network.biases), recipe.batch_size, recipe.learning_rate
    layers = range(len(W))
    targets = np.eye(len(b[-1]), dtype=np.float32)
    total = 0.0
    with np.errstate(over="ignore"):
        for first in range(0, len(order), m):
            batch = order[first : first + m]
            X = images.take(batch, axis=0)
            if X.dtype == np.uint8:
                X = X.astype(np.float32)
                X /= 255
            A = [X]
            for layer in layers:
                A.append(1 / (1 + np.exp(-(A[layer] @ W[layer].T + b[layer]))))
            error = A[-1] - targets[labels[batch]]
            total += float(np.vdot(error, error))
            delta = 2 / len(batch) * error * A[-1] * (1 - A[-1])
            for layer in reversed(layers):
                dW, db = delta.T @ A[layer], delta.sum(axis=0)
                if layer > 0:
                    delta = (delta @ W[layer]) * A[layer] * (1 - A[layer])
                W[layer] -= eta * dW
                b[layer] -= eta * db
    return total / len(order)


@final
class NumpyByHand(Peer):
    """The loop above, with all images scaled once, before the first epoch."""

    name = "numpy"
    threads_can_be_set = True

    def __init__(self, start: Parameters, split: Split, recipe: Recipe, place: Place) -> None:
        self._network = Parameters([W.copy() for W in start.weights], [b.copy() for b in start.biases])
        self._images = split.images.astype(np.float32) / 255
        self._labels = split.labels
        self._recipe = recipe
        self._threads = place.threads
        # Made once: looking for the libraries to limit takes longer than some epochs.
        self._libraries = ThreadpoolController()

    def run_epoch(self, order: NDArray[Any]) -> float:
        with self._libraries.limit(limits=self._threads, user_api="blas"):
            return run_epoch(self._network, self._images, self._labels, order, self._recipe)

    def parameters(self) -> Parameters:
        return self._network
