"""Work in a process of its own, which can be given up: what hangs, or ruins its device, takes nothing with it."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import TimeoutError as TimedOutError
from typing import Any

from pebble import ProcessExpired, ProcessPool

from benchmarks.schema import FULL, Contestant, Task
from benchmarks.timing.contestants import Entry, Outcome, Seat

PREPARE, TRAIN = 150.0, 30.0
"""Seconds that a process has to start and prepare, and to train for a round; more for many steps."""

A_STEP = 1e-3
"""Seconds that a step of an epoch may take: two to four times what the slowest engines are reckoned to need."""


class GivenUpError(Exception):
    """The process hung, or ended by itself; the message says which."""


class Process:
    """A process that does what it is told, one thing after another."""

    def __init__(self) -> None:
        # Forked, the child would share what CUDA and OpenMP can't share.
        self._pool: Any = ProcessPool(max_workers=1, context=multiprocessing.get_context("spawn"))

    def call(self, work: Callable[..., Any], *arguments: Any, seconds: float) -> Any:
        """Return what `work` returns in the process; raises its errors, and `GivenUpError` where it doesn't end."""
        try:
            return self._pool.schedule(work, args=arguments, timeout=seconds).result()
        except TimedOutError as error:
            raise GivenUpError(f"hung: did not end within {seconds:g} s, and was stopped") from error
        except ProcessExpired as error:
            raise GivenUpError(f"died: its process ended with code {error.exitcode}") from error

    def stop(self) -> None:
        """End the process, whatever it does."""
        self._pool.stop()
        self._pool.join()


def in_a_process(work: Callable[..., Any], *arguments: Any, seconds: float) -> Any:
    """Return what `work` returns in a process of its own, as `Process.call` does."""
    process = Process()
    try:
        return process.call(work, *arguments, seconds=seconds)
    finally:
        process.stop()


class IsolatedSeat:
    """A `Seat` in a process of its own."""

    def __init__(self, task: Task, contestant: Contestant) -> None:
        self._spec, self._process = (task, contestant), Process()
        steps = task.epochs * task.networks * -(-task.images // task.batch_size)
        self._patience = A_STEP * steps * (10 if contestant.device == "cpu" and task.images == FULL else 1)

    def enter(self, limit: float) -> Entry:
        """As in `Seat`."""
        entry: Entry = self._process.call(_enter, *self._spec, limit, seconds=PREPARE + 2 * self._patience)
        return entry

    def round(self) -> Outcome:
        """As in `Seat`."""
        outcome: Outcome = self._process.call(_round, seconds=TRAIN + self._patience)
        return outcome

    def close(self) -> None:
        """End the process."""
        self._process.stop()


_seat: list[Seat] = []
"""That of this process."""


def _enter(task: Task, contestant: Contestant, limit: float) -> Entry:
    _seat.append(Seat(task, contestant))
    return _seat[-1].enter(limit)


def _round() -> Outcome:
    return _seat[-1].round()
