"""Threads that share an engine's work."""

import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def part(count: int, thread: int, threads: int) -> slice:
    """Return the part of range(count) that is the share of `thread`, 0 to `threads` - 1."""
    return slice(count * thread // threads, count * (thread + 1) // threads)


class Team:
    """Runs a function in `threads` threads at once; the calling thread is the first.

    The function should release Python's global lock while it computes, as compiled kernels do. Context variables of the
    caller, such as NumPy's `errstate`, apply to all threads.
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
