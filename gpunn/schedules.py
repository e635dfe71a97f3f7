"""Learning-rate schedules: a factor on the learning rate for each batch."""

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
"""A number or an array."""


class Schedule(ABC):
    """A learning-rate schedule."""

    @abstractmethod
    def factor(self, epoch: Numbers, epochs: int) -> Numbers:
        """Return the factor after `epoch` of `epochs` epochs; `epoch` may be fractional, as 2.5 of 10.

        `epoch` is a number or an array; the result has the same shape.
        """

    def factors(self, epoch: int, epochs: int, n_batches: int) -> NDArray[np.float64]:
        """Return the factors of an epoch, (n_batches,); `epoch` counts from 0."""
        return np.asarray(self.factor(epoch + np.arange(n_batches) / n_batches, epochs), np.float64)


@final
@dataclass(frozen=True)
class Constant(Schedule):
    """Constant learning rate."""

    def factor(self, epoch: Numbers, epochs: int) -> Numbers:  # noqa: ARG002
        return np.ones_like(epoch, np.float64)


CONSTANT = Constant()


@final
@dataclass(frozen=True)
class Steps(Schedule):
    """Step decay: multiplies by `by` after every `every` epochs."""

    every: int = 10
    by: float = 0.1

    def __post_init__(self) -> None:
        check_whole("schedule step: every", self.every, 1)
        check_number("schedule step: by", self.by, above=0, most=1)

    def factor(self, epoch: Numbers, epochs: int) -> Numbers:  # noqa: ARG002
        return np.power(float(self.by), np.floor(epoch) // self.every)


@final
@dataclass(frozen=True)
class Exponential(Schedule):
    """Exponential decay: multiplies by `by` after every epoch."""

    by: float = 0.9

    def __post_init__(self) -> None:
        check_number("schedule exponential: by", self.by, above=0, most=1)

    def factor(self, epoch: Numbers, epochs: int) -> Numbers:  # noqa: ARG002
        return np.power(float(self.by), np.floor(epoch))


@final
@dataclass(frozen=True)
class Cosine(Schedule):
    """Cosine decay to 0 (Loshchilov and Hutter, "SGDR", 2017, without restarts)."""

    def factor(self, epoch: Numbers, epochs: int) -> Numbers:
        return (1 + np.cos(math.pi * epoch / epochs)) / 2


@final
@dataclass(frozen=True)
class OneCycle(Schedule):
    """One cycle: warm-up from 1/25 over the first `rising` fraction of training, then decay to 0, both along a cosine.

    Source: Smith and Topin, "Super-Convergence", 2018, in the cosine form.
    """

    rising: float = 0.3

    def __post_init__(self) -> None:
        check_number("schedule one-cycle: rising", self.rising, above=0, below=1)

    def factor(self, epoch: Numbers, epochs: int) -> Numbers:
        done, rising = epoch / epochs, float(self.rising)
        up = START + (1 - START) * (1 - np.cos(math.pi * done / rising)) / 2
        down = (1 + np.cos(math.pi * (done - rising) / (1 - rising))) / 2
        return np.where(done < rising, up, down)


START = 1 / 25
"""Initial factor of one cycle."""


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": Constant,
    "step": Steps,
    "exponential": Exponential,
    "cosine": Cosine,
    "one-cycle": OneCycle,
}
"""Schedules by name."""


def schedule_for(choice: str | Schedule) -> Schedule:
    """Return the schedule named `choice`, or `choice` itself.

    A name may be followed by a colon and the schedule's arguments, in the order of its fields: "step:10,0.5" is
    `Steps(10, 0.5)`; "one_cycle" is "one-cycle". Raises `ConfigurationError` for unknown names and invalid arguments.
    """
    if isinstance(choice, Schedule):
        return choice
    name, _, numbers = choice.partition(":") if isinstance(choice, str) else ("", "", "")
    name = name.replace("_", "-")
    if name not in SCHEDULES:
        raise ConfigurationError(
            f"schedule must be one of {', '.join(SCHEDULES)}, or an object from gpunn.schedules, got {choice!r}"
        )
    try:
        values = [json.loads(number) for number in numbers.split(",")] if numbers else []
        return SCHEDULES[name](*values)
    except ConfigurationError:
        raise
    except (TypeError, ValueError) as error:
        takes = inspect.signature(SCHEDULES[name]).parameters
        raise ConfigurationError(
            f"schedule {name} takes {' and '.join(takes) or 'no numbers'}, got {numbers!r}: write "
            f"{':'.join([name, ','.join(str(each.default) for each in takes.values())]).rstrip(':')}"
        ) from error
