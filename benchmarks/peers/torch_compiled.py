"""PyTorch, with the step of a batch compiled: gather, scale, forward, backward and update in one graph.

Inductor turns it into C++, for the shape of the batches and for that of the smaller last one, before the first epoch.
The images stay uint8: scaling is fused into the gathering, which is faster than to gather floats.
"""

from functools import partial
from typing import Any, final

import torch
from numpy.typing import NDArray

from benchmarks.peers.base import Peer, Place
from benchmarks.peers.torch_eager import threads_set_to
from gpunn import Split
from gpunn.engines import Parameters, Recipe
from gpunn.optimizers import Adam


def _update(w: Any, d: Any, moments: list[Any], t: Any, *, rule: str, eta: float, adam: Adam) -> None:
    """Make a step of `w`, in place, as number `t`."""
    if rule == "adam":
        mean, square = moments
        mean.mul_(adam.beta1).add_(d, alpha=1 - adam.beta1)
        square.mul_(adam.beta2).addcmul_(d, d, value=1 - adam.beta2)
        root = square.sqrt() / (1 - adam.beta2**t).sqrt() + adam.epsilon
        w.sub_(eta / (1 - adam.beta1**t) * mean / root)
    elif rule == "nesterov":
        moments[0].mul_(0.9).add_(d)
        w.sub_(d + 0.9 * moments[0], alpha=eta)
    else:
        w.sub_(d, alpha=eta)


def _step(
    state: tuple[list[Any], list[Any], list[list[Any]], Any],
    images: Any,
    labels: Any,
    batch: Any,
    total: Any,
    *,
    softmax: bool,
    update: Any,
) -> None:
    """Update the `state` in place: weights, biases, moments of each and the number of steps; add losses to `total`."""
    W, b, moments, t = state
    t += 1
    A, Y = [images[batch].float() * (1 / 255)], torch.nn.functional.one_hot(labels[batch], len(b[-1])).float()
    for layer in range(len(W)):
        Z = torch.nn.functional.linear(A[-1], W[layer], b[layer])
        A.append(Z if softmax and layer == len(W) - 1 else torch.relu(Z) if softmax else torch.sigmoid(Z))
    if softmax:
        logs = torch.log_softmax(A[-1], 1)
        total -= (Y * logs).sum()
        delta = (logs.exp() - Y) / len(batch)
    else:
        error = A[-1] - Y
        total += (error * error).sum()
        delta = 2 / len(batch) * error * A[-1] * (1 - A[-1])
    for layer in reversed(range(len(W))):
        dW, db = delta.T @ A[layer], delta.sum(0)
        if layer > 0:
            delta = (delta @ W[layer]) * ((A[layer] > 0) if softmax else A[layer] * (1 - A[layer]))
        update(W[layer], dW, moments[layer], t)
        update(b[layer], db, moments[len(W) + layer], t)


@final
class TorchCompiled(Peer):
    """A loop over the batches, around one call each."""

    name = "torch.compile"
    threads_can_be_set = True

    def __init__(self, start: Parameters, split: Split, recipe: Recipe, place: Place) -> None:
        self._start, self._batch_size, self._threads = start, recipe.batch_size, place.threads
        self._examples = torch.tensor(split.images), torch.tensor(split.labels).long()
        adam = recipe.optimizer if isinstance(recipe.optimizer, Adam) else Adam()
        self._n_moments = recipe.optimizer.n_moments
        update = partial(_update, rule=recipe.optimizer.rule, eta=recipe.learning_rate, adam=adam)
        # Code of its own, as it depends on the threads; the C++ wrapper costs less a call than the one in Python.
        compile_step: Any = torch.compile
        self._step = compile_step(
            partial(_step, softmax=start.functions[-1] == "softmax", update=update),
            fullgraph=True,
            dynamic=False,
            isolate_recompiles=True,
            options={"cpp_wrapper": True},
        )
        self.reset()
        n, m = len(split), recipe.batch_size
        for size in {min(m, n), n % m} - {0}:
            self._run(torch.arange(size))
        self.reset()

    def reset(self) -> None:
        arrays = [torch.tensor(array) for array in (*self._start.weights, *self._start.biases)]
        moments = [[torch.zeros_like(array) for _ in range(self._n_moments)] for array in arrays]
        n = len(self._start.weights)
        self._state = arrays[:n], arrays[n:], moments, torch.zeros(())

    def run_epoch(self, order: NDArray[Any]) -> float:
        return self._run(torch.from_numpy(order)) / len(order)

    def _run(self, order: Any) -> float:
        total = torch.zeros(())
        with threads_set_to(self._threads), torch.no_grad():
            for batch in order.split(self._batch_size):
                self._step(self._state, *self._examples, batch, total)
        return float(total.item())

    def parameters(self) -> Parameters:
        weights, biases = ([array.numpy() for array in arrays] for arrays in self._state[:2])
        return Parameters(weights, biases, self._start.functions)
