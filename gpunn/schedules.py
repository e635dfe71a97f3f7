"""Learning-rate schedules: by what the learning rate is multiplied, at each batch of a training."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from gpunn.checks import check_whole
from gpunn.errors import ConfigurationError


class Schedule(ABC):
    """Says how the learning rate changes in the course of a training."""

    @abstractmethod
    def factor(self, epoch: float, epochs: int) -> float:
        """Return the factor after `epoch` epochs of `epochs`, of which the last is part of a whole: 2.5 of 10."""

    def factors(self, epoch: int, epochs: int, n_batches: int) -> NDArray[np.float64]:
        """Return the factor of each of the `n_batches` batches of an epoch, which counts from 0."""
        return np.array([self.factor(epoch + batch / n_batches, epochs) for batch in range(n_batches)])


@final
@dataclass(frozen=True)
class Constant(Schedule):
    """As it is."""

    def factor(self, epoch: float, epochs: int) -> float:  # noqa: ARG002
        return 1.0


CONSTANT = Constant()


@final
@dataclass(frozen=True)
class Steps(Schedule):
    """Times `by` after every `every` epochs."""

    every: int = 10
    by: float = 0.1

    def __post_init__(self) -> None:
        check_whole("the epochs between steps of the schedule", self.every, 1)
        _check_factor("the step of the schedule", self.by)

    def factor(self, epoch: float, epochs: int) -> float:  # noqa: ARG002
        return float(self.by ** (int(epoch) // self.every))


@final
@dataclass(frozen=True)
class Exponential(Schedule):
    """Times `by` after every epoch."""

    by: float = 0.9

    def __post_init__(self) -> None:
        _check_factor("the factor of the schedule", self.by)

    def factor(self, epoch: float, epochs: int) -> float:  # noqa: ARG002
        return float(self.by ** int(epoch))


@final
@dataclass(frozen=True)
class Cosine(Schedule):
    """Down to nothing along half a cosine (Loshchilov and Hutter, "SGDR", 2017, without restarts)."""

    def factor(self, epoch: float, epochs: int) -> float:
        return (1 + math.cos(math.pi * epoch / epochs)) / 2


@final
@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up from a 25th in the first `rising` share of the training, and down to nothing, both along half a cosine.

    Source: Smith and Topin, "Super-Convergence", 2018, in the form with cosines.
    """

    rising: float = 0.3

    def __post_init__(self) -> None:
        if not 0 < self.rising < 1:
            raise ConfigurationError(f"found the rising share {self.rising!r}, expected a number between 0 and 1")

    def factor(self, epoch: float, epochs: int) -> float:
        done = epoch / epochs
        if done < self.rising:
            return START + (1 - START) * (1 - math.cos(math.pi * done / self.rising)) / 2
        return (1 + math.cos(math.pi * (done - self.rising) / (1 - self.rising))) / 2


START = 1 / 25
"""Where one cycle starts, as a share of the learning rate."""


def _check_factor(name: str, factor: float) -> None:
    if not 0 < factor <= 1:
        raise ConfigurationError(f"found {name} {factor!r}, expected a number above 0, up to 1")
