"""Early stopping on a held-out share of the training examples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

from numpy.typing import NDArray

from gpunn.checks import check_number, check_whole
from gpunn.datasets.split import Split, hold_out, n_held_out_of

Arrays = list[NDArray[Any]]


@final
@dataclass(frozen=True)
class EarlyStopping:
    """Stops training after `patience` epochs in a row without improvement of the held-out loss.

    An improvement is a loss below the best one so far by more than `least`. `share` is the fraction of the examples
    held out, drawn from the training seed.
    """

    patience: int = 5
    share: float = 0.1
    least: float = 0.0

    def __post_init__(self) -> None:
        check_whole("early-stopping patience", self.patience, 1)
        check_number("early-stopping share", self.share, above=0, below=1)
        check_number("early-stopping least", self.least, least=0)

    def n_held_out(self, n: int) -> int:
        """Return how many of `n` examples are held out; raises `ConfigurationError` if none would be left."""
        return n_held_out_of(n, self.share)

    def divide(self, split: Split, seed: int) -> tuple[Split, Split]:
        """Return the training and the held-out examples, at least one each."""
        return hold_out(split, self.share, seed)

    def watch(self, watched: "Watched | None" = None) -> "Watch":
        """Return a `Watch` for one training run, which goes on from `watched` if that is given."""
        return Watch(self, watched or Watched(math.inf, 0, ([], [])))


class Watched(NamedTuple):
    """What early stopping remembers: the lowest loss, the number of epochs since, and its weights and biases."""

    best: float
    since: int
    kept: tuple[Arrays, Arrays]


@final
class Watch:
    """Tracks the best parameters and the remaining patience."""

    def __init__(self, rule: EarlyStopping, watched: Watched) -> None:
        self._rule = rule
        self._best, self._since, self._kept = watched

    def see(
        self, loss: float, weights: Sequence[NDArray[Any]], biases: Sequence[NDArray[Any]]
    ) -> tuple[Arrays, Arrays]:
        """Record an epoch's held-out loss and parameters; return the best parameters so far."""
        if loss < self._best - self._rule.least:
            self._best, self._kept, self._since = loss, (list(weights), list(biases)), 0
        else:
            self._since += 1
        return self._kept

    @property
    def watched(self) -> Watched:
        """What it remembers now."""
        return Watched(self._best, self._since, self._kept)

    @property
    def since(self) -> int:
        """Number of epochs since the best one."""
        return self._since

    @property
    def ended(self) -> bool:
        """Whether patience has run out."""
        return self._since >= self._rule.patience
