"""A way to end training in threads other than the main one, where Ctrl-C isn't raised."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_STOP: ContextVar[threading.Event | None] = ContextVar("stop", default=None)


class Stopped(Exception):  # noqa: N818 - not an error
    """Training was ended by the event of `stopped_by`."""


@contextmanager
def stopped_by(stop: threading.Event) -> Iterator[None]:
    """Raise `Stopped` from `check_stopped` in this block once `stop` is set."""
    token = _STOP.set(stop)
    try:
        yield
    finally:
        _STOP.reset(token)


def check_stopped() -> None:
    """Raise `Stopped` if this training is to end. Engines call this wherever Ctrl-C would be heeded."""
    stop = _STOP.get()
    if stop is not None and stop.is_set():
        raise Stopped
