"""Comparison of a network with the best constant prediction."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunn.history import Epoch

BETTER = 1.1
"""Multiple of the guessing accuracy above which the network has learned something."""
FALLEN = 0.98
"""Fraction of the guessing loss below which the network has learned something."""
ENOUGH_STEPS, ENOUGH_EXAMPLES = 100, 10_000
"""Steps and examples before a warning, except after the last epoch: toy sets and large batches need many epochs."""


@dataclass(frozen=True)
class Guessing:
    """Loss and accuracy of the best constant prediction: the mean target, or the most frequent class."""

    loss: float
    accuracy: float

    @classmethod
    def on(cls, targets: NDArray[Any], n_outputs: int, loss: str) -> "Guessing":
        """Compute them for `targets`: classes (n,), or rows (n, n_L)."""
        if targets.ndim == 1:
            p = np.bincount(targets, minlength=n_outputs) / len(targets)
            accuracy, squares = float(p.max()), p
        else:
            p, squares = targets.mean(axis=0, dtype=np.float64), np.square(targets, dtype=np.float64).mean(axis=0)
            accuracy = 1.0  # unknown, as rows needn't encode classes: the loss decides
        with np.errstate(divide="ignore", invalid="ignore"):
            entropies = [np.nan_to_num(-share * np.log(share), nan=0.0) for share in (p, 1 - p)]
        value = {"squared_error": squares - p * p, "cross_entropy": entropies[0]}.get(loss, entropies[0] + entropies[1])
        return cls(float(value.sum()), accuracy)

    def is_all(self, epoch: Epoch) -> bool:
        """Whether the network after `epoch` does no better."""
        if epoch.test is not None and self.accuracy < 0.5:
            return epoch.test.accuracy <= BETTER * self.accuracy
        found = epoch.loss if epoch.test is None else epoch.test.loss
        return found >= FALLEN * self.loss > 0
