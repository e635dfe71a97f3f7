"""Handling of Ctrl-C, SIGTERM and SIGHUP: they stop training, but don't interrupt saving."""

import _thread
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Self

from gpunn.engines.stopping import stopped_by

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Sent by Ctrl-C; by `kill`, `timeout` and batch systems; and by closing the terminal (not on Windows)."""


def exit_code(number: int) -> int:
    """Return the exit code for a signal by the shells' convention, 128 + `number`: 130 after Ctrl-C."""
    return 128 + number


def number_of(error: BaseException | None) -> int | None:
    """Return the number of the signal that a `KeyboardInterrupt` is of, or None if it isn't known."""
    return error.args[0] if isinstance(error, KeyboardInterrupt) and error.args else None


POSIX = hasattr(signal, "pthread_kill")

AGAIN = 0.01
"""Seconds after which a signal comes again whose `KeyboardInterrupt` was ignored."""


class Interruptible:
    """While entered, `SIGNALS` raise `KeyboardInterrupt` with their number while `heeded` is true, then are ignored.

    `signal` is the number of the first signal received. Setting an attribute takes no call, so no signal can come
    between an `except KeyboardInterrupt:` and `heeded = False` in its `finally:`. Signals that are already ignored, as
    under `nohup`, stay ignored. Does nothing outside the main thread, which alone receives signals in Python.

    Where exceptions are ignored, as in `__del__` and in callbacks of weak references, some of them Python's own, the
    signal comes again. Should something else swallow the exception, training ends by `Stopped`, after the running epoch
    at the latest, and otherwise the block raises it at its end.
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
        self._ignoring = sys.unraisablehook
        if self._before:
            sys.unraisablehook = self._ignored
        self._stopping = ExitStack()
        self._stopping.enter_context(stopped_by(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # After one signal the program is exiting: ignore further ones, also after one in a block inside this one.
            for number, handler in self._before.items():
                if self.signal is not None:
                    signal.signal(number, signal.SIG_IGN)
                elif signal.getsignal(number) == self._interrupt:
                    signal.signal(number, handler)
        finally:
            unheard = kind is None and self.heeded and self.signal is not None
            self.heeded = False  # also by what is to send a signal again
            self._stopping.close()
            if self._before:
                sys.unraisablehook = self._ignoring
        if unheard:
            raise KeyboardInterrupt(self.signal)

    def is_set(self) -> bool:
        """Whether what is going on is to end: see `gpunn.engines.stopping`."""
        return self.heeded and self.signal is not None

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = number
        if self.heeded:
            raise KeyboardInterrupt(number)

    def _ignored(self, what: "UnraisableHookArgs") -> None:
        """Let a signal come again whose exception Python has ignored: something may wait in the main thread."""
        if self.signal is None or not issubclass(what.exc_type, KeyboardInterrupt):
            self._ignoring(what)
        elif self.heeded:
            # The thread of a `Timer` would have to be waited for, maybe in the middle of its module's own code.
            _thread.start_new_thread(self._send_again, (threading.get_ident(), self.signal))

    def _send_again(self, thread: int, number: int) -> None:
        time.sleep(AGAIN)
        if self.heeded and POSIX:
            signal.pthread_kill(thread, number)
        elif self.heeded:
            signal.raise_signal(number)


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
