"""Thinc: a chain of its `Sigmoid` layers, its back-propagation and its optimiser without what isn't plain SGD.

The products are NumPy's, which are faster here than those of the BLIS that Thinc brings along. All images are scaled
before the first epoch, each batch is gathered when it is due.
"""

from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from thinc.api import SGD, Model, Sigmoid, chain, use_ops
from threadpoolctl import ThreadpoolController

from benchmarks.peers.base import PLAIN, Peer, Place, scaled
from gpunn import Split
from gpunn.engines import Parameters, Recipe


@final
class ThincModel(Peer):
    """A loop over the batches, each with `begin_update`, `backprop` and `finish_update`."""

    name = "thinc"
    threads_can_be_set = True
    knows = frozenset({PLAIN})

    def __init__(self, start: Parameters, split: Split, recipe: Recipe, place: Place) -> None:
        self._images = scaled(split)
        self._targets = np.eye(len(start.biases[-1]), dtype=np.float32)[split.labels]
        with use_ops("numpy", use_blis=False):
            self._layers: list[Any] = [Sigmoid(*W.shape) for W in start.weights]
            self._model: Model[Any, Any] = chain(*self._layers) if len(self._layers) > 1 else self._layers[0]
        self._start = start
        self.reset()
        self._optimizer = SGD(recipe.learning_rate, L2=0.0, grad_clip=0.0, use_averages=False)
        self._batch_size, self._threads = recipe.batch_size, place.threads
        self._libraries = ThreadpoolController()

    def reset(self) -> None:
        for layer, W, b in zip(self._layers, self._start.weights, self._start.biases, strict=True):
            layer.set_param("W", W.copy())
            layer.set_param("b", b.copy())

    def run_epoch(self, order: NDArray[Any]) -> float:
        total = 0.0
        with self._libraries.limit(limits=self._threads, user_api="blas"):
            for first in range(0, len(order), self._batch_size):
                batch = order[first : first + self._batch_size]
                found, backprop = self._model.begin_update(self._images[batch])
                error = found - self._targets[batch]
                total += float(np.vdot(error, error))
                error *= 2 / len(batch)
                backprop(error)
                self._model.finish_update(self._optimizer)
        return total / len(order)

    def parameters(self) -> Parameters:
        weights, biases = ([layer.get_param(name).copy() for layer in self._layers] for name in ("W", "b"))
        return Parameters(weights, biases)
