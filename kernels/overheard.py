"""Warnings of other libraries, heard in one thread without changing what the others see.

`warnings.catch_warnings` puts a copy of the process's filters in place of them, and its showing of warnings too: where
two threads do so by turns, what one of them has put there may stay for ever.
"""

import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final


@final
class _Ear:
    """Takes the place of the regular expression in a filter of warnings, which looks at their texts with `match`."""

    def __init__(self, start: str) -> None:
        self._thread, self._start = threading.get_ident(), start
        self.heard: list[str] = []

    def match(self, text: str) -> bool:
        """Return whether the warning is this thread's, and begins like that."""
        if threading.get_ident() != self._thread or not text.startswith(self._start):
            return False
        self.heard.append(" ".join(text.split()))
        return True


@contextmanager
def overheard(category: type[Warning] = Warning, start: str = "") -> Iterator[list[str]]:
    """Keep this thread's warnings in the block from being shown, or raised as with `-W error`.

    Those of a `category` whose texts begin with `start`. Yields a list of the texts, each in one line.
    """
    ear = _Ear(start)
    if getattr(sys.flags, "context_aware_warnings", False):  # each thread has filters of its own
        with warnings.catch_warnings():
            _filters().insert(0, ("ignore", ear, category, None, 0))
            yield ear.heard
        return
    ours, before = ("ignore", ear, category, None, 0), _filters()
    before.insert(0, ours)
    try:
        yield ear.heard
    finally:
        # Somebody may have exchanged the list for a copy meanwhile.
        for filters in (before, _filters()):
            if ours in filters:
                filters.remove(ours)


def _filters() -> list[Any]:
    found: Any = warnings._get_filters() if hasattr(warnings, "_get_filters") else warnings.filters
    return found  # type: ignore[no-any-return]
