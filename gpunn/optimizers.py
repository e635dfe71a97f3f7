"""Optimisers: their settings, and their state during training."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from gpunn.activations import Array
from gpunn.checks import check_number
from gpunn.errors import ConfigurationError
from gpunn.kernels.formulas.steps import N_MOMENTS, RULES, Numbers, Operations


class OptimizerState(NamedTuple):
    """Optimiser state on the host; restoring it resumes training exactly.

    `moments` is empty for plain gradient descent; with momentum it holds one list, the velocities; for Adam two, the
    running means of the gradients and of their squares. Each list has one array a parameter: all weights, then all
    biases.
    """

    steps: int
    """Number of steps taken."""
    moments: tuple[list[NDArray[Any]], ...]


class Optimizer(ABC):
    """Optimiser settings; equal ones behave equally.

    An optimiser of your own gives `decays_apart`, `rule` and `numbers`, if its steps are one of the rules in
    `gpunn.kernels.formulas.steps` with other numbers. Otherwise it also overrides `stepper`, to return a subclass of
    `Stepper` whose `step` is its own; that has to apply the penalties in `Numbers` too, `l2` and `keep`. Only the
    engine `plain` takes such optimisers.
    """

    @property
    @abstractmethod
    def decays_apart(self) -> bool:
        """Whether weight decay is decoupled (AdamW), not part of the gradient."""

    def penalties(self, l2: float) -> tuple[float, float]:
        """Return the L2 penalty in the gradient and the decoupled weight decay; one of them is 0."""
        return (0.0, l2) if self.decays_apart else (l2, 0.0)

    @property
    @abstractmethod
    def rule(self) -> str:
        """Name of its step in `gpunn.kernels.formulas.steps.RULES`."""

    @property
    def n_moments(self) -> int:
        """Number of state arrays per parameter, see `OptimizerState`."""
        return N_MOMENTS[self.rule]

    @abstractmethod
    def numbers(self, steps: int, rates: NDArray[np.float64], l2: float) -> NDArray[np.float64]:
        """Return the numbers of the steps after `steps` earlier ones, with the learning `rates` (n,).

        The result is (n, 9): a row a step, as in `gpunn.kernels.formulas.steps.Numbers`. `l2` is the weights' penalty;
        biases have none.
        """

    def stepper(self, xp: Any, parameters: Sequence[Array], memory: OptimizerState | None = None) -> "Stepper":
        """Return a stepper on the device of `parameters`, resumed from the state `memory` if given.

        Raises `ConfigurationError` if `memory` is from another optimiser or network.
        """
        return Stepper(self, xp, 0 if memory is None else memory.steps, self.moments(xp, parameters, memory))

    def moments(self, xp: Any, parameters: Sequence[Array], memory: OptimizerState | None) -> tuple[list[Array], ...]:
        """Return copies of the moments in `memory`, or zeros, on the device of `parameters`."""
        if memory is None:
            return tuple([xp.zeros_like(parameter) for parameter in parameters] for _ in range(self.n_moments))
        expected = [[parameter.shape for parameter in parameters]] * self.n_moments
        found = [[moment.shape for moment in moments] for moments in memory.moments]
        if found != expected:
            raise ConfigurationError(f"memory must be the state of {self} for this network, got another's")
        dtype = parameters[0].dtype
        return tuple([xp.array(moment, dtype) for moment in moments] for moments in memory.moments)


@final
@dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent: W <- W - eta v with v <- momentum v + dW; without momentum, v = dW.

    `nesterov` uses dW + momentum v in place of v (as PyTorch does, after Sutskever et al., "On the importance of
    initialization and momentum in deep learning", 2013).
    """

    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        check_number("momentum", self.momentum, least=0, below=1)
        if self.nesterov and self.momentum == 0:
            raise ConfigurationError(f"nesterov=True requires momentum > 0, got {self.momentum!r}")

    @property
    def decays_apart(self) -> bool:
        return False

    @property
    def rule(self) -> str:
        return "nesterov" if self.nesterov else "momentum" if self.momentum else "descent"

    def numbers(self, steps: int, rates: NDArray[np.float64], l2: float) -> NDArray[np.float64]:  # noqa: ARG002
        return _table(len(rates), rate=rates, beta1=float(self.momentum), l2=l2, keep=1.0)


PLAIN = SGD()
"""Gradient descent without momentum."""


@final
@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam: W <- W - eta m' / (sqrt(v') + epsilon), where m and v are running means of dW and dW^2.

    m <- beta1 m + (1 - beta1) dW, v <- beta2 v + (1 - beta2) dW^2, and after t steps m' = m / (1 - beta1^t),
    v' = v / (1 - beta2^t). Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 1.

    `decoupled` makes it AdamW: weight decay W <- W - eta l2 W is applied directly, and the penalty does not enter the
    means (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019). `epsilon_hat` adds epsilon to sqrt(v)
    before its correction, as scikit-learn does: the form at the end of section 2 of Kingma and Ba.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    decoupled: bool = False
    epsilon_hat: bool = False

    def __post_init__(self) -> None:
        check_number("beta1", self.beta1, least=0, below=1)
        check_number("beta2", self.beta2, least=0, below=1)
        check_number("epsilon", self.epsilon, above=0)

    @property
    def decays_apart(self) -> bool:
        return self.decoupled

    @property
    def rule(self) -> str:
        return "adam"

    def numbers(self, steps: int, rates: NDArray[np.float64], l2: float) -> NDArray[np.float64]:
        t = np.arange(steps + 1, steps + 1 + len(rates), dtype=np.float64)
        in_gradient, apart = self.penalties(l2)
        beta1, beta2 = float(self.beta1), float(self.beta2)
        correction = 1 / np.sqrt(1 - beta2**t)
        # sqrt(v) and what epsilon is added to differ by the correction; multiplied by it, m' / (sqrt(v') + epsilon).
        scale = correction if self.epsilon_hat else 1.0
        return _table(
            len(rates),
            rate=rates / (1 - beta1**t) / scale,
            correction=correction / scale,
            beta1=beta1,
            rest1=1 - beta1,
            beta2=beta2,
            rest2=1 - beta2,
            epsilon=float(self.epsilon),
            l2=in_gradient,
            keep=1 - rates * apart,
        )


class Stepper:
    """Updates parameters in place, one step a call, and holds the optimiser's state."""

    steps: int
    """Number of steps taken."""
    moments: tuple[list[Array], ...]
    """As in `OptimizerState`, on the device."""

    def __init__(self, optimizer: Optimizer, xp: Any, steps: int, moments: tuple[list[Array], ...]) -> None:
        self._optimizer, self.steps, self.moments = optimizer, steps, moments
        operations = Operations(fma=_fma, sqrt=xp.sqrt, flush_mean=_as_it_is, flush_square=_as_it_is)
        self._step = RULES[optimizer.rule](operations)

    def numbers(self, rates: NDArray[np.float64], l2: float = 0.0) -> Iterator[tuple[Numbers, Numbers]]:
        """Yield the numbers of the next steps, with these learning rates: those of weights, and those of biases."""
        return numbers_of_steps(self._optimizer, self.steps, rates, l2)

    def step(
        self, parameters: Sequence[Array], gradients: Sequence[Array], of_weights: Numbers, of_biases: Numbers
    ) -> None:
        """Make a step; every call takes the same parameters in the same order, all weights and then all biases."""
        self.steps += 1
        n = len(parameters) // 2
        moments = (*self.moments, *[[None] * len(parameters)] * (2 - len(self.moments)))
        for number, (w, g, m, v) in enumerate(zip(parameters, gradients, *moments, strict=True)):
            new = self._step(w, g, m, v, of_weights if number < n else of_biases)
            for array, values in zip((w, m, v), new, strict=True):
                if array is not None:
                    array[...] = values


def _fma(a: Array, b: Any, c: Any) -> Array:
    """Return a b + c, without a pass over memory if the number b is 0, as it is for unused penalties."""
    if isinstance(b, float) and b == 0:
        return c
    product = a * b
    product += c
    return product


def _as_it_is(moment: Array) -> Array:
    return moment


def numbers_of_steps(
    optimizer: Optimizer, steps: int, rates: NDArray[np.float64], l2: float
) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield the numbers of each step: those of weights, and those of biases, which have no penalty."""
    with np.errstate(over="ignore", invalid="ignore"):  # checked for after the epoch
        of_biases = optimizer.numbers(steps, rates, 0.0).tolist()
        of_weights = optimizer.numbers(steps, rates, l2).tolist() if l2 else of_biases
    return ((Numbers(*weights), Numbers(*biases)) for weights, biases in zip(of_weights, of_biases, strict=True))


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
    """Return the optimiser named `choice`, or `choice` itself; raises `ConfigurationError` for anything else."""
    if isinstance(choice, Optimizer):
        return choice
    if not isinstance(choice, str) or choice not in OPTIMIZERS:
        raise ConfigurationError(
            f"optimizer must be one of {', '.join(OPTIMIZERS)}, or an object from gpunn.optimizers, got {choice!r}"
        )
    return OPTIMIZERS[choice]
