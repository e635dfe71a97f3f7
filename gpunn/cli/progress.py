"""What `gpunn train` shows while it runs: a line an epoch, and on a terminal a live bar below them."""

import logging
import sys
import threading
from types import TracebackType
from typing import ClassVar, Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from gpunn.history import Epoch, counted

BAR_WIDTH = 40
"""Columns."""


class TrainingProgress(logging.Handler):
    """Shows finished epochs, and gpunn's log messages, for as long as it is entered.

    All goes to the standard output, or to the standard error with `err`. On a terminal the bar appears with the first
    message, when the training is sure to start, and vanishes at the end. What can't be shown, as the reader went away
    or the disk is full, is no reason to end a training: `failure` is the first such error.
    """

    _guard: ClassVar = threading.Lock()
    _entered: ClassVar[int] = 0
    _level_before: ClassVar[int] = logging.NOTSET
    """That of gpunn's logger before the first of those that are entered."""

    def __init__(self, epochs: int, *, err: bool) -> None:
        super().__init__(logging.INFO)
        self.failure: OSError | None = None
        self._epochs = epochs
        self._err = err
        stream = sys.stderr if err else sys.stdout
        console = Console(file=stream)
        # rich alone would take a pipe for a terminal where the environment asks for colours; a closed stream is None.
        self._live = stream is not None and stream.isatty() and console.is_interactive
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=BAR_WIDTH),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task(counted(1, epochs), total=epochs)

    def __enter__(self) -> Self:
        logger = logging.getLogger("gpunn")
        with TrainingProgress._guard:
            if not TrainingProgress._entered:
                TrainingProgress._level_before = logger.level
                logger.setLevel(logging.INFO)
            TrainingProgress._entered += 1
        logger.addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logger = logging.getLogger("gpunn")
        logger.removeHandler(self)
        with TrainingProgress._guard:
            TrainingProgress._entered -= 1
            if not TrainingProgress._entered:
                logger.setLevel(TrainingProgress._level_before)
        try:
            if self._bar.live.is_started:
                self._bar.stop()
        except OSError as failure:
            self.failure = self.failure or failure

    def emit(self, record: logging.LogRecord) -> None:
        """Show a log message; above the bar, where there is one."""
        self._show(record.getMessage())

    def show_epoch(self, epoch: Epoch) -> None:
        """Show that `epoch` is finished."""
        self._show(epoch.line(self._epochs))
        if self._live and self.failure is None:
            self._bar.update(
                self._task, advance=1, description=counted(min(epoch.number + 1, self._epochs), self._epochs)
            )

    def _show(self, line: str) -> None:
        if self.failure is not None:
            return
        try:
            if self._live:
                self._bar.start()
                self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
            else:
                click.echo(line, err=self._err)
        except OSError as failure:
            self.failure = failure
