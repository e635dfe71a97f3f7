"""Steps of optimisers on a GPU: gradients by cuBLAS, and what else there is to do in as few launches as can be."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, final

import numpy as np

from gpunn.backends import Backend
from gpunn.engines.base import Parameters, Recipe
from gpunn.engines.cuda.arrays import Cublas, Packed, Shared
from gpunn.optimizers import Adam, OptimizerState


class Descent(ABC):
    """Keeps the parameters of a network, and changes them in place."""

    parameters: Packed

    @abstractmethod
    def step(self, deltas: Sequence[Shared], inputs: Sequence[Shared], eta: float) -> None:
        """Make a step of the learning rate `eta`, against the gradients delta^T A and the sums of delta.

        `deltas` (m, n_l) are those of all layers, averaged over the batch, and `inputs` (m, n_(l-1)) what these got.
        """

    @abstractmethod
    def memory(self) -> OptimizerState:
        """Return a copy of what is remembered of the steps before, on the host."""


def descent(backend: Backend, start: Parameters, recipe: Recipe) -> Descent:
    """Return what makes the steps of `recipe` from `start` on, host arrays."""
    return (MomentDescent if recipe.optimizer.n_moments else PlainDescent)(backend, start, recipe)


@final
class PlainDescent(Descent):
    """W <- (1 - eta l2) W - eta delta^T A is one call of cuBLAS, and needs no array for the gradient."""

    def __init__(self, backend: Backend, start: Parameters, recipe: Recipe) -> None:
        self._kernels, self._cublas = backend.kernels, Cublas(backend.xp)
        self._l2 = recipe.l2
        self._steps = start.steps
        recipe.optimizer.moments(np, (*start.weights, *start.biases), start.memory)  # raises where it has others
        self.parameters = Packed(backend, start.weights, start.biases)

    def step(self, deltas: Sequence[Shared], inputs: Sequence[Shared], eta: float) -> None:
        self._steps += 1
        kept = 1 - eta * self._l2
        layers = zip(self.parameters.weights, self.parameters.biases, deltas, inputs, strict=True)
        for W, b, delta, below in layers:
            self._cublas.gemm(delta.array.T, below.array, out=W, alpha=-eta, beta=kept)
            self._kernels.descend_sums(b.handle, delta.handle, eta, out=b.handle)

    def memory(self) -> OptimizerState:
        return OptimizerState(self._steps, ())


@final
class MomentDescent(Descent):
    """Momentum and Adam: gradients lie in an array, and one launch makes the step of all layers.

    With an L2 penalty, which the biases don't have, there is one launch for them and one for the weights.
    """

    def __init__(self, backend: Backend, start: Parameters, recipe: Recipe) -> None:
        self._kernels, self._cublas = backend.kernels, Cublas(backend.xp)
        self._optimizer: Any = recipe.optimizer
        self._steps = start.steps
        n_layers = len(start.weights)

        def packed(arrays: Sequence[Any]) -> Packed:
            return Packed(backend, arrays[:n_layers], arrays[n_layers:])

        own = (*start.weights, *start.biases)
        self.parameters, self._gradients = packed(own), packed([np.zeros_like(array) for array in own])
        self._moments = [packed(moments) for moments in recipe.optimizer.moments(np, own, start.memory)]
        of = (self.parameters, self._gradients, *self._moments)
        self._parts: list[tuple[float, list[Any]]]
        """What has one penalty: the handles of its parameters, gradients and moments."""
        if recipe.l2:
            weights, biases = [each.all_weights.handle for each in of], [each.all_biases.handle for each in of]
            self._parts = [(recipe.l2, weights), (0.0, biases)]
        else:
            self._parts = [(0.0, [each.everything.handle for each in of])]

    def step(self, deltas: Sequence[Shared], inputs: Sequence[Shared], eta: float) -> None:
        self._steps += 1
        layers = zip(self._gradients.weights, self._gradients.biases, deltas, inputs, strict=True)
        for dW, db, delta, below in layers:
            self._cublas.gemm(delta.array.T, below.array, out=dW)
            self._kernels.column_sums(delta.handle, out=db.handle)
        for l2, arrays in self._parts:
            if isinstance(self._optimizer, Adam):
                self._kernels.adam_step(*arrays, *self._optimizer.arguments(self._steps, eta, l2), out=arrays[0])
            else:
                momentum, nesterov = float(self._optimizer.momentum), self._optimizer.nesterov
                self._kernels.momentum_step(*arrays, eta, momentum, l2, nesterov, out=arrays[0])

    def memory(self) -> OptimizerState:
        return OptimizerState(self._steps, tuple(moments.to_host() for moments in self._moments))
