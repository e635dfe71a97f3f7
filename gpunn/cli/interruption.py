"""Ctrl-C, which ends a training and must not end the saving of what it made."""

import signal
from types import TracebackType
from typing import Self

INTERRUPTED = 130
"""The exit code of a program that Ctrl-C ended, by the shells' convention."""


class CtrlC:
    """While entered, Ctrl-C raises `KeyboardInterrupt` as long as it is `heeded`, and does nothing after.

    To set an attribute takes no call, so no Ctrl-C can come between an `except KeyboardInterrupt:` and a
    `heeded = False` in its `finally:`, however often the user presses. A program that was told to ignore Ctrl-C, as
    `nohup` does, goes on ignoring it.
    """

    def __init__(self) -> None:
        self.heeded = True
        self._pressed = False

    def __enter__(self) -> Self:
        self._before = signal.getsignal(signal.SIGINT)
        if self._before is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After one Ctrl-C the program is about to end, and another one shouldn't disturb it in that.
        signal.signal(signal.SIGINT, signal.SIG_IGN if self._pressed else self._before)

    def _interrupt(self, *_: object) -> None:
        self._pressed = True
        if self.heeded:
            raise KeyboardInterrupt
