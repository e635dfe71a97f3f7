"""PyTorch, operation by operation.

The gradients are written out, without autograd, which takes twice as long at small batches; the step is part of the
matrix product (`addmm_`). All images are scaled before the first epoch, each batch is gathered when it is due. On a GPU
the loss is added up there and read back once, and the kernels of every batch size are loaded before the first epoch.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.peers.base import Peer, Place
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


def set_precision(recipe: Recipe) -> None:
    """Have GPUs multiply float32 matrices as `recipe` says, from now on."""
    torch.set_float32_matmul_precision("high" if recipe.precision == "tf32" else "highest")


def on_device(start: Parameters, split: Split, device: Any) -> tuple[list[Any], list[Any], Any, Any]:
    """Return copies of the weights and biases, the scaled images and the one-hot targets, on `device`."""
    weights = [torch.tensor(W, device=device) for W in start.weights]
    biases = [torch.tensor(b, device=device) for b in start.biases]
    images = torch.from_numpy(split.images.astype(np.float32) / 255).to(device)
    targets = torch.eye(len(biases[-1]))[torch.from_numpy(split.labels.astype(np.int64))].to(device)
    return weights, biases, images, targets


def step(weights: Sequence[Any], biases: Sequence[Any], X: Any, Y: Any, eta: float) -> Any:
    """Make a gradient step on one batch, in place; return the batch's sum of squares, a tensor."""
    sigmoid_backward = torch.ops.aten.sigmoid_backward
    A = [X]
    for W, b in zip(weights, biases, strict=True):
        A.append(torch.addmm(b, A[-1], W.T).sigmoid_())
    error = A[-1].sub(Y).flatten()
    total = torch.dot(error, error)
    delta = sigmoid_backward(error.mul_(2 / len(X)).view_as(Y), A[-1])
    for layer in reversed(range(len(weights))):
        below = sigmoid_backward(delta @ weights[layer], A[layer]) if layer > 0 else None
        weights[layer].addmm_(delta.T, A[layer], alpha=-eta)
        biases[layer].sub_(delta.sum(0), alpha=eta)
        delta = below
    return total


@final
class TorchEager(Peer):
    """A loop over the batches, in place where PyTorch can."""

    name = "torch"
    threads_can_be_set = True

    def __init__(self, start: Parameters, split: Split, recipe: Recipe, place: Place) -> None:
        self._device = torch.device(place.device)
        self._weights, self._biases, self._images, self._targets = on_device(start, split, self._device)
        self._recipe = recipe
        self._threads = place.threads
        if place.kind == "cuda":
            self._load_kernels()

    def run_epoch(self, order: NDArray[Any]) -> float:
        if self._device.type == "cuda":
            return self._run_epoch_on_gpu(order)
        total = 0.0
        examples: Any = torch.from_numpy(order)
        with threads_set_to(self._threads), torch.inference_mode():
            for batch in examples.split(self._recipe.batch_size):
                total += self._step(self._images[batch], self._targets[batch]).item()
        return total / len(order)

    def _run_epoch_on_gpu(self, order: NDArray[Any]) -> float:
        set_precision(self._recipe)
        with torch.cuda.device(self._device), torch.inference_mode():
            total = torch.zeros((), dtype=torch.float64, device=self._device)
            examples: Any = torch.from_numpy(order).to(self._device)
            for batch in examples.split(self._recipe.batch_size):
                total += self._step(self._images.index_select(0, batch), self._targets.index_select(0, batch))
            return float(total.item()) / len(order)

    def _step(self, X: Any, Y: Any) -> Any:
        return step(self._weights, self._biases, X, Y, self._recipe.learning_rate)

    def _load_kernels(self) -> None:
        """Train once on a full batch and on one of the size of the last, and forget it."""
        before = [array.clone() for array in (*self._weights, *self._biases)]
        n, m = len(self._images), min(self._recipe.batch_size, len(self._images))
        self._run_epoch_on_gpu(np.arange(m + n % m) % n)
        for array, kept in zip((*self._weights, *self._biases), before, strict=True):
            array.copy_(kept)

    def parameters(self) -> Parameters:
        return Parameters([W.numpy(force=True) for W in self._weights], [b.numpy(force=True) for b in self._biases])
