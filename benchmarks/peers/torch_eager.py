"""PyTorch, operation by operation.

The gradients are written out, without autograd, which takes twice as long at small batches. Plain gradient descent is
part of the matrix product (`addmm_`); other steps are those of `torch.optim`, fused. All images are scaled before the
first epoch, each batch is gathered when it is due. On a GPU the loss is added up there and read back once, and the
kernels of every batch size are loaded before the first epoch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.peers.base import Peer, Place, scaled
from gpunn import Split
from gpunn.engines import Parameters, Recipe
from gpunn.optimizers import Adam


@contextmanager
def threads_set_to(threads: int) -> Iterator[None]:
    """Let PyTorch use `threads` threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Training:
    """Parameters, scaled images (n, 784), one-hot targets (n, 10) and the optimiser, on a device."""

    def __init__(self, start: Parameters, split: Split, recipe: Recipe, device: str) -> None:
        self.device, self._start, self._recipe = torch.device(device), start, recipe
        self.weights = [torch.tensor(W, device=self.device) for W in start.weights]
        self.biases = [torch.tensor(b, device=self.device) for b in start.biases]
        self.images = torch.from_numpy(scaled(split)).to(self.device)
        one_hot = np.eye(len(start.biases[-1]), dtype=np.float32)[split.labels]
        self.targets = torch.from_numpy(one_hot).to(self.device)
        self._softmax = start.functions[-1] == "softmax"
        self._optimizer = self._fused_optimizer()

    def _fused_optimizer(self) -> Any:
        optimizer, eta = self._recipe.optimizer, self._recipe.learning_rate
        arrays = [*self.weights, *self.biases]
        if isinstance(optimizer, Adam):
            betas, on_gpu = (optimizer.beta1, optimizer.beta2), self.device.type == "cuda"
            return torch.optim.Adam(arrays, eta, betas, optimizer.epsilon, fused=True, capturable=on_gpu)
        if optimizer.rule == "nesterov":
            return torch.optim.SGD(arrays, eta, momentum=0.9, nesterov=True, fused=True)
        return None

    def set_precision(self) -> None:
        """Have GPUs multiply float32 matrices as the recipe says, from now on."""
        torch.set_float32_matmul_precision("high" if self._recipe.precision == "tf32" else "highest")

    def reset(self) -> None:
        """Return to the start, in the same tensors."""
        for mine, array in zip((*self.weights, *self.biases), (*self._start.weights, *self._start.biases), strict=True):
            mine.copy_(torch.from_numpy(array))
        if self._optimizer is not None:
            for state in self._optimizer.state.values():
                for moment in state.values():
                    moment.zero_()

    def step(self, X: Any, Y: Any) -> Any:
        """Make a step on one batch, in place; return the sum of its losses, a tensor."""
        sigmoid_backward, threshold_backward = torch.ops.aten.sigmoid_backward, torch.ops.aten.threshold_backward
        A: list[Any] = [X]
        softmax = self._softmax
        for W, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            Z = torch.addmm(b, A[-1], W.T)
            A.append(Z.relu_() if softmax else Z.sigmoid_())
        Z = torch.addmm(self.biases[-1], A[-1], self.weights[-1].T)
        if softmax:
            logs = torch.log_softmax(Z, 1)
            total = -torch.dot(Y.flatten(), logs.flatten())
            delta = logs.exp_().sub_(Y).mul_(1 / len(X))
        else:
            A.append(Z.sigmoid_())
            error = A[-1].sub(Y).flatten()
            total = torch.dot(error, error)
            delta = sigmoid_backward(error.mul_(2 / len(X)).view_as(Y), A[-1])
        for layer in reversed(range(len(self.weights))):
            below: Any = None
            if layer > 0:
                error = delta @ self.weights[layer]
                below = threshold_backward(error, A[layer], 0) if softmax else sigmoid_backward(error, A[layer])
            self._descend(layer, delta, A[layer])
            delta = below
        if self._optimizer is not None:
            self._optimizer.step()
        return total

    def _descend(self, layer: int, delta: Any, A: Any) -> None:
        if self._optimizer is None:
            eta = self._recipe.learning_rate
            self.weights[layer].addmm_(delta.T, A, alpha=-eta)
            self.biases[layer].sub_(delta.sum(0), alpha=eta)
        else:
            self.weights[layer].grad, self.biases[layer].grad = delta.T @ A, delta.sum(0)

    def parameters(self) -> Parameters:
        """Return the parameters as they are now."""
        weights, biases = ([array.numpy(force=True) for array in arrays] for arrays in (self.weights, self.biases))
        return Parameters(weights, biases, self._start.functions)


@final
class TorchEager(Peer):
    """A loop over the batches, in place where PyTorch can."""

    name = "torch"
    threads_can_be_set = True

    def __init__(self, start: Parameters, split: Split, recipe: Recipe, place: Place) -> None:
        self._training = Training(start, split, recipe, place.device)
        self._batch_size, self._threads = recipe.batch_size, place.threads
        if place.kind == "cuda":  # load the kernels of a full batch and of one of the size of the last
            n, m = len(split), min(recipe.batch_size, len(split))
            self._run_epoch_on_gpu(np.arange(m + n % m) % n)
            self.reset()

    def reset(self) -> None:
        self._training.reset()

    def run_epoch(self, order: NDArray[Any]) -> float:
        training = self._training
        if training.device.type == "cuda":
            return self._run_epoch_on_gpu(order)
        total = 0.0
        examples: Any = torch.from_numpy(order)
        with threads_set_to(self._threads), torch.no_grad():
            for batch in examples.split(self._batch_size):
                total += training.step(training.images[batch], training.targets[batch]).item()
        return total / len(order)

    def _run_epoch_on_gpu(self, order: NDArray[Any]) -> float:
        training = self._training
        training.set_precision()
        with torch.cuda.device(training.device), torch.no_grad():
            total = torch.zeros((), dtype=torch.float64, device=training.device)
            examples: Any = torch.from_numpy(order).to(training.device)
            for batch in examples.split(self._batch_size):
                total += training.step(training.images.index_select(0, batch), training.targets.index_select(0, batch))
            return float(total.item()) / len(order)

    def parameters(self) -> Parameters:
        return self._training.parameters()
