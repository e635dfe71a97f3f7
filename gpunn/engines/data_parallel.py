"""Engines that train on a part of each batch, and add up gradients with other processes, which have the other parts."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunn.engines.base import Engine
from gpunn.equations import Array


class Sharing(ABC):
    """The processes that share each batch, as an engine sees them; every method but `own` is called by all at once."""

    rank: int
    """Number of this process, from 0."""
    size: int
    """Number of processes."""

    @abstractmethod
    def own(self, batch: slice) -> slice:
        """Return the part of `batch`, positions in the epoch, that is this process's; it may be empty."""

    @abstractmethod
    def buffer(self, xp: Any, n: int, dtype: np.dtype[Any]) -> Array:
        """Return zeros of `dtype`, an array of `xp`, for `add_up`; the first `n` are the caller's."""

    @abstractmethod
    def add_up(self, buffer: Array) -> None:
        """Replace what is in `buffer` by the sum over all processes, the same bits in each.

        Raises `KeyboardInterrupt` in all processes if one of them is to end, unless that would wait for a GPU.
        """

    @abstractmethod
    def total(self, number: float) -> float:
        """Return the sum of `number` over all processes, the same bits in each."""


class SharingEngine(Engine):
    """An engine whose batches several processes can share; each then has the same parameters after each step."""

    @abstractmethod
    def share(self, sharing: Sharing) -> None:
        """From now on take the own part of each batch, and make each step by the sum of all processes' gradients.

        Called once, before the first epoch, and not for examples with weights. `run_epoch` then returns the mean loss
        over all processes. The results are those of one process to rounding: dropout's masks go by the positions of
        the examples in the epoch, whoever computes them.
        """


def views(buffer: Array, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """Return parts of `buffer` (n,) of these `shapes`, one after the other."""
    found, first = [], 0
    for shape in shapes:
        size = math.prod(shape)
        found.append(buffer[first : first + size].reshape(shape))
        first += size
    return found
