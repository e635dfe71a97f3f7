"""What still fits into the time: how long rows will take, by those before, and who is too slow for a row."""

import time
from collections.abc import Callable, Sequence

from benchmarks.contest import Contest
from benchmarks.gpu_rows import Task

LONGEST = 5.0
"""Seconds that an epoch may take by what is known; who would take longer is left out."""

PREPARATION = 15.0
"""Seconds that it takes to get a row's contestants ready, until there is a row that says better."""

UNKNOWN = 0.5
"""Seconds an epoch of a contestant of whom nothing is known."""

ROUNDS_AT_MOST = 12.0
"""Seconds that the rounds of a row may take; then none begins."""

RESERVE = 3.0
"""Seconds kept for the end."""


class Schedule:
    """The time that is left of `seconds`, counted from now, and what was learnt from the rows that were held."""

    def __init__(self, seconds: float, rounds: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds - RESERVE
        self._rounds = rounds
        self._preparation: dict[str, float] = {}
        self._epochs: dict[tuple[str, str, str], dict[int, float]] = {}

    def left(self) -> float:
        """Return the seconds that are left."""
        return max(0.0, self._end - self._clock())

    def note(self, task: Task, contest: Contest, seconds: float) -> None:
        """Learn from `task`, which took `seconds`."""
        epochs = 0.0
        for result in contest.results:
            if result.problem is None:
                known = self._epochs.setdefault((task.row.network, task.precision, result.name), {})
                known[task.row.batch_size] = min(result.median, known.get(task.row.batch_size, result.median))
            if result.name != "auto":  # which has the times of another
                epochs += result.first + sum(result.seconds)
        # A network's first row may have started all the libraries, so the last one says more than the longest.
        self._preparation[task.row.network] = max(1.0, seconds - epochs)

    def too_slow(self, task: Task, names: Sequence[str]) -> dict[str, str]:
        """Return those of `names` whose epoch would take longer than `LONGEST`, and how long."""
        expected = {name: self._expected(task, name) for name in names}
        return {
            name: f"would take about {seconds:.0f} s an epoch"
            for name, seconds in expected.items()
            if seconds is not None and seconds > LONGEST
        }

    def needed(self, task: Task, names: Sequence[str]) -> float:
        """Return the seconds that `task` will take with these contestants."""
        epoch = sum(UNKNOWN if (seconds := self._expected(task, name)) is None else seconds for name in names)
        preparation = self._preparation.get(task.row.network, PREPARATION)
        return preparation + epoch + min(epoch * self._rounds, ROUNDS_AT_MOST)

    def _expected(self, task: Task, name: str) -> float | None:
        """Return an epoch's seconds by the nearest batch size known: half the size takes twice the time at most."""
        known = self._epochs.get((task.row.network, task.precision, name))
        if not known:
            return None
        m = task.row.batch_size
        nearest = min(known, key=lambda size: max(size / m, m / size))
        return known[nearest] * max(1.0, nearest / m)
