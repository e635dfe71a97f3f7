"""scikit-learn: `MLPClassifier` where the loss is its own, or `MLPRegressor`, brought to gpunn's.

A regressor's output is linear and its error enters the last layer as it is; two lines of a subclass make the output
sigmoid and multiply the error by 2 sigma'(z). The loop, the products and the optimiser are scikit-learn's. All images
are scaled before the first epoch, and brought into the epoch's order in the timed region.
"""

from typing import Any, final

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.neural_network import MLPClassifier, MLPRegressor
from threadpoolctl import ThreadpoolController

from benchmarks.peers.base import PLAIN, Peer, Place, scaled
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
    """One `partial_fit` an epoch, without shuffling or regularisation."""

    name = "sklearn"
    threads_can_be_set = True
    # Its Adam adds epsilon before the correction, which makes another network.
    knows = frozenset({PLAIN, ("cross_entropy", "descent"), ("cross_entropy", "nesterov")})

    def __init__(self, start: Parameters, split: Split, recipe: Recipe, place: Place) -> None:
        self._start, self._classifies = start, start.functions[-1] == "softmax"
        self._images = scaled(split)
        one_hot = np.eye(len(start.biases[-1]), dtype=np.float32)
        self._targets: Any = split.labels if self._classifies else one_hot[split.labels]
        self._ordered = np.empty_like(self._images)
        rule = recipe.optimizer.rule
        self._model: Any = (MLPClassifier if self._classifies else _SigmoidOutput)(
            hidden_layer_sizes=[len(b) for b in start.biases[:-1]],
            activation="relu" if self._classifies else "logistic",
            solver="sgd",
            alpha=0.0,
            batch_size=1,
            learning_rate_init=recipe.learning_rate,
            momentum=0.9 if rule == "nesterov" else 0.0,
            nesterovs_momentum=rule == "nesterov",
            shuffle=False,
        )
        # The first call makes the network; what it has learnt is overwritten.
        classes = {"classes": np.arange(len(start.biases[-1]))} if self._classifies else {}
        self._model.partial_fit(self._images[:1], self._targets[:1], **classes)
        if not self._classifies:
            self._model.out_activation_ = "logistic"
        self._model.batch_size = min(recipe.batch_size, len(split))
        self._threads = place.threads
        self._libraries = ThreadpoolController()
        self.reset()

    def reset(self) -> None:
        for mine, W in zip(self._model.coefs_, self._start.weights, strict=True):
            mine[...] = W.T
        for mine, b in zip(self._model.intercepts_, self._start.biases, strict=True):
            mine[...] = b
        vars(self._model).pop("_optimizer", None)  # the next call makes another

    def run_epoch(self, order: NDArray[Any]) -> float:
        with (
            self._libraries.limit(limits=self._threads, user_api="blas"),
            sklearn.config_context(assume_finite=True, skip_parameter_validation=True),
        ):
            ordered = self._ordered[: len(order)]
            self._images.take(order, axis=0, out=ordered, mode="clip")
            self._model.partial_fit(ordered, self._targets[order])
        # A regressor's is half the mean over the outputs, not their sum.
        scale = 1 if self._classifies else 2 * self._targets.shape[1]
        return float(self._model.loss_ * scale)

    def parameters(self) -> Parameters:
        return Parameters([W.T.copy() for W in self._model.coefs_], self._model.intercepts_, self._start.functions)
