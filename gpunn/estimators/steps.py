"""Exact scikit-learn steps for the engine `plain`; other engines approximate them.

Differences from gpunn's own optimisers, besides Adam's `epsilon_hat`:

- The L2 penalty of a batch is divided by the batch's size, or by the sum of its sample weights. Engines use one penalty
  for all batches, which is inexact for a smaller last batch.
- Velocities include the learning rate at the time of their update, so a new rate doesn't rescale them. (Other engines
  are created anew when the rate changes, with rescaled velocities.)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gpunn.equations import Array
from gpunn.kernels.formulas.steps import Numbers
from gpunn.optimizers import SGD, Adam, Optimizer, OptimizerState, Stepper


class Penalty:
    """L2 penalty: alpha / 2 times the sum of the squared weights, without biases, divided by the batch's weight."""

    def __init__(self, alpha: float, scale: float) -> None:
        self._alpha, self._scale = alpha, scale
        self._batches: Iterator[tuple[float, float]] = iter(())
        self._total: Any = 0.0

    def begin(self, weighing: NDArray[np.float64], sizes: NDArray[np.int64]) -> None:
        """Start an epoch of batches with total weights `weighing` and `sizes`."""
        # A batch of weight 0 has no loss and no penalty.
        alphas = np.divide(self._alpha, weighing, out=np.zeros(len(weighing)), where=weighing > 0)
        self._batches = zip(alphas.tolist(), (sizes / sizes.sum()).tolist(), strict=True)
        self._total = 0.0

    def add(self, xp: Any, parameters: Sequence[Array], gradients: Sequence[Array]) -> None:
        """Add the next batch's penalty to the gradients of the weights, the first half of the parameters."""
        if not self._alpha:
            return
        alpha, share = next(self._batches)
        half = len(parameters) // 2
        for W, dW in zip(parameters[:half], gradients[:half], strict=True):
            self._total += 0.5 * alpha * share * xp.vdot(W, W)
            dW += self._scale * alpha * W

    def value(self) -> float:
        """Return the epoch's penalty, averaged over its batches by size."""
        return float(self._total)


@final
@dataclass(frozen=True)
class Exact(Optimizer):
    """`optimizer` with the exact `penalty` in the gradients, and velocities like scikit-learn's."""

    optimizer: SGD | Adam
    penalty: Penalty

    @property
    def decays_apart(self) -> bool:
        return False

    @property
    def rule(self) -> str:
        return self.optimizer.rule

    def numbers(self, steps: int, rates: NDArray[np.float64], l2: float) -> NDArray[np.float64]:
        return self.optimizer.numbers(steps, rates, l2)

    def stepper(self, xp: Any, parameters: Sequence[Array], memory: OptimizerState | None = None) -> Stepper:
        return _ExactStepper(self, self.optimizer.stepper(xp, parameters, memory), xp)


@final
class _ExactStepper(Stepper):
    def __init__(self, exact: Exact, inner: Stepper, xp: Any) -> None:
        super().__init__(exact, xp, inner.steps, inner.moments)
        self._xp, self._penalty = xp, exact.penalty
        self._rescales = isinstance(exact.optimizer, SGD)
        self._rate: float | None = None

    def step(
        self, parameters: Sequence[Array], gradients: Sequence[Array], of_weights: Numbers, of_biases: Numbers
    ) -> None:
        self._penalty.add(self._xp, parameters, gradients)
        rate = of_weights.rate
        if self._rescales and self._rate is not None and self._rate != rate:
            rescale(self.moments, self._rate / rate)
        self._rate = rate
        super().step(parameters, gradients, of_weights, of_biases)


def rescale(moments: Sequence[Sequence[Array]], factor: float) -> None:
    """Multiply velocities by `factor`, in place."""
    for arrays in moments:
        for velocity in arrays:
            velocity *= factor
