"""Threads that share the work of an engine."""

import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def part(count: int, thread: int, threads: int) -> slice:
    """Return which of range(count) are the share of `thread`, 0 to `threads` - 1."""
    return slice(count * thread // threads, count * (thread + 1) // threads)


class Team:
    """Runs a function in `threads` threads at once, of which the calling one is the first.

    What it runs lets go of Python's lock while it computes, as compiled kernels do. What is set for the calling thread,
    such as NumPy's `errstate`, is set for all.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._others = ThreadPoolExecutor(threads - 1, "gpunn") if threads > 1 else None

    def run(self, work: Callable[[int], Any]) -> list[Any]:
        """Call work(0), work(1), ... at the same time, and return their results when all are done."""
        if self._others is None:
            return [work(0)]
        others = [
            self._others.submit(contextvars.copy_context().run, work, thread) for thread in range(1, self.threads)
        ]
        first = work(0)
        return [first, *(other.result() for other in others)]
