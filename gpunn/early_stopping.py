"""Early stopping: examples held out from training say when to end, and which parameters were the best."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gpunn.checks import check_number, check_whole
from gpunn.datasets.split import Split
from gpunn.errors import ConfigurationError

Arrays = list[NDArray[Any]]


@final
@dataclass(frozen=True)
class EarlyStopping:
    """Ends a training after `patience` epochs in a row whose loss on the held-out examples was no new best.

    A loss is a new best that is smaller than the best one before by more than `least`. `share` of the examples, drawn
    from the training's seed, are held out.
    """

    patience: int = 5
    share: float = 0.1
    least: float = 0.0

    def __post_init__(self) -> None:
        check_whole("the patience of early stopping", self.patience, 1)
        check_number("the held-out share", self.share, above=0, below=1)
        check_number("the least improvement", self.least, least=0)

    def divide(self, split: Split, seed: int) -> tuple[Split, Split]:
        """Return what is trained on, and what is held out: at least one example each."""
        n_held_out = max(1, round(self.share * len(split)))
        if n_held_out >= len(split):
            raise ConfigurationError(f"found {len(split)} examples, expected enough to hold out {n_held_out} of them")
        order = np.random.default_rng((seed, HELD_OUT)).permutation(len(split))
        kept, held_out = np.sort(order[n_held_out:]), np.sort(order[:n_held_out])
        return split[kept], split[held_out]

    def watch(self) -> "Watch":
        """Return what is told of every epoch."""
        return Watch(self)


HELD_OUT = 1
"""Tells the generator that draws the held-out examples from that of the epochs' orders, and from dropout's, 2."""


@final
class Watch:
    """Keeps the best parameters, and knows when patience has run out."""

    def __init__(self, rule: EarlyStopping) -> None:
        self._rule = rule
        self._best = math.inf
        self._kept: tuple[Arrays, Arrays] = [], []
        self._since = 0

    def see(
        self, loss: float, weights: Sequence[NDArray[Any]], biases: Sequence[NDArray[Any]]
    ) -> tuple[Arrays, Arrays]:
        """Take an epoch's loss on the held-out examples and its parameters; return the best ones until now."""
        if loss < self._best - self._rule.least:
            self._best, self._kept, self._since = loss, (list(weights), list(biases)), 0
        else:
            self._since += 1
        return self._kept

    @property
    def since(self) -> int:
        """How many epochs ago the best one was."""
        return self._since

    @property
    def ended(self) -> bool:
        """Whether patience has run out."""
        return self._since >= self._rule.patience
