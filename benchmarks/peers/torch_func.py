"""PyTorch's `torch.func`: a batch of every network at once, by `vmap` over `grad_and_value`."""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.func import grad_and_value, vmap

from benchmarks.peers.base import ManyPeer, Place, scaled
from gpunn import Split
from gpunn.engines import Parameters, Recipe


def _loss(weights: Any, biases: Any, X: Any, Y: Any) -> Any:
    for W, b in zip(weights, biases, strict=True):
        X = torch.sigmoid(X @ W.T + b)
    return (X - Y).square().sum() / len(Y)


@final
class TorchFunc(ManyPeer):
    """A loop over the batches, each of all networks."""

    name = "torch.func"

    def __init__(
        self, starts: Sequence[Parameters], split: Split, recipe: Recipe, rates: NDArray[np.float32], place: Place
    ) -> None:
        torch.set_float32_matmul_precision("highest")
        self._device = torch.device(place.device)
        self._starts = starts
        self.reset()
        self._images = self._there(scaled(split))
        self._targets = self._there(np.eye(len(starts[0].biases[-1]), dtype=np.float32)[split.labels])
        self._batch_size, self._rates = recipe.batch_size, self._there(rates)
        self._gradients: Any = vmap(grad_and_value(_loss, argnums=(0, 1)))

    def _there(self, array: NDArray[Any]) -> Any:
        return torch.from_numpy(array).to(self._device)

    def reset(self) -> None:
        layers = range(len(self._starts[0].weights))
        self._weights = [self._there(np.stack([start.weights[n] for start in self._starts])) for n in layers]
        self._biases = [self._there(np.stack([start.biases[n] for start in self._starts])) for n in layers]

    def run_epoch(self, orders: NDArray[np.int64]) -> NDArray[np.float32]:
        examples = self._there(orders)
        total = torch.zeros(len(orders), device=self._device)
        for batch in examples.split(self._batch_size, dim=1):
            X, Y = self._images[batch], self._targets[batch]
            gradients, losses = self._gradients(self._weights, self._biases, X, Y)
            for arrays, found in zip((self._weights, self._biases), gradients, strict=True):
                for array, gradient in zip(arrays, found, strict=True):
                    array -= self._rates.view(-1, *[1] * (array.ndim - 1)) * gradient
            total += losses * batch.shape[1]
        return np.asarray((total / orders.shape[1]).numpy(force=True))

    def parameters(self, number: int) -> Parameters:
        return Parameters(
            [W[number].numpy(force=True) for W in self._weights], [b[number].numpy(force=True) for b in self._biases]
        )
