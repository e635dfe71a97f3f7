"""Steps just as scikit-learn makes them, for the engine `plain`; those of the other engines come close.

What gpunn's own optimisers do otherwise:

- The L2 penalty of a batch is divided by what the batch weighs: by its size, or by the sum of its examples' weights. An
  engine has one for all batches, which the last, smaller one differs from.
- Velocities have the learning rate in them, of when they were made. A new rate doesn't change how far they go. (Other
  engines are made anew where the rate changes, with other velocities.)
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
    """alpha / 2 times the sum of the squared weights, divided by what a batch weighs; biases are free."""

    def __init__(self, alpha: float, scale: float) -> None:
        self._alpha, self._scale = alpha, scale
        self._batches: Iterator[tuple[float, float]] = iter(())
        self._total: Any = 0.0

    def begin(self, weighing: NDArray[np.float64], sizes: NDArray[np.int64]) -> None:
        """Get ready for an epoch of batches that weigh so much and have so many examples."""
        # A batch that weighs nothing has no loss, and no penalty either.
        alphas = np.divide(self._alpha, weighing, out=np.zeros(len(weighing)), where=weighing > 0)
        self._batches = zip(alphas.tolist(), (sizes / sizes.sum()).tolist(), strict=True)
        self._total = 0.0

    def add(self, xp: Any, parameters: Sequence[Array], gradients: Sequence[Array]) -> None:
        """Add the next batch's to the gradients of the weights, which are the first half of the parameters."""
        if not self._alpha:
            return
        alpha, share = next(self._batches)
        half = len(parameters) // 2
        for W, dW in zip(parameters[:half], gradients[:half], strict=True):
            self._total += 0.5 * alpha * share * xp.vdot(W, W)
            dW += self._scale * alpha * W

    def value(self) -> float:
        """Return the mean over the epoch's examples, each with the weights that its batch found."""
        return float(self._total)


@final
@dataclass(frozen=True)
class Exact(Optimizer):
    """`optimizer`, made to step as scikit-learn's does, with `penalty` in the gradients."""

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
