"""PyTorch, operation by operation.

The gradients are written out, without autograd, which takes twice as long at small batches; the step is part of the
matrix product (`addmm_`). All images are scaled before the first epoch, each batch is gathered when it is due.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.peers.base import Peer
from gpunn import Split
from gpunn.engines import Parameters, Recipe


@contextmanager
def threads_set_to(threads: int) -> Iterator[None]:
    """Let PyTorch use `threads` threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@final
class TorchEager(Peer):
    """A loop over the batches, in place where PyTorch can."""

    name = "torch"
    threads_can_be_set = True

    def __init__(self, start: Parameters, split: Split, recipe: Recipe, threads: int) -> None:
        self._weights = [torch.tensor(W) for W in start.weights]
        self._biases = [torch.tensor(b) for b in start.biases]
        self._images = torch.from_numpy(split.images.astype(np.float32) / 255)
        self._targets = torch.eye(len(start.biases[-1]))[torch.from_numpy(split.labels.astype(np.int64))]
        self._recipe = recipe
        self._threads = threads

    def run_epoch(self, order: NDArray[Any]) -> float:
        total = 0.0
        examples: Any = torch.from_numpy(order)
        with threads_set_to(self._threads), torch.inference_mode():
            for batch in examples.split(self._recipe.batch_size):
                total += self._step(self._images[batch], self._targets[batch])
        return total / len(order)

    def _step(self, X: Any, Y: Any) -> float:
        """Return the batch's sum of squares."""
        sigmoid_backward, eta = torch.ops.aten.sigmoid_backward, self._recipe.learning_rate
        A = [X]
        for W, b in zip(self._weights, self._biases, strict=True):
            A.append(torch.addmm(b, A[-1], W.T).sigmoid_())
        error = A[-1].sub(Y).flatten()
        total = torch.dot(error, error).item()
        delta = sigmoid_backward(error.mul_(2 / len(X)).view_as(Y), A[-1])
        for layer in reversed(range(len(self._weights))):
            below = sigmoid_backward(delta @ self._weights[layer], A[layer]) if layer > 0 else None
            self._weights[layer].addmm_(delta.T, A[layer], alpha=-eta)
            self._biases[layer].sub_(delta.sum(0), alpha=eta)
            delta = below
        return float(total)

    def parameters(self) -> Parameters:
        return Parameters([W.numpy() for W in self._weights], [b.numpy() for b in self._biases])
