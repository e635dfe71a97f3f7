"""Examples of a fit: those to train on, in scikit-learn's order, and those held out for early stopping."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from gpunn.errors import ConfigurationError, DataError


@dataclass
class Batches:
    """Batches of shuffled examples, in scikit-learn's order."""

    rows: NDArray[np.int64]
    """Indices of the training examples, in the order of the last epoch."""
    size: int
    weights: NDArray[np.float64] | None
    """Sample weights of all examples; None if all are equal."""
    weight: float
    """Weight of each example if `weights` is None."""

    def __post_init__(self) -> None:
        self._starts = np.arange(0, len(self.rows), self.size)
        self.sizes = np.minimum(self.size, len(self.rows) - self._starts)
        """Number of examples in each batch."""

    def shuffle(self, random_state: np.random.RandomState) -> None:
        """Shuffle the order again, as `sklearn.utils.shuffle` does."""
        picks = np.arange(len(self.rows))
        random_state.shuffle(picks)
        self.rows = self.rows[picks]

    def weighing(self) -> NDArray[np.float64]:
        """Return the total sample weight of each batch."""
        if self.weights is None:
            return self.sizes * self.weight
        found: NDArray[np.float64] = np.add.reduceat(self.weights[self.rows], self._starts)
        return found


def divide(estimator: Any, y: NDArray[Any], weights: NDArray[Any] | None) -> list[NDArray[np.int64]]:
    """Return the indices of the examples to train on, and of those held out for early stopping, as by scikit-learn.

    `y` (n, n_L) are targets. Raises `ConfigurationError` if fewer than two would be held out, and `DataError` if all
    examples of a part weigh nothing.
    """
    parts: list[NDArray[np.int64]] = train_test_split(
        np.arange(len(y)),
        random_state=estimator._random_state,
        test_size=estimator.validation_fraction,
        stratify=y if estimator.out_activation_ == "logistic" and y.shape[1] == 1 else None,
    )
    for part, what in zip(parts, ("to train on", "held out"), strict=True):
        if weights is not None and len(part) and not weights[part].any():
            raise DataError(
                f"found weights of 0 for all examples {what}, expected some above 0: try another random_state"
            )
    if len(parts[1]) < 2:
        raise ConfigurationError(
            f"The validation set is too small: found {len(parts[1])} of {len(y)} examples held out, expected 2 or "
            f"more: raise validation_fraction={estimator.validation_fraction:g}, or use more examples"
        )
    return parts


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
