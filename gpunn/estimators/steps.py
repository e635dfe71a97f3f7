"""Exact scikit-learn steps for the engine `plain`; other engines approximate them.

Differences from gpunn's own optimisers:

- The L2 penalty of a batch is divided by the batch's size, or by the sum of its sample weights. Engines use one penalty
  for all batches, which is inexact for a smaller last batch.
- Velocities include the learning rate at the time of their update, so a new rate doesn't rescale them. (Other engines
  are created anew when the rate changes, with rescaled velocities.)
- Adam adds epsilon to sqrt(v) before its correction, W <- W - eta' m / (sqrt(v) + epsilon) with
  eta' = eta sqrt(1 - beta2^t) / (1 - beta1^t): the form at the end of section 2 of Kingma and Ba, 2015.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gpunn.equations import Array
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
    """`optimizer` with scikit-learn's steps and `penalty` in the gradients."""

    optimizer: SGD | Adam
    penalty: Penalty

    @property
    def decays_apart(self) -> bool:
        return False

    @property
    def n_moments(self) -> int:
        return self.optimizer.n_moments

    def stepper(self, xp: Any, parameters: Sequence[Array], memory: OptimizerState | None = None) -> Stepper:
        inner = self.optimizer.stepper(xp, parameters, memory)
        if isinstance(self.optimizer, Adam):
            return _ExactAdam(xp, self.optimizer, self.penalty, inner.steps, inner.moments)
        return _ExactDescent(xp, inner, self.penalty)


@final
class _ExactDescent(Stepper):
    def __init__(self, xp: Any, inner: Stepper, penalty: Penalty) -> None:
        self._xp, self._inner, self._penalty = xp, inner, penalty
        self.steps, self.moments = inner.steps, inner.moments
        self._rate: float | None = None

    def step(self, parameters: Sequence[Array], gradients: Sequence[Array], rate: float) -> None:
        self.steps += 1
        self._penalty.add(self._xp, parameters, gradients)
        if self._rate is not None and self._rate != rate:
            rescale(self.moments, self._rate / rate)
        self._rate = rate
        self._inner.step(parameters, gradients, rate)


@final
class _ExactAdam(Stepper):
    def __init__(self, xp: Any, adam: Adam, penalty: Penalty, steps: int, moments: tuple[list[Array], ...]) -> None:
        self._xp, self._adam, self._penalty = xp, adam, penalty
        self.steps, self.moments = steps, moments

    def step(self, parameters: Sequence[Array], gradients: Sequence[Array], rate: float) -> None:
        beta1, beta2, epsilon = self._adam.beta1, self._adam.beta2, self._adam.epsilon
        self.steps += 1
        self._penalty.add(self._xp, parameters, gradients)
        divisor, root = self._adam.corrections(self.steps)
        rate *= root / divisor
        for W, dW, m, v in zip(parameters, gradients, *self.moments, strict=True):
            m *= beta1
            m += (1 - beta1) * dW
            v *= beta2
            v += (1 - beta2) * dW * dW
            W -= rate * m / (self._xp.sqrt(v) + epsilon)


def rescale(moments: Sequence[Sequence[Array]], factor: float) -> None:
    """Multiply velocities by `factor`, in place."""
    for arrays in moments:
        for velocity in arrays:
            velocity *= factor
