"""What still fits into the time: how long rows take, by those before, and who is too slow for a row."""

import math
import time
from collections.abc import Callable

from benchmarks.schema import Contestant, Row, Task

LONGEST = 5.0
"""Seconds that an epoch may take by what is known, where time is short; who would take longer is left out."""

PREPARATION, UNKNOWN = 15.0, 0.5
"""Seconds to get a row's contestants ready, and of an epoch of one, until something better is known."""

RESERVE = 3.0
"""Seconds kept for the end."""


class Budget:
    """The time that is left of `seconds`, counted from now, and what was learnt from the rows that were held."""

    def __init__(self, seconds: float = math.inf, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._end = clock, clock() + seconds - RESERVE
        self.limited = math.isfinite(seconds)
        self._preparation: dict[str, float] = {}
        self._epochs: dict[tuple[object, ...], dict[int, float]] = {}

    def left(self) -> float:
        """Return the seconds that are left."""
        return max(0.0, self._end - self._clock())

    def note(self, row: Row) -> None:
        """Learn from a row."""
        taken = 0.0
        for result in row.results:
            seconds = [each.seconds for each in result.rounds]
            if result.problem is None and result.first is not None:
                known = self._epochs.setdefault(_key(row.task, result.contestant), {})
                known[row.task.batch_size] = min([result.first, *seconds])
            taken += (result.first or 0.0) + sum(seconds)
        # A network's first row may have started all the libraries, so the last one says more than the longest.
        self._preparation[row.task.network] = max(1.0, row.seconds - taken)

    def too_slow(self, task: Task, contestant: Contestant) -> str | None:
        """Return why a contestant is left out where time is short, or None."""
        seconds = self._expected(task, contestant)
        if not self.limited or seconds is None or seconds <= LONGEST:
            return None
        return f"would take about {seconds:.0f} s an epoch"

    def needed(self, task: Task, contestants: list[Contestant], rounds: float) -> float:
        """Return the seconds that a task will take, of which the rounds take `rounds`, or one of each contestant."""
        expected = [self._expected(task, each) for each in contestants]
        epoch = sum(UNKNOWN if seconds is None else seconds for seconds in expected)
        return self._preparation.get(task.network, PREPARATION) + epoch + max(rounds, epoch)

    def _expected(self, task: Task, contestant: Contestant) -> float | None:
        """Return a round's seconds by the nearest batch size known: half the size takes twice the time at most."""
        known = self._epochs.get(_key(task, contestant))
        if not known:
            return None
        m = task.batch_size
        nearest = min(known, key=lambda size: max(size / m, m / size))
        return known[nearest] * max(1.0, nearest / m)


def _key(task: Task, contestant: Contestant) -> tuple[object, ...]:
    return (task.network, task.recipe.label, task.precision, task.networks, *contestant.key)
