"""Accuracies to be reached as soon as possible, and the settings among which everyone may choose.

How many epochs a setting takes depends on the arithmetic, which is everybody's, and how long an epoch takes on who does
it: each contestant takes the setting that is the fastest for it.
"""

import statistics
from dataclasses import dataclass

from benchmarks.schema import Recipe, Task


@dataclass(frozen=True)
class Setting:
    """A way to train that reaches the goal."""

    batch_size: int
    learning_rate: float
    reference: tuple[int, ...]
    """The epochs that it took `plain` in float64, from each of the goal's seeds."""

    @property
    def epochs(self) -> float:
        """How many they were in the median."""
        return statistics.median(self.reference)


@dataclass(frozen=True)
class Goal:
    """A share of the test images that a network is to get right, from each of `seeds` fresh starts."""

    network: str
    accuracy: float
    seeds: tuple[int, ...]
    """The most ordinary one first: who takes long runs from that alone."""
    settings: tuple[Setting, ...]

    def task(self, setting: Setting) -> Task:
        """Return what is trained in a setting."""
        return Task(self.network, setting.batch_size, Recipe(learning_rate=setting.learning_rate))

    @property
    def most_epochs(self) -> int:
        """After how many epochs a run has failed."""
        return int(5 * max(setting.epochs for setting in self.settings))

    def __str__(self) -> str:
        return f"{self.network}-to-{self.accuracy:.0%}"


GOALS = (
    Goal(
        "784-16-10",
        0.94,
        (0, 1, 2, 3, 4),
        (Setting(10, 0.7, (7, 5, 20, 4, 9)), Setting(32, 2.0, (4, 4, 8, 3, 4)), Setting(128, 3.0, (9, 9, 9, 8, 15))),
    ),
    Goal(
        "784-256-10",
        0.98,
        (1, 0, 2, 3, 4),
        (
            Setting(4, 0.3, (9, 9, 9, 11, 11)),
            Setting(10, 0.8, (13, 10, 10, 8, 12)),
            Setting(32, 1.0, (19, 22, 18, 21, 22)),
        ),
    ),
)
"""Batches above the largest given here take many times as many epochs, or don't get there at any rate."""
