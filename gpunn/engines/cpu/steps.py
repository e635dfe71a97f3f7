"""Optimiser steps by kernels: parameters and moments are updated while the gradient is in the cache."""

from collections.abc import Iterator, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gpunn.engines.base import Parameters, Recipe
from gpunn.kernels.formulas.steps import Numbers
from gpunn.optimizers import PLAIN, SGD, Adam, numbers_of_steps

ParamAndMoments = Sequence[NDArray[np.float32]]
"""A parameter and its moments: arrays of one shape, in any layout."""

MIN_NEURONS_TO_DEFER = 20
"""Defer updates of zero pixels when first-layer neurons / batch size is at least this.

In larger batches few pixels stay zero, and finding out which ones takes longer than making their steps. Measured with
16 to 512 neurons at batch sizes from 1 to 15.
"""

MAX_SHARE_TO_DEFER = 1 / 8
"""Defer updates of a sparse matrix's columns when the examples of a batch have at most this share of them.

Measured with 50,000 columns and 100 neurons: four times as fast at 1 / 25, slower at 2 / 5.
"""

GRADIENT_ROWS = 128
"""Rows of a weight matrix updated at a time: their gradient is used while it is in the cache."""


def is_implicit(recipe: Recipe) -> bool:
    """Whether steps subtract plain gradients, which can then be done term by term, without a gradient array."""
    return recipe.optimizer == PLAIN and not recipe.l2


@final
class Descent:
    """Makes steps on any part of the parameters; each thread has its own work space."""

    def __init__(self, kernels: Any, recipe: Recipe, steps: int, longest: int, threads: int) -> None:
        """Resume after `steps` steps; `longest` is the most weights (of `GRADIENT_ROWS` neurons) or biases at once."""
        self._kernels, self._optimizer, self._l2 = kernels, recipe.optimizer, recipe.l2
        self.steps = steps
        """Number of steps made."""
        self._numbers: Iterator[tuple[Numbers, Numbers]] = iter(())
        """Numbers of the next steps: those of weights, and those of biases, which have no penalty."""
        self._scratches = [np.zeros(longest, np.float32) for _ in range(threads)]

    @property
    def eta(self) -> float:
        """Learning rate of the current step of plain gradient descent."""
        return float(self._of_weights.rate)

    def begin(self, rates: NDArray[np.float64]) -> None:
        """Prepare steps with the learning `rates`."""
        self._numbers = numbers_of_steps(self._optimizer, self.steps, rates, self._l2)

    def next_step(self) -> None:
        """Go on to the next step."""
        self._of_weights, self._of_biases = next(self._numbers)
        self.steps += 1

    def compile(self) -> None:
        """Compile the kernels by an empty step that isn't counted."""
        steps = self.steps
        self.begin(np.zeros(1))
        self.next_step()
        nothing = [np.zeros(0, np.float32) for _ in range(1 + self._optimizer.n_moments)]
        self.step(nothing, np.zeros(0, np.float32))
        self.step_biases(nothing, np.zeros((0, 0), np.float32), 0)
        self.steps = steps

    def step(self, param_and_moments: ParamAndMoments, gradient: NDArray[np.float32]) -> None:
        """Make the step on a part of the weights, given its `gradient` of the same shape."""
        self._step(param_and_moments, gradient, self._of_weights)

    def _step(self, param_and_moments: ParamAndMoments, gradient: NDArray[np.float32], numbers: Numbers) -> None:
        parameter, *moments = param_and_moments
        self._kernels.optimizer_step(parameter, gradient, numbers, self._optimizer.rule, *moments, out=parameter)

    def step_rows(
        self,
        param_and_moments: ParamAndMoments,
        delta: NDArray[np.float32],
        inputs: NDArray[np.float32],
        own: slice,
        thread: int,
    ) -> None:
        """Make the step on the rows `own` of a layer's weights (n, n_in), whose gradient is delta^T inputs.

        `delta` (m, n) and `inputs` (m, n_in) are those of the whole batch.
        """
        columns = inputs.shape[1]
        for first in range(own.start, own.stop, GRADIENT_ROWS):
            rows = slice(first, min(first + GRADIENT_ROWS, own.stop))
            gradient = self._scratches[thread][: (rows.stop - first) * columns].reshape(-1, columns)
            np.dot(delta[:, rows].T, inputs, out=gradient)
            self.step([array[rows] for array in param_and_moments], gradient)

    def step_biases(self, param_and_moments: ParamAndMoments, delta: NDArray[np.float32], thread: int) -> None:
        """Make the step on a layer's biases (n,), whose gradient is the sum of the rows of `delta` (m, n)."""
        biases = param_and_moments[0]
        if len(param_and_moments) == 1:
            self._kernels.descend_sums(biases, delta, self.eta, out=biases)
            return
        gradient = self._scratches[thread][: len(biases)]
        self._kernels.column_sums(delta, out=gradient)
        self.step_biases_by_gradient(param_and_moments, gradient)

    def step_biases_by_gradient(self, param_and_moments: ParamAndMoments, gradient: NDArray[np.float32]) -> None:
        """Make the step on a layer's biases (n,), given their `gradient`."""
        self._step(param_and_moments, gradient, self._of_biases)


@final
class EpochSteps:
    """Moments of a network in the `Layout` of `gpunn.kernels.cpu.epoch.layout`, and plans of its steps."""

    def __init__(self, recipe: Recipe, start: Parameters, layout: Any, *, share: float | None = None) -> None:
        """Raise `ConfigurationError` if `start.memory` is the state of another optimiser.

        `share` is that of the non-zeros in a sparse matrix of inputs; None for images.
        """
        optimizer = recipe.optimizer
        assert isinstance(optimizer, SGD | Adam)
        self._layout, self._l2, self._optimizer = layout, float(recipe.l2), optimizer
        self._moments: list[NDArray[np.float32] | None] = [None, None]
        n = len(start.weights)
        for which, moments in enumerate(optimizer.moments(np, (*start.weights, *start.biases), start.memory)):
            self._moments[which] = layout.pack(moments[:n], moments[n:])
        self.defers = isinstance(optimizer, SGD) and bool(optimizer.momentum) and layout.sparse
        if share is None:
            self.defers &= layout.sizes[1] >= MIN_NEURONS_TO_DEFER * recipe.batch_size
        else:
            self.defers &= share * recipe.batch_size <= MAX_SHARE_TO_DEFER
        """Whether updates of zero pixels are deferred, while learning rates don't change."""
        self._powers, self._rate = np.zeros((0, 4), np.float32), np.nan

    def plans(self, rates: NDArray[np.float64], steps: int, threads: int) -> list[Any]:
        """Return the `gpunn.kernels.cpu.epoch.steps.StepPlan` of each thread, for a call with these learning `rates`.

        `steps` is the number of steps made before.
        """
        from gpunn.kernels.cpu.epoch.steps import NOTHING, StepPlan

        optimizer, n_pixels, (moments, squares) = self._optimizer, self._layout.sizes[0], self._moments
        with np.errstate(over="ignore", invalid="ignore"):  # overflows become infinite, and are reported as divergence
            powers, numbers = self._powers_for(rates), optimizer.numbers(steps, rates, self._l2).astype(np.float32)
        return [
            StepPlan(
                numbers.ravel(),
                NOTHING if moments is None else moments,
                NOTHING if squares is None else squares,
                np.bool_(len(powers) > 0),
                powers.ravel(),
                np.zeros(n_pixels, np.int64),
                np.zeros(2 * n_pixels, np.int64),
            )
            for _ in range(threads)
        ]

    def _powers_for(self, rates: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the matrices of deferred steps; none if the rates differ, or no updates are deferred."""
        from gpunn.kernels.cpu.epoch.deferred import deferred_powers

        if not self.defers or not len(rates) or rates.min() != rates.max():
            return np.zeros((0, 4), np.float32)
        if rates[0] != self._rate or len(self._powers) <= len(rates):
            self._rate = float(rates[0])
            assert isinstance(self._optimizer, SGD)
            momentum, nesterov = float(self._optimizer.momentum), self._optimizer.nesterov
            self._powers = deferred_powers(self._rate, momentum, self._l2, nesterov, len(rates))
        return self._powers

    def moments(self) -> tuple[list[NDArray[Any]], ...]:
        """Return copies of the moments, as in `gpunn.optimizers.OptimizerState`."""
        found = []
        for packed in self._moments:
            if packed is not None:
                weights, biases = self._layout.unpack(packed)
                found.append([*weights, *biases])
        return tuple(found)
