"""A way to end training in threads other than the main one, where Ctrl-C isn't raised."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_STOPS: ContextVar[tuple[threading.Event, ...]] = ContextVar("stops", default=())


class Stopped(Exception):  # noqa: N818 - not an error
    """Training was ended by the event of `stopped_by`."""


@contextmanager
def stopped_by(stop: threading.Event) -> Iterator[None]:
    """Raise `Stopped` from `check_stopped` in this block once `stop` is set, or the event of a block around it."""
    token = _STOPS.set((*_STOPS.get(), stop))
    try:
        yield
    finally:
        _STOPS.reset(token)


def check_stopped() -> None:
    """Raise `Stopped` if this training is to end. Engines call this wherever Ctrl-C would be heeded."""
    if any(stop.is_set() for stop in _STOPS.get()):
        raise Stopped
