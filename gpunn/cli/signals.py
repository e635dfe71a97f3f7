"""Signals that end a training, and must not end the saving of what it made: Ctrl-C, SIGTERM and SIGHUP."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C; what `kill`, `timeout` and batch systems send; and what a closed terminal sends, except on Windows."""


def exit_code(number: int) -> int:
    """Return the exit code of a program that the signal `number` ended, by the shells' convention: 130 after Ctrl-C."""
    return 128 + number


INTERRUPTED = exit_code(signal.SIGINT)


class Interruptible:
    """While entered, `SIGNALS` raise `KeyboardInterrupt` as long as they are `heeded`, and do nothing after.

    `signal` is the number of the first one that came. To set an attribute takes no call, so none can come between an
    `except KeyboardInterrupt:` and a `heeded = False` in its `finally:`, however many are sent. A signal that the
    program was told to ignore, as `nohup` does, is still ignored. In a thread other than the main one, to which Python
    sends no signals, nothing is changed.
    """

    def __init__(self) -> None:
        self.heeded = True
        self.signal: int | None = None

    def __enter__(self) -> Self:
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            # A handler that wasn't set from Python, None, can't be put back.
            found = {number: signal.getsignal(number) for number in SIGNALS}
            self._before = {number: old for number, old in found.items() if old not in (signal.SIG_IGN, None)}
        for number in self._before:
            signal.signal(number, self._interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After one signal the program is about to end, and another one shouldn't disturb it in that.
        for number, handler in self._before.items():
            signal.signal(number, handler if self.signal is None else signal.SIG_IGN)

    def _interrupt(self, number: int, _frame: object) -> None:
        if self.signal is None:
            self.signal = number
        if self.heeded:
            raise KeyboardInterrupt


@contextmanager
def handlers_restored() -> Iterator[None]:
    """Put the handlers of `SIGNALS` back where the block ends, for a program that goes on after it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
