"""Capture of other libraries' warnings in one thread, without changing what other threads see.

`warnings.catch_warnings` replaces the filters of the whole process, and how warnings are shown: if two threads are in
such blocks at the same time, one's replacement may stay for ever.
"""

import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final


@final
class _Recorder:
    """Takes the place of the compiled regular expression in a warnings filter, and records what it matches."""

    def __init__(self, start: str) -> None:
        self._thread, self._start = threading.get_ident(), start
        self.texts: list[str] = []

    def match(self, text: str) -> bool:
        """Return whether this thread issued the warning, and its text begins with `start`."""
        if threading.get_ident() != self._thread or not text.startswith(self._start):
            return False
        self.texts.append(" ".join(text.split()))
        return True


@contextmanager
def overheard(category: type[Warning] = Warning, start: str = "") -> Iterator[list[str]]:
    """Capture this thread's warnings in the block: they are neither shown, nor raised as with `-W error`.

    Only those of `category` whose texts begin with `start`. Yields the list of texts, each in one line.
    """
    recorder = _Recorder(start)
    if getattr(sys.flags, "context_aware_warnings", False):  # each thread has filters of its own
        with warnings.catch_warnings():
            _filters().insert(0, ("ignore", recorder, category, None, 0))
            yield recorder.texts
        return
    ours, before = ("ignore", recorder, category, None, 0), _filters()
    before.insert(0, ours)
    try:
        yield recorder.texts
    finally:
        # Another thread may have replaced the list by a copy meanwhile.
        for filters in (before, _filters()):
            if ours in filters:
                filters.remove(ours)


def _filters() -> list[Any]:
    found: Any = warnings._get_filters() if hasattr(warnings, "_get_filters") else warnings.filters
    return found  # type: ignore[no-any-return]
