"""Optimisers: how gradients become steps. What one is called with, and the state that it keeps while training."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from gpunn.activations import Array
from gpunn.checks import check_number
from gpunn.errors import ConfigurationError
from gpunn.kernels.formulas.steps import Numbers


class OptimizerState(NamedTuple):
    """What an optimiser remembers of the steps before, on the host; with it, training goes on as if never interrupted.

    `moments` has what the optimiser keeps for each parameter: no list for plain gradient descent, one of velocities
    with momentum, two for Adam, of means and of mean squares. Each has the arrays of all weights, then of all biases.
    """

    steps: int
    """How many there were."""
    moments: tuple[list[NDArray[Any]], ...]


class Stepper(ABC):
    """Changes parameters in place, one step at a call, and keeps what an optimiser remembers of the steps before."""

    steps: int
    """How many there were."""
    moments: tuple[list[Array], ...]
    """As in `OptimizerState`, on the device."""

    @abstractmethod
    def step(self, parameters: Sequence[Array], gradients: Sequence[Array], rate: float) -> None:
        """Make a step of the learning rate `rate`; the arrays are the same, in the same order, at every call."""


class Optimizer(ABC):
    """What an optimiser is called with; equal ones do the same."""

    @property
    @abstractmethod
    def decays_apart(self) -> bool:
        """Whether the L2 penalty shrinks the weights by itself, instead of being a part of the gradient."""

    def penalties(self, l2: float) -> tuple[float, float]:
        """Return the part of the L2 penalty in the gradient, and the one by which weights shrink apart from it."""
        return (0.0, l2) if self.decays_apart else (l2, 0.0)

    @property
    @abstractmethod
    def n_moments(self) -> int:
        """How many numbers are kept for each parameter, see `OptimizerState`."""

    @abstractmethod
    def stepper(self, xp: Any, parameters: Sequence[Array], memory: OptimizerState | None = None) -> Stepper:
        """Return what makes the next step, on the device of `parameters`: the first one, where there is no `memory`.

        Raises `ConfigurationError` where `memory` is that of another optimiser or network.
        """

    def moments(self, xp: Any, parameters: Sequence[Array], memory: OptimizerState | None) -> tuple[list[Array], ...]:
        """Return copies of the moments in `memory`, on the device of `parameters`, or zeros."""
        if memory is None:
            return tuple([xp.zeros_like(parameter) for parameter in parameters] for _ in range(self.n_moments))
        expected = [[parameter.shape for parameter in parameters]] * self.n_moments
        found = [[moment.shape for moment in moments] for moments in memory.moments]
        if found != expected:
            raise ConfigurationError(f"found the memory of an optimiser that isn't {self}, or of another network")
        dtype = parameters[0].dtype
        return tuple([xp.array(moment, dtype) for moment in moments] for moments in memory.moments)


@final
@dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent: W <- W - eta v with v <- momentum v + dW, and v = dW without momentum.

    Nesterov's takes dW + momentum v in place of v (as PyTorch does, after Sutskever et al., "On the importance of
    initialization and momentum in deep learning", 2013).
    """

    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        check_number("momentum", self.momentum, least=0, below=1)
        if self.nesterov and self.momentum == 0:
            raise ConfigurationError("found Nesterov's method without momentum, expected a momentum such as 0.9")

    @property
    def decays_apart(self) -> bool:
        return False

    @property
    def n_moments(self) -> int:
        return 1 if self.momentum else 0

    def numbers(self, steps: int, rates: NDArray[np.float64], l2: float) -> NDArray[np.float64]:  # noqa: ARG002
        """Return the numbers of the steps after `steps` earlier ones, with the learning `rates` (n,).

        The result is (n, 9): a row a step, as in `gpunn.kernels.formulas.steps.Numbers`. `l2` is the weights' penalty.
        """
        return _table(len(rates), rate=rates, beta1=float(self.momentum), l2=l2, keep=1.0)

    def stepper(self, xp: Any, parameters: Sequence[Array], memory: OptimizerState | None = None) -> Stepper:
        return _SGD(self, 0 if memory is None else memory.steps, self.moments(xp, parameters, memory))


@final
class _SGD(Stepper):
    def __init__(self, optimizer: SGD, steps: int, moments: tuple[list[Array], ...]) -> None:
        # A NumPy scalar would promote float32 arrays to float64.
        self._momentum, self._nesterov = float(optimizer.momentum), optimizer.nesterov
        self.steps, self.moments = steps, moments

    def step(self, parameters: Sequence[Array], gradients: Sequence[Array], rate: float) -> None:
        self.steps += 1
        if not self.moments:
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= rate * gradient
            return
        for parameter, gradient, velocity in zip(parameters, gradients, *self.moments, strict=True):
            velocity *= self._momentum
            velocity += gradient
            parameter -= rate * (gradient + self._momentum * velocity if self._nesterov else velocity)


PLAIN = SGD()
"""Gradient descent without momentum."""


@final
@dataclass(frozen=True)
class Adam(Optimizer):
    """W <- W - eta m' / (sqrt(v') + epsilon), where m and v are running means of dW and dW^2.

    m <- beta1 m + (1 - beta1) dW, v <- beta2 v + (1 - beta2) dW^2, and after t steps m' = m / (1 - beta1^t),
    v' = v / (1 - beta2^t). Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 1.

    `decoupled` makes it AdamW: the L2 penalty shrinks the weights by itself, W <- W - eta l2 W, and leaves the means
    alone (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019).
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    decoupled: bool = False

    def __post_init__(self) -> None:
        check_number("beta1", self.beta1, least=0, below=1)
        check_number("beta2", self.beta2, least=0, below=1)
        check_number("epsilon", self.epsilon, above=0)

    @property
    def decays_apart(self) -> bool:
        return self.decoupled

    @property
    def n_moments(self) -> int:
        return 2

    def corrections(self, step: int) -> tuple[float, float]:
        """Return 1 - beta1^t and sqrt(1 - beta2^t) for step t, from 1: what m and sqrt(v) are divided by."""
        return 1 - float(self.beta1) ** step, math.sqrt(1 - float(self.beta2) ** step)

    def numbers(self, steps: int, rates: NDArray[np.float64], l2: float) -> NDArray[np.float64]:
        """Return the numbers of the steps after `steps` earlier ones, as `SGD.numbers` does."""
        t = np.arange(steps + 1, steps + 1 + len(rates), dtype=np.float64)
        in_gradient, apart = self.penalties(l2)
        beta1, beta2 = float(self.beta1), float(self.beta2)
        return _table(
            len(rates),
            rate=rates / (1 - beta1**t),
            correction=1 / np.sqrt(1 - beta2**t),
            beta1=beta1,
            rest1=1 - beta1,
            beta2=beta2,
            rest2=1 - beta2,
            epsilon=float(self.epsilon),
            l2=in_gradient,
            keep=1 - rates * apart,
        )

    def arguments(self, step: int, rate: float, l2: float) -> tuple[float, ...]:
        """Return the numbers that the kernels' `adam_step` takes for step t, from 1."""
        divisor, root = self.corrections(step)
        in_gradient, apart = self.penalties(l2)
        averages = float(self.beta1), float(self.beta2), float(self.epsilon)
        return rate / divisor, root, *averages, in_gradient, rate * apart

    def stepper(self, xp: Any, parameters: Sequence[Array], memory: OptimizerState | None = None) -> Stepper:
        return _Adam(self, xp, 0 if memory is None else memory.steps, self.moments(xp, parameters, memory))


@final
class _Adam(Stepper):
    def __init__(self, optimizer: Adam, xp: Any, steps: int, moments: tuple[list[Array], ...]) -> None:
        self._xp, self.steps, self.moments = xp, steps, moments
        self._corrections = optimizer.corrections
        self._beta1, self._beta2, self._epsilon = map(float, (optimizer.beta1, optimizer.beta2, optimizer.epsilon))

    def step(self, parameters: Sequence[Array], gradients: Sequence[Array], rate: float) -> None:
        beta1, beta2 = self._beta1, self._beta2
        self.steps += 1
        # The corrections are numbers, so that they meet the arrays only once.
        divisor, root = self._corrections(self.steps)
        rate /= divisor
        for W, dW, m, v in zip(parameters, gradients, *self.moments, strict=True):
            m *= beta1
            m += (1 - beta1) * dW
            v *= beta2
            v += (1 - beta2) * dW * dW
            W -= rate * m / (self._xp.sqrt(v) / root + self._epsilon)


def _table(n: int, **columns: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a row of `Numbers` for each of `n` steps; those not in `columns` are 0."""
    table = np.zeros((n, len(Numbers._fields)))
    for name, column in columns.items():
        table[:, Numbers._fields.index(name)] = column
    return table


OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": PLAIN,
    "momentum": SGD(0.9),
    "nesterov": SGD(0.9, nesterov=True),
    "adam": Adam(),
    "adamw": Adam(decoupled=True),
}
"""Optimisers by name, with their usual settings."""


def optimizer_for(choice: str | Optimizer) -> Optimizer:
    """Return the optimiser called `choice`, or `choice` itself; raises `ConfigurationError` for anything else."""
    if isinstance(choice, Optimizer):
        return choice
    if not isinstance(choice, str) or choice not in OPTIMIZERS:
        raise ConfigurationError(
            f"optimizer must be {', '.join(OPTIMIZERS)}, or one of those in gpunn.optimizers, got {choice!r}"
        )
    return OPTIMIZERS[choice]
