"""Log messages about compiling kernels, which takes seconds: that it begins, and how long it took."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, final

from numba.core import event

from .compilation import SHELF

logger = logging.getLogger(__name__)


@final
class _Announcement:
    """Logs the compilation of one task's kernels, and adds up the time it takes."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._depth = 0
        self._begun = 0.0
        self.seconds = 0.0

    def begin(self) -> None:
        if self._depth == 0:
            self._begun = time.perf_counter()
            if not self.seconds:
                logger.info("compiling kernels for %s", self._what)
        self._depth += 1

    def end(self) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.seconds += time.perf_counter() - self._begun


_current: ContextVar[_Announcement | None] = ContextVar("announcement", default=None)


@contextmanager
def announced(what: str) -> Iterator[None]:
    """Log that kernels for `what` are compiled in the block, and how long it took.

    Nothing is logged if all of them were cached. Other threads' compilations don't count.
    """
    announcement = _Announcement(what)
    token = _current.set(announcement)
    try:
        yield
    finally:
        _current.reset(token)
    if announcement.seconds:
        kept = f", and kept in {SHELF.folder}" if SHELF.keeps else ""
        logger.info("compiled in %.1f s%s", announcement.seconds, kept)


class _Listener(event.Listener):
    def on_start(self, event: Any) -> None:  # noqa: ARG002
        if (announcement := _current.get()) is not None:
            announcement.begin()

    def on_end(self, event: Any) -> None:  # noqa: ARG002
        if (announcement := _current.get()) is not None:
            announcement.end()


event.register("numba:compile", _Listener())
