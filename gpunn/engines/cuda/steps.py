"""Steps of optimisers on a GPU: gradients by cuBLAS, and what else there is to do in as few launches as can be."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gpunn.backends import Backend
from gpunn.engines.base import Parameters, Recipe
from gpunn.engines.cuda.arrays import Cublas, Packed, Shared
from gpunn.optimizers import OptimizerState, numbers_of_steps


class Descent(ABC):
    """Keeps the parameters of a network, and changes them in place."""

    parameters: Packed

    @abstractmethod
    def begin(self, rates: NDArray[np.float64]) -> None:
        """Prepare steps with the learning `rates`."""

    @abstractmethod
    def step(self, deltas: Sequence[Shared], inputs: Sequence[Shared]) -> None:
        """Make the next step, against the gradients delta^T A and the sums of delta.

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

    def begin(self, rates: NDArray[np.float64]) -> None:
        self._rates = iter(rates.tolist())

    def step(self, deltas: Sequence[Shared], inputs: Sequence[Shared]) -> None:
        self._steps += 1
        eta = next(self._rates)
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
        self._optimizer, self._l2 = recipe.optimizer, recipe.l2
        self._steps = start.steps
        n_layers = len(start.weights)

        def packed(arrays: Sequence[Any]) -> Packed:
            return Packed(backend, arrays[:n_layers], arrays[n_layers:])

        own = (*start.weights, *start.biases)
        self.parameters, self._gradients = packed(own), packed([np.zeros_like(array) for array in own])
        self._moments = [packed(moments) for moments in recipe.optimizer.moments(np, own, start.memory)]
        of = (self.parameters, self._gradients, *self._moments)
        weights, biases = ([each.all_weights.handle for each in of], [each.all_biases.handle for each in of])
        self._parts = [weights, biases] if recipe.l2 else [[each.everything.handle for each in of]]
        """Handles of parameters, gradients and moments: one list, or with a penalty one of weights, one of biases."""

    def begin(self, rates: NDArray[np.float64]) -> None:
        self._numbers = numbers_of_steps(self._optimizer, self._steps, rates, self._l2)

    def step(self, deltas: Sequence[Shared], inputs: Sequence[Shared]) -> None:
        self._steps += 1
        layers = zip(self._gradients.weights, self._gradients.biases, deltas, inputs, strict=True)
        for dW, db, delta, below in layers:
            self._cublas.gemm(delta.array.T, below.array, out=dW)
            self._kernels.column_sums(delta.handle, out=db.handle)
        for (parameters, gradients, *moments), numbers in zip(self._parts, next(self._numbers), strict=False):
            rule = self._optimizer.rule
            self._kernels.optimizer_step(parameters, gradients, numbers, rule, *moments, out=parameters)

    def memory(self) -> OptimizerState:
        return OptimizerState(self._steps, tuple(moments.to_host() for moments in self._moments))
