"""Learning-rate schedules: by what the learning rate is multiplied, at each batch of a training."""

import inspect
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gpunn.checks import check_number, check_whole
from gpunn.errors import ConfigurationError

Numbers = Any
"""A number, or an array of them."""


class Schedule(ABC):
    """Says how the learning rate changes in the course of a training."""

    @abstractmethod
    def factor(self, epoch: Numbers, epochs: int) -> Numbers:
        """Return the factor after `epoch` epochs of `epochs`, of which the last is part of a whole: 2.5 of 10.

        `epoch` is one number or many; so is what is returned.
        """

    def factors(self, epoch: int, epochs: int, n_batches: int) -> NDArray[np.float64]:
        """Return the factor of each of the `n_batches` batches of an epoch, which counts from 0."""
        return np.asarray(self.factor(epoch + np.arange(n_batches) / n_batches, epochs), np.float64)


@final
@dataclass(frozen=True)
class Constant(Schedule):
    """As it is."""

    def factor(self, epoch: Numbers, epochs: int) -> Numbers:  # noqa: ARG002
        return np.ones_like(epoch, np.float64)


CONSTANT = Constant()


@final
@dataclass(frozen=True)
class Steps(Schedule):
    """Times `by` after every `every` epochs."""

    every: int = 10
    by: float = 0.1

    def __post_init__(self) -> None:
        check_whole("the epochs between steps of the schedule", self.every, 1)
        check_number("the step of the schedule", self.by, above=0, most=1)

    def factor(self, epoch: Numbers, epochs: int) -> Numbers:  # noqa: ARG002
        return np.power(float(self.by), np.floor(epoch) // self.every)


@final
@dataclass(frozen=True)
class Exponential(Schedule):
    """Times `by` after every epoch."""

    by: float = 0.9

    def __post_init__(self) -> None:
        check_number("the factor of the schedule", self.by, above=0, most=1)

    def factor(self, epoch: Numbers, epochs: int) -> Numbers:  # noqa: ARG002
        return np.power(float(self.by), np.floor(epoch))


@final
@dataclass(frozen=True)
class Cosine(Schedule):
    """Down to nothing along half a cosine (Loshchilov and Hutter, "SGDR", 2017, without restarts)."""

    def factor(self, epoch: Numbers, epochs: int) -> Numbers:
        return (1 + np.cos(math.pi * epoch / epochs)) / 2


@final
@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up from a 25th in the first `rising` share of the training, and down to nothing, both along half a cosine.

    Source: Smith and Topin, "Super-Convergence", 2018, in the form with cosines.
    """

    rising: float = 0.3

    def __post_init__(self) -> None:
        check_number("the rising share", self.rising, above=0, below=1)

    def factor(self, epoch: Numbers, epochs: int) -> Numbers:
        done, rising = epoch / epochs, float(self.rising)
        up = START + (1 - START) * (1 - np.cos(math.pi * done / rising)) / 2
        down = (1 + np.cos(math.pi * (done - rising) / (1 - rising))) / 2
        return np.where(done < rising, up, down)


START = 1 / 25
"""Where one cycle starts, as a share of the learning rate."""


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": Constant,
    "step": Steps,
    "exponential": Exponential,
    "cosine": Cosine,
    "one-cycle": OneCycle,
}
"""Schedules by name."""


def schedule_for(choice: str | Schedule) -> Schedule:
    """Return the schedule called `choice`, or `choice` itself.

    A name may be followed by a colon and the schedule's numbers, in the order of its fields: "step:10,0.5" is
    `Steps(10, 0.5)`. Raises `ConfigurationError` for another name, and for numbers that it doesn't take.
    """
    if isinstance(choice, Schedule):
        return choice
    name, _, numbers = choice.partition(":") if isinstance(choice, str) else ("", "", "")
    if name not in SCHEDULES:
        raise ConfigurationError(
            f"schedule must be {', '.join(SCHEDULES)}, or one of those in gpunn.schedules, got {choice!r}"
        )
    try:
        values = [json.loads(number) for number in numbers.split(",")] if numbers else []
        return SCHEDULES[name](*values)
    except ConfigurationError:
        raise
    except (TypeError, ValueError) as error:
        takes = inspect.signature(SCHEDULES[name]).parameters
        raise ConfigurationError(
            f"the schedule {name} takes {' and '.join(takes) or 'no numbers'}, got {numbers!r}: write "
            f"{':'.join([name, ','.join(str(each.default) for each in takes.values())]).rstrip(':')}"
        ) from error
