"""Training data of an estimator on the host: examples, batches and held-out examples."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from gpunn.errors import ConfigurationError, DataError
from gpunn.estimators.parameters import Settings

Score = Callable[[NDArray[Any], NDArray[Any], NDArray[Any] | None], float]
"""A function of outputs, targets and sample weights that returns a score."""


@dataclass(frozen=True)
class Task:
    """`n` examples and the network's task on them."""

    X: Any
    """(n, n_0), float32 or float64, an array or a sparse matrix in CSR form."""
    targets: NDArray[Any]
    """Classes, uint8 (n,), or target outputs, (n, n_L)."""
    weights: NDArray[np.float64] | None
    """Sample weights (n,); None if all are equal."""
    weight: float
    """Weight of each example if `weights` is None."""
    functions: tuple[str, ...]
    """Activation functions of all layers but the input."""
    loss: str
    score: Score
    stratified: bool
    """Whether held-out examples are stratified by class."""

    @property
    def n(self) -> int:
        """Number of examples."""
        return int(self.X.shape[0])

    def divide(self, settings: Settings, random_state: np.random.RandomState) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the indices of the training examples and of those held out for early stopping."""
        every = np.arange(self.n)
        if not settings.early_stopping:
            return every, every[:0]
        trained, held_out = train_test_split(
            every,
            random_state=random_state,
            test_size=settings.validation_fraction,
            stratify=self.targets.ravel() if self.stratified else None,
        )
        for part, what in ((trained, "to train on"), (held_out, "held out")):
            if self.weights is not None and len(part) and not self.weights[part].any():
                raise DataError(
                    f"found weights of 0 for all examples {what}, expected some above 0: try another random_state"
                )
        if len(held_out) < 2:
            raise ConfigurationError(
                f"found {len(held_out)} of {self.n} examples held out for early stopping, expected 2 or more: raise "
                f"validation_fraction={settings.validation_fraction:g}, or use more examples"
            )
        return trained, held_out


@dataclass
class Batches:
    """Batches of shuffled examples, in scikit-learn's order."""

    rows: NDArray[Any]
    """Indices of the training examples."""
    size: int
    task: Task

    def __post_init__(self) -> None:
        self._places = np.arange(len(self.rows))
        self._starts = np.arange(0, len(self.rows), self.size)
        self.sizes = np.minimum(self.size, len(self.rows) - self._starts)
        """Number of examples in each batch."""

    def order(self, settings: Settings, random_state: np.random.RandomState) -> NDArray[Any]:
        """Return the next epoch's order: the previous order, shuffled again."""
        if settings.shuffle:
            picks = np.arange(len(self._places))
            random_state.shuffle(picks)
            self._places = self._places[picks]
        order: NDArray[Any] = self.rows[self._places]
        return order

    def weighing(self, order: NDArray[Any]) -> NDArray[np.float64]:
        """Return the total sample weight of each batch."""
        if self.task.weights is None:
            return self.sizes * self.task.weight
        found: NDArray[np.float64] = np.add.reduceat(self.task.weights[order], self._starts)
        return found


def checked_weights(weights: NDArray[Any] | None) -> tuple[NDArray[np.float64] | None, float]:
    """Return the sample weights, or None if all are equal, and the weight of each example in that case.

    Raises `DataError` for negative weights, and if all are 0.
    """
    if weights is None:
        return None, 1.0
    lowest, highest = float(weights.min()), float(weights.max())
    if lowest < 0 or highest == 0:
        found = f"{lowest:g}" if lowest < 0 else "0 for every example"
        raise DataError(f"sample_weight must be >= 0, and > 0 for at least one example, got {found}")
    if lowest == highest:
        return None, lowest
    return weights.astype(np.float64, copy=False), 1.0
