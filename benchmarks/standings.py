"""Who is fastest: what follows from the times of a row's contestants."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

TOO_SLOW = 3
WORTH_SAVING = 1.0
"""A peer whose first epoch takes `TOO_SLOW` times as long as the fastest peer's, and this many seconds, runs no other.

What takes less may have spent the time on starting its threads.
"""


@dataclass
class Result:
    """The epochs of one contestant on one row."""

    name: str
    threads: int | None
    """None where the contestant sets them itself."""
    is_peer: bool
    first: float = 0.0
    """Seconds of the first epoch, which is compared with the others' and warms up."""
    seconds: list[float] = field(default_factory=list)
    """Of the timed rounds."""
    problem: str | None = None
    """What is wrong with its network after the first epoch."""

    @property
    def median(self) -> float:
        """Seconds an epoch; of the first one where it ran no other."""
        return float(np.median(self.seconds)) if self.seconds else self.first


@dataclass(frozen=True)
class Standing:
    """gpunn beside the best peer: the ratio of the medians, and the quartiles of each round's ratio."""

    best_peer: Result
    ratio: float
    low: float
    high: float


def survivors(results: Sequence[Result]) -> list[Result]:
    """Return who runs the timed rounds, after the first epoch of all: not the slow peers, nor who was wrong."""
    right = [result for result in results if result.problem is None]
    fastest = min((result.first for result in right if result.is_peer), default=0.0)
    longest = max(TOO_SLOW * fastest, WORTH_SAVING)
    return [result for result in right if not result.is_peer or result.first <= longest]


def best_of(results: Sequence[Result]) -> Result | None:
    """Return the fastest of `results` that has been right, and timed if any was: a name's best number of threads."""
    right = [result for result in results if result.problem is None]
    return min(right, key=lambda result: (not result.seconds, result.median), default=None)


def standing(results: Sequence[Result], engine: str) -> Standing | None:
    """Return how `engine` compares with the best peer; None where either is missing or was wrong."""
    ours = best_of([result for result in results if not result.is_peer and result.name == engine])
    best = best_of([result for result in results if result.is_peer])
    if ours is None or best is None or not (ours.seconds and best.seconds):
        return None
    low, high = np.percentile(np.array(best.seconds) / np.array(ours.seconds), [25, 75])
    return Standing(best, best.median / ours.median, float(low), float(high))


def verdict(found: Standing | None, bar: float | None) -> str:
    """Return "ok", "BELOW", "NO RESULT" where the engine or every peer is absent or wrong, or "" without a bar."""
    if bar is None:
        return ""
    if found is None:
        return "NO RESULT"
    return "ok" if found.ratio >= bar else "BELOW"
