"""Handling of Ctrl-C, SIGTERM and SIGHUP: they stop training, but don't interrupt saving."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Sent by Ctrl-C; by `kill`, `timeout` and batch systems; and by closing the terminal (not on Windows)."""


def exit_code(number: int) -> int:
    """Return the exit code for a signal by the shells' convention, 128 + `number`: 130 after Ctrl-C."""
    return 128 + number


INTERRUPTED = exit_code(signal.SIGINT)

POSIX = hasattr(signal, "pthread_kill")

IMPORTS = "<frozen importlib._bootstrap>"
"""The file of Python's import system, as its frames name it."""

AGAIN = 0.01
"""Seconds after which a signal that came inside of it comes again."""


class Interruptible:
    """While entered, `SIGNALS` raise `KeyboardInterrupt` while `heeded` is true, and are ignored afterwards.

    `signal` is the number of the first signal received. Setting an attribute takes no call, so no signal can come
    between an `except KeyboardInterrupt:` and `heeded = False` in its `finally:`. Signals that are already ignored, as
    under `nohup`, stay ignored. Does nothing outside the main thread, which alone receives signals in Python.
    """

    def __init__(self) -> None:
        self.heeded = True
        self.signal: int | None = None

    def __enter__(self) -> Self:
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            # A handler not set from Python is None and can't be restored.
            found = {number: signal.getsignal(number) for number in SIGNALS}
            self._before = {number: old for number, old in found.items() if old not in (signal.SIG_IGN, None)}
        for number in self._before:
            signal.signal(number, self._interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After one signal the program is exiting: ignore further ones.
        for number, handler in self._before.items():
            signal.signal(number, handler if self.signal is None else signal.SIG_IGN)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = number
        if self.heeded and frame is not None and frame.f_code.co_filename == IMPORTS:
            # It may be a callback there, whose exceptions Python ignores. What waits in this thread must hear it too.
            send, there = (signal.pthread_kill, [threading.get_ident()]) if POSIX else (signal.raise_signal, [])
            threading.Timer(AGAIN, send, [*there, number]).start()
        elif self.heeded:
            raise KeyboardInterrupt


@contextmanager
def handlers_restored() -> Iterator[None]:
    """Restore the handlers of `SIGNALS` at the end of the block."""
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
