"""scikit-learn: `MLPRegressor`, brought to gpunn's loss.

A regressor's output is linear and its error enters the last layer as it is; two lines of a subclass make the output
sigmoid and multiply the error by 2 sigma'(z). The loop, the products and the optimiser are scikit-learn's. All images
are scaled before the first epoch, and brought into the epoch's order in the timed region.
"""

from typing import Any, final

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.neural_network import MLPRegressor
from threadpoolctl import ThreadpoolController

from benchmarks.peers.base import Peer, Place
from gpunn import Split
from gpunn.engines import Parameters, Recipe


class _SigmoidOutput(MLPRegressor):  # type: ignore[misc,unused-ignore] # scikit-learn has no types
    """An `MLPRegressor` with sigmoid output neurons and the gradient of the sum of their squared errors."""

    def _compute_loss_grad(self, layer: int, sw_sum: Any, activations: Any, deltas: Any, *gradients: Any) -> None:
        if layer == self.n_layers_ - 2:
            output = activations[-1]
            deltas[layer] *= 2 * output * (1 - output)
        super()._compute_loss_grad(layer, sw_sum, activations, deltas, *gradients)


@final
class SklearnMlp(Peer):
    """One `partial_fit` an epoch, without shuffling, momentum or regularisation."""

    name = "sklearn"
    threads_can_be_set = True

    def __init__(self, start: Parameters, split: Split, recipe: Recipe, place: Place) -> None:
        self._images = split.images.astype(np.float32) / 255
        self._targets = np.eye(len(start.biases[-1]), dtype=np.float32)[split.labels]
        self._ordered = np.empty_like(self._images)
        self._model: Any = _SigmoidOutput(
            hidden_layer_sizes=[len(b) for b in start.biases[:-1]],
            activation="logistic",
            solver="sgd",
            alpha=0.0,
            batch_size=1,
            learning_rate_init=recipe.learning_rate,
            momentum=0.0,
            nesterovs_momentum=False,
            shuffle=False,
        )
        # The first call makes the network; what it has learnt is overwritten.
        self._model.partial_fit(self._images[:1], self._targets[:1])
        self._model.out_activation_ = "logistic"
        self._model.batch_size = min(recipe.batch_size, len(split))
        for mine, W in zip(self._model.coefs_, start.weights, strict=True):
            mine[...] = W.T
        for mine, b in zip(self._model.intercepts_, start.biases, strict=True):
            mine[...] = b
        self._threads = place.threads
        self._libraries = ThreadpoolController()

    def run_epoch(self, order: NDArray[Any]) -> float:
        with (
            self._libraries.limit(limits=self._threads, user_api="blas"),
            sklearn.config_context(assume_finite=True, skip_parameter_validation=True),
        ):
            self._images.take(order, axis=0, out=self._ordered, mode="clip")
            self._model.partial_fit(self._ordered, self._targets[order])
        # Its loss is half the mean over the outputs, not their sum.
        return float(self._model.loss_ * 2 * self._targets.shape[1])

    def parameters(self) -> Parameters:
        return Parameters([W.T.copy() for W in self._model.coefs_], self._model.intercepts_)
