"""Optimisers: how gradients become steps. What one is called with, and the state that it keeps while training."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from gpunn.activations import Array
from gpunn.checks import check_number
from gpunn.errors import ConfigurationError


class Stepper(ABC):
    """Changes parameters in place, one step at a call, and keeps what an optimiser remembers of the steps before."""

    @abstractmethod
    def step(self, parameters: Sequence[Array], gradients: Sequence[Array], rate: float) -> None:
        """Make a step of the learning rate `rate`; the arrays are the same, in the same order, at every call."""


class Optimizer(ABC):
    """What an optimiser is called with; equal ones do the same."""

    @property
    @abstractmethod
    def decays_apart(self) -> bool:
        """Whether the L2 penalty shrinks the weights by itself, instead of being a part of the gradient."""

    @abstractmethod
    def stepper(self, xp: Any, parameters: Sequence[Array]) -> Stepper:
        """Return the state before the first step, on the device of `parameters`."""


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

    def stepper(self, xp: Any, parameters: Sequence[Array]) -> Stepper:
        return _SGD(self, [xp.zeros_like(parameter) for parameter in parameters] if self.momentum else [])


@final
class _SGD(Stepper):
    def __init__(self, optimizer: SGD, velocities: list[Array]) -> None:
        # A NumPy scalar would promote float32 arrays to float64.
        self._momentum, self._nesterov, self._velocities = float(optimizer.momentum), optimizer.nesterov, velocities

    def step(self, parameters: Sequence[Array], gradients: Sequence[Array], rate: float) -> None:
        if not self._velocities:
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= rate * gradient
            return
        for parameter, gradient, velocity in zip(parameters, gradients, self._velocities, strict=True):
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

    def stepper(self, xp: Any, parameters: Sequence[Array]) -> Stepper:
        return _Adam(self, xp, parameters)


@final
class _Adam(Stepper):
    def __init__(self, optimizer: Adam, xp: Any, parameters: Sequence[Array]) -> None:
        self._xp, self._steps = xp, 0
        self._beta1, self._beta2, self._epsilon = map(float, (optimizer.beta1, optimizer.beta2, optimizer.epsilon))
        self._means = [xp.zeros_like(parameter) for parameter in parameters]
        self._squares = [xp.zeros_like(parameter) for parameter in parameters]

    def step(self, parameters: Sequence[Array], gradients: Sequence[Array], rate: float) -> None:
        beta1, beta2 = self._beta1, self._beta2
        self._steps += 1
        # The corrections are numbers, so that they meet the arrays only once.
        rate /= 1 - beta1**self._steps
        root = math.sqrt(1 - beta2**self._steps)
        for W, dW, m, v in zip(parameters, gradients, self._means, self._squares, strict=True):
            m *= beta1
            m += (1 - beta1) * dW
            v *= beta2
            v += (1 - beta2) * dW * dW
            W -= rate * m / (self._xp.sqrt(v) / root + self._epsilon)
