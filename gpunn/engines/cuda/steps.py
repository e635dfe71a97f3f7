"""Steps of optimisers on a GPU: gradients by cuBLAS, and what else there is to do in as few launches as can be."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gpunn.backends import Backend
from gpunn.engines.base import Parameters, Recipe
from gpunn.engines.cuda.arrays import Cublas, Packed, Shared
from gpunn.equations import Array
from gpunn.kernels.formulas.steps import N_NUMBERS
from gpunn.optimizers import OptimizerState

Launches = list[Callable[[], None]]


class Descent(ABC):
    """Keeps the parameters of a network, and changes them in place.

    What changes from step to step are numbers on the GPU, a row for each step.
    """

    parameters: Packed
    n_numbers: int
    """How many numbers a step has."""

    @abstractmethod
    def numbers(self, rates: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the numbers (n, `n_numbers`) of the next n steps, and count these as made.

        `rates` are their learning rates, and `sizes` those of their batches.
        """

    @abstractmethod
    def factor(self, size: int, numbers: Array) -> Any:
        """Return the factor for delta of the last layer in batches of `size`: a number, or a handle of it on the GPU.

        `numbers` (`n_numbers`,) float32 on the GPU are those of the step that is being made.
        """

    @abstractmethod
    def prepare(self, deltas: Sequence[Shared], inputs: Sequence[Shared], numbers: Array) -> Launches:
        """Return functions that make a step, against the gradients delta^T A and the sums of delta.

        `deltas` (m, n_l) are those of all layers, times `factor`, and `inputs` (m, n_(l-1)) what these got; `numbers`
        are as in `factor`.
        """

    @abstractmethod
    def memory(self) -> OptimizerState:
        """Return a copy of what is remembered of the steps before, on the host."""


def descent(backend: Backend, cublas: Cublas, start: Parameters, recipe: Recipe) -> Descent:
    """Return what makes the steps of `recipe` from `start` on, host arrays."""
    return (MomentDescent if recipe.optimizer.n_moments else PlainDescent)(backend, cublas, start, recipe)


@final
class PlainDescent(Descent):
    """W <- (1 - eta l2) W + delta^T A is one call of cuBLAS, as delta is that of the loss times -eta.

    No array is needed for the gradient. The numbers of a step are -eta over the size of the batch, 1, and 1 - eta l2.
    """

    n_numbers = 3

    def __init__(self, backend: Backend, cublas: Cublas, start: Parameters, recipe: Recipe) -> None:
        self._kernels, self._cublas = backend.kernels, cublas
        self._l2 = recipe.l2
        self._steps = start.steps
        recipe.optimizer.moments(np, (*start.weights, *start.biases), start.memory)  # raises where it has others
        self.parameters = Packed(backend, start.weights, start.biases)

    def numbers(self, rates: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
        self._steps += len(rates)
        return np.stack([-rates / sizes, np.ones_like(rates), 1 - rates * self._l2], axis=1)

    def factor(self, size: int, numbers: Array) -> Any:  # noqa: ARG002 - the numbers have been divided by it
        return self._kernels.as_handle(numbers[:1])

    def prepare(self, deltas: Sequence[Shared], inputs: Sequence[Shared], numbers: Array) -> Launches:
        launches, factors = Launches(), numbers[1:] if self._l2 else (1.0, 1.0)
        layers = zip(self.parameters.weights, self.parameters.biases, deltas, inputs, strict=True)
        for W, b, delta, below in layers:
            launches.append(self._cublas.prepare(delta.array.T, below.array, out=W, factors=factors))
            launches += self._kernels.descend_sums.prepare(b.handle, delta.handle, -1.0, out=b.handle)
        return launches

    def memory(self) -> OptimizerState:
        return OptimizerState(self._steps, ())


@final
class MomentDescent(Descent):
    """Momentum and Adam: gradients lie in an array, and one launch makes the step of all layers.

    With an L2 penalty, which the biases don't have, there is one launch for them and one for the weights. The numbers
    of a step are those of `gpunn.kernels.formulas.steps.Numbers`, for the weights and then, where they have others,
    for the biases.
    """

    def __init__(self, backend: Backend, cublas: Cublas, start: Parameters, recipe: Recipe) -> None:
        self._kernels, self._cublas = backend.kernels, cublas
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
        self.n_numbers = N_NUMBERS * len(self._parts)

    def numbers(self, rates: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:  # noqa: ARG002
        penalties = (self._l2, 0.0)[: len(self._parts)]
        found = [self._optimizer.numbers(self._steps, rates, l2) for l2 in penalties]
        self._steps += len(rates)
        return np.concatenate(found, axis=1)

    def factor(self, size: int, numbers: Array) -> Any:  # noqa: ARG002
        return 1 / size

    def prepare(self, deltas: Sequence[Shared], inputs: Sequence[Shared], numbers: Array) -> Launches:
        launches = Launches()
        layers = zip(self._gradients.weights, self._gradients.biases, deltas, inputs, strict=True)
        for dW, db, delta, below in layers:
            launches.append(self._cublas.prepare(delta.array.T, below.array, out=dW))
            launches += self._kernels.column_sums.prepare(delta.handle, out=db.handle)
        for part, (parameters, gradients, *moments) in enumerate(self._parts):
            own = self._kernels.as_handle(numbers[part * N_NUMBERS : (part + 1) * N_NUMBERS])
            step = self._kernels.optimizer_step
            launches += step.prepare(parameters, gradients, own, self._optimizer.rule, *moments, out=parameters)
        return launches

    def memory(self) -> OptimizerState:
        return OptimizerState(self._steps, tuple(moments.to_host() for moments in self._moments))
