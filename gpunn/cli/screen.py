"""Lines on a terminal, a pipe or a file, gpunn's log messages among them, and on a terminal something live below."""

import logging
import sys
import threading
from types import TracebackType
from typing import ClassVar, Protocol, Self, final

import click
from rich.console import Console


class Live(Protocol):
    """What is live below the lines, such as `rich.progress.Progress` or `rich.live.Live`."""

    def start(self) -> None:
        """Begin to show it; does nothing if it is shown."""

    def stop(self) -> None:
        """End showing it; does nothing if it isn't shown."""


class OnScreen:
    """Shows something on its `Screen` while entered."""

    def __init__(self, screen: "Screen") -> None:
        self._screen = screen

    @property
    def failure(self) -> OSError | None:
        """The first error of writing, if any."""
        return self._screen.failure

    def __enter__(self) -> Self:
        self._screen.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._screen.__exit__(kind, error, trace)


@final
class Screen(logging.Handler):
    """Shows lines, and messages of the loggers `names` while entered.

    Output goes to stdout, or to stderr with `err`; with `quiet`, there is none. On a terminal (`is_live`), `below`
    appears with the first line, and vanishes at the end. Write errors (closed pipe, full disk) don't end the work: the
    first one is kept in `failure`.
    """

    _guard: ClassVar = threading.Lock()
    _entered: ClassVar[int] = 0
    _level_before: ClassVar[int] = logging.NOTSET
    """Level of gpunn's logger before the first instance was entered."""

    below: Live | None = None

    def __init__(self, *, err: bool, names: tuple[str, ...] = ("gpunn",), quiet: bool = False) -> None:
        super().__init__(logging.INFO)
        self.failure: OSError | None = None
        self._names = names
        self._err, self._quiet = err, quiet
        stream = sys.stderr if err else sys.stdout
        self.console = Console(file=stream)
        # rich alone takes a pipe for a terminal if the environment forces colours; a closed stream is None.
        self.is_live = stream is not None and stream.isatty() and self.console.is_interactive

    def __enter__(self) -> Self:
        logger = logging.getLogger("gpunn")
        with Screen._guard:
            if not Screen._entered:
                Screen._level_before = logger.level
                logger.setLevel(logging.INFO)
            Screen._entered += 1
        logger.addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logger = logging.getLogger("gpunn")
        logger.removeHandler(self)
        with Screen._guard:
            Screen._entered -= 1
            if not Screen._entered:
                logger.setLevel(Screen._level_before)
        try:
            if self.is_live and self.below is not None:
                self.below.stop()
        except OSError as failure:
            self.failure = self.failure or failure

    def emit(self, record: logging.LogRecord) -> None:
        """Show a log message."""
        if any(record.name == name or record.name.startswith(f"{name}.") for name in self._names):
            self.show(record.getMessage())

    def show(self, line: str) -> None:
        """Show a line, above what is live."""
        if self.failure is not None or self._quiet:
            return
        try:
            if self.is_live:
                if self.below is not None:
                    self.below.start()
                self.console.print(line, markup=False, highlight=False, soft_wrap=True)
            else:
                click.echo(line, err=self._err)
        except OSError as failure:
            self.failure = failure
