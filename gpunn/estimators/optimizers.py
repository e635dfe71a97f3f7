"""scikit-learn's optimisers as gpunn's: settings, state, and the exact steps of the engine `plain`.

scikit-learn's weights are (n_in, n_out), gpunn's (n_out, n_in). Its velocities include the learning rate, with the
opposite sign. gpunn's squared error, and so its gradients, are `scale` = 2 times scikit-learn's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

from gpunn.equations import Array
from gpunn.kernels.formulas.steps import Numbers
from gpunn.optimizers import SGD, Adam, Optimizer, OptimizerState, Stepper

Arrays = list[NDArray[Any]]


def make_theirs(estimator: Any) -> AdamOptimizer | SGDOptimizer:
    """Return scikit-learn's optimiser for the estimator's parameters, at rest; it keeps the state between fits."""
    arrays = estimator.coefs_ + estimator.intercepts_
    if estimator.solver == "adam":
        return AdamOptimizer(
            arrays, estimator.learning_rate_init, estimator.beta_1, estimator.beta_2, estimator.epsilon
        )
    return SGDOptimizer(
        arrays,
        estimator.learning_rate_init,
        estimator.learning_rate,
        estimator.momentum,
        estimator.nesterovs_momentum,
        estimator.power_t,
    )


def rate_of(theirs: Any) -> float:
    """Return the learning rate of the next step, without Adam's corrections."""
    return float(theirs.learning_rate_init if isinstance(theirs, AdamOptimizer) else theirs.learning_rate)


def ours(theirs: Any, scale: float) -> SGD | Adam:
    """Return gpunn's optimiser with the same steps."""
    if isinstance(theirs, AdamOptimizer):
        return Adam(float(theirs.beta_1), float(theirs.beta_2), float(theirs.epsilon) * scale, epsilon_hat=True)
    momentum = float(theirs.momentum)
    return SGD(momentum, nesterov=bool(theirs.nesterov and momentum))


def state_of(theirs: Any, rate: float, scale: float) -> OptimizerState | None:
    """Return gpunn's form of the optimiser's state for steps at `rate`."""
    with np.errstate(over="ignore"):  # found after the epoch
        if isinstance(theirs, AdamOptimizer):
            if not theirs.t:
                return None
            return OptimizerState(theirs.t, (_scaled(theirs.ms, scale), _scaled(theirs.vs, scale**2)))
        if not theirs.momentum:
            return None
        return OptimizerState(0, (_scaled(theirs.velocities, -scale / rate),))


def keep_state(theirs: Any, state: OptimizerState, rate: float, scale: float) -> None:
    """Put gpunn's `state`, after steps at `rate`, into scikit-learn's optimiser."""
    if isinstance(theirs, AdamOptimizer):
        theirs.t = state.steps
        theirs.ms, theirs.vs = _scaled(state.moments[0], 1 / scale), _scaled(state.moments[1], 1 / scale**2)
        theirs.learning_rate = rate * np.sqrt(1 - theirs.beta_2**theirs.t) / (1 - theirs.beta_1**theirs.t)
    elif state.moments:
        theirs.velocities = _scaled(state.moments[0], -rate / scale)


def _scaled(arrays: Sequence[NDArray[Any]], factor: float) -> Arrays:
    """Return the transposed arrays times `factor`."""
    return [np.ascontiguousarray(array.T) * factor for array in arrays]


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
            flat = W.ravel() if W.flags.c_contiguous else W.T.ravel()  # which needs no copy
            self._total += 0.5 * alpha * share * xp.vdot(flat, flat)
            dW += self._scale * alpha * W

    def value(self) -> float:
        """Return the epoch's penalty, averaged over its batches by size."""
        return float(self._total)


@final
@dataclass(frozen=True)
class Exact(Optimizer):
    """`optimizer` with the `penalty` of each batch, which other engines take to be the same for all.

    That is inexact for a smaller last batch.
    """

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
        return _ExactStepper(self, xp, self.optimizer.stepper(xp, parameters, memory))


@final
class _ExactStepper(Stepper):
    def __init__(self, exact: Exact, xp: Any, inner: Stepper) -> None:
        super().__init__(exact, xp, inner.steps, inner.moments)
        self._xp, self._penalty = xp, exact.penalty

    def step(
        self, parameters: Sequence[Array], gradients: Sequence[Array], of_weights: Numbers, of_biases: Numbers
    ) -> None:
        self._penalty.add(self._xp, parameters, gradients)
        super().step(parameters, gradients, of_weights, of_biases)
