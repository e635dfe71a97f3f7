"""PyTorch, with the step of a batch compiled: gather, scale, forward, backward and update in one graph.

Inductor turns it into C++, for the shape of the batches and for that of the smaller last one, before the first epoch.
The images stay uint8: scaling is fused into the gathering, which is faster than to gather floats.
"""

from typing import Any, final

import torch
from numpy.typing import NDArray

from benchmarks.peers.base import Peer, Place
from benchmarks.peers.torch_eager import threads_set_to
from gpunn import Split
from gpunn.engines import Parameters, Recipe


def _step(W: list[Any], b: list[Any], images: Any, labels: Any, batch: Any, *, total: Any, eta: float) -> None:
    """Update `W` and `b` in place, and add the batch's sum of squares to `total`."""
    A = [images[batch].float() * (1 / 255)]
    for weights, biases in zip(W, b, strict=True):
        A.append(torch.sigmoid(torch.nn.functional.linear(A[-1], weights, biases)))
    error = A[-1] - torch.nn.functional.one_hot(labels[batch], len(b[-1])).float()
    total += (error * error).sum()
    delta = 2 / len(batch) * error * A[-1] * (1 - A[-1])
    for layer in reversed(range(len(W))):
        dW, db = delta.T @ A[layer], delta.sum(0)
        if layer > 0:
            delta = (delta @ W[layer]) * A[layer] * (1 - A[layer])
        W[layer].sub_(dW, alpha=eta)
        b[layer].sub_(db, alpha=eta)


@final
class TorchCompiled(Peer):
    """A loop over the batches, around one call each."""

    name = "torch.compile"
    threads_can_be_set = True

    def __init__(self, start: Parameters, split: Split, recipe: Recipe, place: Place) -> None:
        self._weights = [torch.tensor(W) for W in start.weights]
        self._biases = [torch.tensor(b) for b in start.biases]
        self._images = torch.tensor(split.images)
        self._labels = torch.tensor(split.labels).long()
        self._recipe = recipe
        self._threads = place.threads
        # Code of its own, as it depends on the threads; the C++ wrapper costs less a call than the one in Python.
        compile_step: Any = torch.compile
        self._step = compile_step(
            _step, fullgraph=True, dynamic=False, isolate_recompiles=True, options={"cpp_wrapper": True}
        )
        weights, biases = ([array.clone() for array in arrays] for arrays in (self._weights, self._biases))
        n, m = len(split), recipe.batch_size
        for size in {min(m, n), n % m} - {0}:
            self._run(weights, biases, torch.arange(size))

    def run_epoch(self, order: NDArray[Any]) -> float:
        return self._run(self._weights, self._biases, torch.from_numpy(order)) / len(order)

    def _run(self, weights: list[Any], biases: list[Any], order: Any) -> float:
        total = torch.zeros(())
        with threads_set_to(self._threads), torch.no_grad():
            for batch in order.split(self._recipe.batch_size):
                self._step(
                    weights, biases, self._images, self._labels, batch, total=total, eta=self._recipe.learning_rate
                )
        return float(total.item())

    def parameters(self) -> Parameters:
        return Parameters([W.numpy() for W in self._weights], [b.numpy() for b in self._biases])
