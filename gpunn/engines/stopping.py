"""A way to end training where Ctrl-C isn't raised: in threads other than the main one, or where it was swallowed."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Stop(Protocol):
    """What tells whether training is to end, such as a `threading.Event`."""

    def is_set(self) -> bool: ...


_STOPS: ContextVar[tuple[Stop, ...]] = ContextVar("stops", default=())


class Stopped(Exception):  # noqa: N818 - not an error
    """Training was ended by what was given to `stopped_by`."""


@contextmanager
def stopped_by(stop: Stop) -> Iterator[None]:
    """Raise `Stopped` from `check_stopped` in this block once `stop` is set, or that of a block around it."""
    token = _STOPS.set((*_STOPS.get(), stop))
    try:
        yield
    finally:
        _STOPS.reset(token)


def check_stopped() -> None:
    """Raise `Stopped` if this training is to end. Engines call this wherever Ctrl-C would be heeded."""
    if any(stop.is_set() for stop in _STOPS.get()):
        raise Stopped
