"""Accuracies to be reached as soon as possible, and the settings among which everyone may choose.

How many epochs a setting takes depends on the arithmetic, which is everybody's, and how long an epoch takes on who does
it: each entrant takes the setting that is the fastest for it.
"""

from dataclasses import dataclass

from benchmarks.bars import Row
from gpunn.engines import Recipe


@dataclass(frozen=True)
class Setting:
    """A way to train that reaches the goal; `epochs` is how many that took, the median of the goal's seeds."""

    batch_size: int
    learning_rate: float
    epochs: int

    @property
    def recipe(self) -> Recipe:
        """What an engine is told."""
        return Recipe(self.batch_size, self.learning_rate)


@dataclass(frozen=True)
class Goal:
    """A share of the test images that a network is to get right, from each of `seeds` fresh starts."""

    network: str
    accuracy: float
    seeds: tuple[int, ...]
    """The most ordinary one first: who takes long runs from that alone."""
    settings: tuple[Setting, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """The layer sizes."""
        return Row(self.network, 1).sizes

    @property
    def most_epochs(self) -> int:
        """After how many epochs a run has failed."""
        return 5 * max(setting.epochs for setting in self.settings)

    def __str__(self) -> str:
        return f"{self.network} to {self.accuracy:.0%}"


GOALS = (
    Goal(
        "784-16-10",
        0.94,
        (0, 1, 2, 3, 4),
        (Setting(10, 0.7, 5), Setting(32, 2.0, 4), Setting(128, 3.0, 9)),
    ),
    Goal(
        "784-256-10",
        0.98,
        (1, 0, 2),
        (Setting(4, 0.3, 9), Setting(10, 0.8, 11), Setting(32, 1.0, 18)),
    ),
)
"""Batches above the largest given here take many times as many epochs, or don't get there at any rate."""
