"""Whether a network does better than one that gives the same answer whatever it is shown."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunn.history import Epoch

BETTER = 1.1
"""How many times the accuracy of guessing shows that something was learned."""
FALLEN = 0.98
"""The share of the loss of guessing from which on something was learned."""
ENOUGH_STEPS, ENOUGH_EXAMPLES = 100, 10_000
"""Steps, and examples seen, before which nothing is said but at the end: toys and large batches take many epochs."""


@dataclass(frozen=True)
class Guessing:
    """What the best constant answer reaches: the mean target, or as a class the most frequent one."""

    loss: float
    accuracy: float

    @classmethod
    def on(cls, targets: NDArray[Any], n_outputs: int, loss: str) -> "Guessing":
        """Return what it reaches on `targets`: classes (n,), or rows (n, n_L)."""
        if targets.ndim == 1:
            p = np.bincount(targets, minlength=n_outputs) / len(targets)
            accuracy, squares = float(p.max()), p
        else:
            p, squares = targets.mean(axis=0, dtype=np.float64), np.square(targets, dtype=np.float64).mean(axis=0)
            accuracy = 1.0  # rows needn't be classes
        with np.errstate(divide="ignore", invalid="ignore"):
            entropies = [np.nan_to_num(-share * np.log(share), nan=0.0) for share in (p, 1 - p)]
        value = {"squared_error": squares - p * p, "cross_entropy": entropies[0]}.get(loss, entropies[0] + entropies[1])
        return cls(float(value.sum()), accuracy)

    def is_all(self, epoch: Epoch) -> bool:
        """Whether the network of `epoch` does no better."""
        if epoch.test is not None and self.accuracy < 0.5:
            return epoch.test.accuracy <= BETTER * self.accuracy
        found = epoch.loss if epoch.test is None else epoch.test.loss
        return found >= FALLEN * self.loss > 0
